"""Who else uses the card while we ask: looked at once a second, by a thread with a connection of its own.

Here: what a look means (another model, a load nobody asked for, memory that is not the arm's), over which time, and the
arms' own memory. What was seen marks the rows of that time, also rows that were on disk when it was seen. Not here: how
an engine is looked at (`engine`), tenants (the lease looks at them, and says since when it knows nothing of them).

The rule for memory: a model server takes its memory when it loads and answers its first image, and keeps it. So of all
readings made while an arm was loaded and warm, the lowest is the arm's own (and the driver's); what a reading has more
than that, beyond `foreign_mib`, is somebody else's. Somebody who stays from an arm's first reading to its last is not
seen, and slows every answer of it alike. A reading counts only if the arm was ready at the look before and at this one,
because engines measure now and then (llama-swap every 5 s at most often) and say it later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from .asking import Look
from .record import stamp

ABSENT = frozenset({"stopped", "shutdown", "unloaded"})  # states in which a model holds no memory
What = Literal["model", "load", "memory"]


@dataclass(frozen=True)
class WatchLimits:
    """How often, and from where on memory is somebody else's."""

    every_s: float = 1.0
    foreign_mib: float = 256.0  # a CUDA context alone takes as much; what a warm llama.cpp still adds is less
    most_spans: int = 200  # kept in session.json; later ones lengthen the last


@dataclass(frozen=True)
class Span:
    """A time in which somebody else was seen. `mib` is the most memory of theirs, None where that is not what was."""

    begin: datetime
    end: datetime
    model: str
    what: What
    found: tuple[str, ...] = ()
    mib: float | None = None

    @property
    def why(self) -> str:
        """For the rows of that time."""
        if self.what == "memory":
            return f"{self.mib:.0f} MiB on the card were not {self.model}'s"
        if self.what == "load":
            return f"{self.model} was being loaded, and not by us"
        return f"{', '.join(self.found)} was loaded beside or instead of {self.model}"

    def to_json(self) -> dict[str, Any]:
        """For session.json."""
        return {
            "at": stamp(self.begin), "until": stamp(self.end), "model": self.model, "what": self.what,
            "found": list(self.found), "mib": self.mib, "why": self.why,
        }  # fmt: skip


class Disturbance(Protocol):
    """Others may have used the card, tenants among them."""

    @property
    def since(self) -> datetime:
        """The last moment at which it is known that they had not."""

    @property
    def why(self) -> str:
        """What was seen after it."""


def noted(seen: list[dict[str, Any]], found: Disturbance | None, until: str) -> list[dict[str, Any]]:
    """`seen`, of session.json, with what the holder of the card knows: nothing was asked after `until`, or it is now.

    Told again it lasts longer, and is one entry.
    """
    if found is None:
        return seen
    at = stamp(found.since)
    entry: dict[str, Any] = {
        "at": at, "until": until, "model": None, "what": "tenant", "found": [], "mib": None, "why": found.why,
    }  # fmt: skip
    return [*(one for one in seen if (one["at"], one.get("why")) != (at, found.why)), entry]


def overlap(begin: datetime, end: datetime, other_begin: datetime, other_end: datetime) -> bool:
    """Whether two times have more than an end in common; a moment overlaps the time it lies in."""
    latest, first = max(begin, other_begin), min(end, other_end)
    return latest < first or (latest == first and (begin == end or other_begin == other_end))


@dataclass(frozen=True)
class _Reading:
    begin: datetime
    end: datetime
    model: str
    card: str
    used_mib: float


