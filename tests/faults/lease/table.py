"""The table of one or more runs: each cell with how often, how many restored, violations, seconds until all was ready.

    python -m tests.faults.lease.table RUN.jsonl ... --out docs/faults

A run leaves a line an injection, as it goes: a run that was ended early has its table too.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.faults.lease.grid import CELLS, HOLDER, OF_HOLDER, OF_REAPER, REAPER, Cell
from tests.faults.lease.injection import SLOW_S, Outcome
from tests.faults.lease.world import TIMES

Row = dict[str, Any]


def row(outcome: Outcome) -> Row:
    """One injection as a line of JSON."""
    return {
        "step": outcome.cell.step, "fault": outcome.cell.fault, "point": outcome.point, "how": outcome.how,
        "seed": outcome.seed, "world": outcome.world, "wall": round(outcome.wall, 1), "seconds": outcome.seconds,
        "violations": outcome.violations,
    }  # fmt: skip


def written(path: Path, runs: Sequence[Path]) -> str:
    """`path`.md and `path`.json from the lines of `runs`; returns the text."""
    rows, notes = [], []
    for run in runs:
        for line in map(json.loads, run.read_text().splitlines()):
            (notes if "run" in line else rows).append(line)
    by_cell: dict[Cell, list[Row]] = defaultdict(list)
    for line in rows:
        by_cell[Cell(line["step"], line["fault"])].append(line)
    totals = {
        "injections": len(rows),
        "restored": sum(line["seconds"] is not None for line in rows),
        "with_violations": sum(bool(line["violations"]) for line in rows),
        "cells": len(CELLS),
        "cells_hit": sum(bool(by_cell[cell]) for cell in CELLS),
        "least_often": min(len(by_cell[cell]) for cell in CELLS),
        "worst_s": max((line["seconds"] for line in rows if line["seconds"] is not None), default=None),
        "runs": [note["run"] for note in notes],
        "kill_to_ready_s": {step: _seconds(by_cell[Cell(step, "kill -9 holder")]) for step in HOLDER},
    }
    cells = [
        {
            "step": cell.step, "fault": cell.fault, "injections": len(by_cell[cell]),
            "restored": sum(line["seconds"] is not None for line in by_cell[cell]),
            "violations": sum(len(line["violations"]) for line in by_cell[cell]), **_seconds(by_cell[cell]),
        }
        for cell in CELLS
    ]  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps({**totals, "by_cell": cells}, indent=1) + "\n")
    text = _text(totals, by_cell)
    path.with_suffix(".md").write_text(text)
    return text


def _seconds(rows: Iterable[Row]) -> dict[str, float | None]:
    known = [line["seconds"] for line in rows if line["seconds"] is not None]
    if not known:
        return {"median_s": None, "worst_s": None}
    return {"median_s": round(median(known), 1), "worst_s": round(max(known), 1)}


def _text(totals: dict[str, Any], by_cell: dict[Cell, list[Row]]) -> str:
    t, runs = totals, totals["runs"]
    lines = [
        "# Faults", "",
        "Written by `make faults` (`python -m tests.faults.lease`): what became of the tenants of a real cluster when",
        "whoever has the card, or puts it back, was struck at each step. Its short seeded part is in `make test`.", "",
        f"{t['injections']} injections, {t['restored']} restored within lifetime + 60 s (lifetime {TIMES.lifetime_s:g} "
        f"s), {t['with_violations']} with a violation; {t['cells_hit']} of {t['cells']} cells, each at least "
        f"{t['least_often']} times.", "",
        *(
            f"* Seed {run['seed']}: {run['side_by_side']} worlds side by side, {run['minutes']} min; "
            f"{run['disturbed']} injections repeated, because the API server was away or the node took more than "
            f"{SLOW_S:.0f} s to start or stop a pod.{run.get('note', '')}"
            for run in runs
        ), "",
        "A violation is: two users of the card at once, a torn or missing row, two holders at work at once, a holder",
        "robbed of its card, a process that broke, a note or a Lease left. A cell: restored/injections, then seconds",
        "from the end of the fault (or of the work of who had the card by right) until all was as found, or as a human",
        "wants it, and ready, with no note and the Lease free: median and worst.",
    ]  # fmt: skip
    for title, steps, columns in (("The holder", HOLDER, OF_HOLDER), ("The reaper", REAPER, OF_REAPER)):
        lines += ["", f"## {title} at a step", "", f"| fault | {' | '.join(steps)} |"]
        lines.append("| --- " * (len(steps) + 1) + "|")
        for fault in columns:
            cells = (_cell(by_cell[Cell(step, fault)]) for step in steps)
            lines.append(f"| {fault} | {' | '.join(cells)} |")
    bad = [line for rows in by_cell.values() for line in rows if line["violations"] or line["seconds"] is None]
    if bad:
        lines += ["", "## Not restored, or with a violation", ""]
        lines += [f"* {line['fault']} {line['point']}: {'; '.join(line['violations'])}" for line in bad]
    return "\n".join(lines) + "\n"


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    restored = sum(line["seconds"] is not None for line in rows)
    bad = sum(bool(line["violations"]) for line in rows)
    seconds = _seconds(rows)
    took = "" if seconds["median_s"] is None else f" {seconds['median_s']:.1f} {seconds['worst_s']:.1f}"
    return f"{restored}/{len(rows)}{took}{f' **{bad} bad**' if bad else ''}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults.lease.table", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/faults"))
    given = parser.parse_args()
    print(written(given.out, given.runs))
