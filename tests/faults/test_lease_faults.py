"""The lease under fire: the seeded short part of `make faults`, and builds that lack a safeguard, which it finds out.

`FAULTS_SEED` sets the seed; without it each run has another one and says which.
"""

from __future__ import annotations

import queue
import random
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.faults.lease import faults
from tests.faults.lease.door import Point
from tests.faults.lease.grid import HOLDER, OF_HOLDER, OF_REAPER, REAPER, Cell, Fault
from tests.faults.lease.injection import Outcome, inject
from tests.faults.lease.world import SHAPES, Disturbed, World, eye_on
from tests.faults.seed import SEED

ROOMY, TIGHT = (SHAPES[4], SHAPES[0]), (SHAPES[1],)
WORLDS = (*ROOMY, *TIGHT, SHAPES[4])

pytestmark = pytest.mark.timeout(1200)


@dataclass(frozen=True)
class Play:
    """One injection to be played; `point` and `fault` where the seed should not choose."""

    cell: Cell
    point: Point | None = None
    fault: Fault | None = None
    variant: str | None = None

    @property
    def name(self) -> str:
        """Whatever the seed chose, the test is called the same."""
        if self.variant:
            return self.variant
        whose = "reaper" if self.cell.of_reaper else "holder"
        return str(self.cell) if self.point else f"{self.cell.fault}, {whose}"

    def fits(self, world: World) -> bool:
        """Only a card with room for two shows what keeps them apart."""
        return not world.shape.tight if self.point else self.cell.fits(world.shape)


def _seeded() -> list[Play]:
    """Each fault once, at a step that the seed chooses."""
    chance = random.Random(SEED)
    of_holder = [Play(Cell(chance.choice(list(HOLDER)), fault)) for fault in OF_HOLDER]
    return of_holder + [Play(Cell(chance.choice(list(REAPER)), fault)) for fault in OF_REAPER]


FOUND_ONCE = [  # holes that `make faults` found
    Play(Cell("lease taken", "API away < lifetime"), Point("lease taken"), faults.answer_lost),
    Play(Cell("engine up", "paused > lifetime"), Point("engine up", "before"), faults.pause_until_all_is_back),
    Play(Cell("pods going", "tenant scaled"), Point("pods going"), faults.first_tenant_scaled_up),
    Play(Cell("pods going", "tenant deleted"), Point("pods going"), faults.first_tenant_deleted),
]
BROKEN = [
    Play(*aimed, variant=variant)
    for variant, aimed in {
        "note_in_another_write": (
            Cell("tenant noted", "kill -9 holder"), Point("tenant noted", "before"), faults.kill_holder,
        ),
        "no_lease_read_after_the_workload": (
            Cell("tenant noted", "paused > lifetime"), Point("tenant read"), faults.pause_while_another_works,
        ),
        "lease_read_before_the_workload": (
            Cell("tenant undone", "another takes"), Point("tenant read back", "before"), faults.another_takes,
        ),
        "no_swap_to_nobody": (
            Cell("engine up", "paused > lifetime"), Point("engine up", "before"), faults.pause_until_all_is_back,
        ),
        "unconditional_patch": (
            Cell("tenant noted", "tenant scaled"), Point("tenant noted", "before"), faults.first_tenant_scaled_up,
        ),
        "unconditional_renewal": (
            Cell("heartbeat", "paused > lifetime"), Point("heartbeat at work", "before"),
            faults.pause_while_another_works,
        ),
        "only_the_token": (
            Cell("work", "Lease deleted"), Point("work"), faults.lease_deleted_and_another_works,
        ),
        "always_as_found": (Cell("work", "tenant scaled"), Point("work"), faults.first_tenant_scaled_up),
        "not_waiting_for_the_engine": (Cell("work", "SIGTERM"), Point("work"), faults.nothing),
        "not_waiting_for_pods": (Cell("work", "SIGTERM"), Point("work"), faults.nothing),
    }.items()
]  # fmt: skip
PLAYS = [*_seeded(), *FOUND_ONCE, *BROKEN]


def _run(
    world: World, plays: queue.SimpleQueue, outcomes: dict[Play, Outcome | Exception], lock: threading.Lock
) -> None:
    while not plays.empty():
        with lock:
            waiting = [plays.get() for _ in range(plays.qsize())]
            play = next((each for each in waiting if each.fits(world)), None)
            for each in waiting:
                if each is not play:
                    plays.put(each)
        if play is None:
            return
        if world.variant != play.variant:
            world.become(play.variant)
        seed = SEED + PLAYS.index(play)
        for _ in range(3):
            try:
                outcomes[play] = inject(
                    world, play.cell, seed, play.point, play.fault,
                    hasty=play.variant is not None, forget_lease=True if play.variant else None,
                )  # fmt: skip
                break
            except (Exception, pytest.fail.Exception) as error:
                outcomes[play] = error
                if not isinstance(error, Disturbed):
                    break


@pytest.fixture(scope="module")
def played(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Play, Outcome | Exception]]:
    """Every injection that is asked for, worlds side by side."""
    print(f"seed {SEED}")
    folder: Path = tmp_path_factory.mktemp("faults")
    outcomes: dict[Play, Outcome | Exception] = {}
    plays: queue.SimpleQueue = queue.SimpleQueue()
    asked = {item.callspec.params["play"] for item in request.session.items if hasattr(item, "callspec")
             and "play" in item.callspec.params}  # fmt: skip
    for play in sorted(asked, key=lambda play: play.variant or ""):  # so that reapers seldom change
        plays.put(play)
    lock = threading.Lock()
    with eye_on(cluster, secrets.token_hex(3)) as eye:
        worlds = [World(cluster, eye, at, shape, folder / str(at)) for at, shape in enumerate(WORLDS)]

        def live(world: World) -> None:
            world.make()
            _run(world, plays, outcomes, lock)

        began = time.monotonic()
        threads = [threading.Thread(target=live, args=(world,)) for world in worlds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"{len(outcomes)} injections in {time.monotonic() - began:.0f} s")
        yield outcomes
        for world in worlds:
            world.remove()


def outcome_of(play: Play, played: dict[Play, Outcome | Exception]) -> Outcome:
    outcome = played[play]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@pytest.mark.parametrize("play", [*_seeded(), *FOUND_ONCE], ids=lambda play: play.name)
def test_everything_is_as_found_after(play, played):
    outcome = outcome_of(play, played)
    print(f"seed {SEED}: {outcome}")
    assert outcome.good, f"FAULTS_SEED={SEED}: {outcome}"


@pytest.mark.parametrize("play", BROKEN, ids=lambda play: play.name)
def test_a_build_without_this_safeguard_is_found_out(play, played):
    outcome = outcome_of(play, played)
    print("\n".join(outcome.violations))
    assert outcome.violations, f"FAULTS_SEED={SEED}: {outcome}\n" + "\n".join(outcome.log)
