"""Whatever happens to a store, in whatever order, what somebody relies on is there.

Random histories of publications, promotions, rollbacks, refusals, pins, candidates of the catalog, flipped bits, kills
and garbage collections are lived through by a real store with real files, and told to a model of a few sets and lists,
which says what must be there. A hundred short ones by seed; `pytest tests/store/test_histories.py --long` lives a
thousand.
"""

from __future__ import annotations

import copy
import hashlib
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llama_assets.store import STEPS, AlreadyCurrent, Damaged, NotPublished, NoWayBack, Part, Plan, Refused, Store
from tests.store.pairs import as_part, fingerprint, mmproj_gguf, model_gguf

MODELS = ("a", "b")
SEEDS = 5  # fingerprints a model may have
SHORT, LONG = 40, 1000
Parts = tuple[Part, ...]


@dataclass(frozen=True)
class Files:
    """What may be published: fingerprint -> its parts, and their bytes by sha256. Both models share projectors."""

    parts: dict[str, Parts]
    data: dict[str, bytes]


class Killed(BaseException):
    """The process ends here, and nothing of ours catches it."""


@dataclass
class Expected:
    """One model's side of the story: what a person would say is there."""

    sets: dict[str, int] = field(default_factory=dict)  # fingerprint -> when it was published
    currents: list[str] = field(default_factory=list)  # in their order; the last is current
    refused: set[str] = field(default_factory=set)
    pinned: set[str] = field(default_factory=set)
    tried: dict[str, str] = field(default_factory=dict)  # what the catalog's candidate named -> by what; "" once it did
    left: dict[str, int] = field(default_factory=dict)  # fingerprint -> when something else became current

    @property
    def current(self) -> str | None:
        return self.currents[-1] if self.currents else None

    def previous(self) -> str | None:
        before = self.currents[-2] if len(self.currents) > 1 else None
        return before if before in self.sets else None

    def way_back(self, whole: Callable[[str], bool]) -> str | None:
        earlier = (name for name in reversed(self.currents) if name != self.current)
        return next((name for name in earlier if name in self.sets and name not in self.refused and whole(name)), None)

    def candidate(self) -> str | None:
        since = self.sets[self.current] if self.current else 0
        aside = {*self.refused, *self.tried}
        newer = {at: name for name, at in self.sets.items() if at > since and name not in aside}
        if not newer or max(newer) <= self.left.get(newer[max(newer)], 0):
            return None
        return newer[max(newer)]

    def kept(self, in_use: set[str], whole: Callable[[str], bool]) -> set[str]:
        wanted = {self.current, self.previous(), self.way_back(whole), self.candidate(), *self.pinned, *in_use}
        wanted |= {name for name, what in self.tried.items() if what and name not in self.refused}
        return {name for name in self.sets if name in wanted}

    def promote(self, name: str, at: int) -> None:
        if self.current and name != self.current:
            self.left[self.current] = at
        if name != self.current:
            self.currents.append(name)

    def seen(self) -> tuple[object, ...]:
        return set(self.sets), self.current, self.previous(), self.refused, self.pinned, self.tried


