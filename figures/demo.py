"""`make demo` with the packages in place, from an empty folder to the verdict; and once more, with everything there.

Each round has a working folder of its own with the checkout's dagster.yaml, so that a person's store, results and
Dagster instance are left alone. No rival has this, so there is none. Not here: installing (`clean_clone`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from figures.measuring import Goal, How, Program, line, run, scratch

GOAL = Goal(45.0, "ours")
ROOT = Path(__file__).parents[1]
MOST_ROUNDS = 3  # half a minute each, and again


def measure(how: How) -> Iterator[dict[str, Any]]:
    first: list[float] = []
    again: list[float] = []
    for number in range(min(how.rounds, MOST_ROUNDS)):
        with scratch() as folder:
            for name in ("dagster.yaml", "workspace.yaml"):
                shutil.copy(ROOT / name, folder / name)
            demo = Program("demo", (sys.executable, "-m", "llama_assets.demo"), {}, folder)
            for seconds in (first, again):
                seconds.append(run(demo).seconds)
        how.say(f"round {number + 1}: {first[-1]:.1f} s, and again {again[-1]:.1f} s")
    yield from lines(how, first, again)


def lines(how: How, first: Sequence[float], again: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Seconds of `make demo` in an empty folder, and in the same folder once more."""
    yield line("demo", how, GOAL, "s", first, "make demo")
    yield line("demo_again", how, GOAL, "s", again, "make demo, a second time")
