"""Every procedure against a value that our code did not make: published examples, or scipy's own second way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from llama_assets.verdict import statistics as s

from .sessions import ar1


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (95, 100, 0.8882, 0.9785),
        (100, 100, 0.9630, 1.0),
        (0, 100, 0.0, 0.0370),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_wilson_is_the_published_interval(count: int, n: int, low: float, high: float) -> None:
    """81 of 263 is Newcombe's example (1998); 100 of 100 proves no more than 96.3 %."""
    assert s.wilson(count, n) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [((36, 2, 12, 0), 0.0569, 0.3404), ((100, 0, 0, 0), -0.0370, 0.0370), ((95, 0, 5, 0), 0.0033, 0.1118)],
)
def test_the_difference_of_two_rates_is_newcombes_method_10(cells: tuple[int, ...], low: float, high: float) -> None:
    found = s.rate_difference(*cells, level=0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_the_difference_is_b_minus_a_and_swapping_the_arms_mirrors_it() -> None:
    there, back = s.rate_difference(80, 3, 12, 5, 0.95), s.rate_difference(80, 12, 3, 5, 0.95)
    assert there.estimate == pytest.approx(0.09)
    assert (back.estimate, back.low, back.high) == pytest.approx((-there.estimate, -there.high, -there.low))


def rate_word(*cells: int, level: float = 0.95) -> str:
    return s.rate_word(s.rate_difference(*cells, level=level), s.rate_difference(*cells, level=0.90))


@pytest.mark.parametrize(
    ("other_way", "level", "fewest"),
    [(0, 0.95, 5), (1, 0.95, 7), (2, 0.95, 9), (0, 0.975, 6), (1, 0.975, 9), (2, 0.975, 11)],
)
def test_the_fewest_discordant_photos_of_100_that_count(other_way: int, level: float, fewest: int) -> None:
    words = [rate_word(100 - lost - other_way, lost, other_way, 0, level=level) for lost in (fewest - 1, fewest)]
    assert words == ["inconclusive", "worse"]


def test_a_small_and_well_known_difference_of_rates_is_equivalent() -> None:
    assert rate_word(980, 15, 3, 2) == "equivalent"


@pytest.mark.parametrize("comparisons", [1, 2, 3, 4])
def test_two_perfect_arms_are_equivalent_on_100_photos_however_many_arms_share_the_error(comparisons: int) -> None:
    """90 % interval 2.6 points; the one that better and worse are read off reaches 5.4 points with three candidates."""
    assert rate_word(100, 0, 0, 0, level=1 - 0.05 / comparisons) == "equivalent"


def test_rates_a_margin_apart_are_seldom_called_equivalent() -> None:
    """Valid 99 and 94 of 100: 4.8 % of sessions in the long run, two errors of 2,000 drawn above the promised 5."""
    cells = [0.99 * 0.94, 0.99 * 0.06, 0.01 * 0.94, 0.01 * 0.06]
    tables, times = np.unique(np.random.default_rng(18).multinomial(100, cells, 2_000), axis=0, return_counts=True)
    called = [rate_word(*map(int, table)) == "equivalent" for table in tables]
    assert 0.01 < np.average(called, weights=times) <= 0.06


JOB_SATISFACTION = [[1, 3, 10, 6], [2, 3, 10, 7], [1, 6, 14, 12], [0, 1, 9, 11]]


def test_tau_b_and_its_error_are_agrestis() -> None:
    """Income and job satisfaction (Agresti, Categorical Data Analysis, table 2.8)."""
    found = s.agreement(JOB_SATISFACTION)
    assert found is not None
    assert (found.tau_b, found.error) == pytest.approx((0.15235, 0.08184), abs=6e-6)
    assert found.low < found.tau_b < found.high


def test_tau_b_is_scipys_on_scores_with_ties() -> None:
    rng = np.random.default_rng(3)
    a = rng.integers(1, 11, 100)
    b = np.clip(a + rng.integers(-3, 4, 100), 1, 10)
    found = s.agreement(s.score_table(a, b)[0])
    assert found is not None
    assert found.tau_b == pytest.approx(stats.kendalltau(a, b).statistic)


def test_the_order_of_the_photos_leaves_tau_b() -> None:
    rng = np.random.default_rng(19)
    a, b = rng.integers(1, 11, (2, 60))
    order = rng.permutation(60)
    assert s.agreement(s.score_table(a[order], b[order])[0]) == s.agreement(s.score_table(a, b)[0])


def test_a_constant_score_has_no_tau() -> None:
    assert s.agreement(s.score_table([7] * 40, list(range(40)))[0]) is None


def test_a_seat_is_sure_above_the_cut_and_a_lot_at_it() -> None:
    """Ascending scores 5, 9, 10 of 83, 14 and 3 photos: seven seats of ten are left for fourteen."""
    assert s.seat_chance([83, 14, 3], 10) == pytest.approx([0, 0.5, 1])


def test_expected_overlap_is_the_mean_over_random_lots() -> None:
    """The closed form against 20,000 lots drawn; its Monte Carlo error is 0.007."""
    rng = np.random.default_rng(5)
    a, b = rng.integers(4, 10, 100), rng.integers(4, 10, 100)
    shared = 0
    for _ in range(20_000):
        tops = [set(np.lexsort((rng.random(100), -x))[:10].tolist()) for x in (a, b)]
        shared += len(tops[0] & tops[1])
    assert s.expected_overlap(s.score_table(a, b)[0], 10) == pytest.approx(shared / 20_000, abs=0.03)


def test_independent_arms_share_by_chance_n_squared_over_photos() -> None:
    table = np.outer([30, 40, 30], [20, 50, 30]) / 100
    assert s.expected_overlap(table, 10) == pytest.approx(1.0)


def test_the_cut_names_the_tie_group_and_its_seats() -> None:
    assert s.cut_at([9] * 44 + [5] * 56, 10) == (9, 44, 10)
    assert s.cut_at([10] * 3 + [9] * 14 + [5] * 83, 10) == (9, 14, 7)
    assert s.cut_at([9] * 4, 10) is None


def test_the_typical_ratio_is_scipys_trimmed_mean() -> None:
    d = np.random.default_rng(7).standard_normal(100)
    assert float(s.typical_ratio(d, 0.95).estimate) == pytest.approx(stats.trim_mean(d, 0.1))


def test_without_autocorrelation_the_interval_is_no_narrower_than_yuens_and_little_wider() -> None:
    """On independent values the effective-n interval is Yuen's trimmed t, but for its degrees of freedom."""
    rng = np.random.default_rng(8)
    widths, yuens = [], []
    for _ in range(200):
        d = rng.standard_normal(100)
        w = stats.mstats.winsorize(d, (0.1, 0.1))
        yuens.append(stats.t.isf(0.025, 79) * np.std(w, ddof=1) / (0.8 * 10))
        widths.append(float(s.typical_ratio(d, 0.95).half_width))
    assert 1.0 < np.mean(widths) / np.mean(yuens) < 1.4


@pytest.mark.parametrize(("rho", "times"), [(0.0, 1.0), (0.6, 4.0)])
def test_the_cosine_variance_finds_the_variance_of_an_ar1_mean(rho: float, times: float) -> None:
    """(1 + rho) / (1 - rho) times the variance of the series, for a long one."""
    x = ar1(np.random.default_rng(9), (400, 2_000), rho)
    assert s.long_run_variance(x, 10).mean() == pytest.approx(times, rel=0.07)


def test_lag1_is_unbiased_where_the_raw_one_is_not() -> None:
    x = ar1(np.random.default_rng(10), (4_000, 50), 0.5)
    z = x - x.mean(-1, keepdims=True)
    raw = (z[:, 1:] * z[:, :-1]).sum(-1) / (z * z).sum(-1)
    assert raw.mean() < 0.455
    assert s.lag1(x).mean() == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize(("rho", "factor"), [(0.3, 1.857), (0.6, 4.0), (0.9, 19.0)])
def test_the_effective_number_is_that_of_an_ar1_mean(rho: float, factor: float) -> None:
    assert 100 / float(s.effective_n(100, rho)) == pytest.approx(factor, abs=5e-4)


@pytest.mark.parametrize(("n", "limit"), [(100, 0.52), (400, 0.5)])
def test_a_clean_series_stays_below_the_limit_of_autocorrelation(n: int, limit: float) -> None:
    assert s.autocorrelation_limit(n) == pytest.approx(limit, abs=0.005)


def test_winsorised_values_are_scipys_in_a_stack_too() -> None:
    x = np.random.default_rng(20).standard_normal((3, 47))
    assert s.winsorised(x, 0.1) == pytest.approx(np.asarray(stats.mstats.winsorize(x, (0.1, 0.1), axis=-1)))


def test_swapping_the_arms_mirrors_the_interval_and_other_units_change_nothing() -> None:
    rng = np.random.default_rng(11)
    a, b = rng.standard_normal((2, 60))
    there, back = s.typical_ratio(b - a, 0.95), s.typical_ratio(a - b, 0.95)
    assert float(there.estimate) == pytest.approx(-float(back.estimate))
    assert float(there.half_width) == pytest.approx(float(back.half_width))
    scaled = s.typical_ratio((b + math.log(1000)) - (a + math.log(1000)), 0.95)
    assert float(scaled.half_width) == pytest.approx(float(there.half_width))


def test_identical_arms_are_equivalent() -> None:
    d = np.zeros(40)
    wide, narrow = s.typical_ratio(d, 0.95), s.typical_ratio(d, 0.90)
    assert float(wide.half_width) == 0
    assert str(s.ratio_words(wide.estimate, wide.half_width, narrow.half_width)) == "equivalent"


def test_another_order_in_the_other_arm_never_narrows_the_interval() -> None:
    rng = np.random.default_rng(12)
    d = ar1(rng, (100,), 0.6)
    assert s.typical_ratio(d, 0.95, reordered=rng.permutation(d)).half_width >= s.typical_ratio(d, 0.95).half_width


@pytest.mark.parametrize("blocks", [1, 2, 4, 10])
def test_leverage_is_one_over_the_number_of_mirrored_blocks(blocks: int) -> None:
    size, at, t = 100 // blocks, ([], []), 0
    for block in range(blocks):
        for arm in (0, 1) if block % 2 == 0 else (1, 0):
            at[arm].extend(range(t, t + size))
            t += size
    assert s.leverage(*at) == pytest.approx(1 / blocks)


def test_the_drift_allowance_is_for_arms_that_did_not_take_turns() -> None:
    assert s.drift_allowance(0.25) == 0
    assert s.drift_allowance(1.0) == pytest.approx(math.log(1.10))
    assert s.drift_allowance(1.0, measured=math.log(1.17)) == pytest.approx(math.log(1.17))


def test_a_trend_is_scipys_slope_and_p_on_white_noise() -> None:
    rng = np.random.default_rng(13)
    y = 0.004 * np.arange(100) + 0.5 * rng.uniform(-1, 1, 100)
    w = np.clip(y, *np.sort(y)[[5, 94]])
    theirs = stats.linregress(np.arange(100), w)
    ours = s.trend(y)
    assert ours.shift == pytest.approx(99 * theirs.slope)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1.0)  # ours counts a small autocorrelation of the residuals


