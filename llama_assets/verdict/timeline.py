"""The session in order of time, as SVG: every counted answer when it was asked, and what is left without its length.

Where no times are known the order asked takes their place. Above 1,000 answers a mark is the median of ten or more.
From the sixth arm on, where looks repeat, each arm has its own panel: its colour before the rest in grey. Not here:
whether there is drift (`warnings`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from .charts import ARMS, Scale, anchor_of, box, line, look, mark, nice, svg, word
from .evidence import Arm, Floats
from .formats import MINUS, plural
from .headings import in_time
from .judgement import Judgement

MANY = 1_000
TICKS = tuple(round(factor * 10.0**power, 9) for power in range(-3, 4) for factor in (1, 1.5, 2, 3, 4, 5, 6, 8))
LIMIT = math.log(1.5)  # the lower figure's edge


@dataclass(frozen=True)
class Axis:
    """The common x: seconds since the first row, or the order asked."""

    scale: Scale
    timed: bool

    def of(self, arm: Arm) -> Floats:
        """Where an arm's rows lie."""
        return arm.started if self.timed else arm.order

    def ticks(self, about: int) -> Iterator[tuple[float, str]]:
        """Values and labels, about so many."""
        span = self.scale.high - self.scale.low
        unit, name = (60.0, "min") if self.timed and span > 240 else (1.0, "s" if self.timed else "")
        step = nice(span / unit / about)
        for tick in np.arange(0, span / unit + step / 100, step).tolist():
            label = f"{tick:g} {name}" if self.timed else f"row {tick + 1:g}"
            yield self.scale.low + tick * unit, label


def axis_of(j: Judgement) -> Axis:
    """Times where every row has one, else order."""
    arms = list(j.evidence.arms.values())
    timed = all(np.isfinite(arm.started).all() for arm in arms)
    ends = [arm.started + np.nan_to_num(arm.seconds) if timed else arm.order for arm in arms]
    low = 0.0 if timed else min(float(end.min()) for end in ends)
    return Axis(Scale(low, max(float(end.max()) for end in ends)), timed)


@dataclass(frozen=True)
class Panel:
    """Both figures of the session in time."""

    model: str | None  # drawn in its colour against the others in grey; None: every arm in its own
    seconds: Markup
    per_token: Markup | None


def panels(j: Judgement) -> list[Panel]:
    """One panel for all arms; where looks would repeat, one an arm, whose page also needs `grey`."""
    if len(j.models) <= ARMS:
        return [Panel(None, timeline(j), per_token(j))]
    strips = [_seconds_strip(j, 150, ticks=3), _per_token_strip(j, 90)]
    drawn = [[_drawn(j, strip, model) if strip else None for strip in strips] for model in j.models]
    return [
        Panel(model, on_seconds or Markup(), rest) for model, (on_seconds, rest) in zip(j.models, drawn, strict=True)
    ]


def grey(j: Judgement) -> Markup:
    """The marks of each arm once, as medians of ten or more, for the panels of all others. Empty with few arms."""
    if len(j.models) <= ARMS:
        return Markup()
    groups = []
    for strip in (_seconds_strip(j, 150, ticks=3), _per_token_strip(j, 90)):
        for index, model in enumerate(j.models):
            if strip and model in strip.rows:
                dots = _points(*strip.rows[model], max(10, strip.together))
                body = "".join(
                    f'<circle cx="{strip.axis.scale.pc(at)}" cy="{strip.down(value):.1f}" r="1.8"/>'
                    for at, value in dots
                )
                groups.append(f'<g id="{strip.name}{index}" class="rest">{body}</g>')
    return Markup(f'<svg class="hidden" aria-hidden="true"><defs>{"".join(groups)}</defs></svg>')


