"""The report's section "Does the ranker agree with you?": its figures as SVG, and what stands around them.

One axis of AUC from 0 to 1 for all arms, the line at 0.5 is chance; boxes are the top N, filled as far as it is liked;
a difference clear of the line at 0 is better or worse. Drawn with the parts of `charts`. Not here: other sections'
figures (`charts`, `timeline`), sentences (`truth_sentences`). No photo is named or shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from . import charts, formats
from .charts import Scale, line, mark, svg, word
from .ground_truth import SIDES
from .headings import liked
from .judgement import Judgement, TruthFigures, TruthName, TruthPair
from .truth_sentences import area, model_sentence, pair_sentence, rated_line

AREA = Scale(0, 1)
HEIGHT, MIDDLE = 30.0, 15.0


def section(j: Judgement, look: Mapping[str, int]) -> dict[str, Any]:
    """What the template `truth.html.j2` shows; `truths` is empty where no ratings came."""
    gap = gap_scale(j)
    return {
        "truths": [
            {
                "name": name,
                "heading": liked(name, one),
                "rated": rated_line(name, one),
                "liked": SIDES[name][0][1],
                "top_n": next(iter(one.models.values())).top_n,
                "arms": [_arm(name, model, figures, look[model]) for model, figures in one.models.items()],
                "pairs": [_pair(pair, look[pair.b], gap) for pair in one.pairs],
                "level": formats.level(one.pairs[0].level) if one.pairs else None,
                "stars": name == "stars",
            }
            for name, one in j.truth.items()
        ],
        "area_axis": area_axis(),
        "gap_axis": gap_axis(gap),
    }


def _arm(name: TruthName, model: str, figures: TruthFigures, look: int) -> dict[str, Any]:
    known = figures.low is not None and figures.high is not None
    precision, blind = figures.average_precision, figures.chance_average_precision
    p = "" if figures.p is None else f", p {formats.probability(figures.p)}"
    return {
        "model": model,
        "auc": "not known" if figures.auc is None else f"AUC {area(figures.auc)}",
        "interval": f"{area(figures.low or 0)} to {area(figures.high or 0)}" if known else "",
        "photos": formats.plural(figures.n, "photo"),
        "figure": area_figure(name, model, figures, look),
        "hits": "not known" if figures.hits is None else f"{figures.hits:.1f} of {figures.top_n}",
        "chance": "" if figures.chance is None else f"chance {figures.chance:.1f}{p}",
        "precision": "" if precision is None else f"AP {precision:.2f}, chance {blind or 0:.2f}",
        "tau": _tau(figures),
        "seats": seats(name, model, figures),
    }


def _tau(figures: TruthFigures) -> str:
    if figures.tau_b is None:
        return ""
    low, high = figures.tau_b_low, figures.tau_b_high
    run = "" if low is None or high is None else f" ({formats.signed(low)} to {formats.signed(high)})"
    return f"tau-b {formats.signed(figures.tau_b)}{run}"


def _pair(pair: TruthPair, look: int, scale: Scale) -> dict[str, Any]:
    known = pair.difference is not None and pair.low is not None and pair.high is not None
    return {
        "model": pair.b,
        "word": pair.verdict,
        "note": pair.note,
        "change": formats.signed(pair.difference or 0) if known else "not known",
        "interval": f"{formats.signed(pair.low or 0)} to {formats.signed(pair.high or 0)}" if known else "",
        "figure": gap_figure(pair, look, scale),
    }


def area_figure(name: TruthName, model: str, figures: TruthFigures, look: int) -> Markup:
    """An arm's AUC with its interval; the line is chance."""
    body = [line("0", MIDDLE, "100%", MIDDLE, "rule"), line(AREA.pc(0.5), 3, AREA.pc(0.5), 27, "ink1")]
    if figures.auc is not None and figures.low is not None and figures.high is not None:
        body += _between(AREA, figures.low, figures.high, look)
        body.append(mark(AREA.pc(figures.auc), MIDDLE, look, big=True))
    return svg(HEIGHT, f"AUC of {model}, {SIDES[name][0][1]}", model_sentence(name, model, figures) + ".", body)


def seats(name: TruthName, model: str, figures: TruthFigures) -> Markup:
    """The arm's top N: as many boxes filled as it has liked photos on average; the bar is chance."""
    body, told = charts.seats(figures.top_n, figures.hits, figures.chance), "too few photos"
    if figures.hits is not None and figures.chance is not None:
        told = f"{figures.hits:.1f} of {figures.top_n}, {figures.chance:.1f} by chance"
    return svg(HEIGHT, f"{SIDES[name][0][1]} in the top {figures.top_n} of {model}", told + ".", body)


def gap_scale(j: Judgement) -> Scale:
    """One axis for all candidates and truths, as far to both sides as an interval reaches."""
    ends = [abs(end or 0) for one in j.truth.values() for pair in one.pairs for end in (pair.low, pair.high)]
    far = min(1.0, 1.05 * max([0.28, *ends]))
    return Scale(-far, far)


def gap_figure(pair: TruthPair, look: int, scale: Scale) -> Markup:
    """A candidate's AUC less the incumbent's; clear of the line is better or worse."""
    body = [line("0", MIDDLE, "100%", MIDDLE, "rule"), line(scale.pc(0), 0, scale.pc(0), HEIGHT, "ink1")]
    if pair.difference is not None and pair.low is not None and pair.high is not None:
        body += _between(scale, pair.low, pair.high, look)
        body.append(mark(scale.pc(pair.difference), MIDDLE, look, big=True))
    return svg(HEIGHT, f"{pair.b} against {pair.a}, {pair.truth}", pair_sentence(pair) + ".", body)


def _between(scale: Scale, low: float, high: float, look: int) -> list[str]:
    ends = [line(x, MIDDLE - 5, x, MIDDLE + 5, f"thin a{look}") for x in (scale.pc(low), scale.pc(high))]
    return [line(scale.pc(low), MIDDLE, scale.pc(high), MIDDLE, f"thin a{look}"), *ends]


def area_axis() -> Markup:
    """0 to 1; 0.5 is what a blind order gives."""
    body = [line("0", 0, "100%", 0, "edge")]
    for tick, text, anchor in ((0.0, "0", "start"), (0.5, "0.5 chance", "middle"), (1.0, "1", "end")):
        body += [line(AREA.pc(tick), 0, AREA.pc(tick), 5, "edge"), word(AREA.pc(tick), 18, text, "dim", anchor)]
    return svg(22, "Axis of AUC", "0.5 is chance, 1 is every photo you like first.", body)


def gap_axis(scale: Scale) -> Markup:
    """A difference of AUC."""
    body = [line("0", 0, "100%", 0, "edge")]
    step = 0.2 if scale.high < 0.7 else 0.4
    for tick in (-2 * step, -step, 0.0, step, 2 * step):
        if abs(tick) > scale.high:
            continue
        text = f"{'+' if tick > 0 else formats.MINUS}{abs(tick):.1f}" if tick else "same"
        body += [line(scale.pc(tick), 0, scale.pc(tick), 5, "edge"), word(scale.pc(tick), 18, text)]
    ends = [word("0", 34, "← agrees less", "dim", "start"), word("100%", 34, "agrees more →", "dim", "end")]
    return svg(38, "Axis of the difference of AUC", "Right of same agrees more with you.", body + ends)