class Watcher:
    """Looks at the engine until it is stopped. `expect` says which model is ours now; None while we load."""

    def __init__(
        self,
        look: Callable[[], Look],
        now: Callable[[], datetime],
        say: Callable[[str], None],
        limits: WatchLimits | None = None,
    ) -> None:
        self.limits = limits or WatchLimits()
        self.looks = self.failed = 0
        self._look, self._now, self._say = look, now, say
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._expected: str | None = None
        self._turn = 0  # counts what `expect` was told
        self._last: tuple[int, datetime] | None = None  # the last look: its turn and time
        self._before: tuple[int, datetime] | None = None  # likewise, if it showed our model ready
        self._read_at: tuple[int, datetime] | None = None  # likewise, the last one that brought readings
        self._readings: list[_Reading] = []
        self._seen: list[Span] = []
        self._open = False  # the last of them was there at the last look
        self._found: tuple[int, list[Span]] = (0, [])  # as of so many looks: asked with every row, changed by a look
        self._idle: dict[str, float] = {}
        self._total: dict[str, float] = {}

    def start(self) -> None:
        """Look once, then go on in a thread."""
        self.step()
        self._thread.start()

    def stop(self) -> None:
        """Look once more, and no longer."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.step()
        self.expect(None)

    def expect(self, model: str | None) -> None:
        """From now on this model is loaded and warm; None: it is being loaded, or nobody knows."""
        with self._lock:
            if model != self._expected:
                self._until_now()
                self._expected, self._turn = model, self._turn + 1

    def spans(self) -> list[Span]:
        """All that was seen up to now, in time order; memory is judged by the lowest readings up to now."""
        with self._lock:
            if self._found[0] != self.looks:
                found = sorted([*self._seen, *self._foreign()], key=lambda span: span.begin)
                most = self.limits.most_spans
                if len(found) > most:
                    found = [*found[: most - 1], replace(found[most - 1], end=max(span.end for span in found))]
                self._found = (self.looks, found)
            return self._found[1]

    def disturbed(self, begin: datetime, end: datetime) -> list[str]:
        """Why a request of that time is marked, as far as it is known now."""
        return list(dict.fromkeys(span.why for span in self.spans() if overlap(begin, end, span.begin, span.end)))

    def memory(self) -> dict[str, Any] | None:
        """MiB over all cards: each arm's peak in undisturbed readings, the cards' size, and what is used when nothing
        is loaded. None where the engine does not tell."""
        with self._lock:
            if not self._total:
                return None
            peaks: dict[str, dict[str, float]] = {}
            base = self._base()
            for one in self._readings:
                if one.used_mib - base[one.model, one.card] <= self.limits.foreign_mib:
                    of = peaks.setdefault(one.model, {})
                    of[one.card] = max(of.get(one.card, 0.0), one.used_mib)
            return {
                "peak_mib": {model: sum(cards.values()) for model, cards in peaks.items()},
                "total_mib": sum(self._total.values()),
                "idle_mib": sum(self._idle.values()) if self._idle else None,
            }

    def step(self) -> None:
        """One look. An engine that does not answer has nothing to say; that is counted."""
        with self._lock:
            turn, began = self._turn, self._now()
        try:
            look = self._look()
        except Exception as error:  # looking on must never end a session
            self.failed += 1
            self._before = None
            if self.failed == 1:
                self._say(f"the engine could not be looked at: {type(error).__name__}: {error}")
            return
        with self._lock:
            first = self.looks == 0
            self.looks += 1
            self._total |= {one.card: one.total_mib for one in look.readings if one.total_mib is not None}
            if first and not [one for one in look.running if one.state not in ABSENT]:
                self._idle = {one.card: one.used_mib for one in look.readings}
            self._take(look, turn, began, self._now())

    def _take(self, look: Look, turn: int, began: datetime, ended: datetime) -> None:
        model = self._expected
        if model is None or turn != self._turn:
            self._before = None
            return
        states = {one.model: one.state for one in look.running if one.state not in ABSENT}
        since = self._last[1] if self._last and self._last[0] == turn else began
        if self._open:
            self._seen[-1] = replace(self._seen[-1], end=began)  # it lasted until now at most
        self._open, self._last = False, (turn, ended)
        if others := tuple(sorted(set(states) - {model})):
            self._note(Span(since, ended, model, "model", others))
        if states.get(model) == "starting":
            self._note(Span(since, ended, model, "load"))
        was_ready = self._before is not None and self._before[0] == turn
        self._before = (turn, began) if states.get(model) == "ready" else None
        if was_ready and self._before and look.readings:
            read_at = self._read_at[1] if self._read_at and self._read_at[0] == turn else since
            self._readings += [_Reading(read_at, ended, model, one.card, one.used_mib) for one in look.readings]
            self._read_at = (turn, began)

    def _until_now(self) -> None:
        """Whoever was there at the last look of a turn may have stayed until its end."""
        now = self._now()
        if self._open:
            self._seen[-1] = replace(self._seen[-1], end=now)
        self._open = False
        if self._readings and self._read_at and self._read_at[0] == self._turn:
            last = self._readings[-1].end
            self._readings = [replace(one, end=now) if one.end == last else one for one in self._readings]
        self._found = (-1, [])

    def _note(self, span: Span) -> None:
        self._open = True
        last = self._seen[-1] if self._seen else None
        same = last and (last.what, last.model, last.found) == (span.what, span.model, span.found)
        if last and same and span.begin <= last.end:
            self._seen[-1] = replace(last, end=span.end)
        else:
            self._seen.append(span)

    def _base(self) -> dict[tuple[str, str], float]:
        lowest: dict[tuple[str, str], float] = {}
        for one in self._readings:
            key = one.model, one.card
            lowest[key] = min(lowest.get(key, one.used_mib), one.used_mib)
        return lowest

    def _foreign(self) -> list[Span]:
        base, spans = self._base(), list[Span]()
        open_until: dict[str, datetime] = {}  # by card: the end of its last reading that was too high
        for one in self._readings:
            foreign = one.used_mib - base[one.model, one.card]
            lasted = one.card in open_until and one.begin <= open_until.pop(one.card)
            last = spans[-1] if spans and spans[-1].model == one.model else None
            if lasted and last:
                spans[-1] = last = replace(last, end=max(last.end, one.end))  # until this reading at most
            if foreign <= self.limits.foreign_mib:
                continue
            open_until[one.card] = one.end
            if last and one.begin <= last.end:
                spans[-1] = replace(last, end=max(last.end, one.end), mib=max(last.mib or 0.0, foreign))
            else:
                spans.append(Span(one.begin, one.end, one.model, "memory", mib=foreign))
        return spans

    def _run(self) -> None:
        while not self._over.wait(self.limits.every_s):
            self.step()
