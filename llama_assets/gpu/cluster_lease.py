"""The lease of a cluster's card in the hands of the process that uses it: take, beat, give.

The heartbeat starts with the Lease, before the first tenant is touched, and goes on until it is free: waits for pods
last longer than a lifetime. A paused process sees by its own clock that it did not renew for a lifetime, and at its
next beat who has the card now. Not here: the order of writes (`lease.py`), requests (`workloads.py`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from llama_assets.gpu.actions import Plan, WriteLease
from llama_assets.gpu.courtesy import owners, refuse_obstacles
from llama_assets.gpu.diary import Diary
from llama_assets.gpu.errors import Lost, NotRestored
from llama_assets.gpu.lease import Held, Report, give, renew
from llama_assets.gpu.lease import take as take_plan
from llama_assets.gpu.lease import watch as watch_plan
from llama_assets.gpu.note import identity
from llama_assets.gpu.objects import Card, LeaseObject, Seen, Standing
from llama_assets.gpu.overview import overview, preview
from llama_assets.gpu.record import Change, Disturbed, Ended, GpuError, LeaseTimes, Overview, Preview, Record
from llama_assets.gpu.workloads import Cluster
from llama_assets.kube import Conflict, Kube, KubeError


@dataclass(frozen=True)
class ClusterLease:
    """One card's Lease in `namespace`, and the workloads that use the card."""

    kube: Kube
    namespace: str
    name: str
    card: Card
    times: LeaseTimes = field(default_factory=LeaseTimes)
    without_reaper: bool = False

    @property
    def plan(self) -> str:
        """What taking would do, in one sentence."""
        tenants = ", ".join(map(str, self.card.tenants)) or "no tenant"
        engine = f", then {self.card.engine} at 1" if self.card.engine else ""
        return f"Lease {self.namespace}/{self.name}: {tenants} at 0{engine}; given back as found, in the reverse order"

    def status(self) -> tuple[Record, bool]:
        """The Lease alone, and whether it names a holder: one read. One look cannot tell if the holder lives."""
        lease = self._cluster().read_lease()
        record = lease.record if lease else Record()
        return record, record.holder is not None

    def overview(self) -> Overview:
        """One look: the Lease, the notes as far as they may be seen, the reaper's heart."""
        return overview(self._cluster(), self.card, self.plan)

    def preview(self, say: Callable[[str], None] = lambda _: None) -> Preview:
        """What taking would do to each workload, who else scales it, what is allowed, whether a reaper beats."""
        return preview(self._cluster(say=say), self.card, ask_heart=not self.without_reaper)

    def release(self) -> Record:
        """Ask the holder to give the card back; it does so at its next beat. Nothing when it is free."""
        cluster = self._cluster()
        while (lease := cluster.read_lease()) is not None and lease.holder:
            with contextlib.suppress(Conflict):  # it beat meanwhile
                cluster.ask_release(lease)
                break
        return lease.record if lease else Record()

    @contextlib.contextmanager
    def take(self, holder: str, purpose: str, say: Callable[[str], None] = lambda _: None) -> Iterator[HeldCard]:
        """Hold the card for the length of the block.

        Raises:
            GpuError: it cannot be had, and all is as found; or, at the end, NotRestored.
            KubeError: the API server stayed away; the reaper puts back what was noted.
        """
        held = HeldCard(self, self._cluster(purpose, say))
        refuse_obstacles(held.cluster.patiently(lambda: owners(self.kube, self.card.workloads)), say)
        me = identity(holder.replace("/", "."))
        try:
            held.held = held.cluster.perform(
                held.diary.of(held.beating(take_plan(self.card, me, ask_heart=not self.without_reaper), me))
            )
            say(f"gpu lease: taken, token {held.token}")
            yield held
        except GpuError as error:
            held.trouble = str(error)
            raise
        finally:
            held.give_back(say)

    def _cluster(self, purpose: str = "", say: Callable[[str], None] = lambda _: None) -> Cluster:
        return Cluster(self.kube, self.namespace, self.name, self.times, purpose, say)


