"""Rows judged, and the report of a session. Not here: judging (`verdict`), writing reports (`tasks.verdict`)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from llama_assets.cli.root import as_json, main, open_here, print_json, print_lines, say
from llama_assets.settings import Settings


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

    if as_json and markdown:
        raise click.UsageError("--json and --markdown are two forms of the same: give one of them")
    if ranking_key and not question:
        raise click.UsageError("--ranking-key names a field of the --question, which has to stand beside it")
    asked = Question.of_answers(question, ranking_key) if question else None
    found = judge_rows(
        rows,
        session=session,
        question=asked,
        incumbent=incumbent,
        catalog_incumbent=catalog.load(Settings.read().catalog).benchmark.incumbent,
        say=say,
        ratings=read_ratings(ratings) if ratings else None,
    )
    if as_json:
        print_json(found.to_json())
    elif markdown:
        click.echo(render_markdown(found), nl=False)
    else:
        click.echo(render_text(found, bold=sys.stdout.isatty()), nl=False)
        print_lines(_onward(rows[0]))
    sys.exit(found.exit_status)


def _onward(rows: Path) -> Iterator[str]:
    """A session's report and the next command; nothing for rows measured elsewhere, which have neither."""
    from llama_assets.bench.record import SESSION
    from llama_assets.tasks.verdict import REPORT

    page = rows / REPORT
    if page.is_file():
        yield f"report       {page}"
        yield f"next         llama-assets report --open {shlex.quote(str(rows))}    the same with its evidence"
    elif (rows / SESSION).is_file():
        yield f"next         llama-assets report {shlex.quote(str(rows))}    writes a page with the evidence"


@main.command()
@click.argument("session", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--open", "open_it", is_flag=True, help="Open the report in a browser.")
@click.option("--without-photos", is_flag=True, help="Leave out thumbnails and captions, for a report that is sent on.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write; beside the rows if not set."
)
@click.option("--history", is_flag=True, help="Write the page of all sessions per model instead.")
def report(session: Path | None, open_it: bool, without_photos: bool, output: Path | None, history: bool) -> None:
    """Write the one-file HTML report of SESSION, or of the newest session."""
    from llama_assets.tasks.history import write_history
    from llama_assets.tasks.verdict import newest_session, write_report

    if output and not output.absolute().parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no folder {output.parent}")
    if history:
        if session or without_photos or output:
            raise click.UsageError("--history is of all sessions and has no photos: it takes only --open beside it")
        written = write_history(open_here().results, at_most=None, say=say)
        path, bad = written.path, not written.shown
        if written.left_out:
            say(f"{written.left_out} of {written.shown + written.left_out} sessions are not shown; the page says why")
    else:
        folder = session or newest_session(open_here().results)
        path, bad = write_report(folder, photos=not without_photos, output=output), False
    click.echo(path)
    if open_it:
        click.launch(str(path))
    if bad:
        sys.exit(1)