class History:
    """A store and the model of it, living through the same."""

    def __init__(self, folder: Path, files: Files, number: int) -> None:
        self.dice, self.files, self.root, self.number = random.Random(number), files, folder / str(number), number
        self.expected = {model: Expected() for model in MODELS}
        self.parts = files.parts
        self.damaged: set[str] = set()
        self.in_use: set[str] = set()
        self.store, self.clock, self.told, self.counts = Store(self.root), 0, [], Counter[str]()

    def live(self, steps: int) -> None:
        events = [
            (self.publish, 6), (self.promote, 6), (self.rollback, 4), (self.refuse, 1), (self.allow, 1),
            (self.pin, 2), (self.unpin, 1), (self.serve, 3), (self.collect, 5), (self.flip_a_bit, 1),
            (self.try_out, 2),
        ]  # fmt: skip
        for step in range(steps):
            (event,) = self.dice.choices([event for event, _ in events], [weight for _, weight in events])
            (model,) = self.dice.choices(MODELS, (3, 1))
            if step < 6:  # a store with something in it is reached soon
                event, model = (self.publish, self.promote)[step % 2], MODELS[0]
            self.told.append(event.__name__)
            event(model)
            self.counts[event.__name__] += 1
            self.compare(model)
        for model in MODELS:
            self.compare(model)
        self.every_name_is_a_proof()

    # What happens

    def publish(self, model: str) -> None:
        name = self.one(model)
        after = copy.deepcopy(self.expected[model])
        self.clock += 1
        after.sets.setdefault(name, self.clock)

        def done(store: Store) -> None:
            for part in sorted(self.parts[name], key=lambda part: part.sha256):
                self.put(store, part)
            store.publish(model, name, self.parts[name])

        killed = self.perhaps_killed(done)
        self.damaged -= {part.sha256 for part in self.parts[name] if not killed or self.noted_whole(part)}
        self.became(model, [self.expected[model], after] if killed else [after])

    def promote(self, model: str) -> None:
        before = self.expected[model]
        likely = sorted(name for name in before.sets if name != before.current)
        name = self.dice.choice(likely) if likely and self.dice.random() < 0.8 else self.one(model)
        if name not in before.sets or name in before.refused or not self.whole(name):
            with pytest.raises((NotPublished, Refused, Damaged)):
                self.store.promote(model, name)
            return
        after = copy.deepcopy(before)
        after.promote(name, self.clock)
        killed = self.perhaps_killed(lambda store: store.promote(model, name))
        self.became(model, [before, after] if killed else [after])

    def rollback(self, model: str) -> None:
        before, to = self.expected[model], self.one(model) if self.dice.random() < 0.3 else None
        back = before.way_back(self.whole) if to is None else to
        usable = back in before.sets and back not in before.refused and self.whole(str(back))
        if before.current is None or back is None or back == before.current or not usable:
            with pytest.raises((NotPublished, NoWayBack, AlreadyCurrent, Refused, Damaged)):
                self.store.rollback(model, to=to)
            return
        refused = copy.deepcopy(before)
        refused.refused.add(before.current)
        after = copy.deepcopy(refused)
        after.promote(back, self.clock)
        killed = self.perhaps_killed(lambda store: store.rollback(model, to=to))
        self.became(model, [refused, after] if killed else [after])

    def refuse(self, model: str) -> None:
        name = self.one(model)
        self.store.refuse(model, name, "because")
        self.expected[model].refused.add(name)

    def allow(self, model: str) -> None:
        name = self.one(model)
        self.store.allow(model, name)
        self.expected[model].refused.discard(name)

    def pin(self, model: str) -> None:
        name, expected = self.one(model), self.expected[model]
        if name in expected.sets:
            self.store.pin(model, name)
            expected.pinned.add(name)
        else:
            with pytest.raises(NotPublished):
                self.store.pin(model, name)

    def unpin(self, model: str) -> None:
        pinned = self.expected[model].pinned
        name = self.dice.choice(sorted(pinned)) if pinned else self.one(model)
        assert self.store.unpin(model, name) == (name in pinned)
        pinned.discard(name)

    def try_out(self, model: str) -> None:
        """The catalog's candidate names another set, which may not be here yet; or the followed one is it."""
        expected, name = self.expected[model], self.one(model)
        expected.tried = {known: "" for known in expected.tried if self.dice.random() < 0.8 and known != name}
        if self.dice.random() < 0.8:
            expected.tried[name] = "another quantization"
        self.store.note_tried(model, expected.tried)

    def serve(self, model: str) -> None:
        """An engine takes up another configuration, be it an old one."""
        self.in_use = {self.dice.choice(sorted(found.sets)) for found in self.expected.values() if found.sets}

    def flip_a_bit(self, model: str) -> None:
        current = self.store.current(model)
        if current is None:
            return
        part = self.dice.choice(current.parts)
        path = self.root / "blobs" / part.sha256
        if part.sha256 in self.damaged:
            return
        data = bytearray(path.read_bytes())
        data[-1] ^= 1 << self.dice.randrange(8)
        path.write_bytes(data)
        assert part in [fault.part for fault in self.store.verify(model)]
        self.damaged.add(part.sha256)

    def collect(self, model: str) -> None:
        plan, before = self.store.plan_gc(self.in_use), copy.deepcopy(self.expected)
        assert self.sets_of(plan) == {m: set(before[m].sets) - self.kept(m) for m in MODELS}
        between = self.dice.random() < 0.3
        if between:
            self.dice.choice((self.publish, self.promote, self.rollback, self.pin, self.refuse))(model)
        leave = self.kept_now()
        killed = self.perhaps_killed(lambda store: self.gone(store.gc(plan), plan, between))
        for m in MODELS:
            there = set(self.store.sets(m))
            may_go = self.sets_of(plan)[m] - leave[m]
            assert leave[m] <= there, f"gone, and relied on: {leave[m] - there}"
            assert there >= set(self.expected[m].sets) - may_go
            assert killed or not there & may_go
            for name in set(self.expected[m].sets) - there:
                del self.expected[m].sets[name]
        # a damaged blob that is gone is not damaged any more
        self.damaged = {sha256 for sha256 in self.damaged if (self.root / "blobs" / sha256).exists()}

    # What must be so

    def compare(self, model: str) -> None:
        assert self.seen(model) == self.expected[model].seen(), f"{model} after {self.told}"
        for name in self.store.sets(model):
            found = self.store.get(model, name)
            assert found.model_file.is_file() and found.mmproj_file.is_file(), f"{name} after {self.told}"
            assert set(self.store.missing(found)) == {p for p in found.parts if p.sha256 in self.damaged}

    def every_name_is_a_proof(self) -> None:
        for path in (self.root / "blobs").glob("*"):
            if not path.suffix:
                right = hashlib.sha256(path.read_bytes()).hexdigest() == path.name
                assert right != (path.name in self.damaged), f"{path} after {self.told}"

    def seen(self, model: str) -> tuple[object, ...]:
        current, previous = self.store.current(model), self.store.previous(model)
        return (
            set(self.store.sets(model)),
            current and current.fingerprint,
            previous and previous.fingerprint,
            set(self.store.refused(model)),
            set(self.store.pinned(model)),
            self.store.tried(model),
        )

    def became(self, model: str, allowed: list[Expected]) -> None:
        """What the store shows is one of these."""
        seen = self.seen(model)
        found = [one for one in allowed if one.seen() == seen]
        assert found, f"{seen} after {self.told}; allowed: {[one.seen() for one in allowed]}"
        self.expected[model] = found[0]

    def gone(self, removed: Plan, plan: Plan, between: bool) -> None:
        """Where nothing happened in between, what was planned went, and nothing else, and nothing is left to go."""
        assert {item.path for item in removed.remove} <= {item.path for item in plan.remove}
        if not between:
            assert removed.remove == plan.remove and removed.bytes == plan.bytes
            assert not any(os.path.lexists(item.path) for item in plan.remove)
            assert self.store.plan_gc(self.in_use).remove == ()

    # The rest

    def perhaps_killed(self, work: Callable[[Store], object]) -> bool:
        """Whether it was killed: by an exception that nobody catches, or really, in a child process."""
        if self.dice.random() > 0.4:
            work(self.store)
            return False
        nth, publishing = self.dice.choice((1, 1, 2)), self.told[-1] == "publish"
        step = "removed" if self.told[-1] == "collect" else self.dice.choice(STEPS[:5] if publishing else STEPS[5:])
        really, left = self.number % 10 == 0, [nth]

        def at(reached: str) -> None:
            left[0] -= reached == step
            if reached == step and left[0] == 0:
                if really:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Killed

        self.told[-1:] = [f"(killed at {step} {nth})", self.told[-1]]
        if not really:
            try:
                work(Store(self.root, at=at))
            except Killed:
                self.counts["killed"] += 1
                return True
            return False
        child = os.fork()
        if child == 0:
            try:
                work(Store(self.root, at=at))
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL)
        self.counts["killed"] += status != 0
        return status != 0

    def put(self, store: Store, part: Part) -> None:
        with store.blob(part) as writer:
            if not writer.whole:
                data = self.files.data[part.sha256]
                writer.write(data[writer.have : writer.have + 500])
                writer.write(data[writer.have :])
            writer.finish()

    def one(self, model: str) -> str:
        return fingerprint(f"{model}{self.dice.randrange(SEEDS)}")

    def whole(self, name: str) -> bool:
        return not {part.sha256 for part in self.parts[name]} & self.damaged

    def noted_whole(self, part: Part) -> bool:
        return self.store.has(part.sha256, part.size)

    def kept(self, model: str) -> set[str]:
        return self.expected[model].kept(self.in_use, self.whole)

    def kept_now(self) -> dict[str, set[str]]:
        return {model: self.kept(model) for model in MODELS}

    def sets_of(self, plan: Plan) -> dict[str, set[str]]:
        gone = [item.path for item in plan.remove if item.kind == "set"]
        return {model: {path.name for path in gone if path.parent.name == model} for model in MODELS}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    projectors = [mmproj_gguf(folder / f"p{number}", seed=number) for number in range(2)]
    parts: dict[str, Parts] = {}
    data = {as_part(path, "mmproj").sha256: path.read_bytes() for path in projectors}
    for at, model in enumerate(MODELS):
        for seed in range(SEEDS):
            weights = model_gguf(folder / f"{model}{seed}", size=500, seed=10 * at + seed, vocabulary=2)
            pair = as_part(weights, "model"), as_part(projectors[seed % 2], "mmproj")
            parts[fingerprint(f"{model}{seed}")] = pair
            data[pair[0].sha256] = weights.read_bytes()
    return Files(parts, data)


@pytest.mark.timeout(3600)  # a thousand take minutes
def test_nothing_that_somebody_relies_on_is_ever_gone(
    files: Files, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails here, and a disk's time is all it would cost
    histories, steps = (LONG, 25) if request.config.getoption("--long") else (SHORT, 16)
    counts = Counter[str]()
    for number in range(histories):
        history = History(tmp_path, files, number)
        try:
            history.live(steps)
        except BaseException:
            print(f"history {number}: {', '.join(history.told)}")
            raise
        counts += history.counts
        shutil.rmtree(history.root, ignore_errors=True)
    print(dict(counts))
    assert (
        min(counts[event] for event in ("publish", "promote", "rollback", "collect", "pin", "killed")) >= histories / 2
    )
