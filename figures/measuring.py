"""How a figure is measured: ours and its rivals in turn, each run a process of its own, and one JSON line at the end.

Here: running a program with its wall seconds and peak memory, taking turns, goals, the line. Not here: what is run.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# The kernel counts the memory of whoever forks into the child's peak, so what forks must be small: a bare interpreter.
STARTER = """
import json, os, sys, time
os.set_inheritable(report := int(sys.argv[1]), False)
began = time.monotonic()
_, status, used = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
seconds = time.monotonic() - began
os.write(report, json.dumps([os.waitstatus_to_exitcode(status), seconds, used.ru_maxrss,
                             used.ru_utime + used.ru_stime]).encode())
"""
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of one ru_maxrss, getrusage(2)


class ProgramFailed(Exception):
    """A program that was to be measured ended badly; there is no figure then."""

    exit_status = 1

    def __init__(self, command: str, status: int, said: str) -> None:
        super().__init__(f"exit status {status}: {command}\n{said}")


@dataclass(frozen=True)
class How:
    """How much is measured. `quick` shows on tiny sizes that a figure can be measured: its numbers mean nothing."""

    quick: bool
    rounds: int
    say: Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """What is run: arguments, and what is added to an environment without settings of ours or the Hub's."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    def __str__(self) -> str:
        """As one would type it."""
        shown = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        first, *others = self.arguments
        return " ".join([*shown, Path(first).name, *map(shlex.quote, others)])


@dataclass(frozen=True)
class Ran:
    """What one run took. `peak_mib`: most memory of the program's process, or of a child it waited for."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def run(program: Program) -> Ran:
    """Run it to its end.

    Raises:
        ProgramFailed: exit status other than 0; carries the end of what it wrote.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "LLAMA_", "DAGSTER_"))}
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output, os.fdopen(reading, "rb") as report:
        starter = [sys.executable, "-I", "-S", "-c", STARTER, str(writing), *program.arguments]
        try:
            subprocess.run(
                starter, env={**clean, **program.environment}, cwd=program.folder, pass_fds=[writing],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        finally:
            os.close(writing)
        told = report.read()
        output.seek(0)
        said = output.read().decode(errors="replace")[-2000:]
    if not told:
        raise ProgramFailed(str(program), 127, said)
    status, seconds, peak, cpu = json.loads(told)
    if status:
        raise ProgramFailed(str(program), status, said)
    return Ran(seconds, cpu, peak * RSS_UNIT / (1 << 20))


def in_turns(how: How, runs: Mapping[str, Callable[[], Any]], warm_up: bool = False) -> dict[str, list[Any]]:
    """What each returned, once a round. Each round begins with another one, so that none is always first."""
    names = list(runs)
    found: dict[str, list[Any]] = {name: [] for name in names}
    if warm_up:
        for name in names:
            runs[name]()
    for number in range(how.rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            found[name].append(runs[name]())
            how.say(f"round {number + 1} of {how.rounds}: {name} {_short(found[name][-1])}")
    return found


@dataclass(frozen=True)
class Goal:
    """At most `limit`: of our own value, of its ratio to the rival's, or of what it is over the rival's."""

    limit: float
    of: Literal["ours", "ratio", "over"]

    def sentence(self, unit: str, rival: str | None) -> str:
        """As it is printed."""
        if self.of == "ours":
            return f"<= {self.limit:g} {unit}"
        return f"<= {self.limit:g} x {rival}" if self.of == "ratio" else f"<= {self.limit:g} {unit} over {rival}"


def line(
    figure: str,
    how: How,
    goal: Goal | None,
    unit: str,
    ours: Sequence[float],
    command: str,
    rival: tuple[str, Sequence[float], str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One line. `ours` and the rival's values are round by round; `rival` is its name, its values and its command.

    `reached` is what is compared with the goal: the median of our values, or of the rounds' ratios or differences.
    """
    name, theirs, their_command = rival or (None, (), None)
    ratios = [a / b for a, b in zip(ours, theirs, strict=rival is not None) if b]
    differences = [a - b for a, b in zip(ours, theirs, strict=rival is not None)]
    reached = statistics.median({"ours": ours, "ratio": ratios, "over": differences}[goal.of if goal else "ours"])
    return {
        "figure": figure,
        "goal": goal.sentence(unit, name) if goal else None,
        "ours": spread(ours),
        "rival": {"name": name, **spread(theirs)} if rival else None,
        "ratio": _rounded(statistics.median(ratios)) if ratios else None,
        "ratio_range": [_rounded(min(ratios)), _rounded(max(ratios))] if ratios else None,
        "reached": _rounded(reached),
        "met": None if how.quick or not goal else reached <= goal.limit,
        "unit": unit,
        "rounds": len(ours),
        "command": command,
        "rival_command": their_command,
        **more,
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "quick": how.quick,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {
        "min": _rounded(min(values)),
        "median": _rounded(statistics.median(values)),
        "max": _rounded(max(values)),
    }


@contextmanager
def scratch(beside: Path | None = None) -> Iterator[Path]:
    """A folder that is gone afterwards, on the volume of `beside`."""
    with tempfile.TemporaryDirectory(prefix="llama-assets-figures-", dir=beside) as folder:
        yield Path(folder)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _short(value: Any) -> str:
    if isinstance(value, Ran):
        return f"{value.seconds:.2f} s, {value.peak_mib:.0f} MiB"
    return f"{value:.4g}" if isinstance(value, float) else ""
