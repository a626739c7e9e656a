"""Lines that say how far a transfer is: bytes, percent, rate, time left. Not here: where the lines go."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from llama_assets.store import in_words


class Progress:
    """Lines about a set on its way: at the beginning, every `every_s` and at the end. Bytes may be taken back."""

    def __init__(
        self,
        name: str,
        total: int,
        arrived: int,
        say: Callable[[str], None],
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._total, self._arrived, self._say = name, total, arrived, say
        self._every_s, self._clock = every_s, clock
        self._began = (clock(), arrived)
        self._seen = deque([self._began], maxlen=4)  # the rate is that of the last three lines
        self._say(self._line(""))

    def moved(self, count: int) -> None:
        """`count` more bytes arrived; fewer, if it is negative."""
        self._arrived += count
        now = self._clock()
        if self._arrived == self._total:
            self._tell(now, self._began)
        elif now - self._seen[-1][0] >= self._every_s:
            self._tell(now, self._seen[0])

    def _tell(self, now: float, since: tuple[float, int]) -> None:
        seconds, count = now - since[0], self._arrived - since[1]
        self._seen.append((now, self._arrived))
        if seconds <= 0 or count <= 0:
            return self._say(self._line(""))
        rate = count / seconds
        left = (self._total - self._arrived) / rate
        return self._say(self._line(f", {in_words(round(rate))}/s" + (f", {duration(left)} left" if left else "")))

    def _line(self, pace: str) -> str:
        percent = 100 * self._arrived // self._total if self._total else 100
        return f"{self._name}: {in_words(self._arrived)} of {in_words(self._total)}, {percent} %{pace}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 7 min, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
