"""From arrays to figures: each arm described, each candidate against the incumbent, each two rankings.

Here: which photos make a pair and at which level it is read. Not here: the procedures (`statistics`), flaws
(`warnings`), how it all comes together (`judging`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from . import answers, statistics
from .evidence import Arm, Evidence, Flags, Floats
from .formats import percent
from .judgement import Lease, ModelFigures, Pair, Ranking, Rate, Tie
from .statistics import RULES, Rules


@dataclass(frozen=True)
class Paired:
    """Log ratios b / a of the photos that count in both arms, in the order a was asked.

    `reordered` are the same in b's order, None where it is no other. `leverage` is how far drift can pass for a
    difference; `r` the first autocorrelation, the larger of both orders.
    """

    a: str
    b: str
    d: Floats
    reordered: Floats | None
    leverage: float
    r: float

    @property
    def n(self) -> int:
        """Photos."""
        return len(self.d)

    @property
    def effective(self) -> float:
        """Photos worth of independent noise."""
        return float(statistics.effective_n(self.n, self.r))


def paired(evidence: Evidence, a: str, b: str, rules: Rules = RULES) -> Paired:
    """The photos that both arms answered, as one series in time."""
    first, second = evidence.arms[a], evidence.arms[b]
    rows_a, rows_b = _common(first, second, first.counted, second.counted)
    d = second.log_seconds[rows_b] - first.log_seconds[rows_a]
    by_b = np.argsort(second.order[rows_b], kind="stable")
    reordered = None if np.array_equal(by_b, np.arange(len(d))) else d[by_b]
    r = 0.0
    if len(d) >= rules.fewest_for_interval:
        series = [d] if reordered is None else [d, reordered]
        r = max(float(statistics.lag1(statistics.winsorised(x, rules.trim))) for x in series)
    return Paired(a, b, d, reordered, _leverage(evidence, first, second, rows_a, rows_b), r)


def _common(first: Arm, second: Arm, of_first: Flags, of_second: Flags) -> tuple[np.ndarray, np.ndarray]:
    """Row indices of the photos that both arms have among the rows of these flags, in the first arm's order."""
    rows_a, rows_b = np.flatnonzero(of_first), np.flatnonzero(of_second)
    row_of_b = np.full(1 + max(first.photo.max(), second.photo.max()), -1, dtype=np.int64)
    row_of_b[second.photo[rows_b]] = rows_b
    mates = row_of_b[first.photo[rows_a]]
    return rows_a[mates >= 0], mates[mates >= 0]


def _leverage(evidence: Evidence, first: Arm, second: Arm, rows_a: np.ndarray, rows_b: np.ndarray) -> float:
    """From the order if it says how the arms took turns, else from the blocks, else the worst: one after the other."""
    if evidence.turns_known:
        return statistics.leverage(first.order[rows_a], second.order[rows_b])
    blocks = np.unique(first.block[rows_a][np.isfinite(first.block[rows_a])])
    return 1.0 / len(blocks) if len(blocks) else 1.0


def seconds_pair(
    series: Paired,
    comparisons: int,
    drift: float = 0.0,
    stopped: bool = False,
    notes: tuple[str, ...] = (),
    rules: Rules = RULES,
) -> Pair:
    """Seconds of b against a. `drift` (log): the largest measured shift; `stopped`: a warning forbids a verdict."""
    level = 1 - rules.error / comparisons
    if series.n < rules.fewest_for_interval:
        unknown = (None, None, None, level, None, None)
        note = "; ".join(notes) or None
        return Pair(series.a, series.b, "seconds", *unknown, series.n, "inconclusive", None, note)
    allowance = statistics.drift_allowance(series.leverage, drift, rules)
    if allowance:
        notes = (*notes, f"{percent(math.expm1(allowance))} % allowed for drift")
    note = "; ".join(notes) or None
    wide = statistics.typical_ratio(series.d, level, allowance, series.reordered, rules)
    narrow = statistics.typical_ratio(series.d, 1 - 2 * rules.margin_error, allowance, series.reordered, rules)
    word = str(statistics.ratio_words(wide.estimate, wide.half_width, narrow.half_width, rules))
    if stopped or series.n < rules.fewest_photos:
        word = "inconclusive"
    mean, half, half_90 = float(wide.estimate), float(wide.half_width), float(narrow.half_width)
    return Pair(
        a=series.a,
        b=series.b,
        metric="seconds",
        estimate=math.exp(mean),
        low=math.exp(mean - half),
        high=math.exp(mean + half),
        level=level,
        low_90=math.exp(mean - half_90),
        high_90=math.exp(mean + half_90),
        n=series.n,
        verdict=word,  # type: ignore[arg-type]
        photos_needed=statistics.photos_needed(series.n, wide) if word == "inconclusive" and not stopped else None,
        note=note,
        allowance=math.exp(allowance) if allowance else None,
    )


