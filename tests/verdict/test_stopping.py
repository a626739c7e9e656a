"""A session has enough when its intervals are narrow, whatever they say."""

from dataclasses import replace

import pytest

from llama_assets.bench.rows import Row
from llama_assets.verdict import narrow_enough

from .sessions import Recipe, rows

CALM = Recipe(models=("incumbent", "second"), ratios=(1.0, 1.0), photos=100, blocks=8, noise=0.04, rho=0.3)


def first(recipe: Recipe, blocks: int) -> list[Row]:
    kept = [row for row in rows(recipe) if row["block"] < blocks]
    known = ("session", "model", "photo", "position", "seconds", "status", "block")
    return [Row(**{name: row[name] for name in known}) for row in kept]


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.3])
def test_the_width_decides_and_not_who_is_ahead(ratio):
    enough, made = narrow_enough("incumbent", 5.0), replace(CALM, ratios=(1.0, ratio))
    assert enough(first(made, 4)) is True
    assert enough(first(replace(made, noise=0.25), 4)) is False
    assert narrow_enough("incumbent", 1.0)(first(made, 4)) is False


def test_fewer_than_fifty_photos_of_both_arms_are_never_enough():
    enough = narrow_enough("incumbent", 50.0)
    assert enough(first(CALM, 4)) is True
    assert enough(first(replace(CALM, photos=98), 4)) is False, "half of 98 photos"
    assert enough([row for row in first(CALM, 4) if row.model == "second" or row.block != 3]) is False


def test_too_few_blocks_leave_room_for_drift_and_that_is_not_narrow():
    """Two blocks can hide a drift of five percent, four of none worth a word."""
    enough = narrow_enough("incumbent", 4.0)
    assert enough(first(replace(CALM, blocks=4), 2)) is False
    assert enough(first(CALM, 4)) is True


def test_every_candidate_must_be_known_and_one_arm_alone_is_never_enough():
    three = replace(CALM, models=("incumbent", "second", "third"), ratios=(1.0, 1.0, 1.0), photos=120)
    enough = narrow_enough("incumbent", 6.0)
    assert enough(first(three, 4)) is True
    noisy = [
        replace(row, seconds=row.seconds * (3.0 if int(row.photo[6:9]) % 2 else 1.0)) if row.model == "third" else row
        for row in first(three, 4)
    ]
    assert enough(noisy) is False
    assert enough([row for row in noisy if row.model != "third"]) is True
    assert enough([row for row in noisy if row.model == "second"]) is False
