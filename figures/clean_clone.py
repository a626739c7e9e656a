"""From a clean clone to the demo's verdict, cold (no .venv: packages are installed first) and warm (once more there).

It clones the last commit, so what is not committed is not measured. pip's cache is used as it is found: how long a
first installation takes is the package index's figure, not ours. Takes minutes, so it is measured only when asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures.measuring import Goal, How, Program, line, run, scratch

GOAL = Goal(45.0, "ours")
ROOT = Path(__file__).parents[1]


def measure(how: How) -> Iterator[dict[str, Any]]:
    with scratch() as folder:
        clone = folder / "llama-assets"
        cloned = run(Program("clone", ("git", "clone", "--quiet", str(ROOT), str(clone)))).seconds
        demo = Program("make demo", ("make", "demo", f"PYTHON={Path(sys.base_prefix, 'bin', 'python3')}"), {}, clone)
        cold, warm = cloned + run(demo).seconds, run(demo).seconds
    yield from lines(how, cold, warm)


def lines(how: How, cold: float, warm: float) -> Iterator[dict[str, Any]]:
    """Seconds from nothing to the verdict, and of the next `make demo`; only the second has a goal."""
    yield line("clean_clone_cold", how, None, "s", [cold], "git clone ... && make demo")
    yield line("clean_clone_warm", how, GOAL, "s", [warm], "make demo, a second time in the clone")
