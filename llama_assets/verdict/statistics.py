"""The procedures a verdict is made with: numbers in, numbers out, each with its source.

They were chosen because they keep their promises on about 100 photos whose noise is autocorrelated (answers that follow
each other resemble each other): a paired t test is wrong in 28 of 100 such sessions, a percentile block bootstrap in 9
to 19. Here: estimates, intervals, tests, and the four words. Not here: rows, models, sentences. Latencies are natural
logarithms of seconds; every latency function works along the last axis, so a stack of sessions is one call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Word = Literal["better", "worse", "equivalent", "inconclusive"]


@dataclass(frozen=True)
class Rules:
    """What a verdict promises; a share or probability is a fraction."""

    error: float = 0.05  # of a wrong better or worse, shared by all comparisons with the incumbent
    stopped_error: float = 0.04  # the same where a session ended because its intervals were narrow; see `stopped`
    margin_error: float = 0.05  # of a wrong equivalent
    trim: float = 0.10  # left out at each end of the paired log ratios
    ratio_margin: float = 1.05  # seconds within this ratio are equivalent
    rate_margin: float = 0.05  # valid answers within these points are equivalent
    drift_allowance: float = 1.10  # the drift assumed possible where arms did not take turns
    free_leverage: float = 0.26  # four mirrored blocks have 0.25: a drift hardly moves them
    slow_noise: float = 0.75  # first autocorrelation from which no interval on 100 photos is honest
    fewest_photos: int = 30  # below it there is no verdict
    fewest_effective: float = 10  # photos worth of independent noise, likewise
    fewest_for_interval: int = 5  # below it not even an interval
    top_n: int = 10

    def stopped(self) -> Rules:
        """The rules for a session that ended as soon as its intervals were narrow.

        A stretch that is calm by chance ends it early, with intervals that are too narrow: read at 95 % they miss the
        truth in 4.3 of 100 sessions where those of a fixed number of photos miss it in 3.3, read at 96 % in 3.5
        (`python -m figures stopping`).
        """
        return replace(self, error=self.stopped_error)


RULES = Rules()


# --- seconds ---------------------------------------------------------------------------------------------------------
class TypicalRatio(NamedTuple):
    """A typical log ratio with its half-width, the t quantile behind that, and the allowance it includes."""

    estimate: Floats
    half_width: Floats
    quantile: Floats
    allowance: float


def typical_ratio(
    d: ArrayLike, level: float, allowance: float = 0.0, reordered: ArrayLike | None = None, rules: Rules = RULES
) -> TypicalRatio:
    """Trimmed mean of paired log ratios in time order; its half-width is the wider of two t intervals.

    `d[..., photo]` is log(b) - log(a) in the order a was asked. `reordered` holds the same values in the order b was
    asked, where that differs: then each order's own slow noise counts. `allowance` (log) is added to the half-width.

    Sources: winsorised variance of a trimmed mean, Tukey and McLaughlin 1963 (Sankhya A 25:331); equal-weighted cosine
    long-run variance with t(nu), Lazarus, Lewis, Stock and Watson 2018 (JBES 36:541), with nu = 0.3 n^(2/3), which
    keeps 1,000 simulated sessions below 5 %; effective sample size n (1 - r) / (1 + r) of an AR(1) series, Bayley and
    Hammersley 1946.
    """
    from scipy import stats

    d = np.asarray(d, dtype=float)
    n = d.shape[-1]
    nu = max(3, int(0.3 * n ** (2 / 3)))
    cut = int(rules.trim * n)
    keep = 1 - 2 * cut / n
    w = winsorised(d, rules.trim)
    variance = w.var(axis=-1, ddof=1)
    long_run, r = long_run_variance(w, nu), np.maximum(lag1(w), 0)
    if reordered is not None:
        v = winsorised(np.asarray(reordered, dtype=float), rules.trim)
        other = long_run_variance(v, nu)
        long_run = np.maximum(np.maximum(long_run, other), long_run + other - variance)
        r = np.maximum(r, lag1(v))
    effective = effective_n(n, r)
    t_cosines = stats.t.isf((1 - level) / 2, nu)
    t_effective = stats.t.isf((1 - level) / 2, np.maximum(effective - 1, 1))
    by_cosines = t_cosines * np.sqrt(long_run / n) / keep
    by_effective = t_effective * np.sqrt(variance / effective) / keep
    wider = np.maximum(by_cosines, by_effective)
    quantile = np.where(by_cosines >= by_effective, t_cosines, t_effective)
    return TypicalRatio(stats.trim_mean(d, rules.trim, axis=-1), wider + allowance, quantile, allowance)


def winsorised(x: Floats, share: float) -> Floats:
    """Values beyond the `share` quantile at each end set to it (not removed: the order in time stays).

    Dixon and Tukey 1968 (Technometrics 10:83). scipy's mstats.winsorize gives the same values, one series after the
    other: this takes a stack at once.
    """
    n = x.shape[-1]
    cut = int(share * n)
    ordered = np.sort(x, axis=-1)
    return np.clip(x, ordered[..., cut, None], ordered[..., n - 1 - cut, None])


def long_run_variance(w: Floats, nu: int) -> Floats:
    """n times the variance of a time series' mean, from its first `nu` cosine coefficients (Lazarus et al. 2018)."""
    from scipy import fft

    coefficients = fft.dct(w - w.mean(axis=-1, keepdims=True), axis=-1)[..., 1 : nu + 1]
    squares: Floats = np.square(coefficients).mean(axis=-1) / (2 * w.shape[-1])
    return squares


