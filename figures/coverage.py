"""How often the 95 % intervals of a verdict hold what is true, each beside the interval that one would write first.

Seconds, one rate, the difference of two rates on the same photos, tau-b, AUC; 100 photos. Rates and scores are drawn as
tables from cells whose true value is known exactly. Not here: how often equal arms are judged (`verdicts`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from figures.measuring import How, line
from llama_assets.verdict import auc, statistics
from tests.verdict.sessions import ar1

PHOTOS, BLOCKS, LEVEL, FLOOR = 100, 4, 0.95, 93.0
SHARES = (0.01, 0.03, 0.05, 0.10, 0.16, 0.22, 0.30, 0.11, 0.02)  # of the scores 2 to 10, as models answer


class Covered(NamedTuple):
    """Shares of sessions, in %, whose interval holds the true value: ours and the rival's."""

    design: str
    ours: float
    rival: float


def lines(how: How) -> Iterator[dict[str, Any]]:
    sessions = 50 if how.quick else 1000
    for procedure, command, rival, found in (
        ("seconds", "verdict.statistics.typical_ratio", "paired t", _seconds(sessions)),
        ("rate", "verdict.statistics.wilson", "Wald", _rate()),
        ("difference of rates", "verdict.statistics.rate_difference", "Wald", _difference(10 * sessions)),
        ("tau-b", "verdict.statistics.agreement", "Wald, the same error", _tau_b(4 * sessions)),
        ("AUC", "verdict.auc.auc_interval", "Wald, DeLong's error", _auc(2 * sessions)),
    ):
        made = line(
            "verdict_coverage", how, None, "% covered", [one.ours for one in found], command,
            (rival, [one.rival for one in found], f"{rival} interval of the same sessions"),
        )  # fmt: skip
        least = min(one.ours for one in found)
        met = None if how.quick else least >= FLOOR
        yield made | {
            "goal": f">= {FLOOR:g} %, nominally 95", "reached": round(least, 2), "met": met,
            "reached_is": "the worst design", "procedure": procedure, "sessions_a_design": sessions,
            "designs": {one.design: [round(one.ours, 1), round(one.rival, 1)] for one in found},
        }  # fmt: skip


def asked_at(arms: int, photos: int = PHOTOS, blocks: int = BLOCKS) -> np.ndarray:
    """The place in the session [arm, photo] of each question, in mirrored blocks of equal size."""
    at, clock, size = np.empty((arms, photos), dtype=int), 0, photos // blocks
    for block in range(blocks):
        for arm in range(arms) if block % 2 == 0 else reversed(range(arms)):
            at[arm, size * block : size * (block + 1)] = np.arange(clock, clock + size)
            clock += size
    return at


def log_ratios(
    seed: int,
    sessions: int,
    arms: int,
    drift: float,
    ratio: float = 1.0,
    rho: float = 0.6,
    photos: int = PHOTOS,
    blocks: int = BLOCKS,
) -> np.ndarray:
    """Log ratios [session, candidate, photo] against the first arm; the last candidate's true ratio is `ratio`."""
    rng, at = np.random.default_rng(seed), asked_at(arms, photos, blocks)
    noise = 0.1 * ar1(rng, (sessions, arms * photos), rho) + math.log1p(drift) * np.linspace(0, 1, arms * photos)
    d = noise[:, at[1:]] - noise[:, at[:1]]  # the photo effect is shared by the arms and leaves no trace in d
    d[:, -1] += math.log(ratio)
    return d


def _seconds(sessions: int) -> list[Covered]:
    from scipy import stats

    found = []
    for rho in (0.0, 0.3, 0.6):
        d = log_ratios(200 + int(10 * rho), 6 * sessions, 2, 0.0, 1.05, rho)[:, 0] - math.log(1.05)
        ours = statistics.typical_ratio(d, LEVEL)
        covered = np.abs(ours.estimate) <= ours.half_width
        naive = stats.ttest_1samp(d, 0, axis=-1).pvalue >= 1 - LEVEL
        found.append(Covered(f"rho {rho:g}", 100 * float(covered.mean()), 100 * float(naive.mean())))
    return found


def _rate() -> list[Covered]:
    """Exact: every count with its binomial probability."""
    from scipy import stats

    count = np.arange(PHOTOS + 1)
    low, high = np.array([statistics.wilson(int(k), PHOTOS, LEVEL) for k in count]).T
    half = stats.norm.isf((1 - LEVEL) / 2) * np.sqrt(count / PHOTOS * (1 - count / PHOTOS) / PHOTOS)
    found = []
    for p in (0.5, 0.8, 0.9, 0.95, 0.98):
        chance = stats.binom.pmf(count, PHOTOS, p)
        ours, wald = (low <= p) & (p <= high), np.abs(count / PHOTOS - p) <= half
        found.append(Covered(f"p {p:g}", 100 * float(chance[ours].sum()), 100 * float(chance[wald].sum())))
    return found


