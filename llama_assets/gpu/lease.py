"""The lease of a cluster's card, as plans: the tenant gets its card back whatever dies.

A plan is a generator. It yields one read, one conditional write or one wait, is sent the answer, and returns or raises
at its end; `perform` is the loop around it. Nothing here talks to Kubernetes (`workloads.py`) or
knows a clock. The order of writes, and what a crash after each leaves:

  take  1 the Lease: compare and swap to (me, token + 1).   A dead holder and no note: the next taker goes on.
        2 each, on an exclusive card the engine first: read it, then the Lease, and only if that is mine one write that
          sets 0 and the note.                              A note: the reaper undoes it once the Lease is dead.
        3 the pods are gone, then the engine, noted like a tenant (r0.s1).                            The same.
  give  1 the engine down, and its pods gone; found above 0 on an exclusive card its note is kept (r1.s0).
        2 each tenant as found, where it is still as set; ready.
        3 the engine as found, if its note was kept.
        4 the Lease: nobody.                                Killed before it: no note is left, the Lease expires.
  reap  as give, but before each write: read the workload, then the Lease; unless nobody has it, and only when its
        holder is dead, swap it to nobody first, so that a paused holder's next renewal is refused.

Invariants: a workload that differs from what was found bears a note in the same write; a note is undone by who can
name it, or by who saw the Lease dead after it and its holder named by no other Lease; a write lands only on what its
writer has read. A human's change stays.
A holder is dead when it was not seen to renew for one lifetime, by the observer's own clock (`Standing`).
`tests/gpu/test_model.py` checks all interleavings of these functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from llama_assets.gpu.actions import (
    CountPods,
    Denied,
    PatchWorkload,
    Plan,
    ReadHeart,
    ReadHolders,
    ReadLease,
    ReadWorkload,
    Refused,
    Wait,
    WriteLease,
)
from llama_assets.gpu.errors import (
    AnotherLease,
    ForeignNote,
    KeepsChanging,
    Lost,
    NoReaper,
    NotAllowed,
    ScaledMeanwhile,
    StillThere,
)
from llama_assets.gpu.note import Note, holder_id
from llama_assets.gpu.objects import Card, LeaseObject, Ref, Seen, Workload
from llama_assets.gpu.record import GpuError, HeldByOther

AGAIN = 10  # how often a refused write is tried on a newer read


@dataclass(frozen=True)
class Held:
    """The card is ours: the Lease as we wrote it, and what each workload bears."""

    lease: LeaseObject
    notes: tuple[tuple[Ref, Note], ...]


@dataclass(frozen=True)
class Report:
    """What became of one workload when it was put back. `replicas` are what it was left at."""

    ref: Ref
    became: Literal[
        "restored",
        "changed by hand",
        "not there",
        "denied",
        "keeps changing",
        "not ready",
        "foreign note",
        "held under another lease",
    ]
    replicas: int | None = None
    detail: str = ""

    @property
    def good(self) -> bool:
        """Is it as found, or as a human wants it?"""
        return self.became in ("restored", "changed by hand", "not there")

    def __str__(self) -> str:
        left = "" if self.replicas is None else f", at {self.replicas} replicas"
        return f"{self.ref}: {self.became}{left}{f' ({self.detail})' if self.detail else ''}"


def take(card: Card, me: str, ask_heart: bool = True) -> Plan[Held]:
    """Take the Lease, set tenants to 0 and the engine to 1 with their notes, wait between the two for pods to go.

    Raises:
        GpuError: one of the tree above; whatever was noted is put back and the Lease is free.
    """
    if ask_heart:
        yield from reaper_beats()
    mine = yield from _swap(me)
    notes, trouble = yield from _take_under(card, mine)
    if trouble is not None:
        yield from give(card, mine)
        raise trouble
    return Held(mine, notes)


def _take_under(card: Card, mine: LeaseObject) -> Plan[tuple[tuple[tuple[Ref, Note], ...], GpuError | None]]:
    notes: tuple[tuple[Ref, Note], ...] = ()
    try:
        # Before the tenants: a Pending pod of its own would take the card from them. At 0 too: once a reaper has
        # removed that note, what a paused holder still writes to the engine is refused; the tenants are back by then.
        if card.engine and card.exclusive:
            yield from _note(card.engine, mine, up=False)
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
    return tuple(dict.fromkeys((yield from _put_back(card, None))))  # the engine is looked at twice


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


def reaper_beats() -> Plan[None]:
    """Wait until a beat of the reaper was seen. Raises NoReaper when none comes."""
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
        older, found = seen.note, as_found(seen)
        if older is not None and not ours(older, mine) and (yield from _of_another(older)):
            raise AnotherLease(ref, older)
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


def _gone(ref: Ref, mine: LeaseObject) -> Plan[None]:
    """Wait until no pod of a workload at 0 is left. The human wins who scales it up again."""
    while True:
        left = yield CountPods(ref)
        seen = yield ReadWorkload(ref)
        if isinstance(seen, Denied):  # deleted since: its pods may linger, and nobody can say which they are
            raise NotAllowed(str(ref), seen)
        if seen.replicas:
            raise ScaledMeanwhile(ref, seen.replicas)
        if not left:
            return
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
        if reports or (yield from _noted(card.engine)):
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
        if mine is None and (yield from _of_another(note)):
            return (Report(ref, "held under another lease", seen.replicas, f"note {note}"),)
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


def _noted(engine: Ref | None) -> Plan[bool]:
    """Is the engine still to be put back? If not, and nothing was, a tenant that is not ready was so before."""
    if engine is None:
        return False
    seen = yield ReadWorkload(engine)
    return isinstance(seen, Workload) and seen.label is not None


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


def _of_another(note: Note) -> Plan[bool]:
    """Does another Lease of our namespace name the note's holder? Then the note is its to undo.

    A catalog with a wrong `gpu.lease` meets it: the Lease it names is free. Asked after the workload was read, as
    the Lease itself: a holder is named before its first note and until its last is undone, so a note that was read
    before its holder was looked for in vain is a dead one's, and the write lands on what was read only.
    """
    named: frozenset[str] = yield ReadHolders()
    return note.holder in named


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
