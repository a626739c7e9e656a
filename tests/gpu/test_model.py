"""All interleavings of the lease's plans: the tenant gets its card back, and each safeguard is one that matters.

`pytest tests/gpu/test_model.py --long` sees the larger worlds whole (minutes); without it they are wandered through by
seed.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from llama_assets.gpu import lease as protocol
from llama_assets.gpu.actions import PatchWorkload, ReadLease, ReadWorkload, WriteLease
from llama_assets.gpu.objects import LeaseObject, Seen, Workload

from .model import Scenario, World, explore, wander

Plan = Generator[Any, Any, Any]

WHOLE = {
    "one holder, paused or killed": Scenario(holders=1, crashes=1),
    "a zero found": Scenario(found=(0,), holders=1, crashes=1),
    "three found": Scenario(found=(3,), holders=1, crashes=1),
    "two holders": Scenario(reapers=0),
    "a human scales": Scenario(holders=1, reapers=1, human=("scales",), crashes=1),
    "a human recreates the tenant": Scenario(holders=1, reapers=1, human=("recreates",), crashes=1),
    "a human deletes the lease": Scenario(holders=1, reapers=1, human=("deletes",), crashes=1),
    "an answer is lost": Scenario(holders=1, reapers=1, lost=1, crashes=1),
    "the engine takes the tenant's place": Scenario(holders=1, reapers=1, engine=0),
    "a shared card": Scenario(holders=1, reapers=1, engine=1, exclusive=False, crashes=1),
    "the engine was up, and nobody is killed": Scenario(holders=1, reapers=1, engine=1, scheduler=True, expiries=0),
    "a human scales the engine": Scenario(holders=1, reapers=1, engine=0, human=("engine",), scales=(2,), expiries=0),
    "waits are over too early": Scenario(holders=1, reapers=1, engine=0, early=1, expiries=0, crashes=1),
    "a reaper of another lease": Scenario(holders=1, reapers=1, stranger=True),
    "a reaper of another lease, two holders": Scenario(reapers=0, stranger=True, expiries=0),
}
LARGE = {
    "a reaper of another lease and everything": Scenario(
        (1,), engine=0, human=("scales",), expiries=0, crashes=1, lost=1, stranger=True
    ),
    "everything": Scenario(
        (1, 3), engine=0, human=("scales", "engine", "recreates", "deletes"), expiries=2, crashes=2, lost=2, early=1
    ),
    "two tenants and the engine": Scenario((1, 0), engine=0, expiries=2, crashes=2),
    "the engine was up on an exclusive card": Scenario((1,), engine=1, scheduler=True, expiries=1, crashes=2, lost=1),
    "a shared card, scaled by hand": Scenario((2,), engine=1, exclusive=False, human=("scales", "engine"), crashes=1),
    "two holders, two reapers, killed": Scenario((1,), crashes=1),
    "answers are lost": Scenario((1,), engine=0, expiries=1, crashes=1, lost=4),
    "the lease is deleted": Scenario((1,), engine=0, human=("deletes",), expiries=1, crashes=1, lost=1),
}
LONG = {
    "the engine was up": Scenario(holders=1, reapers=1, engine=1, scheduler=True, crashes=1),
    "the engine takes the tenant's place, killed": Scenario(holders=1, reapers=1, engine=0, crashes=1),
    "two holders and a reaper": Scenario(reapers=1),
    "two holders, two reapers, killed": Scenario(crashes=1),
    "two holders, two reapers, a human scales": Scenario(human=("scales",)),
    "two holders, two reapers, the lease is deleted": Scenario(human=("deletes",)),
    "two holders, a human scales, killed": Scenario(reapers=1, human=("scales",), crashes=1),
    "two holders, the lease is deleted, killed": Scenario(reapers=1, human=("deletes",), crashes=1),
    "two holders and the engine": Scenario(reapers=1, engine=0),
    "two tenants and the engine": Scenario((1, 0), engine=0, holders=1, crashes=1),
}


@pytest.mark.parametrize("name", WHOLE)
def test_tenants_get_back_what_was_found_in_every_interleaving(name):
    found = explore(World(WHOLE[name]))
    assert found.wrong is None, found
    assert found.states > 300


@pytest.mark.parametrize("name", LARGE)
def test_tenants_get_back_what_was_found_on_ways_through_larger_worlds(name, request):
    walks = 50_000 if request.config.getoption("--long") else 300
    found = wander(World(LARGE[name]), seed=7, walks=walks)
    assert found.wrong is None, found


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LONG)
def test_large_worlds_hold_in_every_interleaving(name):
    found = explore(World(LONG[name]))
    assert found.wrong is None, found


# Each variant below leaves one safeguard out, and must be found out.


def note_in_another_write(plan: Plan, program: str) -> Plan:
    """Replicas first, the note after it."""

    def split(action: PatchWorkload) -> Plan:
        answer = yield PatchWorkload(action.seen, action.replicas, action.seen.note)
        if isinstance(answer, Workload):
            answer = yield PatchWorkload(answer, action.replicas, action.note)
        return answer

    return _through(plan, {PatchWorkload: lambda action: split(action) if action.note else None})


def no_lease_read_after_the_workload(plan: Plan, program: str) -> Plan:
    """The holder trusts that the Lease is still its own."""
    answer, mine, before = None, None, None
    while True:
        try:
            action = plan.send(answer)
        except StopIteration as end:
            return end.value
        if program == "holder" and isinstance(action, ReadLease) and isinstance(before, ReadWorkload):
            answer = Seen(mine)
        else:
            answer = yield action
        if isinstance(action, WriteLease) and isinstance(answer, LeaseObject):
            mine = answer
        before = action


def lease_read_before_the_workload(plan: Plan, program: str) -> Plan:
    """The reaper looks at the Lease, and then for notes."""
    answer, early = None, None
    while True:
        try:
            action = plan.send(answer)
        except StopIteration as end:
            return end.value
        if program == "reaper" and isinstance(action, ReadWorkload):
            early = yield ReadLease()
            answer = yield action
        elif program == "reaper" and isinstance(action, ReadLease):
            answer = early
        else:
            answer = yield action


def no_swap_to_nobody(plan: Plan, program: str) -> Plan:
    """The reaper undoes without writing the dead holder out of the Lease."""

    def pretended(action: WriteLease) -> Plan:
        return action.seen
        yield

    return _through(plan, {WriteLease: lambda action: pretended(action) if program == "reaper" else None})


def unconditional_patch(plan: Plan, program: str) -> Plan:
    """No resourceVersion and no uid in what is written to a workload."""

    def blind(action: PatchWorkload) -> Plan:
        return (yield replace(action, seen=replace(action.seen, version="any")))

    return _through(plan, {PatchWorkload: blind})


def unconditional_renewal(plan: Plan, program: str) -> Plan:
    """A heartbeat that writes over whatever is there."""

    def blind(action: WriteLease) -> Plan:
        return (yield replace(action, seen=replace(action.seen, version="any")))

    return _through(plan, {WriteLease: lambda action: blind(action) if program == "heart" else None})


def _through(plan: Plan, instead: dict[type, Any]) -> Plan:
    """The plan with some of its actions done another way."""
    answer = None
    while True:
        try:
            action = plan.send(answer)
        except StopIteration as end:
            return end.value
        make = instead.get(type(action))
        other = make(action) if make else None
        answer = (yield from other) if other is not None else (yield action)


SMALL = Scenario(holders=1, reapers=1)
TWO = Scenario(reapers=0)
BROKEN_PLANS = {
    note_in_another_write: replace(SMALL, crashes=1),
    no_lease_read_after_the_workload: TWO,
    lease_read_before_the_workload: Scenario(reapers=1),
    no_swap_to_nobody: SMALL,
    unconditional_patch: replace(SMALL, human=("scales",)),
    unconditional_renewal: SMALL,
}


FOUND_OUT_ON_A_CLUSTER_TOO = pytest.param(lease_read_before_the_workload, marks=pytest.mark.long)


@pytest.mark.parametrize(
    "variant",
    [FOUND_OUT_ON_A_CLUSTER_TOO if each is lease_read_before_the_workload else each for each in BROKEN_PLANS],
    ids=lambda variant: variant.__name__,
)
def test_a_protocol_without_this_safeguard_is_found_out(variant):
    found = explore(World(BROKEN_PLANS[variant], variant))
    assert found.wrong, found
    print(found)


def only_the_token(note, mine):
    return note.token == mine.token


def an_older_note_always_wins(seen):
    return seen.note.found if seen.note else seen.replicas


def always_as_found(seen, note):
    return note.found


def asking_no_other_lease(note):
    return False
    yield


def not_waiting_for_the_engine(ref, mine, exclusive):
    return (yield from protocol._undo(ref, mine, keep=exclusive))


def not_waiting_for_tenants(ref):
    return ()
    yield


def never_taking_a_found_engine_down(ref, mine, exclusive):
    return ()
    yield


UP = Scenario(holders=1, reapers=1, engine=1, scheduler=True, expiries=0)
BROKEN_PARTS = {
    ("ours", only_the_token): replace(TWO, human=("deletes",)),
    ("as_found", an_older_note_always_wins): replace(TWO, human=("scales",)),
    ("as_left", always_as_found): replace(SMALL, human=("scales",), expiries=0),
    ("_of_another", asking_no_other_lease): Scenario(holders=1, reapers=0, stranger=True, expiries=0),
    ("_engine_down", not_waiting_for_the_engine): Scenario(holders=1, reapers=1, engine=0, expiries=0),
    ("_ready", not_waiting_for_tenants): UP,
    ("_engine_down", never_taking_a_found_engine_down): UP,
}


@pytest.mark.parametrize("part", BROKEN_PARTS, ids=lambda part: part[1].__name__)
def test_a_protocol_with_this_part_done_wrong_is_found_out(part, monkeypatch):
    monkeypatch.setattr(protocol, *part)
    found = explore(World(BROKEN_PARTS[part]))
    assert found.wrong, found
    print(found)


def test_a_note_kept_as_an_annotation_comes_back_by_a_rollback_and_undoes_a_humans_zero():
    found = explore(World(replace(SMALL, human=("rolls back",), expiries=0), annotation=True))
    assert found.wrong, found
    assert any("rolls back" in line for line in found.trace)
