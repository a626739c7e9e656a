"""What stopping by width promises: sessions of equal arms that end as soon as their intervals are narrow enough.

The design of `verdicts` with up to 200 photos in 20 mirrored blocks of 10. After each even number of blocks, from 50
photos on, a session ends when every candidate's interval is narrow; the verdict is read once, then, by `Rules.stopped`.
Beside it, on the same sessions: all 200 photos; and a session that ends at the first verdict that is better or worse.
Sessions are stacked (`typical_ratio`, `narrow`, `ratio_words`); the first of each design are also played row by row
through `narrow_enough` and `judge_rows`, and must stop and be judged alike. Not here: how often the interval of a fixed
number covers (`coverage`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from figures.coverage import asked_at, log_ratios
from figures.measuring import How, line
from llama_assets.bench import Row
from llama_assets.verdict import narrow_enough, statistics, stopping
from llama_assets.verdict.facts import facts_of
from llama_assets.verdict.judging import judge_rows
from llama_assets.verdict.statistics import RULES, Rules

PHOTOS, BLOCKS = 200, 20
PERCENTS = (5.0, 7.5, 10.0)  # `benchmark.stop_when_interval_percent`
SIZE = PHOTOS // BLOCKS
LOOKS = tuple(blocks for blocks in range(2, BLOCKS, 2) if blocks * SIZE >= stopping.FEWEST_PHOTOS)
ARMS = ("incumbent", "second", "third")
COMMAND = "verdict.narrow_enough, then one verdict; autocorrelation 0.6, up to 200 photos in 20 mirrored blocks"


class Ended(NamedTuple):
    """How a stack of sessions ended. By session and candidate: its word and whether its interval holds what is true."""

    photos: np.ndarray  # [session]
    words: np.ndarray  # [session, candidate]
    holds: np.ndarray  # [session, candidate]


class Look(NamedTuple):
    """What every session of a stack knows after some blocks."""

    photos: int
    words: np.ndarray
    half_width: np.ndarray
    estimate: np.ndarray


def measure(how: How) -> Iterator[dict[str, Any]]:
    """A line a design: equal arms with and without drift; then how often a true tenth is found."""
    batches, sessions = (2, 50) if how.quick else (10, 1000)
    for arms in (2, 3):
        for drift in (0.0, 0.08):
            yield from _equal(how, arms, drift, [drawn(500 + seed, sessions, arms, drift) for seed in range(batches)])
    for arms in (2, 3):
        yield from _tenth(how, arms, [drawn(600 + seed, sessions, arms, 0.04, 1.10) for seed in range(batches)])


def drawn(seed: int, sessions: int, arms: int, drift: float, ratio: float = 1.0) -> np.ndarray:
    """Log ratios [session, candidate, photo] of sessions that go to the end."""
    return log_ratios(seed, sessions, arms, drift, ratio, photos=PHOTOS, blocks=BLOCKS)


def _equal(how: How, arms: int, drift: float, stacks: list[np.ndarray]) -> Iterator[dict[str, Any]]:
    plain, stricter = [looked(d) for d in stacks], [looked(d, RULES.stopped()) for d in stacks]
    fixed, peeked = [_wrong(at_the_end(looks)) for looks in plain], [_wrong(at_a_verdict(looks)) for looks in plain]
    naive = [100 * float(naively(d).mean()) for d in stacks]
    for percent in PERCENTS:
        ended, loose = ([by_width(looks, percent) for looks in which] for which in (stricter, plain))
        ours = [_wrong(one) for one in ended]
        rival = ("ends at a verdict", peeked, "the verdict's interval read after each even number of blocks")
        made = line("verdict_stopping", how, None, "% judged", ours, COMMAND, rival)
        yield made | {
            "goal": "<= 5 % judged", "reached": max(ours), "met": None if how.quick else max(ours) <= 5,
            "reached_is": "the worst batch", "arms": arms, "drift": drift, "stop_when_interval_percent": percent,
            "mean": _mean(ours), "read_at_95": [_mean([_wrong(one) for one in loose]), max(map(_wrong, loose))],
            "all_200_photos": [_mean(fixed), max(fixed)], "ends_at_a_verdict": _mean(peeked),
            "paired_t_ends_at_a_verdict": _mean(naive), "photos": _mean([one.photos.mean() for one in ended]),
            "covered": _mean([100 * one.holds.mean() for one in ended]),
            "played_row_by_row": _played(stacks[0], ended[0], percent),
        }  # fmt: skip


def _tenth(how: How, arms: int, stacks: list[np.ndarray]) -> Iterator[dict[str, Any]]:
    looks = [looked(d, RULES.stopped()) for d in stacks]
    fixed = [_found(at_the_end(one)) for one in looks]
    for percent in PERCENTS:
        ended = [by_width(one, percent, math.log(1.10)) for one in looks]
        made = line("verdict_stopping_power", how, None, "% found", [_found(one) for one in ended], COMMAND)
        yield made | {
            "arms": arms, "true_ratio": 1.10, "stop_when_interval_percent": percent, "all_200_photos": _mean(fixed),
            "photos": _mean([one.photos.mean() for one in ended]),
            "covered": _mean([100 * one.holds[:, -1].mean() for one in ended]),
        }  # fmt: skip


def _wrong(ended: Ended) -> float:
    return 100 * float(np.isin(ended.words, ["better", "worse"]).any(axis=1).mean())


def _found(ended: Ended) -> float:
    return 100 * float((ended.words[:, -1] == "worse").mean())


# --- three ways to end -----------------------------------------------------------------------------------------------
def by_width(looks: list[Look], percent: float, last_true: float = 0.0) -> Ended:
    """Where every interval is narrow, else after the last block. The last candidate's true log ratio is `last_true`."""
    return _ended(looks, [stopping.narrow(look.half_width, percent).all(axis=1) for look in looks], last_true)


