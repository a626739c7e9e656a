"""`make demo`: the unmodified catalog through the whole graph on this machine, with nothing from outside.

A hub on loopback serves generated models under the real repos' file names; photos are drawn; everything after that is
the real thing, by `dagster asset materialize`: selection, download, verification, llama.cpp, the benchmark, the
verdict. Shows what happens while it happens, keeps the whole log, and ends with the verdict, the report and the next
command.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import click

from llama_assets import catalog as catalogs
from llama_assets.demo.hub import LoopbackHub
from llama_assets.demo.models import repo_files
from llama_assets.demo.photos import draw_photos

HOME = Path(".llama-assets/demo")
LOG_LINE = re.compile(r"^\S+ \S+ \S+ - dagster - (?P<level>[A-Z]+) - \S+ - \S+ - (?:(?P<pid>\d+) - )?(?P<rest>.*)$")


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
        status = _materialize(select, environment, home / "run.log", began)
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


def _materialize(select: str, environment: dict[str, str], log: Path, began: float) -> int:
    command = [
        sys.executable,
        "-m",
        "dagster",
        "asset",
        "materialize",
        "--select",
        select,
        "-m",
        "llama_assets.definitions",
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    try:
        with log.open("w") as kept:
            failing = False
            for line in process.stdout:
                kept.write(line)
                if shown := _shown(line):
                    click.echo(f"{time.monotonic() - began:5.1f} s  {shown}")
                    failing = "STEP_FAILURE" in shown
                elif failing and line.strip():  # a failure's own sentence follows its line, up to the stack trace
                    failing = not line.startswith("Stack Trace:")
                    click.echo(line.rstrip() if failing else "")
    except KeyboardInterrupt:
        click.echo("stopping; rows that were written are kept", err=True)
    return process.wait()


def _shown(line: str) -> str | None:
    """What a person wants to see of one line of Dagster's log: what tasks say, and errors."""
    found = LOG_LINE.match(re.sub(r"\x1b\[[0-9;]*m", "", line.rstrip()))
    if not found or found["level"] == "DEBUG" or "[pipes]" in found["rest"]:
        return None
    step, _, message = found["rest"].partition(" - ")
    return f"{step.replace('__', '/'):<24} {message}" if message else None


def _end(home: Path, fetched: int, seconds: float) -> None:
    from llama_assets.tasks.verdict import REPORT, NoSession, newest_session
    from llama_assets.verdict import judge, render_text

    try:
        session = newest_session(home / "results")
    except NoSession as nothing:
        click.echo(f"\n{nothing}")
    else:
        click.echo("\n" + render_text(judge([session])))
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