def _difference(sessions: int) -> list[Covered]:
    from scipy import stats

    found, z = [], float(stats.norm.isf((1 - LEVEL) / 2))
    for a, b, phi in ((0.95, 0.95, 0.0), (0.95, 0.95, 0.5), (0.99, 0.97, 0.0), (0.98, 0.93, 0.3), (0.9, 0.8, 0.3)):
        both = a * b + phi * math.sqrt(a * (1 - a) * b * (1 - b))
        cells = [both, a - both, b - both, 1 - a - b + both]
        drawn = np.random.default_rng(int(1000 * a + 100 * phi)).multinomial(PHOTOS, cells, sessions)
        tables, times = np.unique(drawn, axis=0, return_counts=True)
        ours = np.array([statistics.rate_difference(*table.tolist(), LEVEL)[1:] for table in tables])
        change = (tables[:, 2] - tables[:, 1]) / PHOTOS
        half = z * np.sqrt(((tables[:, 2] + tables[:, 1]) / PHOTOS - change**2) / PHOTOS)
        holds = (ours[:, 0] <= b - a + 1e-12) & (b - a - 1e-12 <= ours[:, 1])
        wald = np.abs(change - (b - a)) <= half + 1e-12
        share = [100 * float(np.average(one, weights=times)) for one in (holds, wald)]
        found.append(Covered(f"{a:g} and {b:g}, phi {phi:g}", *share))
    return found


def _tau_b(sessions: int) -> list[Covered]:
    from scipy import stats

    found, z = [], float(stats.norm.isf((1 - LEVEL) / 2))
    for r in (0.0, 0.5, 0.8, 0.95):
        edges = np.concatenate([[-8.0], stats.norm.ppf(np.cumsum(SHARES)[:-1]), [8.0]])
        corners = np.stack(np.meshgrid(edges, edges, indexing="ij"), axis=-1)
        below = stats.multivariate_normal(cov=[[1, r], [r, 1]]).cdf(corners)
        cells = np.maximum(np.diff(np.diff(below, axis=0), axis=1), 0)
        cells /= cells.sum()
        truth = statistics.agreement(cells)
        assert truth is not None
        tables = np.random.default_rng(300 + int(100 * r)).multinomial(PHOTOS, cells.ravel(), sessions)
        agreed = [statistics.agreement(table.reshape(cells.shape), LEVEL) for table in tables]
        known = [one for one in agreed if one is not None]
        ours = np.mean([one.low <= truth.tau_b <= one.high for one in known])
        wald = np.mean([abs(one.tau_b - truth.tau_b) <= z * one.error for one in known])
        found.append(Covered(f"latent r {r:g}, tau-b {truth.tau_b:.2f}", 100 * float(ours), 100 * float(wald)))
    return found


def _auc(sessions: int) -> list[Covered]:
    from scipy import stats

    found, z = [], float(stats.norm.isf((1 - LEVEL) / 2))
    edges = np.concatenate([[-np.inf], stats.norm.ppf(np.cumsum(SHARES)[:-1]), [np.inf]])
    others = np.diff(stats.norm.cdf(edges))
    for positives in (10, 20):
        for shift in (0.0, 0.95, 1.6):
            liked = np.diff(stats.norm.cdf(edges - shift))
            truth = float(liked @ (np.cumsum(others) - others / 2))
            rng, held = np.random.default_rng(positives + int(100 * shift)), []
            is_liked = np.arange(PHOTOS) < positives
            for _ in range(sessions):
                drawn = [rng.choice(len(SHARES), n, p=p) for n, p in ((positives, liked), (PHOTOS - positives, others))]
                before, behind = auc.placements(np.concatenate(drawn), is_liked)
                area = float(before.mean())
                low, high = auc.auc_interval(area, positives, PHOTOS - positives, LEVEL)
                error = math.sqrt(before.var(ddof=1) / len(before) + behind.var(ddof=1) / len(behind))
                held.append((low <= truth <= high, abs(area - truth) <= z * error))
            ours, wald = 100 * np.mean(held, axis=0)
            found.append(Covered(f"{positives} positives, area {truth:.2f}", float(ours), float(wald)))
    return found
