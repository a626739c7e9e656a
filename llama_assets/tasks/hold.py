"""Task `hold`: take the card, keep it for a while, give it back; for work that is not ours.

It ends by time, by `llama-assets lease release`, or by SIGTERM or Ctrl-C; each is a good end, the card is given back.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Literal

from llama_assets.gpu import Lease
from llama_assets.tasks.messages import Held, Hold
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work


def hold_task(work: Work) -> Held:
    """The task: hold as asked."""
    request = Hold.model_validate(work.task.request)
    with work.stop.gentle() as stopped:
        return _hold(work.platform.lease(request.catalog), request.minutes, work.say, stopped)


def hold(lease: Lease, minutes: float, say: Callable[[str], None]) -> Held:
    """Hold the card in this process, for the command line. Raises HeldByOther."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Stop.on_signals().gentle() as stopped:
            return _hold(lease, minutes, say, stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hold(lease: Lease, minutes: float, say: Callable[[str], None], stopped: threading.Event) -> Held:
    with lease.take(holder(), f"hold for {minutes:g} min", say) as held:
        end = time.monotonic() + minutes * 60
        ended_by: Literal["time", "release", "signal"] = "time"
        while time.monotonic() < end:
            if stopped.wait(min(0.2, max(0.0, end - time.monotonic()))):
                ended_by = "signal"
                break
            if not held.still_held():
                ended_by = "release"
                break
        return Held(
            token=held.token,
            seconds=held.seconds,
            ended_by=ended_by,
            tenants=tuple(name for name, _ in held.record.tenants),
        )


def holder() -> str:
    """Who we are to others who look: host and process."""
    return f"{socket.gethostname()}/{os.getpid()}"
