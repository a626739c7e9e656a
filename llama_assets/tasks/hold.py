"""Task `hold`: take the card, keep it for a while, give it back; for work that is not ours. Or only say what that does.

It ends by time, by `llama-assets lease release`, by SIGTERM or Ctrl-C, because the lease was lost, or because a human
changed a workload; the card is given back in each case. What could not be put back is an error.
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
from llama_assets.tasks.courtesy import courteous
from llama_assets.tasks.messages import Held, Hold, Previewed
from llama_assets.tasks.permission import Permission, Permitted
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work


def hold_task(work: Work) -> Held | Previewed:
    """The task: hold as asked, or say what holding would do.

    Raises:
        GpuError: the card cannot be had, or something could not be put back.
    """
    request = Hold.model_validate(work.task.request)
    lease = courteous(work.platform, request.catalog, work.say)
    if request.dry_run:
        return previewed(lease, work.say)
    written_down = Permission.of(work, request.catalog, automatic=False).over(lease)
    with work.stop.gentle() as stopped:
        return _hold(written_down, request.minutes, work.say, stopped)


def hold(lease: Lease, minutes: float, say: Callable[[str], None]) -> Held:
    """Hold the card in this process, for the command line. Raises GpuError."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Stop.on_signals().gentle() as stopped:
            return _hold(lease, minutes, say, stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def previewed(lease: Lease, say: Callable[[str], None]) -> Previewed:
    """What taking the card would do; nothing is written."""
    found = lease.preview(say)
    return Previewed(
        held_by=found.record.holder if found.held else None,
        token=found.record.token,
        lines=found.lines,
        obstacles=found.obstacles,
    )


def _hold(lease: Lease | Permitted, minutes: float, say: Callable[[str], None], stopped: threading.Event) -> Held:
    with lease.take(holder(), f"hold for {minutes:g} min", say) as held:
        end = time.monotonic() + minutes * 60
        ended_by: Literal["time", "release", "signal", "lost", "changed"] = "time"
        says = f"{minutes:g} min are over"
        while time.monotonic() < end:
            if stopped.wait(min(0.2, max(0.0, end - time.monotonic()))):
                ended_by, says = "signal", "this process was told to end"
                break
            if not held.still_held():
                assert held.ended is not None
                ended_by, says = held.ended.how, held.ended.says
                break
        record = held.record
    return Held(
        holder=record.holder or "",
        token=held.token,
        seconds=held.seconds,
        ended_by=ended_by,
        says=says,
        tenants=dict(record.tenants),
        left=held.left,
    )


def holder() -> str:
    """Who we are to others who look: host and process."""
    return f"{socket.gethostname()}/{os.getpid()}"
