"""The lease of a cluster's card, as plans: the tenant gets its card back whatever dies.

A plan is a generator. It yields one read, one conditional write or one wait, is sent the answer, and returns or raises
at its end; `perform` is the loop around it. Nothing here talks to Kubernetes (`workloads.py`, `record.py`) or knows a
clock. The order of writes, and what a crash after each leaves:

  take  1 the Lease: compare and swap to (me, token + 1).   A dead holder and no note: the next taker goes on.
        2 each tenant: read it, then the Lease, and only if that is mine one write that sets 0 and the note.
                                                            A note: the reaper undoes it once the Lease is dead.
        3 the tenants' pods are gone, then the engine, noted like a tenant (r0.s1).                   The same.
  give  1 the engine down, and its pods gone; found above 0 on an exclusive card its note is kept (r1.s0).
        2 each tenant as found, where it is still as set; ready.
        3 the engine as found, if its note was kept.
        4 the Lease: nobody.                                Killed before it: no note is left, the Lease expires.
  reap  as give, but before each write: read the workload, then the Lease; unless nobody has it, and only when its
        holder is dead, swap it to nobody first, so that a paused holder's next renewal is refused.

Invariants: a workload that differs from what was found bears a note in the same write; a note is undone by who can
name it or by who saw the Lease dead after it; a write lands only on what its writer has read. A human's change stays.
A holder is dead when it was not seen to renew for one lifetime, by the observer's own clock (`Standing`).
`tests/gpu/test_model.py` checks all interleavings of these functions.

GpuError (record.py)
├── Lost            the Lease is not ours any more
├── NotAllowed      the API server said no (403, 404, 422): names the object and what it said
├── KeepsChanging   somebody writes the object faster than we do
├── StillThere      pods that hold the card do not go
├── NoReaper        nobody beats who would give the card back for us
├── ForeignNote     the label is there and is no note of ours
└── HeldByOther     (record.py)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast

from llama_assets.gpu.note import LABEL, Note, holder_id
from llama_assets.gpu.record import GpuError, HeldByOther, Record

AGAIN = 10  # how often a refused write is tried on a newer read


@dataclass(frozen=True)
class Ref:
    """A workload by name."""

    kind: Literal["Deployment", "StatefulSet"]
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Card:
    """Who uses the card: tenants, and the engine that takes their place (None: it is not ours to scale)."""

    tenants: tuple[Ref, ...]
    engine: Ref | None = None
    exclusive: bool = True

    @property
    def workloads(self) -> tuple[Ref, ...]:
        """Engine first: the order in which they are put back."""
        return (*((self.engine,) if self.engine else ()), *self.tenants)


@dataclass(frozen=True)
class Workload:
    """What one read of a workload showed. `label` is the note as it stands there."""

    ref: Ref
    uid: str
    version: str
    replicas: int
    label: str | None = None
    ready: int = 0
    claims_deleted: bool = False

    @property
    def note(self) -> Note | None:
        """The note, if there is one. Raises ForeignNote when the label says something else."""
        if self.label is None:
            return None
        try:
            return Note.parse(self.label)
        except ValueError:
            raise ForeignNote(self.ref, self.label) from None


@dataclass(frozen=True)
class LeaseObject:
    """What one read of the Lease showed. `release` is the token whose release somebody asked for."""

    uid: str
    version: str
    token: int
    holder: str | None
    purpose: str = ""
    acquired_at: str | None = None
    renewed_at: str | None = None
    lifetime_s: float = 0.0
    release: int | None = None

    def same(self, other: LeaseObject | None) -> bool:
        """The same lease by the same holder, however often it was renewed."""
        return other is not None and (self.uid, self.token, self.holder) == (other.uid, other.token, other.holder)

    @property
    def record(self) -> Record:
        """As `lease status` shows it."""
        return Record(self.token, self.holder, self.purpose, self.acquired_at, self.renewed_at, self.lifetime_s)


@dataclass(frozen=True)
class Seen:
    """The Lease as an observer sees it now; `lease` is None when there is no such object."""

    lease: LeaseObject | None
    dead: bool = False

    @property
    def holder(self) -> str | None:
        """Who has the card, dead or alive."""
        return self.lease.holder if self.lease else None


class Standing:
    """Is the holder dead? By when this observer saw its last renewal, never by what two machines' clocks say.

    A new observer waits one lifetime before it calls a named holder dead.
    """

    def __init__(self) -> None:
        self._renewal: tuple[str, int, str | None, str | None] | None = None
        self._since = 0.0

    def see(self, lease: LeaseObject | None, now_s: float) -> Seen:
        """`now_s` is this process's monotonic clock."""
        if lease is None or lease.holder is None:
            self._renewal = None
            return Seen(lease)
        renewal = (lease.uid, lease.token, lease.holder, lease.renewed_at)
        if renewal != self._renewal:
            self._renewal, self._since = renewal, now_s
        return Seen(lease, dead=now_s - self._since >= lease.lifetime_s)

    def silent_s(self, now_s: float) -> float:
        """Since this observer saw the last renewal; 0.0 while nobody has the card."""
        return now_s - self._since if self._renewal else 0.0