def valid_pair(evidence: Evidence, a: str, b: str, comparisons: int, rules: Rules = RULES) -> Pair | None:
    """Valid answers of b against a on every photo both were asked; None where validity is not known."""
    level = 1 - rules.error / comparisons
    first, second = evidence.arms[a], evidence.arms[b]
    rows_a, rows_b = _common(first, second, np.isfinite(first.valid), np.isfinite(second.valid))
    if not len(rows_a):
        return None
    of_a, of_b = first.valid[rows_a] > 0, second.valid[rows_b] > 0
    alike, only_a = int((of_a & of_b).sum()), int((of_a & ~of_b).sum())
    only_b, neither = int((~of_a & of_b).sum()), int((~of_a & ~of_b).sum())
    wide = statistics.rate_difference(alike, only_a, only_b, neither, level)
    narrow = statistics.rate_difference(alike, only_a, only_b, neither, 1 - 2 * rules.margin_error)
    word = statistics.rate_word(wide, narrow, rules) if len(rows_a) >= rules.fewest_photos else "inconclusive"
    numbers = (wide.estimate, wide.low, wide.high, level, narrow.low, narrow.high)
    return Pair(a, b, "valid_answers", *numbers, len(rows_a), word, None, None)


def ranking(evidence: Evidence, a: str, b: str, rules: Rules = RULES) -> Ranking | None:
    """Agreement of two arms' scores on the photos both scored; None where there are none.

    An interval needs `fewest_photos`; the overlap of the top N more photos than N.
    """
    first, second = evidence.arms[a], evidence.arms[b]
    rows_a, rows_b = _common(first, second, np.isfinite(first.score), np.isfinite(second.score))
    if not len(rows_a):
        return None
    x, y = first.score[rows_a], second.score[rows_b]
    n, top = len(x), rules.top_n
    table, _ = statistics.score_table(x, y)
    found = statistics.agreement(table)
    interval = found if n >= rules.fewest_photos else None
    cuts = [statistics.cut_at(scores, top) if n > top else None for scores in (x, y)]
    return Ranking(
        a=a,
        b=b,
        n=n,
        tau_b=found.tau_b if found else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        top_n=top,
        expected_overlap=statistics.expected_overlap(table, top) if n > top else None,
        chance_overlap=top * top / n if n > top else None,
        tie_group_a=cuts[0].group if cuts[0] else None,
        tie_group_b=cuts[1].group if cuts[1] else None,
    )


def described(evidence: Evidence, model: str, rules: Rules = RULES) -> ModelFigures:
    """One arm in figures. p50 and p95 describe it; no verdict is read from them."""
    arm = evidence.arms[model]
    seconds = arm.seconds[arm.counted]
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = arm.tokens[arm.counted] / arm.generation[arm.counted]
    speed = speed[np.isfinite(speed)]
    tokens = arm.tokens[arm.counted & np.isfinite(arm.tokens)]
    loads = [load for load in evidence.loads or () if load.model == model and load.cold]
    costs = [load.seconds for load in loads if load.seconds is not None]
    cut = statistics.cut_at(arm.score[np.isfinite(arm.score)], rules.top_n)
    facts = evidence.facts.arms.get(model) if evidence.facts else None
    return ModelFigures(
        rows=len(arm.rows),
        ok=int(arm.ok.sum()),
        parsed=None if np.isnan(arm.parsed).all() else int(np.nansum(arm.parsed)),
        schema_valid=rate(arm.valid),
        http_ok=rate(answers.answered(arm)),
        complete=rate(answers.complete(arm)),
        parsed_rate=rate(arm.parsed),
        enforced=answers.enforced(facts),
        failures=answers.failures(arm, evidence.question),
        latency_p50_s=float(np.median(seconds)) if len(seconds) else None,
        latency_p95_s=float(np.quantile(seconds, 0.95)) if len(seconds) else None,
        counted=int(arm.counted.sum()),
        tokens_per_second=float(np.median(speed)) if len(speed) else None,
        completion_tokens_p50=float(np.median(tokens)) if len(tokens) else None,
        cold_load_s=float(np.median(costs)) if costs else None,
        loads=None if evidence.loads is None else len(loads),
        tie=Tie(*cut) if cut else None,
        mmproj=facts.mmproj if facts else None,
        engine=facts.engine if facts else None,
        fingerprint=facts.fingerprint if facts else None,
    )


def rate(flags: Floats) -> Rate:
    """How many are true, with the Wilson interval; unknown where any flag is."""
    if not len(flags) or np.isnan(flags).any():
        return Rate(None, None, None, None)
    count = int(flags.sum())
    return Rate(count, count / len(flags), *statistics.wilson(count, len(flags)))


def lease(evidence: Evidence) -> Lease | None:
    """Where the leased seconds went; None where the session does not say how many there were."""
    held = evidence.facts.lease_seconds if evidence.facts else None
    if not held:
        return None
    answering = sum(float(np.nansum(arm.seconds)) for arm in evidence.arms.values())
    loading = sum(load.seconds or 0.0 for load in evidence.loads or ())
    warm = sum(load.warm_up_s or 0.0 for load in evidence.loads or ())
    busy = answering + loading + warm
    return Lease(held, answering, loading, warm, max(0.0, held - busy), min(1.0, busy / held))
