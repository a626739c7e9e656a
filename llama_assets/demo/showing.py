"""`dagster asset materialize` as a person wants to see it: what tasks say, errors in full, the verdict at the end.

Comes in: what to select and an environment. Goes out: lines on the terminal, the whole log in a file, and the verdict
as the run printed it. Not here: what is materialized, and with what.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

LOG_LINE = re.compile(r"^\S+ \S+ \S+ - dagster - (?P<level>[A-Z]+) - \S+ - \S+ - (?:(?P<pid>\d+) - )?(?P<rest>.*)$")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
VERDICT = "VERDICT  session"  # how the verdict's text begins


@dataclass(frozen=True)
class Materialized:
    """How the command ended, and the verdict's text if its run logged one."""

    status: int
    verdict: str


def materialize(select: str, environment: dict[str, str], log: Path, began: float, folder: Path | None = None
                ) -> Materialized:  # fmt: skip
    """Run the command in `folder`, show it while it runs, keep everything in `log`. Times count from `began`."""
    command = [sys.executable, "-m", "dagster", "asset", "materialize"]
    command += ["--select", select, "-m", "llama_assets.definitions"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    try:
        with log.open("w") as kept:
            failing = False
            for line in process.stdout:
                kept.write(line)
                lines.append(line)
                if shown := said(line):
                    click.echo(f"{time.monotonic() - began:5.1f} s  {shown}")
                    failing = "STEP_FAILURE" in shown
                elif failing and line.strip():  # a failure's own sentence follows its line, up to the stack trace
                    failing = not line.startswith("Stack Trace:")
                    click.echo(line.rstrip() if failing else "")
    except KeyboardInterrupt:
        click.echo("stopping; rows that were written are kept", err=True)
    return Materialized(process.wait(), "\n".join(verdict_in(lines)))


def said(line: str) -> str | None:
    """What a person wants to see of one line of Dagster's log: what tasks say, and errors."""
    found = LOG_LINE.match(COLOUR.sub("", line.rstrip()))
    if not found or found["level"] == "DEBUG" or "[pipes]" in found["rest"]:
        return None
    step, _, message = found["rest"].partition(" - ")
    return f"{step.replace('__', '/'):<24} {message}" if message else None


def verdict_in(lines: Iterable[str]) -> Iterator[str]:
    """The lines of the last verdict that a log holds, as they were printed."""
    found: list[str] = []
    inside = False
    for line in (COLOUR.sub("", line.rstrip()) for line in lines):
        if line.startswith(VERDICT):
            inside, found = True, []
        elif LOG_LINE.match(line):
            inside = False
        if inside:
            found.append(line)
    yield from found