@dataclass(frozen=True)
class ReadWorkload:
    """Answered by a Workload, or by Denied."""

    ref: Ref


@dataclass(frozen=True)
class ReadLease:
    """Answered by Seen."""


@dataclass(frozen=True)
class ReadHeart:
    """Answered by what the reaper's Lease says of its last renewal, None when there is none."""


@dataclass(frozen=True)
class CountPods:
    """Answered by how many pods of the workload may still hold the card."""

    ref: Ref


@dataclass(frozen=True)
class PatchWorkload:
    """Replicas and note in one write, if `seen` is still what is there; answered by Workload, Refused or Denied."""

    seen: Workload
    replicas: int
    note: Note | None

    def __str__(self) -> str:
        to = f"{self.seen.replicas} -> {self.replicas}" if self.replicas != self.seen.replicas else f"{self.replicas}"
        return f"{self.seen.ref}: {to} replicas, {f'note {self.note}' if self.note else 'note removed'}"


@dataclass(frozen=True)
class WriteLease:
    """Holder and token, if `seen` is still what is there (None: if nothing is); answered by LeaseObject or Refused."""

    seen: LeaseObject | None
    holder: str | None
    token: int

    def __str__(self) -> str:
        return f"Lease: {self.holder or 'nobody'}, token {self.token}"


@dataclass(frozen=True)
class Wait:
    """Look again later; answered by True, or by False when the time for this wait is over."""

    why: Literal["held", "heart", "gone", "ready"]
    ref: Ref | None = None


@dataclass(frozen=True)
class Refused:
    """A write that did not land, or one whose answer was lost: only a new read can tell."""


@dataclass(frozen=True)
class Denied:
    """403, 404 or a 422 that is no precondition: trying again does not help."""

    status: int
    message: str = ""


Action = ReadWorkload | ReadLease | ReadHeart | CountPods | PatchWorkload | WriteLease | Wait
Result = TypeVar("Result")
Plan = Generator[Action, Any, Result]


@dataclass(frozen=True)
class Held:
    """The card is ours: the Lease as we wrote it, and what each workload bears."""

    lease: LeaseObject
    notes: tuple[tuple[Ref, Note], ...]


@dataclass(frozen=True)
class Report:
    """What became of one workload when it was put back. `replicas` are what it was left at."""

    ref: Ref
    became: Literal["restored", "changed by hand", "not there", "denied", "keeps changing", "not ready", "foreign note"]
    replicas: int | None = None
    detail: str = ""

    @property
    def good(self) -> bool:
        """Is it as found, or as a human wants it?"""
        return self.became in ("restored", "changed by hand", "not there")

    def __str__(self) -> str:
        left = "" if self.replicas is None else f", at {self.replicas} replicas"
        return f"{self.ref}: {self.became}{left}{f' ({self.detail})' if self.detail else ''}"


def perform(plan: Plan[Result], answer: Callable[[Action], Any]) -> Result:
    """The loop around a plan: ask `answer` for each action, until the plan returns or raises."""
    said: Any = None
    while True:
        try:
            action = plan.send(said)
        except StopIteration as end:
            return cast(Result, end.value)
        said = answer(action)


