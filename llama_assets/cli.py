"""The commands: thin, with imports inside them, so that `--help` and the reaper stay light.

Exit status: 0 good, 1 the thing asked about is bad, 2 wrong use. `--json` prints one object. Data goes to stdout,
everything else to stderr. Not here: what a command finds out (the rooms), how it is worded (each error and answer
owns its sentence).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_assets.platforms import Platform, open_platform
from llama_assets.settings import Settings

if TYPE_CHECKING:
    from llama_assets.catalog import Catalog, Model
    from llama_assets.tasks.messages import Inspected


class Commands(click.Group):
    """Turns an error that knows its exit status into its sentence and that status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command named on the line."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            status = getattr(error, "exit_status", None)
            if status is None:
                raise
            click.echo(str(error), err=True)
            raise SystemExit(status) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="llama-assets", message="%(version)s")
def main() -> None:
    """Vision GGUF models on one shared GPU: what is served, who has the card, which model should answer."""


def _platform() -> Platform:
    return open_platform(Settings.read())


def _print(answer: dict[str, Any]) -> None:
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _say(line: str) -> None:
    click.echo(line, err=True)


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@main.command()
@as_json
@click.option("--offline", is_flag=True, help="Do not ask the Hub.")
def doctor(as_json: bool, offline: bool) -> None:
    """Check settings, catalog, question, photos, Hub, store, engine and lease; say what to do."""
    from llama_assets.doctor import examine

    findings = list(examine(offline=offline))
    if as_json:
        _print({"good": all(f.good for f in findings), "findings": [f.as_dict() for f in findings]})
    else:
        for finding in findings:
            click.echo(str(finding))
    sys.exit(0 if all(finding.good for finding in findings) else 1)


