"""One injection: a world at rest, a fault at a step, and the judgement of what came of it.

Judged: every workload at what was found, or at what a human wants, and ready, within lifetime + 60 s; no note left and
the Lease free; never two users of the card at once; rows whole, and of one holder at a time; who had the card and was
not touched by the fault keeps it to its end; nobody broke.
"""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import dataclass, field

from llama_assets.kube import Trouble
from tests.faults.lease.actors import ROWS, Actor, Unheard
from tests.faults.lease.door import Point
from tests.faults.lease.faults import Scene
from tests.faults.lease.grid import Cell, Fault
from tests.faults.lease.world import Disturbed, Overdue, World

GRACE_S = 60.0
SLOW_S = 15.0  # a node that takes longer to start or stop a pod says nothing about us


@dataclass
class Outcome:
    """What came of it. `seconds` from the fault to everything ready; None when it never was."""

    cell: Cell
    point: str
    seed: int
    world: int
    how: str
    seconds: float | None = None
    wall: float = 0.0
    violations: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.seconds is not None and not self.violations

    def __str__(self) -> str:
        became = f"restored after {self.seconds:.1f} s" if self.seconds is not None else "NOT RESTORED"
        said = "".join(f"\n    {line}" for line in (*self.violations, *(self.log if not self.good else ())))
        how = f" ({self.how})" if self.how else ""
        return f"{self.cell}, {self.point}{how}, world {self.world}, seed {self.seed}: {became}{said}"


def inject(
    world: World, cell: Cell, seed: int, point: Point | None = None, play: Fault | None = None, hasty: bool = False,
    forget_lease: bool | None = None,
) -> Outcome:  # fmt: skip
    """Play one cell; `point`, `play` and `forget_lease` where the seed should not choose.

    `hasty`: what nobody is left to put right is called so at once, and not after the bound.

    Raises:
        Disturbed: the cluster did not do its part.
    """
    chance = random.Random(seed)
    began = time.monotonic()
    point = point or _point(cell, world, chance)
    outcome = Outcome(cell, str(point), seed, world.number, "")
    scene: Scene | None = None
    reset = began
    try:
        forget_lease = chance.random() < 0.3 if forget_lease is None else forget_lease
        want = world.reset(1 if cell.engine_up else 0, forget_lease)
        reset = time.monotonic()
        scene = _set(world, cell, chance, want, point)
        scene.began = scene.since = time.monotonic()
        (play or cell.play)(scene)
        _judge(scene, outcome, hasty)
        _after(scene, outcome, reset)
    except Trouble as error:
        raise Disturbed(str(error)) from error
    except (Unheard, Overdue) as error:
        outcome.violations.append(str(error))
    finally:
        if scene is not None:
            outcome.how = ", ".join(scene.how)
            for actor in (scene.first, scene.second):
                outcome.log += _told(actor)
                if actor is not None and actor.alive:
                    actor.send(signal.SIGKILL)
            for each in world.reapers:
                outcome.log += _told(each)
                each.order(None)
        outcome.wall = time.monotonic() - began
    if not outcome.good and (took := world.eye.node_took(world.name, reset)) > SLOW_S:
        raise Disturbed(f"the node took {took:.0f} s to start or stop a pod; {outcome}")
    return outcome


def _point(cell: Cell, world: World, chance: random.Random) -> Point:
    fitting = [point for point in cell.points if "tenant" not in point.name or point.nth <= len(world.card.tenants)]
    point = chance.choice(fitting)
    if cell.engine_up and point.name == "engine down":  # its note is kept until the tenants are ready
        return Point("engine lowered", point.when, 2)
    return point


def _set(world: World, cell: Cell, chance: random.Random, want: dict, point: Point) -> Scene:  # type: ignore[type-arg]
    if not cell.of_reaper:
        first = world.holder(point)
        first.heard("at", 60)
        return Scene(world, chance, want, point, first, first)
    first = world.holder(Point("work", nth=2))
    first.heard("at", 60)
    for each in world.reapers:
        each.forget("at")
        each.order(point)
    first.send(signal.SIGKILL)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for each in world.reapers:
            if each.has_said("at"):
                for other in world.reapers:
                    if other is not each:
                        other.order(None)
                return Scene(world, chance, want, point, first, each)
        time.sleep(0.02)
    raise Unheard(f"no reaper came to {point}")


