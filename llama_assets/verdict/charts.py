"""The report's figures as SVG, without script and without scaling.

x is in percent of the figure's width, y and text in CSS pixels, and there is no viewBox: a label has 12 px on a phone
and on paper alike. An arm is a shape before it is a colour: circle, triangle, square, diamond, triangle down; the first
is the incumbent's, in grey. Here: figures of one pair, one arm, two rankings, the lease. Not here: the session in time
(`timeline`), text around a figure (`report`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from markupsafe import Markup, escape

from .evidence import Floats
from .formats import MINUS, clock, percent, plain, seconds
from .judgement import Judgement, Lease, Pair, Ranking
from .sentences import pair_sentence, tie_sentence

ARMS = 5  # looks that stay apart; a sixth arm looks like the second again, beside its name or alone in its panel
PERCENT_TICKS = (0, -50, 50, -20, 20, 100, -10, 10, -30, -70, 30, -40, 200, -90, 400)  # the first that fit are drawn


class Scale:
    """Values to percent of the width."""

    def __init__(self, low: float, high: float, log: bool = False) -> None:
        self.log = log
        self.low, self.high = self._seen(low), self._seen(high)
        if self.high <= self.low:
            self.high = self.low + 1

    def _seen(self, value: float) -> float:
        return math.log(value) if self.log else value

    def at(self, value: float) -> float:
        """Where a value lies, 0 to 100, clipped to the edges."""
        return min(100.0, max(0.0, 100 * (self._seen(value) - self.low) / (self.high - self.low)))

    def pc(self, value: float) -> str:
        """The same as an SVG length."""
        return f"{self.at(value):.2f}%"


def look(index: int) -> int:
    """The look of the arm at this place of `Judgement.models`."""
    return index if index < ARMS else 1 + (index - 1) % (ARMS - 1)


def svg(height: float, title: str, description: str, body: Iterable[str], css: str = "") -> Markup:
    """A figure that says in words what it shows."""
    told = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    label = escape(f"{title}. {description}")
    start = f'<svg class="fig {css}" width="100%" height="{height:g}" role="img" aria-label="{label}">'
    return Markup(start + told + "".join(body) + "</svg>")  # all foreign text went through escape


def line(x1: str, y1: float, x2: str, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{x1}" y1="{y1:g}" x2="{x2}" y2="{y2:g}" class="{css}"/>'


def box(x: str, y: float, width: str, height: float, css: str, fill: str = "") -> str:
    """A rectangle; `fill` names a pattern."""
    filled = f' fill="url(#{fill})"' if fill else ""
    return f'<rect x="{x}" y="{y:g}" width="{width}" height="{height:g}" class="{css}"{filled}/>'


def word(x: str, y: float, text: object, css: str = "", anchor: str = "middle") -> str:
    """A label."""
    return f'<text x="{x}" y="{y:g}" text-anchor="{anchor}" class="{css}">{escape(str(text))}</text>'


def mark(x: str, y: float, arm: int, big: bool = False) -> str:
    """An arm's shape."""
    size = "M" if big else "m"
    return f'<use href="#{size}{arm}" x="{x}" y="{y:.1f}" class="a{arm}{" big" if big else ""}"/>'


def anchor_of(percent_of_width: float) -> str:
    """Labels near an edge grow inwards."""
    return "start" if percent_of_width < 7 else "end" if percent_of_width > 93 else "middle"


# --- against the incumbent ------------------------------------------------------------------------------------------
def seconds_scale(j: Judgement) -> Scale:
    """One logarithmic axis for all candidates, wide enough for the margin and every interval."""
    pairs = [pair for pair in j.pairs if pair.metric == "seconds" and pair.low and pair.high]
    low = min([0.88, *(0.95 * (pair.low or 1) for pair in pairs)])
    return Scale(low, max([1.12, *(1.05 * (pair.high or 1) for pair in pairs)]), log=True)