def test_a_drift_test_holds_its_level_under_slow_noise_where_the_plain_one_does_not() -> None:
    """At autocorrelation 0.6 least squares fires in a third of driftless series; the effective n in under a tenth."""
    series = ar1(np.random.default_rng(14), (300, 100), 0.6)
    ours = np.mean([s.trend(y).p < 0.05 for y in series])
    plain = np.mean([stats.linregress(np.arange(100), y).pvalue < 0.05 for y in series])
    assert ours < 0.12 < 0.25 < plain


def mirrored(rng: np.random.Generator, sessions: int, arms: int, rho: float = 0.6) -> np.ndarray:
    """Log seconds [session, arm, photo]: four mirrored blocks of 25, noise 10 % in the order asked, a drift of 8 %."""
    at = np.empty((arms, 100), dtype=int)
    t = 0
    for block in range(4):
        for arm in range(arms) if block % 2 == 0 else reversed(range(arms)):
            at[arm, 25 * block : 25 * block + 25] = np.arange(t, t + 25)
            t += 25
    clock = 0.1 * ar1(rng, (sessions, 100 * arms), rho) + math.log(1.08) * np.linspace(0, 1, 100 * arms)
    return clock[:, at] + 0.15 * rng.standard_normal((sessions, 1, 100))


def words(d: np.ndarray, comparisons: int) -> np.ndarray:
    wide, narrow = s.typical_ratio(d, 1 - 0.05 / comparisons), s.typical_ratio(d, 0.90)
    return s.ratio_words(wide.estimate, wide.half_width, narrow.half_width)