def at_a_verdict(looks: list[Look]) -> Ended:
    """Where a candidate is better or worse, else after the last block."""
    return _ended(looks, [np.isin(look.words, ["better", "worse"]).any(axis=1) for look in looks])


def at_the_end(looks: list[Look]) -> Ended:
    """After the last block."""
    return _ended(looks, [np.zeros(len(look.words), dtype=bool) for look in looks])


def naively(d: np.ndarray) -> np.ndarray:
    """[session]: a paired t test at the same level says different after some even number of blocks."""
    from scipy import stats

    level = RULES.error / d.shape[1]
    return np.any(
        [(stats.ttest_1samp(d[..., : n * SIZE], 0, axis=-1).pvalue < level).any(axis=1) for n in (*LOOKS, BLOCKS)],
        axis=0,
    )


def looked(d: np.ndarray, rules: Rules = RULES) -> list[Look]:
    """What a stack of sessions [session, candidate, photo] shows whenever the rule is asked, and at its end.

    `rules` are those of a session that is not at its end; one that is was not stopped.
    """
    return [*(_look(d[..., : n * SIZE], n, rules) for n in LOOKS), _look(d, BLOCKS, RULES)]


def _look(d: np.ndarray, blocks: int, rules: Rules) -> Look:
    allowance = statistics.drift_allowance(1 / blocks)
    wide = statistics.typical_ratio(d, 1 - rules.error / d.shape[1], allowance)
    narrow = statistics.typical_ratio(d, 1 - 2 * rules.margin_error, allowance)
    words = statistics.ratio_words(wide.estimate, wide.half_width, narrow.half_width)
    r = statistics.lag1(statistics.winsorised(d, RULES.trim))
    slow = (r >= RULES.slow_noise) | (statistics.effective_n(d.shape[-1], r) < RULES.fewest_effective)
    return Look(d.shape[-1], np.where(slow, "inconclusive", words), wide.half_width, wide.estimate)


def _ended(looks: list[Look], stops: list[np.ndarray], last_true: float = 0.0) -> Ended:
    at = np.argmax(np.array([*stops[:-1], np.ones_like(stops[-1])]), axis=0)  # the first that stops
    every = np.arange(len(at))

    def then(values: list[np.ndarray]) -> np.ndarray:
        return np.array(values)[at, every]

    estimate, half_width = then([look.estimate for look in looks]), then([look.half_width for look in looks])
    truth = np.zeros(estimate.shape[1])
    truth[-1] = last_true
    photos = np.array([look.photos for look in looks])[at]
    return Ended(photos, then([look.words for look in looks]), np.abs(estimate - truth) <= half_width)


# --- the same, row by row --------------------------------------------------------------------------------------------
def played(d: np.ndarray, percent: float) -> tuple[int, list[str]]:
    """One session [candidate, photo] by the rule that a session is given, and the judgement of what it then has."""
    arms = ARMS[: len(d) + 1]
    logs, at = np.vstack([np.zeros(d.shape[1]), d]), asked_at(len(arms), PHOTOS, BLOCKS)
    rows = [
        Row(model=arm, photo=f"{photo:03d}.jpg", session="played", position=int(at[n, photo]) + 1, status="ok",
            seconds=6 * math.exp(logs[n, photo]), block=photo // SIZE + 1, cold_load=False)
        for photo in range(d.shape[1]) for n, arm in enumerate(arms)
    ]  # fmt: skip
    enough = narrow_enough(arms[0], percent)
    for blocks in (*range(2, BLOCKS, 2), BLOCKS):
        kept = [row for row in rows if (row.block or 0) <= blocks]
        if blocks == BLOCKS or enough(kept):
            break
    told = {"stopped": {"by": "narrow_enough"} if blocks < BLOCKS else None}
    judged = judge_rows(kept, facts_of(told)).pairs
    return len(kept) // len(arms), [pair.verdict for pair in judged if pair.metric == "seconds"]


def _played(d: np.ndarray, ended: Ended, percent: float) -> str:
    many = 10
    alike = sum(
        played(one, percent) == (photos, words.tolist())
        for one, photos, words in zip(d[:many], ended.photos, ended.words, strict=False)
    )
    return f"{alike} of {many} ended and judged alike"


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 2)
