"""A session has enough when its intervals are narrow, whatever they say."""

from dataclasses import replace

import numpy as np
import pytest

from figures import stopping
from llama_assets.bench.rows import Row
from llama_assets.verdict import judge_rows, narrow_enough
from llama_assets.verdict.facts import facts_of
from llama_assets.verdict.statistics import RULES

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


def judged(ended: stopping.Ended) -> float:
    return float(np.isin(ended.words, ["better", "worse"]).any(axis=1).mean())


def test_equal_arms_are_seldom_judged_when_width_ends_a_session_and_often_when_a_verdict_does():
    """1,000 sessions, autocorrelation 0.6, drift 8 %: 3.6 % in the long run by width, 10 % at a verdict, 61 % by t."""
    d = stopping.drawn(700, 1000, 2, 0.08)
    by_width = stopping.by_width(stopping.looked(d, RULES.stopped()), 5.0)
    assert judged(by_width) <= 0.05 and by_width.holds.mean() >= 0.95
    assert 100 < by_width.photos.mean() < 180, "of 200"
    assert judged(stopping.at_a_verdict(stopping.looked(d))) > 0.08
    assert stopping.naively(d).mean() > 0.5


@pytest.mark.parametrize("arms", [2, 3])
def test_simulated_sessions_end_and_are_judged_as_real_rows_do(arms):
    """What is simulated in stacks is the rule that a session is given, and the judgement of the rows it leaves."""
    d = stopping.drawn(701, 4, arms, 0.08, 1.10)
    ended = stopping.by_width(stopping.looked(d, RULES.stopped()), 7.5)
    assert len(set(ended.photos)) > 1
    for session, photos, words in zip(d, ended.photos, ended.words, strict=True):
        assert stopping.played(session, 7.5) == (photos, words.tolist())


def test_a_session_that_its_width_ended_is_read_with_a_wider_interval():
    made = first(CALM, 8)
    plain = judge_rows(made, facts_of({"stopped": {"by": "lease_minutes"}})).pairs[0]
    stopped = judge_rows(made, facts_of({"stopped": {"by": "narrow_enough"}})).pairs[0]
    assert (plain.level, stopped.level) == (0.95, 0.96) and stopped.high > plain.high
    assert (stopped.low_90, stopped.high_90) == (plain.low_90, plain.high_90)
