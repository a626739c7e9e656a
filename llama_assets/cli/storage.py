"""The model volume by hand: back to what came before, what may go, what stays, what is still right.

In a cluster a task does it (`tasks.asking`). Not here: what may go (`store`).
"""

from __future__ import annotations

import sys
from typing import Any

import click

from llama_assets.cli.root import as_json, known, main, open_here, print_answer, print_json, print_lines, say


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

    platform = open_here()
    catalog = platform.catalog()
    known(catalog, model)
    if not dry_run:
        platform.wait_until_free(catalog, f"rollback of {model}", say)
    request = RollBack(
        model=model, to=to, why=why, served=platform.served(catalog).get(model), dry_run=dry_run,
        inspect=question(platform, catalog),
    )  # fmt: skip
    done = ask(platform, request, RolledBack, say)
    if not as_json:
        print_lines(done.lines())
    found: dict[str, Any] = done.model_dump(mode="json", exclude={"inspected"})
    if not dry_run:
        try:
            applied, served = apply_current(platform, catalog, say, done.inspected)
        except Exception:
            say(f"{model} is rolled back in the store and not served yet: `llama-assets engine apply` does that")
            raise
        found |= {"where": applied.where, "changed": list(applied.changed), "state": applied.state, "served": served}
        if not as_json:
            click.echo(
                f"{', '.join(applied.changed) or applied.where}: {'written' if applied.changed else 'as it was'}"
            )
            click.echo(applied.state)
    if as_json:
        print_json(found)


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would go and why; remove nothing.")
@as_json
def gc(dry_run: bool, as_json: bool) -> None:
    """Free what nobody needs: never what is current, previous, pinned, in use or a candidate."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.keeping import Collect, Collected, in_use

    platform = open_here()
    catalog = platform.catalog()
    if not dry_run:
        platform.wait_until_free(catalog, "garbage collection", say)
    request = Collect(in_use=in_use(platform.served(catalog)), dry_run=dry_run)
    done = ask(platform, request, Collected, say)
    print_answer(done, as_json)


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

    done = ask(open_here(), Pin(model=model, fingerprint=fingerprint, keep=keep, why=why), Pinned, say)
    print_answer(done, as_json)


@main.group()
def store() -> None:
    """The model volume: what it holds, and whether that is still right."""


@store.command("list")
@as_json
def store_list(as_json: bool) -> None:
    """Show each model's sets: current, previous, candidate, pinned, refused, and their sizes."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.keeping import ListStore, Stored, in_use

    platform = open_here()
    request = ListStore(in_use=in_use(platform.served(platform.catalog())))
    found = ask(platform, request, Stored, say)
    print_answer(found, as_json)


@store.command("verify")
@click.argument("models", nargs=-1)
@click.option("--repair", is_flag=True, help="Fetch damaged files again, each from the commit it came from.")
@as_json
def store_verify(models: tuple[str, ...], repair: bool, as_json: bool) -> None:
    """Hash every byte of MODELS' current files again, of all models if none is named."""
    from llama_assets.tasks.asking import ask
    from llama_assets.tasks.messages import Inspect, Inspected

    platform = open_here()
    catalog = platform.catalog()
    chosen = tuple(known(catalog, name) for name in models) or catalog.models
    found = ask(platform, Inspect(models=chosen, verify=True, repair=repair), Inspected, say)
    missing = [model.id for model in chosen if model.id not in found.current] if models else []
    if as_json:
        faults = {name: [fault.says for fault in faults] for name, faults in found.faults.items()}
        print_json({"good": not faults and not missing, "verified": list(found.current), "faults": faults})
    for name in missing:
        say(f"{name}: no verified file; materialize gguf/{name}")
    sys.exit(1 if found.faults or missing else 0)