def together(j: Judgement) -> int:
    """How many answers one mark of the first figure stands for."""
    counted = sum(int(arm.counted.sum()) for arm in j.evidence.arms.values())
    return 1 if counted <= MANY else max(10, counted // MANY)


def timeline(j: Judgement, height: float = 240) -> Markup:
    """Seconds of every counted answer, logarithmic; loads hatched, blocks dashed, a bar an arm's median in a block."""
    return _drawn(j, _seconds_strip(j, height))


def per_token(j: Judgement, height: float = 130) -> Markup | None:
    """Seconds per token of each answer against its arm's median: most of the photo is gone, noise and drift stay.

    None where tokens or generation seconds are not known.
    """
    strip = _per_token_strip(j, height)
    return _drawn(j, strip) if strip else None


@dataclass(frozen=True)
class Strip:
    """A figure over time before it is drawn: its ground, and where the rows of each arm lie."""

    name: str
    title: str
    told: str
    height: float
    axis: Axis
    down: Callable[[float], float]  # value to CSS pixels
    ground: list[str]
    over: list[str]  # drawn last
    rows: Mapping[str, tuple[Floats, Floats, Floats]]  # x, value and block
    bars: Mapping[str, list[tuple[Floats, float]]]  # x of a part's rows, its median
    together: int  # answers a mark


def _drawn(j: Judgement, strip: Strip, shown: str | None = None) -> Markup:
    """Every arm in its look; or one in its look before the others in grey, which `grey` defines."""
    if not strip.rows:
        return svg(40, strip.title, "No answer counted.", [word("50%", 24, "no answer counted", "dim")])
    body, title, told, scale = list(strip.ground), strip.title, strip.told, strip.axis.scale
    names = {model: index for index, model in enumerate(j.models) if model in strip.rows}
    if shown is not None:
        title = f"{title}, {shown} against the rest in grey"
        told = f"{plural(len(strip.rows[shown][0]) if shown in strip.rows else 0, 'answer')} of {shown}."
        body += [f'<use href="#{strip.name}{index}"/>' for model, index in names.items() if model != shown]
        names = {model: index for model, index in names.items() if model == shown}
    for model, index in names.items():
        for at, value in _points(*strip.rows[model], strip.together):
            body.append(mark(scale.pc(at), strip.down(value), look(index)))
        body += [_bar(strip.axis, x, strip.down(middle), look(index)) for x, middle in strip.bars[model]]
    return svg(strip.height, title, told, [*body, *strip.over], "yaxis")


def _seconds_strip(j: Judgement, height: float, ticks: int = 7) -> Strip:
    axis, top, foot = axis_of(j), 20.0, 24.0
    arms = {model: j.evidence.arms[model] for model in j.models}
    counted = np.concatenate([arm.seconds[arm.counted] for arm in arms.values()])
    low, high = (float(counted.min()) * 0.92, float(counted.max()) * 1.08) if len(counted) else (1.0, 2.0)
    y = Scale(low, high, log=True)

    def down(value: float) -> float:
        return top + (height - top - foot) * (1 - y.at(value) / 100)

    ground = []
    for tick in _y_ticks(low, high):
        ground.append(line("0", down(tick), "100%", down(tick), "rule"))
        ground.append(word("-8", down(tick) + 4, f"{tick:g} s", "dim", "end"))
    ground += [*_loads(j, axis, top, height - foot), *_blocks(j, axis, top, height - foot, labels=ticks > 3)]
    told = f"{plural(len(counted), 'answer')} of {plural(len(arms), 'arm')} in the order asked. {in_time(j)}"
    return Strip(
        "time",
        "Seconds of each answer in time",
        told,
        height,
        axis,
        down,
        ground,
        over=list(_x_axis(axis, height - foot, ticks)),
        rows={
            m: (axis.of(arm)[arm.counted], arm.seconds[arm.counted], arm.block[arm.counted])
            for m, arm in arms.items()
            if arm.counted.any()
        },
        bars={
            m: [_part(axis, arm, arm.seconds, part) for part in _parts(arm) if part.any()] for m, arm in arms.items()
        },
        together=together(j),
    )


def _per_token_strip(j: Judgement, height: float) -> Strip | None:
    axis, top = axis_of(j), 8.0
    rows: dict[str, tuple[Floats, Floats, Floats]] = {}
    bars: dict[str, list[tuple[Floats, float]]] = {}
    for model in j.models:
        arm = j.evidence.arms[model]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.log(np.where(arm.counted & (arm.tokens > 0), arm.generation / arm.tokens, np.nan))
        known = np.isfinite(value)
        if known.any():
            value -= np.nanmedian(value)
            rows[model] = (axis.of(arm)[known], value[known], arm.block[known])
            bars[model] = [_part(axis, arm, value, part & known) for part in _parts(arm) if (part & known).any()]
    if not rows:
        return None

    def down(value: float) -> float:
        return top + (height - 2 * top) * (0.5 - max(-LIMIT, min(LIMIT, value)) / (2 * LIMIT))

    ground = []
    for tick in (-20, 0, 20):
        at, label = down(math.log(1 + tick / 100)), f"{'+' if tick > 0 else MINUS}{abs(tick)} %" if tick else "median"
        ground += [line("0", at, "100%", at, "rule" if tick else "ink1"), word("-8", at + 4, label, "dim", "end")]
    told = "Change of seconds per generated token against the arm's median."
    return Strip("token", "Noise and drift", told, height, axis, down, ground, [], rows, bars, together(j))


def _x_axis(axis: Axis, foot: float, ticks: int) -> Iterator[str]:
    yield line("0", foot, "100%", foot, "edge")
    for place, (tick, label) in enumerate(axis.ticks(ticks)):
        yield line(axis.scale.pc(tick), foot, axis.scale.pc(tick), foot + 5, "edge")
        yield word(axis.scale.pc(tick), foot + 20, label, "wide" if place % 2 else "", anchor_of(axis.scale.at(tick)))


def _part(axis: Axis, arm: Arm, values: Floats, part: np.ndarray) -> tuple[Floats, float]:
    return axis.of(arm)[part], float(np.median(values[part]))


def _y_ticks(low: float, high: float) -> list[float]:
    """Round values with room between them: a sixth of the logarithmic height."""
    room = math.log(high / low) / 6
    inside: list[float] = []
    for tick in TICKS:
        if low < tick < high and (not inside or math.log(tick / inside[-1]) > room):
            inside.append(tick)
    if len(inside) >= 2:
        return inside
    step = nice((high - low) / 3)
    return [round(tick, 6) for tick in np.arange(math.ceil(low / step) * step, high, step).tolist() if tick > 0]


def _points(x: Floats, y: Floats, block: Floats, size: int) -> Iterator[tuple[float, float]]:
    """Medians of so many rows at most, never of two blocks: between them the arm was not asked."""
    borders = np.flatnonzero(np.diff(np.nan_to_num(block, nan=-1))) + 1
    for rows in np.split(np.arange(len(x)), borders):
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            yield float(np.median(x[some])), float(np.median(y[some]))


def _parts(arm: Arm) -> Iterator[np.ndarray]:
    """Counted rows by block; without blocks, or with one, by fifths of the arm."""
    blocks = np.unique(arm.block[np.isfinite(arm.block)])
    if len(blocks) > 1:
        for block in blocks:
            yield arm.counted & (arm.block == block)
    else:
        for part in np.array_split(np.arange(len(arm.rows)), 5):
            inside = np.zeros(len(arm.rows), dtype=bool)
            inside[part] = True
            yield arm.counted & inside


def _bar(axis: Axis, x: Floats, y: float, arm: int) -> str:
    return line(
        axis.scale.pc(float(x.min())), round(y, 1), axis.scale.pc(float(x.max())), round(y, 1), f"middle a{arm}"
    )


def _loads(j: Judgement, axis: Axis, top: float, bottom: float) -> Iterator[str]:
    if not axis.timed:
        return
    times = [row.started_at for arm in j.evidence.arms.values() for row in arm.rows if row.started_at]
    begin = min(times)
    for load in j.evidence.loads or ():
        if load.at is None or load.at.tzinfo is None:
            continue
        start = (load.at - begin).total_seconds()
        length = (load.seconds or 0) + (load.warm_up_s or 0)
        if start + length > 0:
            width = axis.scale.at(start + length) - axis.scale.at(start)
            yield box(axis.scale.pc(start), top, f"{width:.2f}%", bottom - top, "plain", "hatch")


def _blocks(j: Judgement, axis: Axis, top: float, bottom: float, labels: bool) -> Iterator[str]:
    """Dashed borders with the block's number; without blocks, the arm's name where it begins."""
    arms = j.evidence.arms
    numbers = sorted({float(b) for arm in arms.values() for b in arm.block[np.isfinite(arm.block)]})
    if len(numbers) > 1:
        for place, number in enumerate(numbers):
            start = min(
                float(axis.of(arm)[arm.block == number].min()) for arm in arms.values() if (arm.block == number).any()
            )
            yield from _border(axis, start, f"block {place + 1}" if labels else "", place, top, bottom)
    elif len(arms) > 1:
        for place, (model, arm) in enumerate(arms.items()):
            yield from _border(axis, float(axis.of(arm).min()), model if labels else "", place, top, bottom)


def _border(axis: Axis, start: float, label: str, place: int, top: float, bottom: float) -> Iterator[str]:
    if place:
        yield line(axis.scale.pc(start), top - 16, axis.scale.pc(start), bottom, "border")
    if label:
        yield word(axis.scale.pc(start), top - 7, f"\N{NO-BREAK SPACE}{label}", "dim wide", "start")
