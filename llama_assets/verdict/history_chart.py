"""A model's sessions in time as SVG, in the manner of `charts`: x in percent, y and text in pixels.

A mark is p50 of one session, the short grey line above it p95. Dashed borders stand where something else was measured;
no line joins two sessions of another question or other photos. Not here: what changed (`history`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

from markupsafe import Markup

from .charts import Scale, anchor_of, line, mark, nice, svg, word
from .formats import plural, seconds

What = Literal["file", "engine", "question", "photos"]
NAMES: dict[str, str] = {"file": "model file", "engine": "engine", "question": "question", "photos": "photo set"}
LETTER_ROOM = 5.0  # percent of the width


@dataclass(frozen=True)
class Change:
    """Something that is another one than in the session before; not `known` where one of the two does not say."""

    what: str
    known: bool

    @property
    def apart(self) -> bool:
        """Figures on both sides are of different things."""
        return self.what in ("question", "photos")

    @property
    def text(self) -> str:
        """`another engine`, `another photo set: not comparable across`."""
        named = f"another {NAMES[self.what]}" if self.known else f"{NAMES[self.what]} not known to be the same"
        return named + (": not comparable across" if self.apart else "")


def apart(border: Sequence[Change]) -> bool:
    """Whether figures before and after this border are not comparable."""
    return any(change.apart for change in border)


@dataclass(frozen=True)
class Point:
    """One session; `border` is what changed since the one before."""

    at: datetime
    p50_s: float | None
    p95_s: float | None
    border: tuple[Change, ...]


def p50(model: str, points: Sequence[Point], arm: int, height: float = 168) -> Markup | None:
    """Median seconds per session in time; None where no session has any."""
    known = [value for point in points for value in (point.p50_s, point.p95_s) if value is not None]
    if not any(point.p50_s is not None for point in points):
        return None
    top, bottom = 22.0, height - 22
    step = nice((max(known) * 1.05 - min(known) * 0.95) / 4)
    low, high = max(0.0, min(known) * 0.95 // step * step), (max(known) * 1.05 // step + 1) * step

    def down(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    x = _times(points)
    body = list(_y_axis(low, high, step, down(low), down(high)))
    body += _x_axis(points, x, bottom)
    body += _borders(points, x, top, bottom)
    for before, after in pairwise(points):
        if not apart(after.border) and before.p50_s is not None and after.p50_s is not None:
            ends = x.pc(before.at.timestamp()), x.pc(after.at.timestamp())
            body.append(
                line(ends[0], round(down(before.p50_s), 1), ends[1], round(down(after.p50_s), 1), f"thin a{arm}")
            )
    for point in points:
        at = x.at(point.at.timestamp())
        if point.p95_s is not None:
            y = round(down(point.p95_s), 1)
            body.append(line(f"{max(0.0, at - 0.7):.2f}%", y, f"{min(100.0, at + 0.7):.2f}%", y, "edge"))
        if point.p50_s is not None:
            body.append(mark(f"{at:.2f}%", down(point.p50_s), arm, big=len(points) <= 60))
    return svg(height, f"p50 seconds of {model}, a session a mark", _told(points), body, "yaxis")


def _told(points: Sequence[Point]) -> str:
    last = next((point for point in reversed(points) if point.p50_s is not None), None)
    newest = f" Newest p50 {seconds(last.p50_s)} s." if last and last.p50_s is not None else ""
    borders = sum(bool(point.border) for point in points)
    return f"{plural(len(points), 'session')}, {plural(borders, 'border')} where something else was measured.{newest}"


def _times(points: Sequence[Point]) -> Scale:
    first, last = points[0].at.timestamp(), points[-1].at.timestamp()
    room = 0.03 * (last - first) or 3600.0
    return Scale(first - room, last + room)


def _y_axis(low: float, high: float, step: float, bottom: float, top: float) -> Iterator[str]:
    count = round((high - low) / step)
    for place in range(count + 1):
        y = bottom + (top - bottom) * place / count
        yield line("0", round(y, 1), "100%", round(y, 1), "edge" if place == 0 else "rule")
        yield word("-8", round(y, 1) + 4, f"{round(low + place * step, 6):g} s", "dim", "end")


def _x_axis(points: Sequence[Point], x: Scale, bottom: float) -> Iterator[str]:
    ends = (points[0], points[-1])
    for point in ends if ends[0].at.date() != ends[1].at.date() else ends[:1]:
        at, day = x.at(point.at.timestamp()), point.at.astimezone(UTC)
        yield word(f"{at:.2f}%", bottom + 16, f"{day.day} {day:%b %Y}", "dim", anchor_of(at))


def _borders(points: Sequence[Point], x: Scale, top: float, bottom: float) -> Iterator[str]:
    """Halfway between two sessions; the letters say what changed, where there is room for them."""
    free = 0.0
    for before, after in pairwise(points):
        if not after.border:
            continue
        at = (x.at(before.at.timestamp()) + x.at(after.at.timestamp())) / 2
        yield line(f"{at:.2f}%", top - 8, f"{at:.2f}%", bottom, "border")
        if at >= free:
            letters = "".join(change.what[0].upper() for change in after.border)
            yield word(f"{at:.2f}%", top - 12, letters, "dim")
            free = at + LETTER_ROOM
