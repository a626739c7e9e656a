"""How a finding is said: a sentence from its figures, and what to do about it.

One function a code, of the finding alone: a warning's text cannot say what its figures do not. Not here:
when it is a warning (`warnings`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .formats import MINUS, count, percent, plain, plural, probability, rate, score, seconds
from .judgement import Code, Effect, Quiet, Warned
from .warnings import Finding

Values = Mapping[str, Any]


def worded(finding: Finding) -> Warned | Quiet:
    """A warning if the finding has an effect, else a check that found nothing."""
    if finding.effect is None:
        return Quiet(finding.code, QUIET[finding.code](finding, finding.figures), finding.figures)
    detail, todo = SAID[finding.code](finding)
    return Warned(finding.code, finding.model, detail, finding.figures, finding.effect, todo)


EFFECT_TEXT: Mapping[Effect, str] = {
    "inconclusive": "makes the verdict inconclusive",
    "no_recommendation": "stops a recommendation; the pair keeps its word",
    "interval_widened": "widens the interval",
    "rows_left_out": "rows left out of the seconds",
    "none": "none on the verdict",
}


def effect_text(warned: Warned) -> str:
    """What a warning did to the verdict, with its figures where it has some."""
    f: Values = warned.figures
    match warned.code, warned.effect:
        case "cold_load_in_sample", _:
            rise = f["mean_rises"]
            left = plural(f["rows"], "row")
            return f"{left} left out of the seconds; counted, the mean would be {percent(rise)} % higher"
        case "errors", _:
            return f"{plural(f['count'], 'row')} left out of the seconds, and counted as not valid"
        case "contaminated", "rows_left_out":
            return f"{plural(f['marked'], 'row')} left out of the seconds"
        case "wrong_typed_field", _:
            counted = "counted as not valid, " if f["against"] == "the schema" else ""
            return f"{counted}never coerced; no score from a wrong type, so no rank"
        case "truncated_answers", _:
            return "counted as not valid"
        case "ties_at_top", _:
            return "none on seconds; the shared top says little for this arm"
        case "leased_idle", _:
            return "none on the verdict; the card's owner was down that much longer"
        case "drift", "none" if f["can_move"] is not None:
            return f"none: the arms took turns, so it moves the comparison by {percent(f['can_move'])} % at most"
        case "drift", "interval_widened":
            return f"widens the interval: {percent(f['can_move'])} % or more on both sides"
        case "autocorrelation", "interval_widened":
            return f"widens the interval: {f['photos']} photos count as {f['effective']:.0f}"
    return EFFECT_TEXT[warned.effect]


def by_kind(warnings: Sequence[Warned]) -> list[dict[str, Any]]:
    """Warnings of one kind that ask for the same are one entry: what all of them say is said once.

    Keys: `first`, `models`, `details` and `effects` (model or nothing, sentence), `same` (what all of them say).
    """
    kinds: dict[tuple[str, str, str], list[Warned]] = {}
    for warned in warnings:
        kinds.setdefault((warned.code, warned.effect, warned.todo), []).append(warned)
    return [_entry(alike) for alike in kinds.values()]


def _entry(alike: Sequence[Warned]) -> dict[str, Any]:
    details = [re.split(r"(?<=[.]) (?=[A-Z])", warned.detail) for warned in alike]
    same: list[str] = []
    while len(alike) > 1 and all(len(one) > 1 for one in details) and len({one[-1] for one in details}) == 1:
        same = [{one.pop() for one in details}.pop(), *same]
    effects = [effect_text(warned) for warned in alike]
    return {
        "first": alike[0],
        "models": [warned.model for warned in alike if warned.model],
        "details": [(warned.model, " ".join(one)) for warned, one in zip(alike, details, strict=True)],
        "same": " ".join(same),
        "effects": [("", effects[0])]
        if len(set(effects)) == 1
        else [(warned.model, effect) for warned, effect in zip(alike, effects, strict=True)],
    }


# --- warnings ----------------------------------------------------------------------------------------------------
Said = tuple[str, str]


def _wrong_typed(found: Finding) -> Said:
    f: Values = found.figures
    more = f" ({plural(f['fields'] - 1, 'more field')})" if f["fields"] > 1 else ""
    other = "the schema's" if f["against"] == "the schema" else "most answers do"
    return (
        f"{f['count']} of {f['rows']} answers are JSON but hold `{f['field']}`{more} as another type than {other} "
        f"({rate(f['low'])} to {rate(f['high'])} % of such answers in the long run).",
        f"Let the engine enforce the schema for {found.model} (`structured_output` in the catalog), and check it.",
    )


def _ties(found: Finding) -> Said:
    f: Values = found.figures
    return (
        f"{f['group']} photos share score {score(f['score'])}; {f['seats']} of the top {f['top_n']} seats are drawn by "
        "lot among them.",
        "Ask for a finer scale, or for a second key that breaks ties.",
    )


def _drift(found: Finding) -> Said:
    f: Values = found.figures
    way = "slower" if f["shift"] > 0 else "less slow"
    gap = "" if f["smallest_gap"] is None else f"; the smallest gap between arms is {percent(f['smallest_gap'])} %"
    told = (
        f"Drift or slow noise: answers got {percent(f['shift'])} % {way} over this arm (p {probability(f['p'])}){gap}."
    )
    if found.effect == "interval_widened":
        told += " The arms hardly took turns, so drift and arm cannot be told apart."
        return told, "Let the arms take turns: four mirrored blocks or more. Ask what else ran on the card."
    return told, "Ask what else ran on the card, or how warm it got."


def _autocorrelation(found: Finding) -> Said:
    f: Values = found.figures
    told = (
        f"Answers that follow each other resemble each other (first autocorrelation {f['r']:.2f}, warns above "
        f"{f['limit']:.2f}): {f['photos']} photos count as {f['effective']:.0f}."
    )
    if found.effect == "inconclusive":
        told += " Noise this slow leaves no honest interval in this design."
    return told, "Find what slows the card for minutes at a time, or measure more photos in more blocks."


def _cold(found: Finding) -> Said:
    f: Values = found.figures
    source = "The rows say so" if f["recorded"] else "Their seconds say so"
    return (
        f"{plural(f['rows'], 'answer holds', 'answers hold')} the load of the model: up to {seconds(f['slowest_s'])} s,"
        f" {f['times']:.1f} times the arm's median. {source}.",
        "Send one image after each load before counting; a session of `llama-assets` does.",
    )


def _mmproj(found: Finding) -> Said:
    f: Values = found.figures
    return (
        f"The projector is {f['here']}; the incumbent's is {f['incumbent']}. Two things differ between these arms, and "
        "rows cannot part them.",
        f"Name one precision for every model (`mmproj: {f['incumbent']}` in the catalog) and measure again.",
    )


def _engine(found: Finding) -> Said:
    f: Values = found.figures
    return (
        f"The engine is {f['here']}; the incumbent's is {f['incumbent']}. Two things differ between these arms, and "
        "rows cannot part them.",
        "Measure every arm with the same engine image and build.",
    )


def _idle(found: Finding) -> Said:
    f: Values = found.figures
    return (
        f"{count(round(f['idle_s']))} of {count(round(f['lease_s']))} leased seconds ({percent(f['share'])} %) went "
        "neither to answers nor to loads.",
        "Fetch and resize photos before the lease; keep one request in flight.",
    )


def _too_few(found: Finding) -> Said:
    f: Values = found.figures
    if "effective" in f:
        told = f"{f['photos']} photos count as {f['effective']:.1f}: answers that follow each other are too alike."
        return told + f" A verdict needs {f['fewest_effective']:.0f}.", "Measure more photos, in more blocks."
    told = f"{plural(f['photos'], 'photo')} answered; a verdict needs {f['fewest']}."
    return told, f"Measure {f['fewest']} photos or more; 100 find a difference of a tenth."


def _contaminated(found: Finding) -> Said:
    f: Values = found.figures
    if "run" in f:
        return (
            f"{f['run']} answers in a row took more than {f['times']:.1f} times the arm's median; nothing says who "
            "used the card.",
            "It was measured under a lease, so ask what else ran on the machine, or how warm the card got."
            if f["leased"]
            else "Measure under a lease; its session watches who else uses the card.",
        )
    told = f"{f['marked']} of {f['rows']} rows ({percent(f['share'])} %) are marked as disturbed: {f['reason']}."
    if found.effect == "inconclusive":
        told += f" Above {percent(f['limit'])} % the rest is no sample of an undisturbed card."
    return told, "Keep others off the card and off the engine while it is measured."


def _truncated(found: Finding) -> Said:
    f: Values = found.figures
    return (
        f"{f['count']} of {f['rows']} answers ended at the limit of tokens ({rate(f['low'])} to {rate(f['high'])} % in "
        "the long run).",
        "Raise `max_tokens`, or bound the answer's lists and texts in the schema.",
    )


def _errors(found: Finding) -> Said:
    f: Values = found.figures
    return (
        f"{f['count']} of {f['rows']} requests got no answer ({rate(f['low'])} to {rate(f['high'])} % in the long run)"
        f"; most often: {f['kind']}.",
        "Look at the errors in the rows, and at the engine's log.",
    )


SAID: Mapping[Code, Callable[[Finding], Said]] = {
    "wrong_typed_field": _wrong_typed,
    "ties_at_top": _ties,
    "drift": _drift,
    "autocorrelation": _autocorrelation,
    "cold_load_in_sample": _cold,
    "mixed_mmproj": _mmproj,
    "mixed_engine": _engine,
    "leased_idle": _idle,
    "too_few_rows": _too_few,
    "contaminated": _contaminated,
    "truncated_answers": _truncated,
    "errors": _errors,
}


# --- quiet checks ------------------------------------------------------------------------------------------------
def _no_loads(_: Finding, f: Values) -> str:
    if f["loads"] is None:
        return "no first answer of a load stands out"
    return f"{plural(f['loads'], 'load')} recorded, none in the sample"


QUIET: Mapping[Code, Callable[[Finding, Values], str]] = {
    "wrong_typed_field": lambda _, __: "no answer holds a field of another type",
    "ties_at_top": lambda x, f: f"largest group at the cut: {f['group']} photos for {f['seats']} seats ({x.model})",
    "drift": lambda x, f: (
        f"largest shift over an arm {'+' if f['shift'] >= 0 else MINUS}{percent(f['shift'])} % ({x.model}, "
        f"p {probability(f['p'])}); warns from 5 % and p < {f['p_limit']:.4f}"
    ),
    "autocorrelation": lambda _, f: f"first autocorrelation {plain(f['r'])}; warns above {plain(f['limit'])}",
    "cold_load_in_sample": _no_loads,
    "mixed_mmproj": lambda _, f: f"{f['here']} in every arm",
    "mixed_engine": lambda _, f: (
        f"{f['here']} in every arm" + (f" but those that try {f['tried']}" if f.get("tried") else "")
    ),
    "leased_idle": lambda _, f: (
        f"{percent(f['share'])} % of {count(round(f['lease_s']))} leased seconds; warns above 10 % and 60 s"
    ),
    "too_few_rows": lambda _, f: f"{plural(f['photos'], 'common photo')}; warns below {f['fewest']}",
    "contaminated": lambda _, f: "no row is marked" + ("" if f["watched"] else ", but nobody watched the card"),
    "truncated_answers": lambda _, __: "no answer ended at the limit of tokens",
    "errors": lambda _, f: f"all {count(f['rows'])} requests were answered",
}
