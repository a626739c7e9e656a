"""Two small PNGs for Dagster's metadata: an arm's seconds, and the verdict's intervals over the session in time.

On an opaque white ground (a dark UI shows them as they are), in at most 64 colours so that they stay small in the event
database. No photo, no name of one. Not here: the report's figures, which are SVG (`charts`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from .charts import ARMS, look
from .evidence import Arm
from .formats import change
from .judgement import Judgement, Pair
from .sentences import against_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#414c57", "#0b6db5", "#b65200", "#a3307c", "#2a7a43")
MARKS = ("o", "^", "s", "D", "v")
INK, DIM, RULE, BAND = "#1b2026", "#59626c", "#d9dee3", "#e6ebef"
DPI, WIDTH_IN, HEIGHT_IN = 100, 8.6, 6.0


def distribution_png(j: Judgement, model: str) -> bytes:
    """One arm: how its seconds are distributed, and each answer in the order of time."""
    arm = j.evidence.arms[model]
    index = look(list(j.models).index(model))
    figure, (left, right) = _figure(2, 2.9, width_ratios=[2, 3])
    seconds = arm.seconds[arm.counted]
    if len(seconds):
        left.hist(
            seconds, bins=min(30, max(8, len(seconds) // 4)), color=COLOURS[index], edgecolor="white", linewidth=0.6
        )
        for value in (j.models[model].latency_p50_s, j.models[model].latency_p95_s):
            left.axvline(value or 0, color=INK, linewidth=1.2)
        x, unit = _x(j, arm)
        right.plot(x[arm.counted], seconds, MARKS[index], color=COLOURS[index], markersize=3.2, alpha=0.85, mew=0)
        right.set_ylabel("seconds", color=DIM)
        right.set_xlabel(unit, color=DIM)
        left.set_title(
            f"p50 {j.models[model].latency_p50_s:.3g} s, p95 {j.models[model].latency_p95_s:.3g} s", **_TITLE
        )
    left.set_xlabel("seconds per answer", color=DIM)
    left.set_yticks([])
    right.set_title("each answer in time", **_TITLE)
    return _png(figure)


def verdict_png(j: Judgement) -> bytes:
    """The intervals on seconds against the incumbent, over every answer in the order of time."""
    pairs = [pair for pair in j.pairs if pair.metric == "seconds" and pair.low and pair.high and pair.estimate]
    if not pairs:
        figure, strip = _figure(1, HEIGHT_IN)
    else:
        forest = 0.9 + 0.45 * len(pairs)
        height = max(HEIGHT_IN, forest + 2.2)  # taller only from the seventh candidate on
        figure, (top, strip) = _figure(1, height, rows=2, height_ratios=[forest, height - forest])
        _forest(top, j, pairs)
    for place, model in enumerate(j.models):
        arm = j.evidence.arms[model]
        x, unit = _x(j, arm)
        style: dict[str, Any] = {"markersize": 3, "alpha": 0.85, "mew": 0, "label": model} | _looks(place)
        strip.plot(x[arm.counted], arm.seconds[arm.counted], **style, linestyle="")
        strip.set_xlabel(unit, color=DIM)
    strip.set_ylabel("seconds per answer", color=DIM)
    legend: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (0, 1),
        "ncols": 4,
        "frameon": False,
        "fontsize": 9,
    }
    strip.legend(**legend, handletextpad=0.2, borderaxespad=0.2)
    return _png(figure)


def _forest(axis: Axes, j: Judgement, pairs: Sequence[Pair]) -> None:
    """Thin: the interval that better and worse are read from; thick: the 90 % one that equivalence is read from."""
    axis.axvspan(math.log(1 / 1.05), math.log(1.05), color=BAND, linewidth=0)
    axis.axvline(0, color=INK, linewidth=1)
    for place, pair in enumerate(pairs):
        style = _looks(list(j.models).index(pair.b))
        for ends, width in (((pair.low, pair.high), 1.6), ((pair.low_90, pair.high_90), 4)):
            drawn = [math.log(end) for end in ends if end]
            axis.plot(drawn, [place] * len(drawn), color=style["color"], linewidth=width, solid_capstyle="butt")
        axis.plot([math.log(pair.estimate or 1)], [place], **style, markersize=8)
    axis.set_yticks(range(len(pairs)), [f"{pair.b}: {pair.verdict}" for pair in pairs])
    axis.set_ylim(len(pairs) - 0.4, -0.6)
    _percent_ticks(axis, [x for pair in pairs for x in (pair.low or 1, pair.high or 1)])
    axis.set_title(f"seconds per photo against {against_text(j)}", **_TITLE)


def _looks(place: int) -> dict[str, Any]:
    """Colour and shape of an arm; hollow from the sixth on, whose look is that of an arm before it."""
    index = look(place)
    hollow = {"markerfacecolor": "white", "mew": 0.8} if place >= ARMS else {}
    return {"color": COLOURS[index], "marker": MARKS[index]} | hollow


_TITLE: dict[str, Any] = {"loc": "left", "fontsize": 10, "color": INK}


def _figure(columns: int, height: float, rows: int = 1, **ratios: list[float]) -> tuple[Figure, Any]:
    """A figure without any window or global state: it is drawn by Agg when it is saved."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, gridspec_kw=ratios)
    for axis in np.ravel(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(RULE)
        axis.tick_params(colors=INK, labelsize=9, length=3)
    return figure, axes


def _x(j: Judgement, arm: Arm) -> tuple[Any, str]:
    if np.isfinite(arm.started).all():
        longest = max(float(np.nanmax(other.started)) for other in j.evidence.arms.values())
        return (arm.started / 60, "minutes") if longest > 240 else (arm.started, "seconds since the first request")
    return arm.order, "order asked"


def _percent_ticks(axis: Axes, ratios: list[float]) -> None:
    low, high = min([0.88, *(0.97 * x for x in ratios)]), max([1.12, *(1.03 * x for x in ratios)])
    ticks = [t for t in (0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5) if low < t < high]
    axis.set_xlim(math.log(low), math.log(high))
    axis.set_xticks([math.log(t) for t in ticks], ["same" if t == 1 else f"{change(t)} %" for t in ticks])


def _png(figure: Figure) -> bytes:
    """Saved with 64 colours: a third of the bytes. They are named, because a palette found by counting pixels would
    give an arm with few marks the colour of another."""
    from PIL import Image

    drawn, held = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in _palette() for part in colour])
    image = Image.open(drawn).convert("RGB")
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(held, "PNG", optimize=True)
    return held.getvalue()


def _palette() -> list[tuple[int, ...]]:
    """White, the grounds, and each colour with its steps towards white: the edges of marks and letters."""
    shades = [(colour, step / 9) for colour in (*COLOURS, INK) for step in range(9)] + [
        (DIM, step / 6) for step in range(6)
    ]
    made = [(255, 255, 255)] + [tuple(int(ground[at : at + 2], 16) for at in (1, 3, 5)) for ground in (RULE, BAND)]
    for colour, white in shades:
        parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        made.append(tuple(round(part + (255 - part) * white) for part in parts))
    return made