class HeldCard:
    """A lease that is ours, or was. `reports` say, once it is given back, what became of each workload."""

    def __init__(self, lease: ClusterLease, cluster: Cluster) -> None:
        self.cluster = cluster
        self.diary = Diary()
        self.held: Held | None = None
        self.reports: tuple[Report, ...] = ()
        self.ended: Ended | None = None
        self.disturbed: Disturbed | None = None
        self.trouble = ""  # why it was given back, if that was an error: the next one must not hide it
        self._lease = lease
        self._mine: LeaseObject | None = None
        self._began = self._renewed = self._good = time.monotonic()  # `_good`: the last look that showed all as set
        self._given: float | None = None
        self._giving = False
        self._over, self._stop, self._ending = threading.Event(), threading.Event(), threading.Lock()
        self._beat = threading.Thread(target=self._run, name="gpu-lease", daemon=True)

    @property
    def token(self) -> int:
        """Grows with every take; rows bear it."""
        assert self._mine is not None
        return self._mine.token

    @property
    def seconds(self) -> float:
        """From taking to giving back, or to now while it is held."""
        return (self._given or time.monotonic()) - self._began

    @property
    def record(self) -> Record:
        """The lease and what will be restored."""
        assert self._mine is not None
        notes = self.held.notes if self.held else ()
        tenants = tuple(
            (f"{ref.namespace}/{ref.name}", note.found) for ref, note in notes if ref in self._lease.card.tenants
        )
        return replace(self._mine.record, tenants=tenants)

    @property
    def ended_by(self) -> str | None:
        """Why work had to stop, in a sentence."""
        return self.ended.says if self.ended else None

    @property
    def changes(self) -> tuple[Change, ...]:
        """When each workload was set, gone, and ready again."""
        return self.diary.changes

    @property
    def left(self) -> tuple[str, ...]:
        """What became of each workload, once it is given back."""
        return tuple(map(str, self.reports))

    def still_held(self) -> bool:
        """May work go on? False once the card was asked for or lost, or a human changed a workload."""
        if time.monotonic() - self._renewed >= self.cluster.times.lifetime_s:
            self._end("lost", f"we did not renew for a lifetime of {self.cluster.times.lifetime_s:.0f} s")
        return not self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Keep the card for `seconds` or until it must be given; True when it must."""
        end = time.monotonic() + seconds
        while self.still_held() and time.monotonic() < end:
            self._over.wait(max(0.0, min(self.cluster.times.look_again_s, end - time.monotonic())))
        return self._over.is_set()

    def beating(self, plan: Plan[Held], me: str) -> Plan[Held]:
        """The plan of taking, with the heartbeat started by the write that takes the Lease.

        If the answer to that write is lost, the next read shows that it landed.
        """
        answer, asked = None, self._began
        while True:
            try:
                action = plan.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(action, WriteLease):
                asked = time.monotonic()
            answer = yield action
            lease = answer.lease if isinstance(answer, Seen) else answer
            if self._mine is None and isinstance(lease, LeaseObject) and lease.holder == me:
                self._start(lease, asked)

    def give_back(self, say: Callable[[str], None]) -> None:
        """Put back what we set and free the Lease; the heartbeat goes on until then. Raises NotRestored."""
        if self._mine is None:
            return
        self._giving = True
        try:
            # After a failed take too: it has given, but it may have been interrupted in it.
            self.reports = self.cluster.perform(self.diary.of(give(self._lease.card, self._mine)))
        finally:
            self._stop.set()
            self._beat.join()
            self._given = time.monotonic()
        if why := self._changed_since():
            self._disturb(why)
        for report in self.reports:
            say(f"gpu lease: {report}")
        say(f"gpu lease: given back after {self.seconds:.1f} s")
        if bad := tuple(report for report in self.reports if not report.good):
            raise NotRestored(bad, self.trouble)

    def _start(self, mine: LeaseObject, asked: float) -> None:
        self._mine, self._renewed, self._began, self._good = mine, asked, asked, asked
        self._beat.start()

    def _end(self, how: Literal["release", "lost", "changed"], says: str) -> None:
        with self._ending:  # by the heartbeat or by who works: the first reason stays
            if how != "release" and not self._giving:
                self._disturb(says)
            if self.ended is None:
                self.ended = Ended(how, says)
                self.cluster.say(f"gpu lease: {says}")
                self._over.set()

    def _disturb(self, why: str) -> None:
        """The one place where time that never jumps becomes time of day, which rows bear."""
        if self.disturbed is None:
            since = datetime.now(UTC) - timedelta(seconds=time.monotonic() - self._good)
            self.disturbed = Disturbed(since, why)

    def _changed_since(self) -> str | None:
        """What was not as we had set it when it was put back: it was changed after the last beat that looked."""
        changed = ("changed by hand", "not there", "foreign note", "held under another lease")
        for ref, _ in self.held.notes if self.held else ():
            reports = [report for report in self.reports if report.ref == ref]
            if not reports:
                return f"{ref}: its note was gone when it was to be put back"
            if found := [str(report) for report in reports if report.became in changed]:
                return found[0]
        return None

    def _run(self) -> None:
        assert self._mine is not None
        cluster = replace(self.cluster, standing=Standing(), pause=self._stop.wait)
        latest = self._mine
        while not self._stop.wait(self.cluster.times.beat_s):
            asked = time.monotonic()
            try:
                latest = cluster.perform(renew(latest))
                self._renewed = asked  # not later: the renewal is as old as its request
                if latest.release == latest.token:
                    self._end("release", "asked to give the card back")
                changed = cluster.perform(watch_plan(self.held)) if self.held and not self._giving else None
                if changed and not self._giving:  # what changes then, changes by us
                    self._end("changed", str(changed))
                elif self.held and not self._giving:
                    self._good = asked  # not later: what a read showed is as old as its request
            except Lost as error:
                self._end("lost", str(error))
                return
            except (GpuError, KubeError) as error:  # still ours until a lifetime has passed; `still_held` counts
                self.cluster.say(f"gpu lease: a heartbeat failed: {error}")
