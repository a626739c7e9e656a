"""The judgement in words, made from its numbers only; every output uses these sentences.

"41 % less time per photo": never "faster" (0.59 of the time is 1.7 times as fast, and both are read as "faster by"),
never "significant" or "slightly". The word of a verdict names its metric. Not here: layout (`text`, `report`), warnings
(`warning_texts`).
"""

from __future__ import annotations

from .formats import clock, level, percent, plural, points, rate, seconds, side, signed_points, span
from .judgement import Judgement, ModelFigures, Pair, Rate
from .truth_sentences import decided
from .unjudged import many

METRIC = {"seconds": "seconds", "valid_answers": "valid answers"}


def headline(j: Judgement) -> str:
    """The verdict in one sentence."""
    if len(j.models) == 1:
        return _alone(j)
    on_seconds = [pair for pair in j.pairs if pair.metric == "seconds"]
    known = [pair for pair in on_seconds if pair.estimate is not None]
    if not known:
        most = max(on_seconds, key=lambda pair: pair.n)
        return f"Inconclusive: {most.a} and {most.b} have {plural(most.n, 'photo')} that both answered."
    least = min(known, key=lambda pair: pair.estimate or 0)
    if j.stops:
        codes = ", ".join(dict.fromkeys(warned.code for warned in j.stops))
        return f"No recommendation: {_took(least)} ({_run(least)}), but more than the model differs ({codes})."
    if j.recommendation and j.recommendation.model != j.incumbent:
        return _better(j, j.recommendation.model)
    if all(pair.verdict == "inconclusive" for pair in on_seconds):
        forced = _forced(j, least)
        if forced:
            return f"Inconclusive: {_took(least)} ({_run(least)}), but {forced} allows no verdict."
        return f"Inconclusive: {_took(least)}, but these {plural(least.n, 'photo')} allow anything from {_run(least)}."
    return f"Keep {j.incumbent}: {j.recommendation.reason if j.recommendation else 'there is no other arm'}."


def follow_up(j: Judgement) -> list[str]:
    """Sentences under the headline: what it left out about each candidate, and what a person's ratings decide."""
    told = j.recommendation.model if j.recommendation else None
    seconds_pairs = [pair for pair in j.pairs if pair.metric == "seconds" and pair.estimate is not None]
    open_ones = all(pair.verdict == "inconclusive" for pair in seconds_pairs) and not j.stops
    least = min(seconds_pairs, key=lambda pair: pair.estimate or 0, default=None) if open_ones else None
    found = []
    for model in j.candidates:
        on_seconds, on_valid = j.pair(model, "seconds"), j.pair(model, "valid_answers")
        if on_seconds and model != told and on_seconds.estimate is not None:
            if on_seconds != least:  # that one is the headline
                found.append(pair_sentence(j, on_seconds) + ".")
            if on_seconds.verdict == "inconclusive" and not _forced(j, on_seconds):
                found.append(need_sentence(on_seconds) + ".")
        if (
            on_valid
            and on_valid.verdict in ("better", "worse")
            and not (model == told and on_valid.verdict == "better")
        ):
            found.append(pair_sentence(j, on_valid) + ".")
    return [*found, *decided(j)]


def pair_sentence(j: Judgement, pair: Pair) -> str:
    """One pair in a sentence, without its full stop; the word is the verdict's, every figure the pair's."""
    note = f" ({pair.note})" if pair.note else ""
    if pair.estimate is None or pair.low is None or pair.high is None or pair.low_90 is None or pair.high_90 is None:
        return (
            f"{pair.b} against {pair.a} is inconclusive on {METRIC[pair.metric]}: {plural(pair.n, 'photo')} in common"
        )
    if pair.metric == "valid_answers":
        return _valid_sentence(pair)
    now, interval = f"{side(pair.estimate)} time per photo", f"{level(pair.level)} % interval"
    match pair.verdict:
        case "better" | "worse":
            return f"{pair.b} is {pair.verdict} than {pair.a} on seconds{note}: {now} ({interval} {_run(pair)})"
        case "equivalent":
            run = span(pair.low_90, pair.high_90)
            return f"{pair.b} is equivalent to {pair.a} on seconds within 5 %{note}: {now} (90 % interval {run})"
    against = f"{pair.b} against {pair.a} is inconclusive on seconds{note}: {now}"
    forced = _forced(j, pair)
    if forced:
        return f"{against} ({interval} {_run(pair)}), but {forced} allows no verdict"
    return f"{against}, but the {interval} runs from {_run(pair)}"


def need_sentence(pair: Pair) -> str:
    """What would settle an inconclusive pair."""
    if pair.allowance:
        return "More photos would not help: the arms have to take turns"
    return f"With this noise {many(pair)} would settle a difference of this size four times in five"


def recommendation_text(j: Judgement) -> tuple[str, str]:
    """What to do, and why: the rule's outcome, which is not the verdict."""
    if j.stops:
        codes = ", ".join(dict.fromkeys(warned.code for warned in j.stops))
        return "Measure again", f"{j.incumbent} stays; {codes} has to go first"
    if j.recommendation is None:
        return "None", "there is one arm, and nothing to compare it with"
    if j.recommendation.model == j.incumbent:
        return f"Keep {j.incumbent}", j.recommendation.reason
    return f"Serve {j.recommendation.model}", j.recommendation.reason


def against_text(j: Judgement) -> str:
    """What the plots and tables of pairs compare with: the incumbent, and a candidate with its own model."""
    others = sorted({pair.a for pair in j.pairs} - {j.incumbent})
    return f"{j.incumbent}, candidates against their own model" if others else j.incumbent


