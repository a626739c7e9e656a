"""The session in order of time, as SVG: every counted answer when it was asked, and what is left without its length.

Where no times are known the order asked takes their place. Above 1,000 answers a mark is the median of ten or more. Not
here: whether there is drift (`warnings`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from .charts import Scale, anchor_of, box, line, look, mark, nice, svg, word
from .evidence import Arm, Floats
from .formats import MINUS, plural
from .judgement import Judgement
from .sentences import drift_sentence

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

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Values and labels."""
        span = self.scale.high - self.scale.low
        unit, name = (60.0, "min") if self.timed and span > 240 else (1.0, "s" if self.timed else "")
        step = nice(span / unit / 7)
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


def timeline(j: Judgement, height: float = 240) -> Markup:
    """Seconds of every counted answer, logarithmic; loads hatched, blocks dashed, a bar an arm's median in a block."""
    axis, top, foot = axis_of(j), 20.0, 24.0
    arms = {model: j.evidence.arms[model] for model in j.models}
    counted = np.concatenate([arm.seconds[arm.counted] for arm in arms.values()])
    if not len(counted):
        return svg(
            40, "Seconds of each answer in time", "No answer counted.", [word("50%", 24, "no answer counted", "dim")]
        )
    y = Scale(float(counted.min()) * 0.92, float(counted.max()) * 1.08, log=True)

    def down(value: float) -> float:
        return top + (height - top - foot) * (1 - y.at(value) / 100)

    body = []
    for tick in _y_ticks(float(counted.min()) * 0.92, float(counted.max()) * 1.08):
        body += [
            line("0", down(tick), "100%", down(tick), "rule"),
            word("-8", down(tick) + 4, f"{tick:g} s", "dim", "end"),
        ]
    body += [*_loads(j, axis, top, height - foot), *_blocks(j, axis, top, height - foot)]
    for index, arm in enumerate(arms.values()):
        x, values = axis.of(arm)[arm.counted], arm.seconds[arm.counted]
        for at, value in _points(x, values, len(counted)):
            body.append(mark(axis.scale.pc(at), down(value), look(index)))
        for part in _parts(arm):
            if part.any():
                middle = down(float(np.median(arm.seconds[part])))
                body.append(_bar(axis, axis.of(arm)[part], middle, look(index)))
    body.append(line("0", height - foot, "100%", height - foot, "edge"))
    for place, (tick, label) in enumerate(axis.ticks()):
        at = axis.scale.at(tick)
        body += [line(axis.scale.pc(tick), height - foot, axis.scale.pc(tick), height - foot + 5, "edge")]
        body += [word(axis.scale.pc(tick), height - 4, label, "wide" if place % 2 else "", anchor_of(at))]
    told = f"{plural(len(counted), 'answer')} of {plural(len(arms), 'arm')} in the order asked. {drift_sentence(j)}"
    return svg(height, "Seconds of each answer in time", told, body, "yaxis")


def per_token(j: Judgement, height: float = 130) -> Markup | None:
    """Seconds per token of each answer against its arm's median: most of the photo is gone, noise and drift stay.

    None where tokens or generation seconds are not known.
    """
    axis, top = axis_of(j), 8.0
    arms = {model: j.evidence.arms[model] for model in j.models}
    left: dict[str, Floats] = {}
    for model, arm in arms.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.log(np.where(arm.counted & (arm.tokens > 0), arm.generation / arm.tokens, np.nan))
        if np.isfinite(value).any():
            left[model] = value - np.nanmedian(value)
    if not left:
        return None

    def down(value: float) -> float:
        return top + (height - 2 * top) * (0.5 - max(-LIMIT, min(LIMIT, value)) / (2 * LIMIT))

    body = []
    for tick in (-20, 0, 20):
        at, label = down(math.log(1 + tick / 100)), f"{'+' if tick > 0 else MINUS}{abs(tick)} %" if tick else "median"
        body += [line("0", at, "100%", at, "rule" if tick else "ink1"), word("-8", at + 4, label, "dim", "end")]
    total = sum(int(np.isfinite(value).sum()) for value in left.values())
    for index, (model, arm) in enumerate(arms.items()):
        if model not in left:
            continue
        known = np.isfinite(left[model])
        for at, rest in _points(axis.of(arm)[known], left[model][known], total):
            body.append(mark(axis.scale.pc(at), down(rest), look(index)))
        for part in _parts(arm):
            if (part & known).any():
                middle = down(float(np.median(left[model][part & known])))
                body.append(_bar(axis, axis.of(arm)[part & known], middle, look(index)))
    told = f"Change of seconds per generated token against the arm's median. {drift_sentence(j)}"
    return svg(height, "Noise and drift", told, body, "yaxis")


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


def _points(x: Floats, y: Floats, total: int) -> Iterator[tuple[float, float]]:
    size = 1 if total <= MANY else max(10, total // MANY)
    for start in range(0, len(x), size):
        yield float(np.median(x[start : start + size])), float(np.median(y[start : start + size]))


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


def _blocks(j: Judgement, axis: Axis, top: float, bottom: float) -> Iterator[str]:
    """Dashed borders with the block's number; without blocks, the arm's name where it begins."""
    arms = j.evidence.arms
    numbers = sorted({float(b) for arm in arms.values() for b in arm.block[np.isfinite(arm.block)]})
    if len(numbers) > 1:
        for place, number in enumerate(numbers):
            start = min(
                float(axis.of(arm)[arm.block == number].min()) for arm in arms.values() if (arm.block == number).any()
            )
            yield from _border(axis, start, f"block {place + 1}", place, top, bottom)
    elif len(arms) > 1:
        for place, (model, arm) in enumerate(arms.items()):
            yield from _border(axis, float(axis.of(arm).min()), model, place, top, bottom)


def _border(axis: Axis, start: float, label: str, place: int, top: float, bottom: float) -> Iterator[str]:
    if place:
        yield line(axis.scale.pc(start), top - 16, axis.scale.pc(start), bottom, "border")
    yield word(axis.scale.pc(start), top - 7, f"\N{NO-BREAK SPACE}{label}", "dim wide", "start")