def take(card: Card, me: str, ask_heart: bool = True) -> Plan[Held]:
    """Take the Lease, set tenants to 0 and the engine to 1 with their notes, wait between the two for pods to go.

    Raises:
        GpuError: one of the tree above; whatever was noted is put back and the Lease is free.
    """
    if ask_heart:
        yield from _reaper_beats()
    mine = yield from _swap(me)
    notes, trouble = yield from _take_under(card, mine)
    if trouble is not None:
        yield from give(card, mine)
        raise trouble
    return Held(mine, notes)


def _take_under(card: Card, mine: LeaseObject) -> Plan[tuple[tuple[tuple[Ref, Note], ...], GpuError | None]]:
    notes: tuple[tuple[Ref, Note], ...] = ()
    try:
        if card.engine and card.exclusive:  # before the tenants: a Pending pod of its own would take the card from them
            yield from _lower(card.engine, mine)
        for ref in card.tenants:
            notes = (*notes, (ref, (yield from _note(ref, mine, up=False))))
        for ref in card.workloads if card.exclusive else card.tenants:
            yield from _gone(ref, mine)
        if card.engine:  # not before: on a shared card both would be in memory
            notes = (*notes, (card.engine, (yield from _note(card.engine, mine, up=True))))
    except GpuError as error:
        return notes, error
    return notes, None


def give(card: Card, mine: LeaseObject) -> Plan[tuple[Report, ...]]:
    """Put back what bears our token and id, then free the Lease. Works too when the Lease is not ours any more."""
    reports = yield from _put_back(card, mine)
    yield from _free(mine)  # last: until here a note stands under a Lease that names who wrote it
    return reports


def reap(card: Card) -> Plan[tuple[Report, ...]]:
    """Put back what a dead holder left, and free its Lease; nothing when the Lease is alive."""
    found = False
    for ref in card.workloads:
        seen = yield ReadWorkload(ref)
        found = found or (isinstance(seen, Workload) and seen.label is not None)
    if not (yield from _fence()):
        return ()
    if not found:
        return ()
    return (yield from _put_back(card, None))


def renew(mine: LeaseObject) -> Plan[LeaseObject]:
    """One heartbeat, on the version last seen. Raises Lost when the Lease is gone, free or another's."""
    for _ in range(AGAIN):
        answer = yield WriteLease(mine, mine.holder, mine.token)
        if isinstance(answer, LeaseObject):
            return answer
        mine = yield from _still(mine)  # ours with another version: an answer was lost, or our release was asked for
    raise KeepsChanging("the Lease", AGAIN)


def watch(held: Held) -> Plan[Report | None]:
    """Is every workload still as we set it? The first that is not: the work must stop, the human wins."""
    for ref, note in held.notes:
        seen = yield ReadWorkload(ref)
        if isinstance(seen, Denied):
            return Report(ref, "not there" if seen.status == 404 else "denied", None, seen.message)
        if seen.label != str(note) or seen.replicas != note.set:
            return Report(ref, "changed by hand", seen.replicas)
    return None


def as_found(seen: Workload) -> int:
    """What to restore: an older note's word where the workload is as that note set it, else what is there."""
    older = seen.note
    return older.found if older is not None and seen.replicas == older.set else seen.replicas


def as_left(seen: Workload, note: Note) -> int:
    """What an undo leaves: as found where replicas are as set; a human's change stays."""
    return note.found if seen.replicas == note.set else seen.replicas


def ours(note: Note, mine: LeaseObject) -> bool:
    """Did this holder write the note under this token?"""
    return (note.token, note.holder) == (mine.token, holder_id(mine.holder or ""))


def _reaper_beats() -> Plan[None]:
    first = yield ReadHeart()
    while (yield Wait("heart")):
        now = yield ReadHeart()
        if now is not None and now != first:
            return
    raise NoReaper(first)


def _swap(me: str) -> Plan[LeaseObject]:
    """The Lease is mine with the next token. Waits for a living holder."""
    refused = 0
    while refused < AGAIN:
        seen: Seen = yield ReadLease()
        if seen.lease and seen.holder == me:
            return seen.lease  # an answer was lost: it landed
        if seen.lease and seen.holder and not seen.dead:
            if not (yield Wait("held")):
                raise HeldByOther(seen.lease.record)
            continue
        answer = yield WriteLease(seen.lease, me, (seen.lease.token if seen.lease else 0) + 1)
        if isinstance(answer, LeaseObject):
            return answer
        if isinstance(answer, Denied):
            raise NotAllowed("the Lease", answer)
        refused += 1
    raise KeepsChanging("the Lease", AGAIN)


