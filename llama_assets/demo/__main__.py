"""`make demo`: the unmodified catalog through the whole graph on this machine, with nothing from outside.

A hub on loopback serves generated models under the real repos' file names; photos are drawn; everything after that is
the real thing, by `dagster asset materialize`: selection, download, verification, llama.cpp, the benchmark, the
verdict. Shows what happens while it happens, keeps the whole log, and ends with the verdict, the report and the next
command.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from llama_assets import catalog as catalogs
from llama_assets.demo.hub import LoopbackHub
from llama_assets.demo.models import repo_files
from llama_assets.demo.photos import draw_photos
from llama_assets.demo.showing import materialize

HOME = Path(".llama-assets/demo")


@click.command()
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), default=HOME, show_default=True)
@click.option("--photos", type=click.IntRange(30), default=40, show_default=True, help="How many photos are drawn.")
@click.option("--select", default="*", show_default=True, help="What to materialize, in Dagster's selection syntax.")
def main(home: Path, photos: int, select: str) -> None:
    """Run the whole graph on generated models and drawn photos; end with a verdict."""
    began = time.monotonic()
    home.mkdir(parents=True, exist_ok=True)
    catalog = catalogs.load()
    with LoopbackHub() as hub:
        for model in catalog.models:
            hub.push(model.repo, {"README.md": f"# {model.repo}\n", **repo_files(model.repo, home / "models")})
        drawn = draw_photos(home / "photos", photos)
        click.echo(f"hub      {hub.url} serves {len(catalog.models)} generated models under their real names")
        click.echo(f"photos   {photos} in {home / 'photos'}{'' if drawn else ', drawn earlier'}")
        click.echo(f"$ dagster asset materialize --select '{select}' -m llama_assets.definitions\n")
        environment = demo_environment(home, hub.url)
        status = materialize(select, environment, home / "run.log", began).status
        fetched = hub.count("cdn", "GET")
    if status:
        click.echo(f"\nthe demo failed; the whole log is {home / 'run.log'}", err=True)
        raise SystemExit(1)
    _end(home, fetched, time.monotonic() - began)


def demo_environment(home: Path, hub: str) -> dict[str, str]:
    """The environment of the demo's Dagster: the catalog is the packaged one, all else lies under `home`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LLAMA_ASSETS_", "HF_"))}
    return {
        **inherited,
        "HF_ENDPOINT": hub,
        "LLAMA_ASSETS_STORE": str(home / "store"),
        "LLAMA_ASSETS_RESULTS": str(home / "results"),
        "LLAMA_ASSETS_PHOTOS": str(home / "photos"),
        "PYTHONUNBUFFERED": "1",
    }


def _end(home: Path, fetched: int, seconds: float) -> None:
    from llama_assets.tasks.verdict import REPORT, NoSession, newest_session
    from llama_assets.verdict import judge, render_text

    try:
        session = newest_session(home / "results")
    except NoSession as nothing:
        click.echo(f"\n{nothing}")
    else:
        click.echo("\n" + render_text(judge([session]), bold=sys.stdout.isatty()))
        click.echo(f"report       {session / REPORT}")
        click.echo("next         make ui    the graph, this session and its history in a browser")
    what = (
        f"{fetched} files were fetched from the hub"
        if fetched
        else "nothing had to be downloaded, every file was there"
    )
    click.echo(f"\n{seconds:.0f} s in all; {what}. Your own photos and models: README.md")


if __name__ == "__main__":
    main()
