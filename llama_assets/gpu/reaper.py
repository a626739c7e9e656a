"""The reaper: puts back what a dead holder left, and beats so that takers know it would.

One pass is the plan `reap`; this is the loop around it, its heart and its figures for Prometheus. It imports no
Dagster and keeps nothing: two of it may run, and one may be killed at any time.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from llama_assets.gpu.lease import Report, reap
from llama_assets.gpu.objects import Card
from llama_assets.gpu.record import GpuError, LeaseTimes
from llama_assets.gpu.workloads import Cluster
from llama_assets.kube import Forbidden, Kube, KubeError


@dataclass
class Reaper:
    """Reaps one card's Lease."""

    kube: Kube
    namespace: str
    lease: str
    card: Card
    times: LeaseTimes = field(default_factory=LeaseTimes)
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self.name = f"{socket.gethostname()}.{os.getpid()}"
        # One observer for all passes: it must have seen a holder not renew for a lifetime.
        self.cluster = Cluster(self.kube, self.namespace, self.lease, self.times, say=self.say, pause=self._pause)
        self.figures: Figures | None = None
        self._said: dict[str, str] = {}
        self._living = False  # a single pass is no reaper to rely on: it does not beat

    def once(self) -> tuple[Report, ...]:
        """Look until it is known whether the holder lives, which takes one lifetime where one is named; then one pass.

        Raises:
            KubeError, GpuError: as they come.
        """
        seen = self.cluster.standing.see(self.cluster.read_lease(), time.monotonic())
        if seen.lease and seen.lease.holder:
            lifetime_s, renewed = seen.lease.lifetime_s, seen.lease.renewed_at
            self.say(f"{seen.lease.holder} has the card; dead if it does not renew for {lifetime_s:.0f} s; looking")
            while seen.lease and seen.lease.holder and seen.lease.renewed_at == renewed and not seen.dead:
                self._pause(self.times.look_again_s)
                seen = self.cluster.standing.see(self.cluster.read_lease(), time.monotonic())
        return self.cluster.perform(reap(self.card))

    def every(self, seconds: float, port: int | None = None, stopped: Callable[[], bool] = lambda: False) -> None:
        """A pass every so many seconds until stopped; trouble is said and counted, and the next pass tries again."""
        if port is not None:
            self.figures = Figures(port)
        reported, self._living = frozenset[Report](), True
        while not stopped():
            began = time.monotonic()
            try:
                self._beat()
                reports = self.cluster.perform(reap(self.card))
                for report in reports:
                    if report not in reported:  # what stays as it is is said and counted once
                        self.say(f"reaper: {report}")
                        if self.figures:
                            self.figures.put_back.labels(report.became).inc()
                reported = frozenset(reports)
                self._tell()
                self._say_once("trouble", "")
            except (KubeError, GpuError) as error:
                if self.figures:
                    self.figures.trouble.inc()
                self._say_once("trouble", str(error))
            time.sleep(max(0.0, seconds - (time.monotonic() - began)))

    def _beat(self) -> None:
        self.cluster.beat_heart(self.name)
        if self.figures:
            self.figures.beats.inc()

    def _pause(self, seconds: float) -> None:
        """Long waits are part of a pass: the heart goes on beating in them."""
        time.sleep(seconds)
        if self._living:
            self._beat()

    def _tell(self) -> None:
        """Lease and workloads as figures; a note on a workload that is not the catalog's is said."""
        if self.figures is None:
            return
        lease = self.cluster.read_lease()
        self.figures.held.set(1 if lease and lease.holder else 0)
        self.figures.token.set(lease.token if lease else 0)
        self.figures.silent.set(self.cluster.standing.silent_s(time.monotonic()))
        namespaces = {ref.namespace for ref in self.card.workloads}
        try:
            noted = self.cluster.noted(namespaces)
        except Forbidden as error:
            self._say_once("notes", str(error))
            return
        self.figures.down.set(sum(1 for seen in noted if not seen.replicas))
        strangers = [str(seen.ref) for seen in noted if seen.ref not in self.card.workloads]
        self.figures.strangers.set(len(strangers))
        found = f"a note on {', '.join(strangers)}, not in the catalog; it is left as it is" if strangers else ""
        self._say_once("notes", found)

    def _say_once(self, about: str, text: str) -> None:
        """Not at every pass: only what was not said of this at the last."""
        if text and text != self._said.get(about):
            self.say(f"reaper: {text}")
        self._said[about] = text


class Figures:
    """What Prometheus may read."""

    def __init__(self, port: int) -> None:
        from prometheus_client import Counter, Gauge, start_http_server

        name = "llama_assets_"
        self.beats = Counter(f"{name}reaper_beats", "Heartbeats written")
        self.trouble = Counter(f"{name}reaper_trouble", "Passes that failed")
        self.put_back = Counter(f"{name}reaper_put_back", "Workloads put back, by what became of them", ["became"])
        self.held = Gauge(f"{name}lease_held", "1 while the Lease names a holder")
        self.token = Gauge(f"{name}lease_token", "Takes so far")
        self.silent = Gauge(f"{name}lease_silent_seconds", "Since this reaper saw the holder's last renewal")
        self.down = Gauge(f"{name}workloads_down", "Workloads at 0 replicas with a note")
        self.strangers = Gauge(f"{name}notes_not_in_catalog", "Workloads with a note that the catalog does not name")
        start_http_server(port)
