"""What is served: the engine, candidates beside it, and what is kept out. Not here: deciding (`policy`, `tasks`)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from llama_assets.cli.root import as_json, known, main, open_here, print_answer, print_json, print_lines, say

if TYPE_CHECKING:
    from llama_assets.tasks.messages import Inspected


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

    platform = open_here()
    applied, served = apply_current(platform, platform.catalog(), say, dry_run=dry_run, take_over=take_over)
    if as_json:
        print_json(
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
    platform = open_here()
    seen = platform.engine_status(platform.catalog())
    if as_json:
        print_json(dict(seen.facts))
    else:
        click.echo("\n".join(seen.lines))
    sys.exit(0 if seen.good else 1)


@main.command()
@as_json
def candidates(as_json: bool) -> None:
    """List what is not served yet: candidates, what was found out about them, and who decides next."""
    found = _inspected()
    if as_json:
        print_json({"candidates": [one.model_dump(mode="json") for one in found.candidates]})
        return
    for one in found.candidates:
        tried = f"tried {one.tries} times, last: {one.last}" if one.tries else one.last or "not measured yet"
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

    platform = open_here()
    catalog = platform.catalog()
    known(catalog, model)
    platform.wait_until_free(catalog, f"promotion of {model}", say)
    done = ask(platform, Decide(action="promote", model=model, fingerprint=fingerprint), Decided, say)
    applied, _ = apply_current(platform, catalog, say)
    if as_json:
        print_json({**done.model_dump(mode="json"), "where": applied.where, "state": applied.state})
    else:
        print_lines([*done.lines(), applied.state])


@main.command()
@click.argument("model")
@click.argument("fingerprint")
@click.option("--why", default="", help="Kept beside the refusal, and shown by `store list`.")
@as_json
def reject(model: str, fingerprint: str, why: str, as_json: bool) -> None:
    """Never serve FINGERPRINT of MODEL, until somebody promotes it by hand. Nothing that is served changes."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.deciding import Decide, Decided

    platform = open_here()
    known(platform.catalog(), model)
    request = Decide(action="reject", model=model, fingerprint=fingerprint, why=why)
    done = ask(platform, request, Decided, say)
    print_answer(done, as_json)


@main.group()
def quarantine() -> None:
    """Models that are not served because the engine could not load them, session after session."""


@quarantine.command("list")
@as_json
def quarantine_list(as_json: bool) -> None:
    """Show what is kept out, since when and why; exit status 1 if anything is."""
    found = _inspected().quarantined
    if as_json:
        print_json({"good": not found, "quarantined": found})
    else:
        print_lines([f"{name}: {why}" for name, why in found.items()] or ["nothing is quarantined"])
    sys.exit(1 if found else 0)


@quarantine.command("release")
@click.argument("model")
@as_json
def quarantine_release(model: str, as_json: bool) -> None:
    """Forget MODEL's failed loads; `llama_swap` then serves it again."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.deciding import Release, Released

    platform = open_here()
    known(platform.catalog(), model)
    done = ask(platform, Release(model=model), Released, say)
    print_answer(done, as_json)


def _inspected() -> Inspected:
    """The store's answer about every model, as automation sees it."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.candidates import serving_by
    from llama_assets.tasks.messages import Inspect, Inspected

    platform = open_here()
    catalog = platform.catalog()
    request = Inspect(models=catalog.models, serving=serving_by(platform, catalog), automatic=True)
    return ask(platform, request, Inspected, say)
