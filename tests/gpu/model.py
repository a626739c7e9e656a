"""Every interleaving of the lease's own plans over an API server in memory.

A process is one of the plans (`gpu/lease.py`), stopped at its next action. Two processes at the same place in the code
with the same values in it will do the same from there, so a process is known by that, and states can be compared and
counted. To go on from a process along two ways, it is built anew by sending it the answers it was sent before.

Versions: what matters of a resourceVersion is whether it is still the object's. A read bears `fresh`; when anybody
writes the object, the answers that other processes were sent are changed to `stale`, and a stale write is refused.

The world also has: pods that start and linger, a lease that expires (at any time, which covers every clock and every
pause; a dead holder's expires in the end), processes that are killed, answers that are lost although the write landed,
waits that are over too early, one human who scales, recreates or rolls back a workload, or deletes the Lease, and a
stranger: a reaper whose catalog names the same workloads and another Lease, which is free.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import GeneratorType
from typing import Any, NamedTuple

from llama_assets.gpu import lease as protocol
from llama_assets.gpu.actions import (
    CountPods,
    PatchWorkload,
    ReadHolders,
    ReadLease,
    ReadWorkload,
    Refused,
    Wait,
    WriteLease,
)
from llama_assets.gpu.note import Note, holder_id
from llama_assets.gpu.objects import Card, LeaseObject, Ref, Seen, Workload
from llama_assets.gpu.record import GpuError

A, B = "a/aaaaaaaa", "b/bbbbbbbb"
ENGINE = Ref("Deployment", "llama-cpp", "llama-swap")
TENANTS = (Ref("Deployment", "immich", "ml"), Ref("StatefulSet", "immich", "other"))
LEASE = "lease"


@dataclass(frozen=True)
class Work:
    """The holder has the card and uses it."""


@dataclass(frozen=True)
class Scenario:
    """What there is, and how often what may happen. `human`: (what, whom, to) of the one thing a human may do."""

    found: tuple[int, ...] = (1,)
    engine: int | None = None
    exclusive: bool = True
    scheduler: bool = False  # a pod starts only when the card is free
    holders: int = 2
    reapers: int = 2
    human: tuple[str, ...] = ()
    scales: tuple[int, ...] = (0, 2)
    expiries: int = 1
    crashes: int = 0
    lost: int = 0
    early: int = 0
    stranger: bool = False

    @property
    def card(self) -> Card:
        return Card(TENANTS[: len(self.found)], None if self.engine is None else ENGINE, self.exclusive)


class Thing(NamedTuple):
    """A workload in the API server. `undone` is the note last removed (an annotation would come back by a rollback)."""

    replicas: int
    label: str | None
    pods: bool
    uid: int
    want: int
    undone: str | None


class Lease(NamedTuple):
    uid: int
    holder: str | None
    token: int
    dead: bool


class State(NamedTuple):
    """Processes by number in `Processes`: holders, their hearts, reapers (None: not running)."""

    holders: tuple[int | None, ...]
    hearts: tuple[int | None, ...]
    reapers: tuple[int | None, ...]
    strangers: tuple[int | None, ...]
    things: tuple[Thing, ...]
    lease: Lease | None
    human: bool  # has still to act
    touched: bool  # a human has acted
    late: bool  # a lease expired while its holder lived
    hurried: bool  # a wait was over too early
    expiries: int
    crashes: int
    lost: int
    early: int
    leases: int  # how many Lease objects there were


Variant = Callable[[Generator[Any, Any, Any], str], Generator[Any, Any, Any]]


class Processes:
    """Plans at their places, each known by a number."""

    def __init__(self, variant: Variant | None = None) -> None:
        self.variant = variant
        self.actions: list[Any] = []
        self.results: list[Any] = []
        self._made: list[tuple[Hashable, tuple[Any, ...]]] = []
        self._numbers: dict[Hashable, int] = {}
        self._sent: dict[tuple[int, Any], int] = {}
        self._stale: dict[tuple[int, Hashable], int] = {}
        self._started: dict[Hashable, int] = {}

    def start(self, program: tuple[Any, ...]) -> int:
        if program not in self._started:
            self._started[program] = self._number(program, ())
        return self._started[program]

    def send(self, number: int, answer: Any) -> int:
        key = (number, answer)
        if key not in self._sent:
            program, answers = self._made[number]
            self._sent[key] = self._number(program, (*answers, answer))
        return self._sent[key]

    def stale(self, number: int, what: Hashable) -> int:
        key = (number, what)
        if key not in self._stale:
            program, answers = self._made[number]
            program = tuple(_aged(part, what) for part in program)
            self._stale[key] = self._number(program, tuple(_aged(answer, what) for answer in answers))
        return self._stale[key]

    def _number(self, program: Any, answers: tuple[Any, ...]) -> int:
        plan = PROGRAMS[program[0]](*program[1:])
        if self.variant is not None:
            plan = self.variant(plan, program[0])
        action, result = None, None
        try:
            action = self._on(plan, program[0], None)
            for answer in answers:
                action = self._on(plan, program[0], answer)
        except StopIteration as end:
            action, result = None, _frozen(end.value)
        key = (program[0], result) if action is None else (program[0], _frozen(plan), action)
        if key not in self._numbers:
            self._numbers[key] = len(self.actions)
            self.actions.append(action)
            self.results.append(result)
            self._made.append((program, answers))
        return self._numbers[key]

    def _on(self, plan: Any, program: str, answer: Any) -> Any:
        """Its next action; what is always answered the same is answered at once: it makes no other state."""
        action = plan.send(answer)
        while True:
            if isinstance(action, ReadHolders) and program != "stranger":
                action = plan.send(frozenset())
            elif isinstance(action, ReadLease) and program == "stranger":
                action = plan.send(Seen(None))
            else:
                return action


def _aged(value: Any, what: Hashable) -> Any:
    """The same answer, after somebody else wrote the object in it."""
    if isinstance(value, Workload) and value.ref == what:
        return replace(value, version="stale")
    if isinstance(value, LeaseObject) and what == LEASE:
        return replace(value, version="stale")
    if isinstance(value, Seen) and value.lease is not None and what == LEASE:
        return replace(value, lease=replace(value.lease, version="stale"))
    return value


def _frozen(value: Any) -> Hashable:
    """A value, or a plan's place in its code, as something that can be compared."""
    if isinstance(value, GeneratorType):
        if value.gi_frame is None:
            return (value.__name__, "ended")
        inner = value.gi_yieldfrom
        place = {name: _frozen(held) for name, held in value.gi_frame.f_locals.items()}
        return (value.__name__, value.gi_frame.f_lasti, tuple(place.items()), _frozen(inner) if inner else None)
    if isinstance(value, BaseException):
        return (type(value).__name__, str(value))
    if callable(value):
        return getattr(value, "__qualname__", repr(value))
    if isinstance(value, dict):
        return tuple((name, _frozen(part)) for name, part in value.items())
    if isinstance(value, tuple | list):
        return tuple(_frozen(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, *(_frozen(getattr(value, part.name)) for part in fields(value)))
    return value


def _holder(card: Card, me: str) -> Generator[Any, Any, Any]:
    try:
        held = yield from protocol.take(card, me, ask_heart=False)
    except GpuError:
        return
    yield Work()
    yield from protocol.give(card, held.lease)


PROGRAMS: dict[str, Callable[..., Generator[Any, Any, Any]]] = {
    "holder": _holder,
    "reaper": lambda card: protocol.reap(card),
    "stranger": lambda card: protocol.reap(card),
    "heart": lambda mine: protocol.renew(mine),
}


@dataclass
class World:
    """A scenario with its processes: which states follow a state, and what is wrong with one."""

    scenario: Scenario
    variant: Variant | None = None
    annotation: bool = False  # the note comes back by `rollout undo`
    processes: Processes = field(init=False)

    def __post_init__(self) -> None:
        self.processes = Processes(self.variant)
        self.card = self.scenario.card
        self.refs = self.card.workloads
        self.engine = 0 if self.card.engine else None
        names = (A, B)[: self.scenario.holders]
        self.beginning = {self.processes.start(("holder", self.card, name)) for name in names}

    def first(self) -> State:
        s = self.scenario
        found = (*(() if s.engine is None else (s.engine,)), *s.found)
        busy = False
        things = []
        for at, replicas in reversed(list(enumerate(found))):  # the tenant has the card
            pods = replicas > 0 and not (s.scheduler and busy)
            busy = busy or pods
            things.append(Thing(replicas, None, pods, at, replicas, None))
        names = (A, B)[: s.holders]
        holders = tuple(self.processes.start(("holder", self.card, name)) for name in names)
        none = (None,) * s.holders
        return State(holders, none, (None,) * s.reapers, (None,) * s.stranger, tuple(reversed(things)), None,
                     bool(s.human), False, False, False, s.expiries, s.crashes, s.lost, s.early, 0)  # fmt: skip

    # -- what may happen next -----------------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for at, number in enumerate(state.holders):
            if number is not None:
                yield from self._acts(state, "holders", at, number)
                if state.crashes and not self._idle(number):
                    killed = state._replace(
                        holders=_put(state.holders, at, None),
                        hearts=_put(state.hearts, at, None),
                        crashes=state.crashes - 1,
                    )
                    yield f"holder {'AB'[at]} is killed", killed
            heart = state.hearts[at]
            if heart is not None and (state.lease is None or state.lease.dead or self._is_stale(heart)):
                yield from self._beats(state, at, heart)
        busy = (state.lease is not None and state.lease.dead) or any(thing.label for thing in state.things)
        for at, number in enumerate(state.reapers):
            if number is not None:
                yield from self._acts(state, "reapers", at, number)
                if state.crashes:
                    yield (
                        f"reaper {at + 1} is killed",
                        state._replace(reapers=_put(state.reapers, at, None), crashes=state.crashes - 1),
                    )
            elif busy:
                number = self.processes.start(("reaper", self.card))
                yield from self._acts(state, "reapers", at, number)
        for at, number in enumerate(state.strangers):
            if number is not None or any(thing.label for thing in state.things):
                number = self.processes.start(("stranger", self.card)) if number is None else number
                yield from self._acts(state, "strangers", at, number)
        yield from self._world(state)
        if state.human:
            yield from self._human(state)

    def _idle(self, number: int) -> bool:
        return number in self.beginning

    def _is_stale(self, heart: int) -> bool:
        action = self.processes.actions[heart]
        return isinstance(action, WriteLease) and action.seen is not None and action.seen.version != "fresh"

    def _world(self, state: State) -> Iterator[tuple[str, State]]:
        busy = any(thing.pods for thing in state.things)
        for at, thing in enumerate(state.things):
            if thing.pods and not thing.replicas:
                yield f"{self.refs[at].name}: the pod goes", self._with(state, at, thing._replace(pods=False))
            if thing.replicas and not thing.pods and not (self.scenario.scheduler and busy):
                yield f"{self.refs[at].name}: the pod starts", self._with(state, at, thing._replace(pods=True))
        if state.lease and state.lease.holder and not state.lease.dead:
            alive = state.holders[(A, B).index(state.lease.holder)] is not None
            if state.expiries or not alive:
                left = state.expiries - 1 if alive else state.expiries
                dead = state.lease._replace(dead=True)
                yield "the lease expires", state._replace(lease=dead, expiries=left, late=state.late or alive)

    def _human(self, state: State) -> Iterator[tuple[str, State]]:
        done = state._replace(human=False, touched=True)
        if "deletes" in self.scenario.human and state.lease:
            deleted = state._replace(human=False, lease=None, late=True)  # no tenant was touched by it
            yield "a human deletes the lease", self._lease_written(deleted, None)
        for at, thing in enumerate(state.things):
            name = self.refs[at].name
            if "engine" in self.scenario.human if at == self.engine else "scales" in self.scenario.human:
                for k in self.scenario.scales:
                    if k != thing.replicas and (thing.label is None or k):
                        scaled = self._written(done, at, thing._replace(replicas=k, want=k), None)
                        yield f"a human scales {name} to {k}", scaled
            if "recreates" in self.scenario.human:
                new = Thing(1, None, thing.pods, thing.uid + 100, 1, None)
                yield f"a human recreates {name}", self._written(done, at, new, None)
            if "rolls back" in self.scenario.human and self.annotation and thing.undone and not thing.label:
                # parked at 0 first: that is what a note that comes back undoes
                new = thing._replace(replicas=0, want=0, label=thing.undone)
                yield f"a human parks {name} at 0 and rolls back", self._written(done, at, new, None)

    # -- the API server -----------------------------------------------------------------------------------------------

    def _acts(self, state: State, role: str, at: int, number: int) -> Iterator[tuple[str, State]]:
        action = self.processes.actions[number]
        who = {"holders": f"holder {'AB'[at % 2]}", "reapers": f"reaper {at + 1}", "strangers": "the stranger"}[role]
        match action:
            case ReadWorkload(ref):
                seen = self._seen(state, self.refs.index(ref))
                yield f"{who} reads {ref.name}", self._sent(state, role, at, number, seen)
            case ReadLease():
                yield f"{who} reads the lease", self._sent(state, role, at, number, self._seen_lease(state))
            case ReadHolders():
                named = frozenset({holder_id(state.lease.holder)} if state.lease and state.lease.holder else ())
                yield f"{who} reads whom other leases name", self._sent(state, role, at, number, named)
            case CountPods(ref):
                pods = int(state.things[self.refs.index(ref)].pods)
                yield f"{who} counts pods of {ref.name}: {pods}", self._sent(state, role, at, number, pods)
            case Wait():
                if not (action.why == "held" and state.lease and state.lease.holder and not state.lease.dead):
                    yield f"{who} looks again", self._sent(state, role, at, number, True)
                if action.why == "held" or state.touched or state.late:  # who may keep up what we wait for
                    over = state._replace(hurried=state.hurried or action.why == "gone")
                    yield f"{who} waits no longer", self._sent(over, role, at, number, False)
                elif state.early:
                    hurried = state._replace(early=state.early - 1, hurried=True)
                    yield f"{who} waits no longer, too early", self._sent(hurried, role, at, number, False)
            case Work():
                yield f"{who} ends its work", self._sent(state, role, at, number, None)
            case PatchWorkload():
                yield from self._patches(state, role, at, number, who, action)
            case WriteLease():
                yield from self._writes_lease(state, role, at, number, who, action)
            case _:
                raise AssertionError(action)

    def _patches(
        self, state: State, role: str, at: int, number: int, who: str, action: PatchWorkload
    ) -> Iterator[tuple[str, State]]:
        which = self.refs.index(action.seen.ref)
        thing = state.things[which]
        if action.seen.version not in ("fresh", "any") or (
            action.seen.version == "fresh" and action.seen.uid != str(thing.uid)
        ):
            yield f"{who} is refused: {action}", self._sent(state, role, at, number, Refused())
            return
        label = None if action.note is None else str(action.note)
        undone = thing.label if label is None and self.annotation else thing.undone
        new = thing._replace(replicas=action.replicas, label=label, undone=undone)
        for lost in (False, True)[: 2 if state.lost else 1]:
            after = self._written(state, which, new, (role, at))
            number_now = self.processes.stale(number, action.seen.ref)
            if lost:
                after = after._replace(lost=state.lost - 1)
                yield f"{who} writes {action}, answer lost", self._sent(after, role, at, number_now, Refused())
            else:
                seen = self._seen(after, which)
                yield f"{who} writes {action}", self._sent(after, role, at, number_now, seen)

    def _writes_lease(
        self, state: State, role: str, at: int, number: int, who: str, action: WriteLease
    ) -> Iterator[tuple[str, State]]:
        new = self._swapped(state, action)
        if new is None:
            yield f"{who} is refused: {action}", self._sent(state, role, at, number, Refused())
            return
        for lost in (False, True)[: 2 if state.lost else 1]:
            after = self._lease_written(new, (role, at))
            number_now = self.processes.stale(number, LEASE)
            seen = self._seen_lease(after).lease
            if lost:
                after = self._sent(after._replace(lost=state.lost - 1), role, at, number_now, Refused())
            else:
                after = self._sent(after, role, at, number_now, seen)
            if role == "holders" and action.holder is not None:
                after = after._replace(hearts=_put(after.hearts, at, self.processes.start(("heart", seen))))
            yield f"{who} writes {action}{', answer lost' if lost else ''}", after

    def _beats(self, state: State, at: int, heart: int) -> Iterator[tuple[str, State]]:
        action = self.processes.actions[heart]
        new = self._swapped(state, action)
        if new is not None:
            after = self._lease_written(new, ("hearts", at))
            seen = self._seen_lease(after).lease
            hearts = _put(after.hearts, at, self.processes.start(("heart", seen)))
            yield f"holder {'AB'[at]} renews", after._replace(hearts=hearts)
            return
        try:
            plan = PROGRAMS["heart"](action.seen)
            next(plan)
            plan.send(Refused())
            again = plan.send(self._seen_lease(state))
            yield (
                f"holder {'AB'[at]} renews on a newer version",
                state._replace(hearts=_put(state.hearts, at, self.processes.start(("heart", again.seen)))),
            )
        except protocol.Lost:
            yield f"holder {'AB'[at]} sees that it lost the lease", state._replace(hearts=_put(state.hearts, at, None))

    def _swapped(self, state: State, action: WriteLease) -> State | None:
        """The state with the Lease written, or None when the write is refused."""
        if action.seen is None:
            if state.lease is not None:
                return None
            made = Lease(state.leases + 1, action.holder, action.token, False)
            return state._replace(lease=made, leases=state.leases + 1)
        if action.seen.version == "any" and state.lease is not None:
            return state._replace(lease=Lease(state.lease.uid, action.holder, action.token, False))
        if state.lease is None or action.seen.version != "fresh" or action.seen.uid != str(state.lease.uid):
            return None
        return state._replace(lease=Lease(state.lease.uid, action.holder, action.token, False))

    def _seen(self, state: State, which: int) -> Workload:
        thing = state.things[which]
        ready = thing.replicas if thing.pods else 0
        return Workload(self.refs[which], str(thing.uid), "fresh", thing.replicas, thing.label, ready)

    def _seen_lease(self, state: State) -> Seen:
        if state.lease is None:
            return Seen(None)
        uid, holder, token, dead = state.lease
        return Seen(LeaseObject(str(uid), "fresh", token, holder), dead)

    def _with(self, state: State, which: int, thing: Thing) -> State:
        return state._replace(things=_put(state.things, which, thing))

    def _written(self, state: State, which: int, thing: Thing, by: tuple[str, int] | None) -> State:
        return self._aged(self._with(state, which, thing), self.refs[which], by)

    def _lease_written(self, state: State, by: tuple[str, int] | None) -> State:
        return self._aged(state, LEASE, by)

    def _aged(self, state: State, what: Hashable, by: tuple[str, int] | None) -> State:
        def aged(role: str, numbers: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return tuple(
                number if number is None or by == (role, at) else self.processes.stale(number, what)
                for at, number in enumerate(numbers)
            )

        return state._replace(
            holders=aged("holders", state.holders),
            hearts=aged("hearts", state.hearts) if what == LEASE else state.hearts,
            reapers=aged("reapers", state.reapers),
            strangers=aged("strangers", state.strangers),
        )

    def _sent(self, state: State, role: str, at: int, number: int, answer: Any) -> State:
        now: int | None = self.processes.send(number, answer)
        if self.processes.actions[now] is None:
            now = None
        state = state._replace(**{role: _put(getattr(state, role), at, now)})
        if role == "holders" and now is None:
            state = state._replace(hearts=_put(state.hearts, at, None))
        return state

    # -- what must hold -----------------------------------------------------------------------------------------------

    def wrong(self, state: State) -> str | None:
        """What must never be, in any state."""
        tenants = state.things[0 if self.engine is None else 1 :]
        if state.touched:
            return None
        for at, number in enumerate(state.holders):
            if number is None or not isinstance(self.processes.actions[number], Work):
                continue
            if state.lease is None or state.lease.holder != (A, B)[at] or state.lease.dead:
                continue
            if any(thing.replicas or thing.pods for thing in tenants):
                return f"holder {'AB'[at]} works under a live lease while a tenant is up"
            if self.engine is not None and not state.things[0].replicas:
                return f"holder {'AB'[at]} works under a live lease while the engine is down"
        calm = not (state.hurried or self.scenario.scheduler)
        rests = self.scenario.exclusive and self.scenario.engine == 0
        if rests and calm and state.things[0].pods and any(thing.pods for thing in tenants):
            return "two users of an exclusive card"
        return None

    def wrong_at_the_end(self, state: State) -> str | None:
        """What must be, once nobody has anything left to do."""
        if any(number is not None and not self._idle(number) for number in state.holders):
            return "a holder never ends"
        if state.lease and state.lease.holder:
            return f"the lease stays with {state.lease.holder}"
        for ref, thing in zip(self.refs, state.things, strict=True):
            if thing.label:
                return f"{ref.name} keeps the note {thing.label}"
            if thing.replicas != thing.want:
                return f"{ref.name} is left at {thing.replicas}, {thing.want} is wanted"
        # A paused holder's late write may find the engine put back already: it was up beside the tenant, and its
        # Pending pod takes the card. Only who leaves an engine up on an exclusive card meets it; doctor says so.
        if self.scenario.scheduler and not (state.touched or state.hurried or state.late):
            for thing in state.things[1:]:
                if thing.replicas and not thing.pods:
                    return "a tenant does not get its card back"
        return None

    def calm(self, label: str) -> bool:
        """Is this step one that happens when nobody new begins, nothing breaks and the human is gone?"""
        return not any(word in label for word in ("is killed", "a human", ", answer lost", "too early"))


@dataclass
class Found:
    """How many states were seen, and the first that was wrong with the way to it."""

    states: int
    wrong: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.states} states: {self.wrong or 'all hold'}" + "".join(f"\n  {line}" for line in self.trace)


def explore(world: World, limit: int | None = None) -> Found:
    """Breadth first over every reachable state (the first `limit`); the trace found is a shortest one.

    In each state what must never be is looked for, and in each quiet one what must be at the end; from every state a
    quiet one can be reached.
    """
    start = world.first()
    states, parent, numbers = [start], [(-1, "")], {start: 0}
    before: list[list[int]] = [[]]  # by calm steps
    quiet_ones: list[int] = []
    at = 0
    while at < len(states) and (limit is None or at < limit):
        state = states[at]
        wrong = world.wrong(state)
        quiet = True
        for label, following in world.steps(state):
            begins = any(
                n in world.beginning and n != after for n, after in zip(state.holders, following.holders, strict=True)
            )
            following = following._replace(reapers=tuple(sorted(following.reapers, key=_by_number)))
            calm = world.calm(label)
            quiet = quiet and (following == state or begins or not calm)
            number = numbers.setdefault(following, len(states))
            if number == len(states):
                states.append(following)
                parent.append((at, label))
                before.append([])
            if calm:
                before[number].append(at)
        if quiet:
            quiet_ones.append(at)
            wrong = wrong or world.wrong_at_the_end(state)
        if wrong:
            return Found(len(states), wrong, _trace(parent, at))
        at += 1
    settling = set(quiet_ones)
    while quiet_ones and limit is None:
        for earlier in before[quiet_ones.pop()]:
            if earlier not in settling:
                settling.add(earlier)
                quiet_ones.append(earlier)
    stuck = next((n for n in range(len(states)) if n not in settling), None) if limit is None else None
    if stuck is not None:
        return Found(len(states), "it never settles", _trace(parent, stuck))
    return Found(len(states))


def wander(world: World, seed: int, walks: int, calm_after: int = 60) -> Found:
    """Random ways through worlds too large to be seen whole; each goes on to its quiet end."""
    chance = random.Random(seed)
    seen = 0
    for _ in range(walks):
        state, trace = world.first(), []
        for step in range(4000):
            choices = [
                (label, following)
                for label, following in world.steps(state)
                if following != state and (step < calm_after or world.calm(label))
            ]
            seen += 1
            wrong = world.wrong(state) or (None if choices else world.wrong_at_the_end(state))
            if wrong:
                return Found(seen, wrong, tuple(trace))
            if not choices:
                break
            label, state = chance.choice(choices)
            trace.append(label)
        else:
            return Found(seen, "it never settles", tuple(trace[-40:]))
    return Found(seen)


def _by_number(number: int | None) -> int:
    """Reapers are alike: which of them is where makes no other state."""
    return -1 if number is None else number


def _trace(parent: list[tuple[int, str]], at: int) -> tuple[str, ...]:
    trace: list[str] = []
    while at > 0:
        at, label = parent[at]
        trace.append(label)
    return tuple(reversed(trace))


def _put(values: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at + 1 :])


__all__ = ["Note", "Processes", "Scenario", "World", "explore", "wander"]