@main.command()
@click.argument("rows", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--session", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="session.json of the rows."
)
@click.option(
    "--question",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON Schema the answers should obey.",
)
@click.option("--ranking-key", help="Field of the answer that ranks photos; with --question.")
@click.option("--incumbent", help="The model others are compared with.")
@click.option(
    "--ratings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with photo, favourite, stars: what you think of the photos, instead of what the session says.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@as_json
def judge(
    rows: tuple[Path, ...],
    session: Path | None,
    question: Path | None,
    ranking_key: str | None,
    incumbent: str | None,
    ratings: Path | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Judge ROWS: a session folder, or Parquet, CSV or JSON lines files that together hold the arms."""
    from llama_assets import catalog
    from llama_assets.bench.question import Question
    from llama_assets.bench.ratings import read_ratings
    from llama_assets.verdict import judge as judge_rows
    from llama_assets.verdict import render_markdown, render_text

    asked = Question.of_answers(question, ranking_key) if question else None
    found = judge_rows(
        rows,
        session=session,
        question=asked,
        incumbent=incumbent,
        catalog_incumbent=catalog.load(Settings.read().catalog).benchmark.incumbent,
        say=lambda line: click.echo(line, err=True),
        ratings=read_ratings(ratings) if ratings else None,
    )
    if as_json:
        _print(found.to_json())
    else:
        click.echo(render_markdown(found) if markdown else render_text(found))
    sys.exit(found.exit_status)


@main.command()
@click.argument("session", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--open", "open_it", is_flag=True, help="Open the report in a browser.")
@click.option("--without-photos", is_flag=True, help="Leave out thumbnails and captions, for a report that is sent on.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write; beside the rows if not set."
)
def report(session: Path | None, open_it: bool, without_photos: bool, output: Path | None) -> None:
    """Write the one-file HTML report of SESSION, or of the newest session."""
    from llama_assets.tasks.verdict import newest_session, write_report

    folder = session or newest_session(_platform().results)
    path = write_report(folder, photos=not without_photos, output=output)
    click.echo(path)
    if open_it:
        click.launch(str(path))


@main.command()
@click.argument("model")
@click.option("--to", metavar="FINGERPRINT", help="Not the one before but this one; its first characters will do.")
@click.option("--why", default="rolled back", show_default=True, help="Why what is current is refused.")
@click.option("--dry-run", is_flag=True, help="Say what would be served; change nothing.")
@as_json
def rollback(model: str, to: str | None, why: str, dry_run: bool, as_json: bool) -> None:
    """Serve MODEL's previous fingerprint again, and refuse the current one. Needs no Hub."""
    from llama_assets.tasks.applying import apply_current, question
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.keeping import RollBack, RolledBack

    platform = _platform()
    catalog = platform.catalog()
    _known(catalog, model)
    if not dry_run:
        platform.wait_until_free(catalog, f"rollback of {model}", _say)
    request = RollBack(
        model=model, to=to, why=why, served=platform.served(catalog).get(model), dry_run=dry_run,
        inspect=question(platform, catalog),
    )  # fmt: skip
    done = ask(platform, request, RolledBack, _say)
    if not as_json:
        _echo(done.lines())
    found: dict[str, Any] = done.model_dump(mode="json", exclude={"inspected"})
    if not dry_run:
        try:
            applied, served = apply_current(platform, catalog, _say, done.inspected)
        except Exception:
            _say(f"{model} is rolled back in the store and not served yet: `llama-assets engine apply` does that")
            raise
        found |= {"where": applied.where, "changed": list(applied.changed), "state": applied.state, "served": served}
        if not as_json:
            click.echo(
                f"{', '.join(applied.changed) or applied.where}: {'written' if applied.changed else 'as it was'}"
            )
            click.echo(applied.state)
    if as_json:
        _print(found)


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would go and why; remove nothing.")
@as_json
def gc(dry_run: bool, as_json: bool) -> None:
    """Free what nobody needs: never what is current, previous, pinned, in use or a candidate."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.keeping import Collect, Collected, in_use

    platform = _platform()
    catalog = platform.catalog()
    if not dry_run:
        platform.wait_until_free(catalog, "garbage collection", _say)
    request = Collect(in_use=in_use(platform.served(catalog)), dry_run=dry_run)
    done = ask(platform, request, Collected, _say)
    _print(done.model_dump(mode="json")) if as_json else _echo(done.lines())


@main.command()
@click.argument("model")
@click.argument("fingerprint")
@click.option("--why", default="", help="Shown by `store list` and `gc`.")
@as_json
def pin(model: str, fingerprint: str, why: str, as_json: bool) -> None:
    """Keep MODEL's FINGERPRINT, whatever becomes of it. The first six characters will do."""
    _pin(model, fingerprint, True, why, as_json)


@main.command()
@click.argument("model")
@click.argument("fingerprint")
@as_json
def unpin(model: str, fingerprint: str, as_json: bool) -> None:
    """Keep MODEL's FINGERPRINT no longer than anything else."""
    _pin(model, fingerprint, False, "", as_json)


def _pin(model: str, fingerprint: str, keep: bool, why: str, as_json: bool) -> None:
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.keeping import Pin, Pinned

    done = ask(_platform(), Pin(model=model, fingerprint=fingerprint, keep=keep, why=why), Pinned, _say)
    _print(done.model_dump(mode="json")) if as_json else _echo(done.lines())


@main.group()
def store() -> None:
    """The model volume: what it holds, and whether that is still right."""


@store.command("list")
@as_json
def store_list(as_json: bool) -> None:
    """Show each model's sets: current, previous, candidate, pinned, refused, and their sizes."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.keeping import ListStore, Stored, in_use

    platform = _platform()
    request = ListStore(in_use=in_use(platform.served(platform.catalog())))
    found = ask(platform, request, Stored, _say)
    _print(found.model_dump(mode="json")) if as_json else _echo(found.lines())


@store.command("verify")
@click.argument("models", nargs=-1)
@click.option("--repair", is_flag=True, help="Fetch damaged files again, each from the commit it came from.")
@as_json
def store_verify(models: tuple[str, ...], repair: bool, as_json: bool) -> None:
    """Hash every byte of MODELS' current files again, of all models if none is named."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.messages import Inspect, Inspected

    platform = _platform()
    catalog = platform.catalog()
    chosen = tuple(_known(catalog, name) for name in models) or catalog.models
    found = ask(platform, Inspect(models=chosen, verify=True, repair=repair), Inspected, _say)
    missing = [model.id for model in chosen if model.id not in found.current] if models else []
    if as_json:
        faults = {name: [fault.says for fault in faults] for name, faults in found.faults.items()}
        _print({"good": not faults and not missing, "verified": list(found.current), "faults": faults})
    for name in missing:
        _say(f"{name}: no verified file; materialize gguf/{name}")
    sys.exit(1 if found.faults or missing else 0)


def _known(catalog: Catalog, name: str) -> Model:
    try:
        return catalog.model(name)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from None


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


@main.group()
def lease() -> None:
    """Who has the card: look, hold it, or ask for its release."""


@lease.command("status")
@as_json
def lease_status(as_json: bool) -> None:
    """Show who holds the card, since when, what will be restored, and whether somebody would restore it."""
    platform = _platform()
    found = platform.lease(platform.catalog()).overview()
    if as_json:
        _print(found.as_dict())
    else:
        for line in found.lines:
            click.echo(line)


@lease.command("hold")
@click.option("--minutes", type=click.FloatRange(0, 24 * 60, min_open=True), default=60.0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Print what would be taken and restored; take nothing.")
@click.option("--without-reaper", is_flag=True, help="Hold though nobody would give the card back if we died.")
def lease_hold(minutes: float, dry_run: bool, without_reaper: bool) -> None:
    """Take the card, keep it for some minutes or until Ctrl-C or `release`, give it back."""
    from llama_assets.tasks.courtesy import courteous
    from llama_assets.tasks.hold import hold, previewed

    settings = Settings.read()
    if without_reaper:
        settings = settings.model_copy(update={"without_reaper": True})
    platform = open_platform(settings)
    lease = courteous(platform, platform.catalog(), lambda line: click.echo(line, err=True))
    if dry_run:
        found = previewed(lease, lambda line: click.echo(line, err=True))
        for line in found.lines:
            click.echo(line)
        for obstacle in found.obstacles:
            click.echo(f"in the way: {obstacle}")
        sys.exit(1 if found.obstacles else 0)
    held = hold(lease, minutes, click.echo)
    click.echo(f"given back after {held.seconds:.1f} s, ended by {held.ended_by} ({held.says})")


@lease.command("release")
@click.option("--dry-run", is_flag=True, help="Only say who would be asked.")
def lease_release(dry_run: bool) -> None:
    """Ask the holder to give the card back; it does so before its next request."""
    platform = _platform()
    lease = platform.lease(platform.catalog())
    record, living = lease.status()
    if not living:
        click.echo("free; nobody to ask")
        return
    if not dry_run:
        lease.release()
    click.echo(f"{'would ask' if dry_run else 'asked'} {record.holder} to give back token {record.token}")


@main.command()
def courtesy() -> None:
    """Resume Immich's queues that a holder of the card paused and, because it died, did not resume."""
    from llama_assets.platforms import PlatformError

    platform = _platform()
    found = platform.courtesy(platform.catalog(), click.echo)
    if found is None:
        raise PlatformError("no courtesy to Immich here: set LLAMA_ASSETS_IMMICH_ADMIN_KEY, where results are mounted")
    told = found.mend()
    if not told.resumed and not told.trouble:
        click.echo("nothing is left paused by a holder that died")
    sys.exit(1 if told.trouble else 0)


@main.group()
def engine() -> None:
    """What answers: apply its configuration, and see what runs."""


@engine.command("apply")
@click.option("--dry-run", is_flag=True, help="Say what would be written; write nothing.")
@click.option("--take-over", is_flag=True, help="Also write fields that somebody else has set.")
@as_json
def engine_apply(dry_run: bool, take_over: bool, as_json: bool) -> None:
    """Serve the verified files of the store: write llama-swap's configuration, in a cluster with its Deployment."""
    from llama_assets.tasks.applying import apply_current

    platform = _platform()
    applied, served = apply_current(platform, platform.catalog(), _say, dry_run=dry_run, take_over=take_over)
    if as_json:
        _print(
            {"where": applied.where, "changed": list(applied.changed), "state": applied.state, "served": list(served)}
        )
        return
    for what in applied.changed or (applied.where,):
        click.echo(f"{what}: {('would be written' if dry_run else 'written') if applied.changed else 'as it is to be'}")
    click.echo(f"serves: {', '.join(served) or 'no model; `gguf/*` is not fetched yet'}")
    click.echo(applied.state)


@engine.command("status")
@as_json
def engine_status(as_json: bool) -> None:
    """Show the engine's image, what runs, what is served, and who else wrote its objects."""
    platform = _platform()
    seen = platform.engine_status(platform.catalog())
    if as_json:
        _print(dict(seen.facts))
    else:
        click.echo("\n".join(seen.lines))
    sys.exit(0 if seen.good else 1)


@main.command()
@as_json
def candidates(as_json: bool) -> None:
    """List what is not served yet: candidates, what was found out about them, and who decides next."""
    found = _inspected()
    if as_json:
        _print({"candidates": [one.model_dump(mode="json") for one in found.candidates]})
        return
    for one in found.candidates:
        tried = f"tried {one.tries} times, last: {one.last}" if one.tries else "not measured yet"
        decides = "the next benchmark measures it" if one.due else "waits for a person: `promote` or `reject`"
        click.echo(f"{one.arm}  {one.files.bytes / 1e9:.2f} GB  {decides}; {tried}")
    if not found.candidates:
        click.echo("no candidate: of every model the newest verified files are current, or refused")


@main.command()
@click.argument("model")
@click.argument("fingerprint", required=False)
@as_json
def promote(model: str, fingerprint: str | None, as_json: bool) -> None:
    """Serve MODEL's candidate without a verdict, or FINGERPRINT, also one that was refused."""
    from llama_assets.tasks.applying import apply_current
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.deciding import Decide, Decided

    platform = _platform()
    catalog = platform.catalog()
    _known(catalog, model)
    platform.wait_until_free(catalog, f"promotion of {model}", _say)
    done = ask(platform, Decide(action="promote", model=model, fingerprint=fingerprint), Decided, _say)
    applied, _ = apply_current(platform, catalog, _say)
    if as_json:
        _print({**done.model_dump(mode="json"), "where": applied.where, "state": applied.state})
    else:
        _echo([*done.lines(), applied.state])


@main.command()
@click.argument("model")
@click.argument("fingerprint")
@click.option("--why", default="", help="Kept beside the refusal, and shown by `store list`.")
@as_json
def reject(model: str, fingerprint: str, why: str, as_json: bool) -> None:
    """Never serve FINGERPRINT of MODEL, until somebody promotes it by hand. Nothing that is served changes."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.deciding import Decide, Decided

    platform = _platform()
    _known(platform.catalog(), model)
    request = Decide(action="reject", model=model, fingerprint=fingerprint, why=why)
    done = ask(platform, request, Decided, _say)
    _print(done.model_dump(mode="json")) if as_json else _echo(done.lines())


@main.group()
def quarantine() -> None:
    """Models that are not served because the engine could not load them, session after session."""


@quarantine.command("list")
@as_json
def quarantine_list(as_json: bool) -> None:
    """Show what is kept out, since when and why; exit status 1 if anything is."""
    found = _inspected().quarantined
    if as_json:
        _print({"good": not found, "quarantined": found})
    else:
        _echo([f"{name}: {why}" for name, why in found.items()] or ["nothing is quarantined"])
    sys.exit(1 if found else 0)


@quarantine.command("release")
@click.argument("model")
@as_json
def quarantine_release(model: str, as_json: bool) -> None:
    """Forget MODEL's failed loads; `llama_swap` then serves it again."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.deciding import Release, Released

    platform = _platform()
    _known(platform.catalog(), model)
    done = ask(platform, Release(model=model), Released, _say)
    _print(done.model_dump(mode="json")) if as_json else _echo(done.lines())


def _inspected() -> Inspected:
    """The store's answer about every model, as automation sees it."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.candidates import serving_by
    from llama_assets.tasks.messages import Inspect, Inspected

    platform = _platform()
    catalog = platform.catalog()
    request = Inspect(models=catalog.models, serving=serving_by(platform, catalog), automatic=True)
    return ask(platform, request, Inspected, _say)


@main.group()
def alerts() -> None:
    """Who is told of red checks and failed runs."""


@alerts.command("test")
@as_json
def alerts_test(as_json: bool) -> None:
    """Send one message to LLAMA_ASSETS_ALERT_URL, and show what the receiver answers."""
    from llama_assets.alerts import AlertError, Message, Receiver

    settings = Settings.read()
    if settings.alert_url is None:
        raise click.UsageError("LLAMA_ASSETS_ALERT_URL is not set, so nobody is told of red checks and failed runs")
    receiver = Receiver(settings.alert_url.get_secret_value(), settings.alert_format)
    todo = "nothing; red checks and failed runs will look like this"
    message = Message("a test", "somebody asked for this message", todo, settings.ui_url or "", good=True)
    try:
        answer = receiver.send(message)
    except AlertError as error:
        if not as_json:
            raise
        _print({"good": False, "host": receiver.host, "format": receiver.format, "answer": str(error)})
        sys.exit(error.exit_status)
    if as_json:
        _print({"good": True, "host": receiver.host, "format": receiver.format, "answer": answer})
    else:
        click.echo(answer)


@main.command()
@click.option("--once", is_flag=True, help="One pass; it waits one lifetime before it calls a named holder dead.")
@click.option("--every", type=click.FloatRange(min=1), help="A pass every so many seconds, until ended.")
@click.option("--port", type=click.IntRange(1, 65535), help="Serve figures for Prometheus here; with --every.")
def reap(once: bool, every: float | None, port: int | None) -> None:
    """Put back what a dead holder of the cluster's card left behind."""
    import signal

    from llama_assets.gpu.reaper import Reaper
    from llama_assets.platforms import kubernetes

    if once == (every is not None):
        raise click.UsageError("say either --once or --every SECONDS")
    platform = kubernetes(Settings.read())
    found = platform.catalog()
    with platform.kube as kube:
        reaper = Reaper(kube, platform.settings.namespace, found.gpu.lease, platform.card(found), say=click.echo)
        if every is not None:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container ignores it else
            reaper.every(every, port)
        reports = reaper.once()
    for report in reports:
        click.echo(report)
    if not reports:
        click.echo("nothing to put back")
    sys.exit(0 if all(report.good for report in reports) else 1)


if __name__ == "__main__":
    main()
