"""The table of a run: each cell with how often, how many restored, violations, seconds until everything was ready."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import median

from tests.faults.lease.grid import CELLS, HOLDER, OF_HOLDER, OF_REAPER, REAPER, Cell
from tests.faults.lease.injection import SLOW_S, Outcome
from tests.faults.lease.world import TIMES


def written(
    path: Path, outcomes: list[Outcome], seed: int, seconds: float, disturbed: int, blind: int, side_by_side: int
) -> None:
    """`path`.md and `path`.json; the text is printed too."""
    by_cell: dict[Cell, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_cell[outcome.cell].append(outcome)
    totals = {
        "seed": seed, "injections": len(outcomes), "restored": sum(each.seconds is not None for each in outcomes),
        "with_violations": sum(bool(each.violations) for each in outcomes), "cells": len(CELLS),
        "cells_hit": len(by_cell), "least_often": min((len(by_cell[cell]) for cell in CELLS), default=0),
        "minutes": round(seconds / 60, 1), "side_by_side": side_by_side, "disturbed": disturbed,
        "watch_restarts": blind,
        "kill_to_ready_s": {step: _seconds(by_cell[Cell(step, "kill -9 holder")]) for step in HOLDER},
    }  # fmt: skip
    cells = [
        {
            "step": cell.step, "fault": cell.fault, "injections": len(by_cell[cell]),
            "restored": sum(each.seconds is not None for each in by_cell[cell]),
            "violations": sum(len(each.violations) for each in by_cell[cell]), **_seconds(by_cell[cell]),
        }
        for cell in CELLS
    ]  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps({**totals, "by_cell": cells}, indent=1) + "\n")
    text = _text(totals, by_cell)
    path.with_suffix(".md").write_text(text)
    print(text)


def _seconds(outcomes: list[Outcome]) -> dict[str, float | None]:
    known = [each.seconds for each in outcomes if each.seconds is not None]
    if not known:
        return {"median_s": None, "worst_s": None}
    return {"median_s": round(median(known), 1), "worst_s": round(max(known), 1)}


def _text(totals: dict, by_cell: dict[Cell, list[Outcome]]) -> str:  # type: ignore[type-arg]
    t = totals
    lines = [
        "# Faults", "",
        "Written by `make faults` (`python -m tests.faults.lease`): what became of the tenants of a real cluster when",
        "whoever has the card, or puts it back, was struck at each step. Its short seeded part is in `make test`.", "",
        f"Seed {t['seed']}: {t['injections']} injections in {t['minutes']} min, {t['side_by_side']} worlds side by "
        f"side; {t['restored']} restored within lifetime + 60 s, {t['with_violations']} with a violation; "
        f"{t['cells_hit']} of {t['cells']} cells, each at least {t['least_often']} times.",
        f"Lifetime {TIMES.lifetime_s:g} s. {t['disturbed']} injections were repeated, because the API server was away "
        f"or the node took more than {SLOW_S:.0f} s to start or stop a pod; the watch of the pods was renewed "
        f"{t['watch_restarts']} times.", "",
        "A cell: restored/injections, then seconds from the end of the fault until all was as found (or as a human",
        "wants it) and ready, the Lease free and no note left: median and worst.",
    ]  # fmt: skip
    for title, steps, columns in (("The holder", HOLDER, OF_HOLDER), ("The reaper", REAPER, OF_REAPER)):
        lines += [
            "",
            f"## {title} at a step",
            "",
            f"| fault | {' | '.join(steps)} |",
            "| --- " * (len(steps) + 1) + "|",
        ]
        for fault in columns:
            cells = (_cell(by_cell[Cell(step, fault)]) for step in steps)
            lines.append(f"| {fault} | {' | '.join(cells)} |")
    bad = [each for outcomes in by_cell.values() for each in outcomes if not each.good]
    if bad:
        lines += ["", "## Not restored, or with a violation", ""]
        lines += [f"* {each.cell}, {each.point}: {'; '.join(each.violations)}" for each in bad]
    return "\n".join(lines) + "\n"


def _cell(outcomes: list[Outcome]) -> str:
    if not outcomes:
        return ""
    restored = sum(each.seconds is not None for each in outcomes)
    bad = sum(bool(each.violations) for each in outcomes)
    seconds = _seconds(outcomes)
    took = "" if seconds["median_s"] is None else f" {seconds['median_s']:.1f} {seconds['worst_s']:.1f}"
    return f"{restored}/{len(outcomes)}{took}{f' **{bad} bad**' if bad else ''}"