@pytest.mark.parametrize("arms", [2, 3])
def test_equal_arms_are_seldom_judged_where_a_paired_t_test_judges_a_quarter(arms: int) -> None:
    """300 A/A sessions, autocorrelation 0.6: the promise is 5 %, the true rate about 3.5, the bound 4 errors above."""
    y = mirrored(np.random.default_rng(15), 300, arms)
    d = y[:, 1:] - y[:, :1]
    judged = np.isin(words(d, arms - 1), ["better", "worse"]).any(axis=1).mean()
    naive = (stats.ttest_1samp(d, 0, axis=-1).pvalue < 0.05 / (arms - 1)).any(axis=1).mean()
    assert judged <= 0.075
    assert naive > 0.15


def test_a_true_tenth_is_mostly_found() -> None:
    """100 photos in four mirrored blocks, noise 10 %, autocorrelation 0.6: 79 % of two-arm sessions in the long run."""
    y = mirrored(np.random.default_rng(16), 300, 2)
    assert (words(y[:, 1] - y[:, 0] + math.log(1.10), 1) == "worse").mean() > 0.68


def test_photos_needed_grow_with_the_square_of_the_error() -> None:
    d = 0.03 + 0.1 * np.random.default_rng(17).standard_normal(100)
    small, large = (s.photos_needed(100, s.typical_ratio(x, 0.95)) for x in (d, d + 3 * (d - stats.trim_mean(d, 0.1))))
    assert small is not None
    assert large is not None
    assert small % 20 == large % 20 == 0
    assert 13 < large / small < 17
    assert s.photos_needed(100, s.typical_ratio(d, 0.95, allowance=0.1)) is None