def lag1(x: ArrayLike) -> Floats:
    """First autocorrelation without its small-sample bias -(1 + 4 r) / n (Marriott and Pope 1954). A constant has 0."""
    x = np.asarray(x, dtype=float)
    n, z = x.shape[-1], x - x.mean(axis=-1, keepdims=True)
    total = np.square(z).sum(axis=-1)
    r = np.where(total > 1e-24, (z[..., 1:] * z[..., :-1]).sum(axis=-1) / np.maximum(total, 1e-24), 0)
    return np.where(total > 1e-24, np.clip(r + (1 + 4 * r) / n, -0.5, 0.98), 0)


def effective_n(n: int, r: ArrayLike) -> Floats:
    """Independent values worth as much for a mean as `n` with first autocorrelation `r` (Bayley, Hammersley 1946)."""
    kept: Floats = np.maximum(np.asarray(r, dtype=float), 0)
    worth: Floats = n * (1 - kept) / (1 + kept)
    return worth


def leverage(order_a: ArrayLike, order_b: ArrayLike) -> float:
    """How far drift can pass for a difference: a monotone one of size s shifts a comparison by at most s times this.

    1 / K for K mirrored blocks; 1 when one arm ran after the other. `order_*` are positions or times of a pair's rows.
    Our own bound: the shift is the sum of the drift's steps, each weighted by how far one arm is ahead by then.
    """
    orders = np.concatenate([np.asarray(order_a, dtype=float), np.asarray(order_b, dtype=float)])
    pairs = len(orders) // 2
    if not pairs:
        return 1.0
    ahead = np.cumsum(np.where(np.argsort(orders, kind="stable") < pairs, 1, -1))
    return float(np.abs(ahead).max() / pairs)


def drift_allowance(leverage: float, measured: float = 0.0, rules: Rules = RULES) -> float:
    """Log to add to both sides: none in four or more mirrored blocks, else the assumed or the larger measured shift.

    Our own rule, not a published one: the size of the drift assumed is `rules.drift_allowance`, times the leverage.
    """
    if leverage <= rules.free_leverage:
        return 0.0
    return max(math.log(rules.drift_allowance), abs(measured)) * leverage


def ratio_words(
    estimate: ArrayLike, half_width: ArrayLike, half_width_90: ArrayLike, rules: Rules = RULES
) -> NDArray[np.str_]:
    """Equivalent if the 90 % interval lies inside the margin (two one-sided tests, Schuirmann 1987), else better (less
    time) or worse if the interval excludes no change, else inconclusive."""
    m, h, h90 = (np.asarray(x, dtype=float) for x in (estimate, half_width, half_width_90))
    margin = math.log(rules.ratio_margin)
    return np.select(
        [np.abs(m) + h90 < margin, m + h < 0, m - h > 0], ["equivalent", "better", "worse"], "inconclusive"
    )