def forest(j: Judgement, pair: Pair, arm: int, scale: Scale) -> Markup:
    """Thin: the interval a better or worse is read from. Thick: the 90 % one. Grey: the margin of equivalence."""
    height, middle = 44, 22.0
    body = [box(scale.pc(1 / 1.05), 0, f"{scale.at(1.05) - scale.at(1 / 1.05):.2f}%", height, "band")]
    body.append(line(scale.pc(1), 0, scale.pc(1), height, "ink1"))
    if pair.low and pair.high and pair.low_90 and pair.high_90 and pair.estimate:
        body += _interval(scale.pc(pair.low), scale.pc(pair.high), middle, arm)
        body.append(line(scale.pc(pair.low_90), middle, scale.pc(pair.high_90), middle, f"thick a{arm}"))
        body.append(mark(scale.pc(pair.estimate), middle, arm, big=True))
    return svg(height, f"{pair.b} against {pair.a}, seconds per photo", pair_sentence(j, pair), body)


def _interval(low: str, high: str, y: float, arm: int) -> list[str]:
    ends = [line(x, y - 5, x, y + 5, f"thin a{arm}") for x in (low, high)]
    return [line(low, y, high, y, f"thin a{arm}"), *ends]


def seconds_axis(scale: Scale) -> Markup:
    """Labelled in percent; labels that need room are hidden on a phone."""
    body = [line("0", 0, "100%", 0, "edge")]
    drawn: list[tuple[float, float]] = []
    narrow: list[tuple[float, float]] = []
    for tick in PERCENT_TICKS:
        value = 1 + tick / 100
        if not scale.low <= math.log(value) <= scale.high:
            continue
        at = scale.at(value)
        room, phone_room = _label(at, 12), _label(at, 17)
        if any(_meet(room, other) for other in drawn):
            continue
        wide = any(_meet(phone_room, other) for other in narrow)
        drawn.append(room)
        narrow += [] if wide else [phone_room]
        text = f"{'+' if tick > 0 else MINUS}{abs(tick)} %" if tick else "same"
        body += [line(scale.pc(value), 0, scale.pc(value), 5, "edge")]
        body += [word(scale.pc(value), 18, text, "wide" if wide else "", anchor_of(at))]
    ends = [word("0", 34, "← less time", "dim", "start"), word("100%", 34, "more time →", "dim", "end")]
    return svg(38, "Axis of seconds", "Change of seconds per photo, logarithmic; left of same is less.", body + ends)


def _label(at: float, width: float) -> tuple[float, float]:
    """From where to where a label reaches, in percent of the figure's width."""
    left = {"start": at, "end": at - width, "middle": at - width / 2}[anchor_of(at)]
    return left, left + width


