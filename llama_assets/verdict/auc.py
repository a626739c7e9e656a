"""How well scores put photos that a person likes before others: numbers in, numbers out, each with its source.

Photos a person likes are positives, the others negatives. Integer scores tie often, so every figure here says what a
tie counts: half a pair in an AUC, the mean over lots drawn among the tied in a top N. Not here: who likes what
(`ground_truth`), the procedures of seconds and rates (`statistics`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .statistics import Difference, Floats, seat_chance


def placements(scores: ArrayLike, positive: ArrayLike) -> tuple[Floats, Floats]:
    """Per positive the share of negatives it is before, per negative the share of positives before it; a tie is 1/2.

    Structural components of DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837) from midranks, no matrix of
    pairs: a photo's rank among all less its rank in its own class (Sun and Xu 2014, IEEE SPL 21:1389). Both classes
    must have a photo.
    """
    from scipy import stats

    scores, positive = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    ranks, liked, others = stats.rankdata(scores), scores[positive], scores[~positive]
    before: Floats = (ranks[positive] - stats.rankdata(liked)) / len(others)
    behind: Floats = 1 - (ranks[~positive] - stats.rankdata(others)) / len(liked)
    return before, behind


def auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """The chance that a positive has the higher score than a negative, a tie counting 1/2 (Mann-Whitney by midranks).

    Hanley and McNeil 1982 (Radiology 143:29). 1 is every positive first, 0.5 no relation.
    """
    return float(placements(scores, positive)[0].mean())


def auc_interval(area: float, positives: int, negatives: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of an AUC: both g with (g - area)^2 = z^2 V(g) (Newcombe 2006, Stat Med 25:559, method 5).

    V(g) = g (1 - g) (1 + s (1 - g) / (2 - g) + s g / (1 + g)) / (m n) with s = (m + n) / 2 - 1: Hanley and McNeil's
    variance with both class sizes replaced by their mean, solved for g, not put at the estimate. With 10 positives it
    covers 95 to 97 of 100, where a Wald interval and a bootstrap cover 79 to 92.
    """
    from scipy import optimize, stats

    z, s = float(stats.norm.isf((1 - level) / 2)), (positives + negatives) / 2 - 1

    def half(g: float) -> float:
        spread = g * (1 - g) * (1 + s * (1 - g) / (2 - g) + s * g / (1 + g)) / (positives * negatives)
        return z * math.sqrt(max(spread, 0.0))

    edge = 1e-12  # 0 and 1 themselves solve it for an area of 0 or 1, and are not the ends meant
    low = 0.0 if area <= 0 else float(optimize.brentq(lambda g: area - g - half(g), 0.0, min(area, 1 - edge)))
    high = 1.0 if area >= 1 else float(optimize.brentq(lambda g: g - area - half(g), max(area, edge), 1.0))
    return low, high


def auc_difference(a: ArrayLike, b: ArrayLike, positive: ArrayLike, level: float) -> Difference:
    """AUC of b minus AUC of a on the same photos (DeLong, DeLong and Clarke-Pearson 1988), with a t quantile.

    The quantile is t's with the smaller class's size - 1 degrees of freedom: with 10 positives a normal one says
    "different" of equal models in 7 of 100 sessions, this in 3 to 5. Where no placement varies (one arm gives every
    photo the same score, the other separates all) the two arms' own intervals are joined instead (Zou and Donner 2008,
    Stat Med 27:1693), because a width of 0 would be certainty from few photos. Both classes need two photos.
    """
    from scipy import stats

    positive = np.asarray(positive, dtype=bool)
    (liked_a, others_a), (liked_b, others_b) = placements(a, positive), placements(b, positive)
    m, n = len(liked_a), len(others_a)
    area_a, area_b = float(liked_a.mean()), float(liked_b.mean())
    estimate = area_b - area_a
    variance = float((liked_b - liked_a).var(ddof=1) / m + (others_b - others_a).var(ddof=1) / n)
    if variance < 1e-15 and abs(estimate) > 1e-12:
        (low_a, high_a), (low_b, high_b) = (auc_interval(area, m, n, level) for area in (area_a, area_b))
        low = estimate - math.hypot(area_b - low_b, high_a - area_a)
        high = estimate + math.hypot(high_b - area_b, area_a - low_a)
    else:
        half = float(stats.t.isf((1 - level) / 2, min(m, n) - 1)) * math.sqrt(variance)
        low, high = estimate - half, estimate + half
    return Difference(estimate, max(-1.0, low), min(1.0, high))


def hits_in_top(scores: ArrayLike, positive: ArrayLike, n: int) -> float:
    """Positives in the top `n`, the mean over lots drawn among the photos tied at its end: the sum of their chances.

    Ties as lots: McSherry and Najork 2008 (ECIR, LNCS 4956:414).
    """
    liked, everyone = _by_score(scores, positive)
    return float((liked * seat_chance(everyone, n)).sum())


def hits_by_chance(hits: float, photos: int, positives: int, n: int) -> float:
    """P(at least so many of `positives` among `n` of `photos` drawn blindly), the hypergeometric tail.

    Fisher 1922 (JRSS 85:87). A fraction, which a lot leaves, is dropped first: the p-value is then too large rather
    than too small.
    """
    from scipy import stats

    return float(stats.hypergeom.sf(math.floor(hits + 1e-9) - 1, photos, positives, n))


def average_precision(scores: ArrayLike, positive: ArrayLike, n: int) -> float | None:
    """Average precision at `n`, expected over every order that ties allow; None without a positive.

    AP@n = sum over k <= n of [photo k is a positive] * (positives among the first k) / k, divided by min(n, positives),
    so that 1 is the best order there can be. In a group of t tied photos, p of them positives, behind A photos with P
    positives, place j holds a positive with chance p/t, and each place before it in the group one with (p-1)/(t-1):
    the expectation is p/t (P + 1 + (j - 1)(p - 1)/(t - 1)) / (A + j), exact (McSherry and Najork 2008, ECIR, LNCS
    4956:414). A constant score gives what a blind order gives.
    """
    liked, everyone = _by_score(scores, positive)
    total = int(liked.sum())
    if not total:
        return None
    found, above, above_liked = 0.0, 0, 0
    for p, t in zip(liked[::-1].tolist(), everyone[::-1].tolist(), strict=True):
        if above >= n:
            break
        places = np.arange(1, min(t, n - above) + 1)
        before = (places - 1) * (p - 1) / (t - 1) if t > 1 else np.zeros(1)
        found += float((p / t * (above_liked + 1 + before) / (above + places)).sum())
        above, above_liked = above + t, above_liked + p
    return found / min(n, total)


def _by_score(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positives and photos by ascending score."""
    values, index = np.unique(np.asarray(scores, dtype=float), return_inverse=True)
    liked = np.bincount(index[np.asarray(positive, dtype=bool)], minlength=len(values))
    return liked, np.bincount(index, minlength=len(values))
