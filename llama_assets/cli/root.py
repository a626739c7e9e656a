"""The root command, and what every command shares: how it opens the platform, and how it says things.

Exit status: 0 good, 1 the thing asked about is bad, 2 wrong use. `--json` prints one object. Data goes to stdout,
everything else to stderr. Not here: commands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import click

from llama_assets.platforms import Platform, open_platform
from llama_assets.settings import Settings

if TYPE_CHECKING:
    from llama_assets.catalog import Catalog, Model


class Said(Protocol):
    """What a task answered: as values, and as lines for a person."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """JSON values."""

    def lines(self) -> Iterable[str]:
        """For a person."""


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


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def open_here() -> Platform:
    """The platform of this environment."""
    return open_platform(Settings.read())


def say(line: str) -> None:
    """What is no data."""
    click.echo(line, err=True)


def print_json(answer: dict[str, Any]) -> None:
    """One object; half a surrogate pair, which JSON can hold and UTF-8 cannot, is U+FFFD."""
    text = json.dumps(answer, indent=2, ensure_ascii=False)
    click.echo(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def print_lines(lines: Iterable[str]) -> None:
    """For a person."""
    for line in lines:
        click.echo(line)


def print_answer(answer: Said, as_json: bool) -> None:
    """What a task answered."""
    print_json(answer.model_dump(mode="json")) if as_json else print_lines(answer.lines())


def known(catalog: Catalog, name: str) -> Model:
    """The catalog's model of that name. Raises click.UsageError, which lists them."""
    try:
        return catalog.model(name)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from None