def _meet(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


POINTS = Scale(-15, 15)


def valid_forest(j: Judgement, pair: Pair, arm: int) -> Markup:
    """As `forest`, of the difference of valid answers; what is off the axis stops at the edge, the text has it."""
    height, middle, scale = 44, 22.0, POINTS
    body = [box(scale.pc(-5), 0, f"{scale.at(5) - scale.at(-5):.2f}%", height, "band")]
    body.append(line(scale.pc(0), 0, scale.pc(0), height, "ink1"))
    if pair.low is not None and pair.high is not None and pair.estimate is not None:
        body += _interval(scale.pc(100 * pair.low), scale.pc(100 * pair.high), middle, arm)
        if pair.low_90 is not None and pair.high_90 is not None:
            ends = scale.pc(100 * pair.low_90), scale.pc(100 * pair.high_90)
            body.append(line(ends[0], middle, ends[1], middle, f"thick a{arm}"))
        body.append(mark(scale.pc(100 * pair.estimate), middle, arm, big=True))
    return svg(height, f"{pair.b} against {pair.a}, valid answers", pair_sentence(j, pair), body)


def valid_axis() -> Markup:
    """Percentage points."""
    body = [line("0", 0, "100%", 0, "edge")]
    for tick in (-10, -5, 0, 5, 10):
        text = f"{'+' if tick > 0 else MINUS}{abs(tick)}" if tick else "same"
        body += [line(POINTS.pc(tick), 0, POINTS.pc(tick), 5, "edge"), word(POINTS.pc(tick), 18, text)]
    ends = [word("0", 34, "← fewer valid", "dim", "start"), word("100%", 34, "more valid →", "dim", "end")]
    return svg(38, "Axis of valid answers", "Difference in percentage points; right of same is more.", body + ends)


# --- one arm --------------------------------------------------------------------------------------------------------
class Seconds:
    """One axis of seconds for all arms, from the fastest answer to where the slowest hundredth begins."""

    def __init__(self, j: Judgement) -> None:
        arms = j.evidence.arms
        self.of: dict[str, Floats] = {model: arms[model].seconds[arms[model].counted] for model in j.models}
        everything = np.concatenate(list(self.of.values()))
        low, high = (float(everything.min()), float(np.quantile(everything, 0.99))) if len(everything) else (0.0, 1.0)
        self.step = nice((high - low) / 36)
        self.low = math.floor(low / self.step) * self.step
        self.high = self.low + self.step * max(4, math.ceil((high * 1.04 - self.low) / self.step))
        self.scale = Scale(self.low, self.high)
        edges = np.arange(self.low, self.high + self.step / 2, self.step)
        self.counts = {model: np.histogram(x, edges)[0] for model, x in self.of.items()}
        self.edges = edges
        self.peak = max(int(counts.max()) for counts in self.counts.values()) or 1

    def beyond(self, model: str) -> int:
        """Answers slower than the axis."""
        return int((self.of[model] > self.edges[-1]).sum())


def nice(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    if step <= 0:
        return 0.01
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= step * 0.999)


def distribution(j: Judgement, model: str, arm: int, axis: Seconds, last: bool) -> Markup:
    """Answers by seconds; tall line p50, short line p95, both named in the heading."""
    figures, base, tall, scale = j.models[model], 58.0, 48.0, axis.scale
    body = [line("0", base, "100%", base, "rule")]
    width = max(0.2, scale.at(axis.low + axis.step) - 0.15)
    for edge, count in zip(axis.edges[:-1], axis.counts[model], strict=True):
        if count:
            height = tall * float(count) / axis.peak
            body.append(box(scale.pc(float(edge)), base - height, f"{width:.2f}%", height, f"bar a{arm}"))
    for value, height in ((figures.latency_p50_s, tall + 8), (figures.latency_p95_s, 20.0)):
        if value is not None:
            body.append(line(scale.pc(value), base - height, scale.pc(value), base, "ink2"))
    if last:
        body += _seconds_ticks(axis, base)
    text = "No answer counted."
    if figures.latency_p50_s is not None and figures.latency_p95_s is not None:
        text = f"p50 {seconds(figures.latency_p50_s)} s, p95 {seconds(figures.latency_p95_s)} s."
    return svg(base + (20 if last else 2), f"Distribution of seconds, {model}", text, body)


def _seconds_ticks(axis: Seconds, base: float) -> list[str]:
    step = nice((axis.high - axis.low) / 6)
    first = math.ceil(axis.low / step - 1e-9) * step
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    body = []
    for tick in np.arange(first, axis.high + step / 100, step).tolist():
        body.append(word(axis.scale.pc(tick), base + 16, f"{tick:.{places}f} s", "dim", anchor_of(axis.scale.at(tick))))
    return body


def scores(j: Judgement, model: str, arm: int) -> Markup | None:
    """Photos by score. Solid: in the top N for certain; hatched: tied at the cut; pale: out. None without scores."""
    everything = np.concatenate([a.score[np.isfinite(a.score)] for a in j.evidence.arms.values()])
    own = j.evidence.arms[model].score
    if not np.isfinite(own).any():
        return None
    names = _score_axis(j, everything)
    tie = j.models[model].tie
    counts = [int((own == value).sum()) for value in names]
    peak = max(int((a.score == value).sum()) for a in j.evidence.arms.values() for value in names) or 1
    base, slot = 112.0, 100 / len(names)
    body = [line("0", base, "100%", base, "edge")]
    for place, (value, count) in enumerate(zip(names, counts, strict=True)):
        x, height = place * slot, (base - 16) * count / peak
        kind = "out" if tie is None or value < tie.score else "tied" if value == tie.score else "in"
        if tie is not None and value == tie.score and tie.group == tie.seats:
            kind = "in"
        if count:
            fill = f"hatch{arm}" if kind == "tied" else ""
            body.append(
                box(f"{x + 0.08 * slot:.2f}%", base - height, f"{0.84 * slot:.2f}%", height, f"bar {kind} a{arm}", fill)
            )
            if slot >= 4:
                body.append(
                    word(f"{x + slot / 2:.2f}%", base - height - 4, count, "dim" if kind == "out" else "strong")
                )
        if slot >= 4 or place % 10 == 0:
            body.append(word(f"{x + slot / 2:.2f}%", base + 14, f"{value:g}", "dim"))
    told = ", ".join(f"{value:g}: {count}" for value, count in zip(names, counts, strict=True) if count)
    return svg(base + 18, f"Scores of {model}", f"Photos by score: {told}. {tie_sentence(j, model)}", body)


def _score_axis(j: Judgement, everything: Floats) -> list[float]:
    """Every integer of the schema's range, or of the range in use; the values themselves if they are no integers."""
    used = np.unique(everything)
    if not np.equal(np.mod(used, 1), 0).all() or used[-1] - used[0] > 100:
        return [float(value) for value in used]
    low, high = int(used[0]), int(used[-1])
    question, key = j.evidence.question, j.evidence.ranking_key
    if question and key:
        asked = question.schema.get("properties", {}).get(key, {})
        low, high = min(low, int(asked.get("minimum", low))), max(high, int(asked.get("maximum", high)))
    return [float(value) for value in range(low, high + 1)]


# --- two rankings ---------------------------------------------------------------------------------------------------
def tau(r: Ranking) -> Markup:
    """tau-b between two arms with its interval, from 0 to 1."""
    scale = Scale(-0.1 if (r.low or r.tau_b or 0) > -0.1 else -1, 1)
    body = [line("0", 15, "100%", 15, "rule"), line(scale.pc(0), 3, scale.pc(0), 27, "ink1")]
    text = "one arm gave every photo the same score"
    if r.tau_b is not None:
        text = f"tau-b {plain(r.tau_b)}"
        if r.low is not None and r.high is not None:
            body += _interval(scale.pc(r.low), scale.pc(r.high), 15, 9)
            text += f", 95 % interval {plain(r.low)} to {plain(r.high)}"
        body.append(mark(scale.pc(r.tau_b), 15, 9, big=True))
    return svg(30, f"Rank agreement of {r.a} and {r.b}", text + ".", body)


def seats(top_n: int, taken: float | None, chance: float | None) -> list[str]:
    """As many boxes as the top has photos, filled up to `taken` of them; the bar stands at `chance`."""
    body, slot = [], 100 / top_n
    for seat in range(top_n):
        x, filled = (seat + 0.06) * slot, min(1.0, max(0.0, (taken or 0.0) - seat))
        body.append(box(f"{x:.2f}%", 8, f"{0.88 * slot:.2f}%", 14, "seat"))
        if filled:
            body.append(box(f"{x:.2f}%", 8, f"{0.88 * slot * filled:.2f}%", 14, "seat taken"))
    if taken is not None and chance is not None:
        at = f"{slot * chance:.2f}%"
        body += [line(at, 2, at, 28, "halo"), line(at, 2, at, 28, "ink2")]
    return body


def overlap(r: Ranking) -> Markup:
    """The photos two top N share, expected over ties drawn by lot; the bar is chance."""
    body, text = seats(r.top_n, r.expected_overlap, r.chance_overlap), "too few photos"
    if r.expected_overlap is not None and r.chance_overlap is not None:
        text = f"{r.expected_overlap:.1f} of {r.top_n} expected, {r.chance_overlap:.1f} by chance"
    return svg(30, f"Shared top {r.top_n} of {r.a} and {r.b}", text + ".", body)


# --- the lease ------------------------------------------------------------------------------------------------------
def lease_parts(lease: Lease) -> list[tuple[str, float, str]]:
    """(what, seconds, look) of the leased time."""
    parts = [("answering", lease.answering_s, "l0"), ("loading", lease.loading_s, "l1")]
    parts += [("warm-up images", lease.warm_up_s, "l2"), ("neither", lease.neither_s, "l3")]
    return [part for part in parts if part[1] > 0]


def lease_bar(lease: Lease) -> Markup:
    """Where the leased seconds went, as one stacked bar."""
    parts = lease_parts(lease)
    scale, at, body = Scale(0, sum(value for _, value, _ in parts)), 0.0, []
    for _, value, kind in parts:
        width = max(0.15, scale.at(value) - 0.15)
        body.append(box(scale.pc(at), 4, f"{width:.2f}%", 22, f"lease {kind}", "hatch" if kind == "l1" else ""))
        at += value
    told = "; ".join(f"{name} {clock(value)} ({percent(value / lease.seconds)} %)" for name, value, _ in parts)
    return svg(30, "Where the leased seconds went", told + ".", body)