def _still(mine: LeaseObject) -> Plan[LeaseObject]:
    seen: Seen = yield ReadLease()
    if seen.lease is None or not mine.same(seen.lease):
        raise Lost(mine, seen.holder)
    return seen.lease


def _note(ref: Ref, mine: LeaseObject, up: bool) -> Plan[Note]:
    """Set the workload and its note in one write, under a Lease that was ours after the workload was read."""
    for _ in range(AGAIN):
        seen = yield ReadWorkload(ref)
        yield from _still(mine)  # after the workload: whoever took the Lease since would have to write what we read
        if isinstance(seen, Denied):
            raise NotAllowed(str(ref), seen)
        if seen.claims_deleted:
            raise NotAllowed(str(ref), Denied(422, "scaling it deletes its volumes (whenScaled: Delete)"))
        found = as_found(seen)
        note = Note(found, max(found, 1) if up else 0, mine.token, holder_id(mine.holder or ""))
        if (seen.label, seen.replicas) != (str(note), note.set):  # equal: an answer was lost, and the write had landed
            answer = yield PatchWorkload(seen, note.set, note)
            if isinstance(answer, Denied):
                raise NotAllowed(str(ref), answer)
            if isinstance(answer, Refused):
                continue
        yield from _still(mine)  # lost while the write was on its way: it is put back
        return note
    raise KeepsChanging(str(ref), AGAIN)


def _lower(ref: Ref, mine: LeaseObject) -> Plan[None]:
    """The engine down with a note, if it is up or an older note says that it was."""
    seen = yield ReadWorkload(ref)
    if isinstance(seen, Denied) or seen.replicas or seen.label is not None:
        yield from _note(ref, mine, up=False)


def _gone(ref: Ref, mine: LeaseObject) -> Plan[None]:
    """Wait until no pod of a workload at 0 is left."""
    while left := (yield CountPods(ref)):
        if not (yield Wait("gone", ref)):
            raise StillThere(ref, left)
        yield from _still(mine)  # lost while we waited: it may be up again, and its pods never go


def _put_back(card: Card, mine: LeaseObject | None) -> Plan[tuple[Report, ...]]:
    """Engine down and gone, tenants as found and ready, engine as found. `mine` is None for the reaper."""
    reports: tuple[Report, ...] = ()
    try:
        if card.engine:
            reports = yield from _engine_down(card.engine, mine, card.exclusive)
        for ref in card.tenants:
            reports = (*reports, *(yield from _undo(ref, mine)))
        for ref in card.tenants:  # all: whoever restored one may have died before it was ready
            reports = (*reports, *(yield from _ready(ref)))
        if card.engine:  # after the tenants: on an exclusive card its pod would take their place
            reports = (*reports, *(yield from _undo(card.engine, mine)))
    except _Alive:  # only the reaper asks: somebody took the Lease, and the notes are theirs to undo
        return reports
    return reports


def _engine_down(ref: Ref, mine: LeaseObject | None, exclusive: bool) -> Plan[tuple[Report, ...]]:
    reports = yield from _undo(ref, mine, keep=exclusive)
    # Without a note too: who undid it may have died while its pod was still going. Above 0 it is a human's, or stays.
    while True:
        seen = yield ReadWorkload(ref)
        if isinstance(seen, Denied) or seen.replicas or not (yield CountPods(ref)) or not (yield Wait("gone", ref)):
            return reports


def _undo(ref: Ref, mine: LeaseObject | None, keep: bool = False) -> Plan[tuple[Report, ...]]:
    """Undo one note. `keep`: a workload found above 0 goes to 0 and keeps its note, to be put back later."""
    tried = False
    for _ in range(AGAIN):
        seen = yield ReadWorkload(ref)
        if isinstance(seen, Denied):
            return (Report(ref, "not there" if seen.status == 404 else "denied", None, seen.message),)
        try:
            note = seen.note
        except ForeignNote as error:
            return (Report(ref, "foreign note", seen.replicas, str(error)),)
        if note is None and tried:  # an answer was lost: it landed, or another reaper was faster
            return (Report(ref, "restored", seen.replicas),)
        if note is None or (mine is not None and not ours(note, mine)):
            return ()
        if mine is None and not (yield from _fence()):
            raise _Alive
        changed, tried = seen.replicas != note.set, True
        if keep and note.found and not changed:
            if note.set == 0:
                return ()
            answer = yield PatchWorkload(seen, 0, replace(note, set=0))
        else:
            answer = yield PatchWorkload(seen, as_left(seen, note), None)
        if isinstance(answer, Denied):
            return (Report(ref, "denied", seen.replicas, answer.message),)
        if isinstance(answer, Workload):
            if answer.label is not None:
                return ()
            return (Report(ref, "changed by hand" if changed else "restored", answer.replicas),)
    return (Report(ref, "keeps changing"),)


