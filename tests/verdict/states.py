"""The states that every output must be able to show, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_assets.verdict import Judgement, judge

from .rated import Person, write_rated
from .sessions import Recipe, write, write_csv

CROWDED = (0, 0, 0, 0.02, 0.03, 0.08, 0.12, 0.26, 0.49, 0)
TWO = ("incumbent", "second")
STATES: dict[str, tuple[Recipe, dict[str, Any]]] = {
    "better": (Recipe(ratios=(1, 0.95, 0.6), wrong_typed={"second": 5}, shares={"second": CROWDED}), {}),
    "worse": (Recipe(models=TWO, ratios=(1, 1.3)), {}),
    "equivalent": (Recipe(models=TWO, ratios=(1, 1.01), noise=0.02), {}),
    "inconclusive": (Recipe(models=TWO, ratios=(1, 1.03), noise=0.2), {}),
    "stopped": (
        Recipe(ratios=(1, 0.95, 0.6), blocks=1, drift=0.4, noise=0.05, cold_first=True),
        {"mmproj": {"third": "Q8_0"}, "loads": [], "lease_seconds": 2_800},
    ),
    "one_arm": (Recipe(models=("alone",)), {}),
    "no_answer": (Recipe(models=TWO, failed={"incumbent": 100, "second": 100}), {}),
}


def judgement(folder: Path, state: str) -> Judgement:
    """A judged session in that state; `foreign` is a CSV of three columns without a session file, `rated` came
    with favourites and stars."""
    if state == "foreign":
        recipe = Recipe(models=("an-incumbent-with-a-long-name", "b"), ratios=(1, 0.7))
        return judge([write_csv(folder / "old.csv", recipe, ["model", "photo", "seconds"])])
    if state == "rated":
        recipe = Recipe(ratios=(1, 0.95, 0.6))
        return judge(write_rated(folder / "session", recipe, Person(favourites=20, follows={"incumbent": 0.1})))
    recipe, changed = STATES[state]
    return judge(write(folder / "session", recipe, **changed))


ALL = (*STATES, "foreign", "rated")
Judged = Callable[[str], Judgement]
