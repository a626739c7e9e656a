"""How a task hears that it should end: SIGTERM, Ctrl-C, or its caller's death.

The first signal ends work at once, unless the work asked for `gentle` endings: then it only sets `requested`, and the
work stops where its results are whole. A second signal always ends it at once. Not here: what is kept (each room's
promise).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stop:
    """The wish to end, as heard by this process."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._gentle = False

    @classmethod
    def on_signals(cls) -> Stop:
        """Listen to SIGTERM and SIGINT from now on."""
        stop = cls()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop._heard)
        return stop

    @property
    def requested(self) -> bool:
        """Was a signal heard?"""
        return self.event.is_set()

    @contextlib.contextmanager
    def gentle(self) -> Iterator[threading.Event]:
        """In this block the first signal only sets the event that is handed out."""
        self._gentle = True
        try:
            yield self.event
        finally:
            self._gentle = False

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        again = self.event.is_set()
        self.event.set()
        if again or not self._gentle:
            raise SystemExit(143)
