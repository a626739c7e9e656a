"""The commands: thin, with imports inside them, so that `--help` and the reaper stay light.

Exit status: 0 good, 1 the thing asked about is bad, 2 wrong use. `--json` prints one object. Data goes to stdout,
everything else to stderr. Not here: what a command finds out (the rooms), how it is worded (each error and answer
owns its sentence).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from llama_assets.platforms import Platform, open_platform
from llama_assets.settings import Settings


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
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@as_json
def judge(
    rows: tuple[Path, ...],
    session: Path | None,
    question: Path | None,
    ranking_key: str | None,
    incumbent: str | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Judge ROWS: a session folder, or Parquet, CSV or JSON lines files that together hold the arms."""
    from llama_assets import catalog
    from llama_assets.bench.question import Question
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
    from llama_assets.tasks.hold import hold, previewed

    settings = Settings.read()
    if without_reaper:
        settings = settings.model_copy(update={"without_reaper": True})
    platform = open_platform(settings)
    lease = platform.lease(platform.catalog())
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


@main.group()
def engine() -> None:
    """What answers: apply its configuration, and see what runs."""


@engine.command("apply")
@click.option("--dry-run", is_flag=True, help="Say what would be written; write nothing.")
@click.option("--take-over", is_flag=True, help="Also write fields that somebody else has set.")
@as_json
def engine_apply(dry_run: bool, take_over: bool, as_json: bool) -> None:
    """Serve the verified files of the store: write llama-swap's configuration, in a cluster with its Deployment."""
    from llama_assets.engine import Served

    platform = _platform()
    catalog, store = platform.catalog(), platform.store()
    found = [(model, files) for model in catalog.models if (files := store.current(model.id)) is not None]
    served = [Served(model, files.fingerprint, files.model_file, files.mmproj_file) for model, files in found]
    applied = platform.apply_config(
        catalog, served, lambda line: click.echo(line, err=True), dry_run=dry_run, take_over=take_over
    )
    if as_json:
        names = [model.id for model, _ in found]
        _print({"where": applied.where, "changed": list(applied.changed), "state": applied.state, "served": names})
        return
    for what in applied.changed or (applied.where,):
        click.echo(f"{what}: {('would be written' if dry_run else 'written') if applied.changed else 'as it is to be'}")
    click.echo(f"serves: {', '.join(model.id for model, _ in found) or 'no model; `gguf/*` is not fetched yet'}")
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
