"""What a figure of the report shows, as the sentence above it: made from the numbers that are drawn, and no verdict.

Names stand for the ends (least and most), so that a sentence stays one with seven arms. Unit and encoding stand under
it, in the template. Not here: verdicts (`sentences`), warnings (`warning_texts`).
"""

from __future__ import annotations

from collections.abc import Sequence

from .formats import clock, listed, percent, plain, plural, points, rate, seconds, side
from .ground_truth import SIDES
from .judgement import Judgement, ModelFigures, Pair, TruthName, Truths
from .sentences import drift_sentence, valid_text

NAMED = 3  # arms told one by one; of more, the ends


def on_seconds(j: Judgement) -> str:
    """`b took 41 % less time per photo than a, c 5.3 % more.`"""
    known = [pair for pair in _pairs(j, "seconds") if pair.estimate is not None]
    if not known:
        return "No pair has enough photos that both answered."
    told = [(pair.b, _than_same(pair.estimate or 1)) for pair in sorted(known, key=lambda pair: pair.estimate or 1)]
    against = _against(known)
    (first, took), rest = told[0], told[1:]
    found = f"{first} took {took} time per photo {_as(took)} {against}"
    if len(told) > NAMED:
        return f"{found}; {rest[-1][0]} {rest[-1][1]}, and {len(rest) - 1} others lie between."
    return "; ".join([found, *(f"{model} {other}" for model, other in rest)]) + "."


def on_valid(j: Judgement) -> str:
    """`b gave 5.0 points fewer schema-valid answers than a; c as many.`"""
    known = [pair for pair in _pairs(j, "valid_answers") if pair.estimate is not None]
    if not known:
        return "How many answers are schema-valid is not known for a pair."
    if all(pair.estimate == 0 for pair in known):
        names = listed([pair.b for pair in known]) if len(known) <= NAMED else f"All {len(known)} candidates"
        counts = {valid_text(j.models[model]) for pair in known for model in (pair.a, pair.b)}
        same = f" ({counts.pop()})" if len(counts) == 1 else ""
        return f"{names} gave as many schema-valid answers as {_against(known)}{same}."
    told = [f"{pair.b} {points(pair.estimate or 0)}" for pair in sorted(known, key=lambda pair: pair.estimate or 0)]
    if len(told) > NAMED:
        told = [told[0], told[-1]]
    return f"Schema-valid answers against {_against(known)}: {', '.join(told)}."


def in_time(j: Judgement) -> str:
    """What the search for drift found, in all arms together."""
    drifting = {w.model: w.figures.get("shift") for w in j.warnings if w.code == "drift" and w.model}
    if not drifting:
        return drift_sentence(j)
    told = [
        f"{percent(shift)} % {'slower' if shift > 0 else 'less slow'} over {model}"
        for model, shift in drifting.items()
        if isinstance(shift, float)
    ]
    rest = len(told) - NAMED
    shown = told if rest <= 0 else [*told[:NAMED], f"so too over {plural(rest, 'other arm')}"]
    return f"Answers got {listed(shown)}."


def spread(j: Judgement) -> str:
    """Where half of the answers lie, by arm."""
    middles = [(model, f.latency_p50_s) for model, f in j.models.items() if f.latency_p50_s is not None]
    if not middles:
        return "No answer was counted."
    middles.sort(key=lambda one: one[1])
    told = [f"{model} {seconds(value)} s" for model, value in middles]
    least, rest = f"Half of the photos took {told[0]} or less", told[1:]
    if len(told) > NAMED:
        return f"{least}, and {rest[-1]}; {len(rest) - 1} other arms lie between."
    return f"{least}, {listed(rest)}." if rest else f"{least}."


def at_the_cut(j: Judgement) -> str:
    """How much of the top N the scores leave to a lot."""
    top = j.ranking[0].top_n if j.ranking else 10
    ties = {model: f.tie for model, f in j.models.items() if f.tie is not None}
    if not ties:
        return f"No arm has scores for {top} photos."
    drawn = {model: 0 if tie.group == tie.seats else tie.seats for model, tie in ties.items()}
    least, most = min(drawn.values()), max(drawn.values())
    if most == 0:
        return f"Scores alone settle the top {top} of {'every arm' if len(drawn) > 1 else next(iter(drawn))}."
    if least == most:
        of = "each arm" if len(drawn) > 1 else next(iter(drawn))
        return f"{most} of the top {top} seats of {of} go by lot."
    fewest, many = (next(model for model, seats in drawn.items() if seats == end) for end in (least, most))
    return f"{many} has {most} of its top {top} seats drawn by lot, {fewest} {least or 'none'}."


def alike(j: Judgement) -> str:
    """How far orders agree, without calling it quality."""
    known = sorted(((r.tau_b, r) for r in j.ranking if r.tau_b is not None), key=lambda one: one[0])
    if not known:
        return "No two arms have an order of photos to compare."
    (low, least), (high, most) = known[0], known[-1]
    if least is most:
        return f"{least.a} and {least.b} order photos with tau-b {plain(low)}."
    ends = [f"{plain(value)} ({r.a} and {r.b})" for value, r in ((low, least), (high, most))]
    return f"Orders agree with tau-b from {ends[0]} to {ends[1]}."


def liked(name: TruthName, one: Truths) -> str:
    """How many photos that a person likes each arm has in its top N, against chance."""
    known = sorted((f.hits, model, f) for model, f in one.models.items() if f.hits is not None)
    if not known:
        return "No arm has scores for enough rated photos."
    (least, fewest, _), (most, many, figures) = known[0], known[-1]
    other = f", {fewest} {least:.1f}" if fewest != many else ""
    chance = "" if figures.chance is None else f"; chance {figures.chance:.1f}"
    return f"{many} has {most:.1f} of your {SIDES[name][0][1]} in its top {figures.top_n}{other}{chance}."


def lent(j: Judgement) -> str:
    """How long the card was away from its owner, and what for."""
    lease = j.session.lease
    if lease is None:
        return "How long the card was lent is not known: no lease came with these rows."
    return (
        f"The card was lent for {clock(lease.seconds)}; {rate(lease.efficiency)} % of that went to answers, loads and "
        "warm-up images."
    )


def noted(f: ModelFigures) -> str:
    """p50 and p95 of an arm, for the small print beside its name."""
    if f.latency_p50_s is None or f.latency_p95_s is None:
        return "no answer counted"
    return f"p50 {seconds(f.latency_p50_s)} s, p95 {seconds(f.latency_p95_s)} s"


def _pairs(j: Judgement, metric: str) -> list[Pair]:
    return [pair for pair in j.pairs if pair.metric == metric]


def _against(pairs: Sequence[Pair]) -> str:
    """The arm that all were compared with; candidates of a model are compared with their own."""
    others = list(dict.fromkeys(pair.a for pair in pairs))
    return others[0] if len(others) == 1 else "what each is compared with"


def _than_same(ratio: float) -> str:
    return "as much" if ratio == 1 else side(ratio)


def _as(took: str) -> str:
    return "as" if took == "as much" else "than"
