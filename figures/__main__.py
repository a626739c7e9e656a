"""`python -m figures [NAME...]`: measure, and print a JSON line a figure; what happens meanwhile goes to stderr."""

from __future__ import annotations

import importlib
import json

import click

from figures.measuring import How

NAMES = ("download", "overhead", "definitions", "poll", "verdicts", "stopping", "demo")
ROUNDS, QUICK_ROUNDS = 5, 1


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[NAME]...")
@click.option("--quick", is_flag=True, help="Tiny sizes, one round: shows that it runs; the numbers mean nothing.")
@click.option("--rounds", type=click.IntRange(1), help=f"How often each is run, in turns with its rival [{ROUNDS}].")
@click.option("--clean-clone", is_flag=True, help="Clone the last commit, and time `make demo` there, cold and warm.")
@click.option("--year", is_flag=True, help="Simulate a year of automation; a quarter of an hour.")
def main(names: tuple[str, ...], quick: bool, rounds: int | None, clean_clone: bool, year: bool) -> None:
    """Measure ourselves beside the rivals; NAME is one of:
    download overhead definitions poll verdicts stopping demo (all if none)."""
    how = How(quick, rounds or (QUICK_ROUNDS if quick else ROUNDS), lambda text: click.echo(f"  {text}", err=True))
    long = [name for name, asked in (("clean_clone", clean_clone), ("year", year)) if asked]
    for name in (*(names or (() if long else NAMES)), *long):
        click.echo(name, err=True)
        for found in importlib.import_module(f"figures.{name}").measure(how):
            click.echo(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