def photos_needed(n: int, ratio: TypicalRatio, rules: Rules = RULES) -> int | None:
    """Photos that would settle a difference as large as this one four times in five, up to the next 20.

    n ((t + 0.84) se / |d|)^2, the usual power formula (Lachin 1981, Controlled Clinical Trials 2:93). None where photos
    are not what is missing: an allowance for drift is included, or there is no difference at all. Assumes that the
    noise stays.
    """
    estimate, quantile = abs(float(ratio.estimate)), float(ratio.quantile)
    if ratio.allowance > 0 or estimate < 1e-9:
        return None
    error = float(ratio.half_width) / quantile
    photos = n * ((quantile + 0.84) * error / estimate) ** 2
    return 20 * math.ceil(max(photos, rules.fewest_photos) / 20)


# --- rates -----------------------------------------------------------------------------------------------------------
def wilson(count: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of one rate (Wilson 1927, JASA 22:209), exactly 0 or 1 at a rate of 0 or 1 (scipy: 3e-18)."""
    from scipy import stats

    found = stats.binomtest(count, n).proportion_ci(level, method="wilson")
    return (0.0 if count == 0 else float(found.low), 1.0 if count == n else float(found.high))


class Difference(NamedTuple):
    """A difference of two rates, b - a, as a fraction."""

    estimate: float
    low: float
    high: float


def rate_difference(both: int, only_a: int, only_b: int, neither: int, level: float) -> Difference:
    """Difference of two rates on the same photos, b - a (Newcombe 1998, Stat Med 17:2635, method 10)."""
    n = both + only_a + only_b + neither
    a, b = both + only_a, both + only_b
    (low_a, high_a), (low_b, high_b) = wilson(a, n, level), wilson(b, n, level)
    rate_a, rate_b = a / n, b / n
    products, cross = a * (n - a) * b * (n - b), both * neither - only_a * only_b
    corrected = max(cross - n / 2, 0) if cross > 0 else cross  # the continuity term of method 10
    phi = corrected / math.sqrt(products) if products else 0.0

    def joined(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0))

    estimate = rate_b - rate_a
    low = estimate - joined(rate_b - low_b, high_a - rate_a)
    high = estimate + joined(high_b - rate_b, rate_a - low_a)
    return Difference(estimate, max(-1.0, low), min(1.0, high))


def rate_word(difference: Difference, difference_90: Difference, rules: Rules = RULES) -> Word:
    """Equivalent if the 90 % interval lies inside the margin (two one-sided tests, Schuirmann 1987), else better (more)
    or worse if the interval excludes 0, else inconclusive.

    At a true difference of the margin 0.1 to 4.8 of 100 sessions of 100 photos are called equivalent.
    """
    if max(-difference_90.low, difference_90.high) < rules.rate_margin:
        return "equivalent"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "inconclusive"


# --- ranks: everything from the table of score pairs -----------------------------------------------------------------
def score_table(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    """Photos by pair of scores, `[score of a, score of b]`, and the ascending scores that both axes mean (a count)."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    scores, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    k = len(scores)
    flat = np.bincount(index[: len(a)] * k + index[len(a) :], minlength=k * k)
    return flat.reshape(k, k).astype(float), scores


class Agreement(NamedTuple):
    """tau-b with its interval; `error` is the standard error of tau-b."""

    tau_b: float
    low: float
    high: float
    error: float


def agreement(table: ArrayLike, level: float = 0.95) -> Agreement | None:
    """Kendall's tau-b and its interval; None where an arm gave every photo the same score (0/0, not 0 and not 1).

    Standard error in closed form, Brown and Benedetti 1977 (JASA 72:309); interval on Fisher's scale. scipy's
    kendalltau has tau-b without an error, and what the error is made of gives tau-b as well.
    """
    from scipy import stats

    t = np.asarray(table, dtype=float)
    above = np.pad(t.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    total, by_row, by_column = above[-1, -1], above[:, -1:], above[-1:, :]
    concordant = above[:-1, :-1] + total - by_row[1:] - by_column[:, 1:] + above[1:, 1:]
    discordant = by_row[:-1] - above[:-1, 1:] + by_column[:, :-1] - above[1:, :-1]
    n, rows, columns = t.sum(), t.sum(1), t.sum(0)
    untied_a, untied_b = n * n - np.square(rows).sum(), n * n - np.square(columns).sum()
    if min(untied_a, untied_b) <= 0:
        return None
    scale = math.sqrt(untied_a * untied_b)
    tau = float((t * (concordant - discordant)).sum() / scale)
    ties = rows[:, None] * untied_b + columns[None, :] * untied_a
    spread = (t * np.square(2 * scale * (concordant - discordant) + tau * ties)).sum()
    error = math.sqrt(max(float(spread) - n**3 * tau**2 * (untied_a + untied_b) ** 2, 0)) / scale**2
    centre = max(-0.999, min(0.999, tau))
    half = float(stats.norm.isf((1 - level) / 2)) * error / (1 - centre * centre)
    low, high = math.tanh(math.atanh(centre) - half), math.tanh(math.atanh(centre) + half)
    return Agreement(tau, min(low, tau), max(high, tau), error)


class Cut(NamedTuple):
    """Where the top N ends: the score there, how many photos share it, how many seats are left for them."""

    score: float
    group: int
    seats: int


def cut_at(scores: ArrayLike, n: int) -> Cut | None:
    """The tie group that the last seat of the top `n` goes to; None with fewer than `n` scores."""
    ordered = np.sort(np.asarray(scores, dtype=float))[::-1]
    if len(ordered) < n:
        return None
    score = ordered[n - 1]
    return Cut(float(score), int((ordered == score).sum()), n - int((ordered > score).sum()))


def seat_chance(counts: ArrayLike, n: int) -> Floats:
    """Per score, ascending: a photo's chance of a seat in the top `n` when ties are drawn by lot (1, r/t or 0).

    r seats for t tied: a hypergeometric draw. Ties as lots: McSherry and Najork 2008 (ECIR, LNCS 4956:414).
    """
    counts = np.asarray(counts, dtype=float)
    above = counts[::-1].cumsum()[::-1] - counts
    chance: Floats = np.clip((n - above) / np.maximum(counts, 1), 0, 1) * (counts > 0)
    return chance


def expected_overlap(table: ArrayLike, n: int) -> float:
    """Photos that two top `n` share on average when each arm's ties are drawn by lot: the sum of q_a q_b, exact.

    Expectations add whatever depends on what, and the two lots are independent; nothing else is in it.
    """
    t = np.asarray(table, dtype=float)
    return float((t * seat_chance(t.sum(1), n)[:, None] * seat_chance(t.sum(0), n)[None, :]).sum())


# --- drift -----------------------------------------------------------------------------------------------------------
class Trend(NamedTuple):
    """The p-value of a straight line through a series, and the shift along the whole of it."""

    p: float
    shift: float


def trend(y: ArrayLike) -> Trend:
    """Least-squares slope of winsorised logs, tested with an effective number of rows under AR(1) noise.

    Effective n from the residuals' first autocorrelation, bias-corrected by (2 + 4 r) / n; t with effective n - 2
    (Santer et al. 2000, JGR 105:7337). Mann-Kendall at 5 % fires in 32 % of series with autocorrelation 0.6.
    """
    from scipy import stats

    n = len(np.asarray(y))
    if n < 5:
        return Trend(1.0, 0.0)
    w = winsorised(np.asarray(y, dtype=float), 0.05)
    x = np.arange(n) - (n - 1) / 2
    line = stats.linregress(x, w)
    slope = float(line.slope)
    rest = w - w.mean() - slope * x
    squares = float(rest @ rest)
    if squares < 1e-24:  # a straight line
        return Trend(1.0 if abs(slope) < 1e-12 else 0.0, slope * (n - 1))
    r = float(rest[1:] @ rest[:-1]) / squares
    r = min(0.97, max(0.0, r + (2 + 4 * r) / n))
    effective = n * (1 - r) / (1 + r)
    error = float(line.stderr) * math.sqrt(n / effective)
    p: Any = 2 * stats.t.sf(abs(slope) / error, max(effective - 2, 1))
    return Trend(float(p), slope * (n - 1))


def autocorrelation_limit(n: int) -> float:
    """First autocorrelation a clean series (true 0.3) stays below: Fisher's z with 2.6 errors, at least 0.5.

    Fisher 1921 (Metron 1:3); the 2.6 errors were set so that 1.6 of 100 clean sessions are above, at most.
    """
    return max(0.5, math.tanh(math.atanh(0.3) + 2.6 / math.sqrt(max(n - 3, 1))))
