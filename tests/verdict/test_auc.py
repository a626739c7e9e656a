"""AUC, hits and average precision against values that our code did not make, and how often their intervals hold."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from scipy import stats

from llama_assets.verdict import auc as a

# Hanley and McNeil 1982, table 1: ratings 1 to 5 of 58 normal and 51 abnormal images.
NORMAL, ABNORMAL = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
RATINGS = np.repeat([*range(1, 6), *range(1, 6)], [*NORMAL, *ABNORMAL])
DISEASED = np.repeat([False, True], [58, 51])


def test_hanley_and_mcneils_images_have_the_published_area_error_and_interval() -> None:
    """Their Wilcoxon area 0.893; DeLong's error 0.03072; Newcombe's method 5 0.8117 to 0.9400."""
    assert a.auc(RATINGS, DISEASED) == pytest.approx(0.89317, abs=5e-6)
    liked, others = a.placements(RATINGS, DISEASED)
    assert np.sqrt(liked.var(ddof=1) / 51 + others.var(ddof=1) / 58) == pytest.approx(0.03072, abs=5e-6)
    assert a.auc_interval(0.89317, 51, 58) == pytest.approx((0.8117, 0.9400), abs=5e-5)


def test_an_auc_is_scipys_mann_whitney_and_ties_count_half() -> None:
    rng = np.random.default_rng(1)
    scores, liked = rng.integers(1, 6, 80), rng.random(80) < 0.2
    u = stats.mannwhitneyu(scores[liked], scores[~liked]).statistic
    assert a.auc(scores, liked) == pytest.approx(u / (liked.sum() * (~liked).sum()))
    assert a.auc([7] * 40, [True] * 10 + [False] * 30) == 0.5


def test_the_interval_of_a_perfect_area_ends_at_1_and_mirrors_that_of_0() -> None:
    low, high = a.auc_interval(1.0, 10, 90)
    assert high == 1.0
    assert 0.6 < low < 0.95
    assert a.auc_interval(0.0, 10, 90) == pytest.approx((0.0, 1 - low))
    assert a.auc_interval(0.5, 10, 90) == pytest.approx(tuple(1 - x for x in reversed(a.auc_interval(0.5, 10, 90))))


def drawn(rng: np.random.Generator, shift: float, n: int = 100, positives: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Scores 1 to 10 of two arms, crowded as models answer; positives lie `shift` higher in both."""
    liked = np.arange(n) < positives
    shared = 0.7 * rng.standard_normal(n) + shift * liked
    edges = stats.norm.ppf(np.cumsum([0.01, 0.03, 0.05, 0.10, 0.16, 0.22, 0.30, 0.11])) + 0.1 * shift
    return tuple(np.searchsorted(edges, shared + 0.7 * rng.standard_normal(n)) + 2 for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("shift", [0.0, 0.95])
def test_intervals_hold_with_ten_favourites(shift: float) -> None:
    """Area covered in 93 % or more of 400, two equal arms called different in 6.5 % or fewer (bounds of the lot)."""
    rng = np.random.default_rng(int(10 * shift) + 2)
    liked = np.arange(100) < 10
    truth = np.mean([a.auc(drawn(rng, shift, 20_000, 2_000)[0], np.arange(20_000) < 2_000) for _ in range(5)])
    covered = different = 0
    for _ in range(400):
        one, two = drawn(rng, shift)
        low, high = a.auc_interval(a.auc(one, liked), 10, 90)
        covered += low <= truth <= high
        found = a.auc_difference(one, two, liked, 0.95)
        different += not found.low <= 0 <= found.high
    assert covered / 400 >= 0.93
    assert different / 400 <= 0.065


def test_a_difference_is_the_areas_and_turns_its_sign_with_the_arms() -> None:
    rng = np.random.default_rng(4)
    one, two = drawn(rng, 1.0)
    liked = np.arange(100) < 10
    there, back = (a.auc_difference(*arms, liked, 0.95) for arms in ((one, two), (two, one)))
    assert there.estimate == pytest.approx(a.auc(two, liked) - a.auc(one, liked))
    assert (back.estimate, back.low, back.high) == pytest.approx((-there.estimate, -there.high, -there.low))
    assert a.auc_difference(one, one, liked, 0.95) == (0, 0, 0)


def test_the_difference_with_many_photos_is_delongs() -> None:
    """Their formula with the covariance of the two arms' placements, written out."""
    rng = np.random.default_rng(6)
    one, two = drawn(rng, 0.8, 2_000, 1_000)
    liked = np.arange(2_000) < 1_000
    (la, oa), (lb, ob) = a.placements(one, liked), a.placements(two, liked)
    covariance = np.cov(np.stack([la, lb])) / 1_000 + np.cov(np.stack([oa, ob])) / 1_000
    contrast = np.array([-1, 1])
    found = a.auc_difference(one, two, liked, 0.95)
    assert (found.high - found.low) / 2 == pytest.approx(
        stats.t.isf(0.025, 999) * np.sqrt(contrast @ covariance @ contrast)
    )


def test_no_certainty_comes_from_arms_whose_placements_do_not_vary() -> None:
    liked = np.arange(40) < 10
    found = a.auc_difference([5] * 40, np.where(liked, 9, 3), liked, 0.95)
    assert found.estimate == 0.5
    assert 0 < found.low < 0.45


def test_hits_are_the_mean_over_lots_and_their_tail_is_scipys() -> None:
    """9 photos above the cut, 4 of them liked, and one seat for 6 tied, 3 of them liked."""
    scores = [9] * 9 + [8] * 6 + [1] * 25
    liked = [True] * 4 + [False] * 5 + [True] * 3 + [False] * 3 + [True] * 5 + [False] * 20
    assert a.hits_in_top(scores, liked, 10) == pytest.approx(4.5)
    assert a.hits_by_chance(4.5, 40, 12, 10) == pytest.approx(stats.hypergeom(40, 12, 10).sf(3))
    tail = [a.hits_by_chance(hits, 100, 10, 10) for hits in (3.0, 4.0, 5.0)]
    assert tail == pytest.approx([0.0600, 0.0082, 0.0007], abs=6e-5)
    assert a.hits_by_chance(8.0, 100, 20, 20) == pytest.approx(0.018, abs=5e-4)
    assert a.hits_by_chance(0.4, 100, 10, 10) == 1.0


def ap(liked: list[bool], n: int) -> float:
    """Average precision of one order, as it is written in every textbook."""
    precisions = [sum(liked[: k + 1]) / (k + 1) for k in range(min(n, len(liked))) if liked[k]]
    return sum(precisions) / min(n, sum(liked))


@pytest.mark.parametrize("n", [1, 3, 5, 7])
def test_average_precision_is_the_mean_over_every_order_that_ties_allow(n: int) -> None:
    scores, liked = [9, 8, 8, 8, 7, 5, 5], [False, True, False, True, True, False, True]
    orders = [order for order in permutations(range(7)) if all(scores[i] >= scores[j] for i, j in pairwise(order))]
    assert len(orders) == 12
    expected = np.mean([ap([liked[i] for i in order], n) for order in orders])
    assert a.average_precision(scores, liked, n) == pytest.approx(expected)


def test_average_precision_without_ties_is_the_textbooks_and_best_is_1() -> None:
    liked = [True, False, True, True, False]
    assert a.average_precision([5, 4, 3, 2, 1], liked, 4) == pytest.approx(ap(liked, 4))
    assert a.average_precision([9, 9, 9, 1, 1], [True] * 3 + [False] * 2, 2) == pytest.approx(1.0)
    assert a.average_precision([1, 2], [False, False], 2) is None