def _judge(scene: Scene, outcome: Outcome, hasty: bool) -> None:
    world, bound = scene.world, scene.world.times.lifetime_s + GRACE_S
    idle = 0
    while True:
        for each in world.reapers:
            if not each.alive and not each.killed:
                outcome.violations.append(f"{each.name} ended with status {each.process.exitcode}")
                each.killed = True
        world.keep_reapers()
        if _at_work(scene):
            scene.since = time.monotonic()
        # First who is left, then what is there: a paused holder's last write may land late, and be undone by it.
        ended = all(actor is None or actor.ended(0) for actor in (scene.first, scene.second))
        trouble = world.trouble(scene.want)
        passed = time.monotonic() - scene.since
        if trouble is None:
            outcome.seconds = passed if outcome.seconds is None else outcome.seconds
            if ended:
                break
        else:
            outcome.seconds = None
        if passed > bound:
            outcome.violations.append(trouble or "the holder never ends")
            outcome.seconds = None if trouble else outcome.seconds
            return
        idle = idle + 1 if hasty and ended and trouble and "is left at" in trouble else 0
        if idle > 2:
            world.beats(4)
            if world.trouble(scene.want) == trouble:
                outcome.violations.append(f"{trouble}, and nobody is left to put it right")
                return
        world.eye.wait_for_a_change(world.name, 0.7)
    if scene.later:
        scene.later()
        world.beats(3)
        world.wait_for("ready once more", lambda: world.trouble(scene.want) is None, bound)


def _at_work(scene: Scene) -> bool:
    """Does somebody have the card by right, or is about to? The way back is counted from when their work ends."""
    first, second = scene.first, scene.second
    if first.alive and first.has_said("took") and not first.has_said("worked"):
        return True
    patience = scene.world.times.lifetime_s + 2 * GRACE_S
    waits = second is not None and second.alive and not second.has_said("worked")
    return waits and time.monotonic() - scene.began < patience


def _after(scene: Scene, outcome: Outcome, reset: float) -> None:
    time.sleep(0.1)  # the eye is at most this far behind
    if not scene.human_up:
        seen = [what for name, at, what in scene.world.eye.overlaps if name == scene.world.name and at >= reset]
        outcome.violations += [f"two users of the card: {what}" for what in seen]
    spans = []
    for actor in (scene.first, scene.second):
        if actor is None:
            continue
        actor.has_said("")
        rows = _rows(actor, outcome)
        if rows:
            spans.append((rows[0]["at"], rows[-1]["at"]))
        became = next((value for kind, value in actor.said if kind == "outcome"), "killed")
        if became.startswith("broke") or (became == "killed" and not actor.killed):
            outcome.violations.append(f"the {actor.name} holder: {became}, status {actor.process.exitcode}")
        if actor is scene.protected and (len(rows) != ROWS or not became.startswith(("given", "NotRestored"))):
            outcome.violations.append(f"the {actor.name} holder was robbed: {len(rows)} of {ROWS} rows, {became}")
    if len(spans) == 2 and max(spans[0][0], spans[1][0]) < min(spans[0][1], spans[1][1]):
        outcome.violations.append("two holders worked at once")


def _rows(actor: Actor, outcome: Outcome) -> list[dict]:  # type: ignore[type-arg]
    if not actor.rows.exists():
        return []
    text = actor.rows.read_text()
    try:
        rows = [json.loads(line) for line in text.splitlines()]
    except ValueError:
        outcome.violations.append(f"a torn row in {actor.rows.name}")
        return []
    if [row["row"] for row in rows] != list(range(len(rows))):
        outcome.violations.append(f"rows are missing in {actor.rows.name}")
    return rows


def _told(actor: Actor | None) -> list[str]:
    if actor is None:
        return []
    actor.has_said("")
    return [f"{actor.name}: {kind} {value}" for kind, value in actor.said if kind not in ("row",)]
