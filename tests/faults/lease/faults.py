"""What happens to a world while one of its actors stands still at a step. Each ends with everybody going on again.

A fault says in `scene` what the humans among it want now (`want`), whether a human himself put a second user on the
card (`human_up`), who must not lose the card by it (`protected`), and from when on the way back is counted (`since`).
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from llama_assets.gpu.objects import Ref
from tests.faults.lease.actors import Actor
from tests.faults.lease.door import Point
from tests.faults.lease.world import World


@dataclass
class Scene:
    """One injection as its fault sees it: who stands (`stood`), whose lease it is (`first`)."""

    world: World
    chance: random.Random
    want: dict[Ref, int | None]
    point: Point
    first: Actor
    stood: Actor
    second: Actor | None = None
    protected: Actor | None = None
    human_up: bool = False
    began: float = 0.0
    since: float = 0.0
    later: Callable[[], None] | None = None
    how: list[str] = field(default_factory=list)

    def coin(self, heads: str) -> bool:
        """One of two ways, by the seed; said in the report."""
        if self.chance.random() < 0.5:
            self.how.append(heads)
            return True
        return False

    def go(self) -> None:
        """Whoever stands goes on; the way back is counted from here."""
        self.stood.go()
        self.since = time.monotonic()

    def tenant(self) -> Ref:
        """One of the tenants."""
        return self.chance.choice(self.world.card.tenants)

    def another_takes(self) -> None:
        """A second holder is at work before the first goes on, and ends its work after it."""
        self.second = self.protected = self.world.holder(Point("work", nth=3), "second")
        self.second.heard("at", 60)

    def another_ends(self) -> None:
        """Give the first time to do harm."""
        if self.stood is self.first:
            self.first.ended(3)
        else:
            self.world.beats(3)
        self.second.go()  # type: ignore[union-attr]
        self.since = time.monotonic()


def kill_holder(scene: Scene) -> None:
    scene.first.send(signal.SIGKILL)
    scene.go()


def kill_all(scene: Scene) -> None:
    for actor in (scene.first, *scene.world.reapers):
        actor.send(signal.SIGKILL)
    scene.world.keep_reapers()
    scene.go()


def terminate(scene: Scene) -> None:
    scene.first.send(signal.SIGTERM)
    scene.go()


def pause(scene: Scene) -> None:
    """Past its lifetime; it resumes while the reaper is at it, when all is restored, or when another works."""
    ways = {
        "in the middle": pause_until_written_out,
        "restored first": pause_until_all_is_back,
        "another takes": pause_while_another_works,
    }
    way = scene.chance.choice(list(ways))
    scene.how.append(way)
    ways[way](scene)


def pause_until_written_out(scene: Scene) -> None:
    with _stopped(scene):
        _past_lifetime(scene)


def pause_until_all_is_back(scene: Scene) -> None:
    with _stopped(scene):
        time.sleep(scene.world.times.lifetime_s * 1.2)
        scene.world.wait_for("all but the Lease as found", lambda: _all_back(scene), 60)


def pause_while_another_works(scene: Scene) -> None:
    with _stopped(scene):
        scene.another_takes()
    scene.another_ends()


@contextlib.contextmanager
def _stopped(scene: Scene) -> Iterator[None]:
    scene.stood.send(signal.SIGSTOP)
    try:
        yield
    finally:
        scene.stood.send(signal.SIGCONT)
        scene.go()


def api_away_short(scene: Scene) -> None:
    _away(scene, lambda: time.sleep(scene.world.times.lifetime_s * 0.4))


def api_away_long(scene: Scene) -> None:
    _away(scene, lambda: _past_lifetime(scene))


def tenant_deleted(scene: Scene) -> None:
    _deleted(scene, scene.tenant())


def first_tenant_deleted(scene: Scene) -> None:
    _deleted(scene, scene.world.card.tenants[0])


def _deleted(scene: Scene, ref: Ref) -> None:
    scene.world.delete(ref)
    scene.want[ref] = None
    scene.go()


def tenant_recreated(scene: Scene) -> None:
    ref = scene.tenant()
    scene.world.delete(ref)
    scene.world.wait_for("deleted", lambda: scene.world.at(ref) is None, 30)
    scene.world.create(ref)
    scene.want[ref], scene.human_up = scene.world.found[ref], True
    scene.go()


def tenant_scaled(scene: Scene) -> None:
    """Up or down, to anything but what is there; a 0 where the lease has set 0 nobody can see."""
    tight = scene.world.shape.tight
    ref = scene.world.card.tenants[0] if tight else scene.tenant()

    def choose(replicas: int, noted: bool) -> int:
        return scene.chance.choice(
            [k for k in range(1 if noted else 0, 2 if tight else 4) if k != replicas] or [replicas]
        )

    replicas, noted = scene.world.scale(ref, choose)
    scene.want[ref] = replicas
    scene.human_up = noted and replicas > 0
    scene.how.append(f"{ref.name} to {replicas}")
    scene.go()


def first_tenant_scaled_up(scene: Scene) -> None:
    ref = scene.world.card.tenants[0]
    scene.want[ref], noted = scene.world.scale(ref, lambda replicas, noted: 2)
    scene.human_up = noted
    scene.go()


def tenant_rolled(scene: Scene) -> None:
    """A rollout at this point, undone at once, undone when the lease is over, or not at all."""
    ref = scene.tenant()
    way = scene.chance.choice(("rollout", "rollout and undo", "undone after the lease"))
    scene.how.append(way)
    scene.world.roll_out(ref)
    if way == "rollout and undo":
        scene.world.roll_back(ref)
    if way == "undone after the lease":
        scene.later = lambda: scene.world.roll_back(ref)
    scene.go()


def lease_deleted(scene: Scene) -> None:
    scene.world.delete_lease()
    if scene.coin("another takes"):
        scene.another_takes()
    scene.go()
    if scene.second:
        scene.another_ends()


def lease_deleted_and_another_works(scene: Scene) -> None:
    """The one way of `lease_deleted` that lets tokens begin again."""
    scene.world.delete_lease()
    scene.another_takes()
    scene.go()
    scene.another_ends()


def second_holder(scene: Scene) -> None:
    scene.second = scene.protected = scene.world.holder(None, "second")
    scene.second.heard("started", 30)
    scene.go()


def no_cards(scene: Scene) -> None:
    """The node has none, until a tenant asks for one in vain or the holder has ended."""
    scene.world.cards(0)
    try:
        scene.go()
        world = scene.world
        world.wait_for("a tenant in vain", lambda: world.eye.pending(world.name, "tenant") or not scene.first.alive, 60)
    finally:
        scene.world.cards(scene.world.shape.pieces)
    scene.since = time.monotonic()


def engine_found_up(scene: Scene) -> None:
    """The engine was left above 0, its pod waits for the card; then the holder is killed."""
    kill_holder(scene)


def another_takes(scene: Scene) -> None:
    """While a reaper stands in the middle of its pass."""
    scene.another_takes()
    scene.go()
    scene.another_ends()


def kill_reaper(scene: Scene) -> None:
    scene.stood.send(signal.SIGKILL)
    if scene.coin("both"):
        for each in scene.world.reapers:
            each.send(signal.SIGKILL)
        scene.world.keep_reapers()
    scene.since = time.monotonic()


def pause_reaper(scene: Scene) -> None:
    scene.stood.send(signal.SIGSTOP)
    scene.since = time.monotonic()
    try:
        scene.world.wait_for("the other reaper", lambda: _restored(scene), 64)
    finally:
        scene.stood.send(signal.SIGCONT)
        scene.stood.go()


def reapers_cut_off(scene: Scene) -> None:
    scene.world.reaper_wire.cut()
    scene.stood.go("lost")
    time.sleep(scene.world.times.lifetime_s * scene.chance.choice((0.3, 1.2)))
    scene.world.reaper_wire.mend()
    scene.since = time.monotonic()


def answer_lost(scene: Scene) -> None:
    """The write lands, and who wrote it never hears."""
    scene.stood.go("lost")
    scene.since = time.monotonic()


def nothing(scene: Scene) -> None:
    """No fault: the way itself is right."""
    scene.go()


def _away(scene: Scene, meanwhile: Callable[[], object]) -> None:
    wires = [scene.world.holder_wire]
    if scene.coin("for the reapers too"):
        wires.append(scene.world.reaper_wire)
    for wire in wires:
        wire.cut()
    try:
        scene.stood.go("lost")
        meanwhile()
    finally:
        for wire in wires:
            wire.mend()
    scene.since = time.monotonic()


def _past_lifetime(scene: Scene) -> None:
    """A lifetime and a bit; and if reapers can see it, until they wrote the holder out."""
    world = scene.world
    time.sleep(world.times.lifetime_s * 1.2)
    if world.reaper_wire._listener is not None:
        world.wait_for("the holder to be written out", lambda: not world.lease_holder(), 30)


def _restored(scene: Scene) -> bool:
    return scene.world.trouble(scene.want) is None


def _all_back(scene: Scene) -> bool:
    """Where a dead holder is not written out of the Lease this is all there is to see."""
    trouble = scene.world.trouble(scene.want)
    return trouble is None or trouble.startswith("the Lease")
