"""The processes of a world: holders and reapers, as real processes that can be killed, stopped and cut off.

They are forked from a server that has everything imported (`start`), so that a holder costs a fork and not an import.
What they do is the package's own: ClusterLease.take, work, give; Reaper.every.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config  # noqa: F401
import yaml  # noqa: F401  imported here once, for all that are forked

from llama_assets.gpu.cluster_lease import ClusterLease
from llama_assets.gpu.objects import Card
from llama_assets.gpu.reaper import Reaper
from llama_assets.gpu.record import GpuError, LeaseTimes
from llama_assets.kube import KubeError
from llama_assets.tasks.stopping import Stop
from tests.faults.lease.door import Door, Point, Stops

ROWS, ROW_S = 8, 0.15
STARTING = threading.Lock()


@dataclass(frozen=True)
class Setting:
    """What an actor is told when it starts."""

    kubeconfig: str
    namespace: str
    lease: str
    card: Card
    times: LeaseTimes
    variant: str | None = None


class Unheard(Exception):
    """An actor did not say what it was waited for: a fault of the suite, or of what it tests."""


class Actor:
    """A process of ours, as its parent sees it."""

    def __init__(self, name: str, program: Any, *arguments: Any, rows: Path = Path(os.devnull)) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.faults.lease.actors", "tests.faults.lease.variants"])
        self.name, self.rows = name, rows
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=program, args=(theirs, *arguments), name=name, daemon=True)
        with STARTING:
            self.process.start()
        theirs.close()
        self.said: list[tuple[str, Any]] = []
        self.killed = False

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def order(self, point: Point | None) -> None:
        """Stop there (for an actor that listens); None takes the order back, and lets it go if it stands."""
        with contextlib.suppress(OSError):  # it died
            self._pipe.send(point)

    def go(self, how: str = "go") -> None:
        """Go on from where it stands; `lost`: as if the answer had not come."""
        with contextlib.suppress(OSError):  # it died
            self._pipe.send(how)

    def heard(self, kind: str, limit_s: float) -> Any:
        """The first message of this kind, said already or soon. Raises Unheard."""
        end = time.monotonic() + limit_s
        while True:
            for said, value in self.said:
                if said == kind:
                    return value
            self._hear(end - time.monotonic(), f"{self.name} did not say {kind!r}")

    def has_said(self, kind: str) -> bool:
        """Look without waiting."""
        with contextlib.suppress(EOFError, OSError):  # it died
            while self._pipe.poll():
                self.said.append(self._pipe.recv())
        return any(said == kind for said, _ in self.said)

    def forget(self, kind: str) -> None:
        """What was heard of this kind."""
        self.has_said(kind)
        self.said = [each for each in self.said if each[0] != kind]

    def _hear(self, limit_s: float, otherwise: str) -> None:
        try:
            if limit_s > 0 and self._pipe.poll(limit_s):
                self.said.append(self._pipe.recv())
                return
        except (EOFError, OSError):
            otherwise += f", and ended with status {self.process.exitcode}"
        raise Unheard(f"{otherwise}; it said {[each for each in self.said if each[0] != 'row'][-8:]}")

    def send(self, number: int) -> None:
        """A signal."""
        self.killed = self.killed or number == signal.SIGKILL
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return
        if number == signal.SIGKILL:
            self.process.join(10)

    def ended(self, limit_s: float) -> bool:
        """Has it ended, within this time? What it said on the way is kept."""
        end = time.monotonic() + limit_s
        while self.process.is_alive() and time.monotonic() < end:
            self.has_said("")
            self.process.join(0.05)
        self.has_said("")
        return not self.process.is_alive()


def start(pipe: Connection, setting: Setting, point: Point | None, listens: bool) -> tuple[Door, Stops]:
    """What every actor does first."""
    if setting.variant:
        from tests.faults.lease.variants import remove

        remove(setting.variant)
    stops = Stops(pipe, point)
    kube = Door.open(setting.kubeconfig)
    kube.watch_over(setting.card, setting.lease, stops, listens)
    return kube, stops


def holder(pipe: Connection, setting: Setting, point: Point | None, rows: str, name: str) -> None:
    """Take, write a row at a time, give. Ends with what became of it."""
    kube, stops = start(pipe, setting, point, listens=False)
    stop = Stop.on_signals()
    lease = ClusterLease(kube, setting.namespace, setting.lease, setting.card, setting.times)
    outcome = "broke"
    try:
        stops.say("started")
        with stop.gentle() as stopped, lease.take(name, "a fault", lambda line: stops.say("says", line)) as held:
            stops.say("took", held.token)
            written = 0
            with Path(rows).open("a") as out:
                while written < ROWS and held.still_held() and not stopped.is_set():
                    row = {"holder": name, "token": held.token, "row": written, "at": time.monotonic()}
                    out.write(json.dumps(row | {"answer": "x" * 2000}) + "\n")
                    out.flush()
                    os.fsync(out.fileno())
                    written += 1
                    stops.say("row", written)
                    stops.pass_by("work", "after")
                    stopped.wait(ROW_S)
            stops.say("worked", (written, held.ended_by))
        outcome = "given"
    except (GpuError, KubeError) as error:
        outcome = f"{type(error).__name__}: {error}"
    except SystemExit as error:
        outcome = f"ended by a signal ({error.code})"
    except BaseException as error:
        outcome = f"broke: {type(error).__name__}: {error}"
        raise
    finally:
        stops.say("outcome", outcome)


def reaper(pipe: Connection, setting: Setting, every_s: float) -> None:
    """Reap until killed, as `llama-assets reap --every` does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    kube, stops = start(pipe, setting, None, listens=True)
    Reaper(kube, setting.namespace, setting.lease, setting.card, setting.times, lambda line: stops.say("says", line)).every(every_s)  # fmt: skip # noqa: E501
