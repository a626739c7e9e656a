"""Does an arm's score agree with the person whose photos these are? Favourites and stars against the ranking key.

Here: which photos are positives of which truth, each arm's figures, the candidates against the incumbent. Favourites
and stars stay two truths: a heart says "this one", stars grade, and a person may use both differently. Stars become
positives at four and five, so that both truths are read with the same figures, and keep their order in tau-b; a photo
of which nothing was said belongs to neither side. Not here: formulas (`auc`), sentences (`truth_sentences`). What is
found never changes a recommendation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llama_assets.bench.ratings import Rating

from . import auc, statistics
from .evidence import Evidence, Floats
from .formats import plural
from .judgement import TruthFigures, TruthName, TruthPair, Truths
from .statistics import RULES, Rules

GOOD_STARS = 4
SIDES: Mapping[TruthName, tuple[tuple[str, str], tuple[str, str]]] = {  # positives and negatives, one and many
    "favourites": (("favourite", "favourites"), ("photo that is no favourite", "photos that are no favourites")),
    "stars": (
        ("photo of four stars or more", "photos of four stars or more"),
        ("photo of three stars or fewer", "photos of three stars or fewer"),
    ),
}
FEWEST = 10  # positives, and negatives, below which a difference gets no word


def truths(
    evidence: Evidence, ratings: Mapping[str, Rating], comparisons: Sequence[tuple[str, str]], rules: Rules = RULES
) -> dict[TruthName, Truths]:
    """What the ratings say of each arm; only truths of which at least one asked photo is a positive or a negative.

    `comparisons` are the pairs (incumbent, candidate); a truth's 5 % are shared by them, as those of seconds are.
    """
    nothing = Rating()
    said = [ratings.get(photo, nothing) for photo in evidence.photos]
    favourite = np.array([np.nan if r.favourite is None else r.favourite for r in said], dtype=float)
    stars = np.array([np.nan if r.stars is None else r.stars for r in said], dtype=float)
    four = np.where(np.isnan(stars), np.nan, stars >= GOOD_STARS)
    found: dict[TruthName, Truths] = {}
    if np.isfinite(favourite).any():
        found["favourites"] = _truth(evidence, "favourites", favourite, None, comparisons, rules)
    if np.isfinite(stars).any():
        found["stars"] = _truth(evidence, "stars", four, stars, comparisons, rules)
    return found


def _truth(
    evidence: Evidence,
    name: TruthName,
    liked: Floats,
    stars: Floats | None,
    comparisons: Sequence[tuple[str, str]],
    rules: Rules,
) -> Truths:
    scores = {model: _scores(evidence, model) for model in evidence.arms}
    level = 1 - rules.error / max(1, len(comparisons))
    return Truths(
        photos=int(np.isfinite(liked).sum()),
        positives=int(np.nansum(liked)),
        models={model: figures(scores[model], liked, stars, rules) for model in evidence.arms},
        pairs=tuple(compared(name, a, b, scores[a], scores[b], liked, level) for a, b in comparisons),
    )


def _scores(evidence: Evidence, model: str) -> Floats:
    """An arm's score of each of the evidence's photos, NaN where it gave none."""
    arm, found = evidence.arms[model], np.full(len(evidence.photos), np.nan)
    found[arm.photo] = arm.score
    return found


def figures(scores: Floats, liked: Floats, stars: Floats | None, rules: Rules = RULES) -> TruthFigures:
    """One arm against one truth, over the photos that have both a score and a rating. NaN is "not known"."""
    both = np.isfinite(scores) & np.isfinite(liked)
    own, is_liked, top = scores[both], liked[both] > 0, rules.top_n
    n, positives = len(own), int(is_liked.sum())
    area = auc.auc(own, is_liked) if 0 < positives < n else None
    low, high = (None, None) if area is None else auc.auc_interval(area, positives, n - positives)
    ranked = positives > 0 and n > top  # with no more photos than seats every order is a top N of all
    hits = auc.hits_in_top(own, is_liked, top) if ranked else None
    agreed = None
    if stars is not None and n:
        agreed = statistics.agreement(statistics.score_table(own, stars[both])[0])
    interval = agreed if n >= rules.fewest_photos else None
    return TruthFigures(
        n=n,
        positives=positives,
        auc=area,
        low=low,
        high=high,
        level=0.95,
        average_precision=auc.average_precision(own, is_liked, top) if ranked else None,
        chance_average_precision=auc.average_precision(np.zeros(n), is_liked, top) if ranked else None,
        top_n=top,
        hits=hits,
        chance=top * positives / n if ranked else None,
        p=None if hits is None else auc.hits_by_chance(hits, n, positives, top),
        tau_b=agreed.tau_b if agreed else None,
        tau_b_low=interval.low if interval else None,
        tau_b_high=interval.high if interval else None,
    )


def compared(name: TruthName, a: str, b: str, of_a: Floats, of_b: Floats, liked: Floats, level: float) -> TruthPair:
    """b against a on the photos that both scored. No word below `FEWEST` positives or negatives: "no verdict"."""
    both = np.isfinite(of_a) & np.isfinite(of_b) & np.isfinite(liked)
    is_liked = liked[both] > 0
    n, positives = len(is_liked), int(is_liked.sum())
    fewer = min(positives, n - positives)
    found = auc.auc_difference(of_a[both], of_b[both], is_liked, level) if fewer > 1 else None
    note, verdict = None, None
    if found is None or fewer < FEWEST:
        side = SIDES[name][0 if positives == fewer else 1]
        note = f"{plural(fewer, *side)}; fewer than {FEWEST} allow no verdict"
    else:
        verdict = "better" if found.low > 0 else "worse" if found.high < 0 else "inconclusive"
    return TruthPair(
        a=a,
        b=b,
        truth=name,
        n=n,
        positives=positives,
        difference=found.estimate if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        level=level,
        verdict=verdict,  # type: ignore[arg-type]
        note=note,
    )