def session_line(j: Judgement) -> str:
    """`3 arms, 100 photos, 4 blocks`."""
    parts = [plural(len(j.models), "arm"), plural(j.session.photos, "photo")]
    if j.session.blocks:
        parts.append(plural(j.session.blocks, "block"))
    return ", ".join(parts)


def lease_line(j: Judgement) -> str | None:
    """`card lent 31 min 41 s, 96.3 % of it at work`; None where the lease is not known."""
    lease = j.session.lease
    return f"card lent {clock(lease.seconds)}, {rate(lease.efficiency)} % of it at work" if lease else None


def valid_text(figures: ModelFigures) -> str:
    """`95 of 100`; `not known`."""
    valid = figures.schema_valid
    return "not known" if valid.count is None else f"{valid.count} of {figures.rows}"


def rate_text(found: Rate, rows: int) -> tuple[str, str]:
    """(`95 of 100`, `88.8 to 97.8 %`); (`not known`, nothing) where nobody can say."""
    if found.count is None:
        return "not known", ""
    known = found.low is not None and found.high is not None
    return f"{found.count} of {rows}", f"{rate(found.low or 0)} to {rate(found.high or 0)} %" if known else ""


def enforced_text(figures: ModelFigures) -> str:
    """What the session's probe of the schema found."""
    return {True: "yes", False: "no", None: "not probed"}[figures.enforced]


def failures_text(figures: ModelFigures) -> str:
    """`3 wrong type, 2 truncated`, most first; `none` only where every row is known to be valid."""
    most_first = sorted(figures.failures.items(), key=lambda found: -found[1])
    if most_first:
        return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in most_first)
    return "none" if figures.schema_valid.count == figures.rows else "not known"


def tie_sentence(j: Judgement, model: str) -> str:
    """What the scores settle of the top N."""
    tie = j.models[model].tie
    top = j.ranking[0].top_n if j.ranking else 10
    if tie is None:
        return f"Fewer than {top} photos have a score."
    if tie.group == tie.seats:
        return f"The scores alone settle the top {top}."
    return f"{tie.seats} of the top {top} seats go by lot to {tie.group} photos tied at {tie.score:g}."


def drift_sentence(j: Judgement) -> str:
    """What the test of drift found."""
    for warned in j.warnings:
        if warned.code == "drift":
            return f"{warned.model}: {warned.detail}"
    for quiet in j.quiet:
        if quiet.code == "drift":
            return f"No drift beyond noise: {quiet.detail}."
    return "Too few answers to look for drift."


def _alone(j: Judgement) -> str:
    model, figures = next(iter(j.models.items()))
    if figures.latency_p50_s is None:
        return (
            f"{model} answered {figures.ok} of {plural(figures.rows, 'photo')}; nothing can be said about its seconds."
        )
    valid = "" if figures.schema_valid.count is None else f", {valid_text(figures)} answers schema-valid"
    return f"{model} takes {seconds(figures.latency_p50_s)} s at the median{valid}; there is no other arm to compare."


def _better(j: Judgement, model: str) -> str:
    on_seconds, on_valid = j.pair(model, "seconds"), j.pair(model, "valid_answers")
    here, there = j.models[model], j.models[j.incumbent]
    if on_seconds is None or on_seconds.estimate is None:
        return f"Serve {model}."  # the rule recommends no candidate without seconds
    if here.schema_valid.count == there.schema_valid.count:
        valid = f"as many schema-valid answers ({valid_text(here)})"
    else:
        valid = f"{valid_text(here)} answers schema-valid (incumbent {valid_text(there)})"
    if on_seconds.verdict == "better":
        now = f"{side(on_seconds.estimate)} time per photo ({_run(on_seconds)})"
        return f"{model} is better than {j.incumbent}: {now}, and {valid}."
    difference = points(on_valid.estimate) if on_valid and on_valid.estimate is not None else ""
    now = f"{side(on_seconds.estimate)} time per photo, equivalent within 5 %"
    return f"{model} is better than {j.incumbent} on valid answers: {valid}, {difference}; {now}."


def _valid_sentence(pair: Pair) -> str:
    estimate, low, high = pair.estimate or 0.0, pair.low or 0.0, pair.high or 0.0
    run = f"{level(pair.level)} % interval {signed_points(low)} to {signed_points(high)}"
    match pair.verdict:
        case "better" | "worse":
            return f"{pair.b} is {pair.verdict} than {pair.a} on valid answers: {points(estimate)} ({run})"
        case "equivalent":
            run = f"90 % interval {signed_points(pair.low_90 or 0.0)} to {signed_points(pair.high_90 or 0.0)}"
            return f"{pair.b} is equivalent to {pair.a} on valid answers within 5 points: {points(estimate)} ({run})"
    return f"{pair.b} against {pair.a} is inconclusive on valid answers: {points(estimate)} ({run})"


def _forced(j: Judgement, pair: Pair) -> str | None:
    """The warning that allows this pair no verdict."""
    codes = [w.code for w in j.warnings if w.effect == "inconclusive" and w.model in (pair.a, pair.b)]
    return f"`{codes[0]}`" if codes else None


def _took(pair: Pair) -> str:
    ratio = pair.estimate or 1.0
    if ratio == 1:
        return f"{pair.b} took as long per photo as {pair.a}"
    return f"{pair.b} took {percent(ratio - 1)} % {'less' if ratio < 1 else 'more'} time per photo than {pair.a}"


def _run(pair: Pair) -> str:
    return span(pair.low or 1.0, pair.high or 1.0)