def _ready(ref: Ref) -> Plan[tuple[Report, ...]]:
    """Wait until a tenant that is up is ready; one that is not in time is a report, and no obstacle."""
    seen = yield ReadWorkload(ref)
    while isinstance(seen, Workload) and seen.ready < seen.replicas:
        if not (yield Wait("ready", ref)):
            return (Report(ref, "not ready", seen.replicas),)
        seen = yield ReadWorkload(ref)
    return ()


def _fence() -> Plan[bool]:
    """True when nobody has the Lease: it was free, or its holder is dead and was written out of it now."""
    seen = yield ReadLease()
    if seen.holder is None:
        return True
    if not seen.dead:
        return False
    # The version just read: a renewal meanwhile refuses us. Same transitions: nobody took it.
    answer = yield WriteLease(seen.lease, None, seen.lease.token)
    return isinstance(answer, LeaseObject)


def _free(mine: LeaseObject) -> Plan[None]:
    for _ in range(AGAIN):
        seen = yield ReadLease()
        if not mine.same(seen.lease):
            return
        answer = yield WriteLease(seen.lease, None, mine.token)
        if isinstance(answer, LeaseObject):
            return


class _Alive(Exception):  # not an error: it ends a reaper's pass
    """The Lease has a living holder."""


class Lost(GpuError):
    """The Lease is gone, free or another's."""

    def __init__(self, mine: LeaseObject, holder: str | None) -> None:
        super().__init__(
            f"the GPU lease of {mine.holder} (token {mine.token}) was lost to {holder or 'nobody'}: it expired, or "
            "somebody deleted it. What we had set is put back; `llama-assets lease status` shows who has the card"
        )


class NotAllowed(GpuError):
    """The API server said no."""

    def __init__(self, what: str, denied: Denied) -> None:
        self.what, self.status = what, denied.status
        way_out = {
            403: "give this service account the right on it (manifests/ has the Role)",
            404: "correct its name in the catalog, or take it out",
        }.get(denied.status, "let the policy that refused allow `spec.replicas` and the label " + LABEL)
        super().__init__(f"{what}: {denied.status} {denied.message or 'refused'}; {way_out}. All else is as found")


class KeepsChanging(GpuError):
    """Every write was refused because somebody wrote between."""

    def __init__(self, what: str, times: int) -> None:
        super().__init__(f"{what} changed under each of {times} writes; see who writes it (`kubectl get -w`)")


class StillThere(GpuError):
    """Pods of a workload at 0 replicas do not go."""

    def __init__(self, ref: Ref, pods: int) -> None:
        super().__init__(
            f"{ref} is at 0, and {pods} of its pods are still there; see `kubectl -n {ref.namespace} get pods`: "
            "a pod that ignores SIGTERM goes after its terminationGracePeriodSeconds"
        )


class NoReaper(GpuError):
    """Nobody would give the card back if we died."""

    def __init__(self, heart: str | None) -> None:
        seen = f"its last beat is {heart}, and it does not change" if heart else "it has never beaten"
        super().__init__(
            f"no reaper beats ({seen}), so nobody would give the card back if this process died; "
            "start Deployment llama-assets-reaper, or say --without-reaper"
        )


class ForeignNote(GpuError):
    """The label is there, and is not ours."""

    def __init__(self, ref: Ref, label: str) -> None:
        super().__init__(
            f"{ref} has label {LABEL}={label}, which is no note of ours; remove it once you know what it means: "
            f"`kubectl -n {ref.namespace} label {ref.kind.lower()} {ref.name} {LABEL}-`"
        )
