"""The cells: which step of whom, times which fault; and which world each of them needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.lease import faults
from tests.faults.lease.door import Point
from tests.faults.lease.faults import Scene
from tests.faults.lease.world import Shape

Fault = Callable[[Scene], None]


def _both(name: str, *nths: int) -> tuple[Point, ...]:
    return tuple(Point(name, when, nth) for nth in nths or (1,) for when in ("before", "after"))  # type: ignore[arg-type]


HOLDER: dict[str, tuple[Point, ...]] = {
    "lease taken": _both("lease taken"),
    "tenant noted": (Point("tenant read"), *_both("tenant noted", 1, 2)),
    "pods going": _both("pods going"),
    "engine up": _both("engine up"),
    "work": tuple(Point("work", nth=nth) for nth in (1, 3, 6)),
    "heartbeat": _both("heartbeat", 1, 3),
    "engine down": _both("engine down"),
    "tenant up": _both("tenant up", 1, 2),
    "ready wait": _both("ready wait"),
    "lease freed": _both("lease freed"),
}
REAPER: dict[str, tuple[Point, ...]] = {
    "fence": _both("lease freed"),
    "engine undone": _both("engine down"),
    "tenant undone": (*_both("tenant up"), Point("tenant read back", "before"), Point("tenant read back")),
    "ready wait (reaper)": _both("ready wait"),
}
OF_HOLDER: dict[str, Fault] = {
    "kill -9 holder": faults.kill_holder,
    "kill -9 holder, reapers": faults.kill_all,
    "SIGTERM": faults.terminate,
    "paused > lifetime": faults.pause,
    "API away < lifetime": faults.api_away_short,
    "API away > lifetime": faults.api_away_long,
    "tenant deleted": faults.tenant_deleted,
    "tenant recreated": faults.tenant_recreated,
    "tenant scaled": faults.tenant_scaled,
    "rollout, undo": faults.tenant_rolled,
    "Lease deleted": faults.lease_deleted,
    "second holder": faults.second_holder,
    "node without cards": faults.no_cards,
    "engine found up, kill -9": faults.engine_found_up,
}
OF_REAPER: dict[str, Fault] = {
    "kill -9 reaper": faults.kill_reaper,
    "reaper paused": faults.pause_reaper,
    "API away from reapers": faults.reapers_cut_off,
    "tenant scaled": faults.tenant_scaled,
    "tenant recreated": faults.tenant_recreated,
    "Lease deleted": faults.lease_deleted,
    "another takes": faults.another_takes,
}


@dataclass(frozen=True)
class Cell:
    """One step and one fault."""

    step: str
    fault: str

    def __str__(self) -> str:
        return f"{self.fault} at {self.step}"

    @property
    def of_reaper(self) -> bool:
        return self.step in REAPER

    @property
    def points(self) -> tuple[Point, ...]:
        return REAPER[self.step] if self.of_reaper else HOLDER[self.step]

    @property
    def play(self) -> Fault:
        return OF_REAPER[self.fault] if self.of_reaper else OF_HOLDER[self.fault]

    @property
    def engine_up(self) -> bool:
        return self.fault == "engine found up, kill -9"

    def fits(self, shape: Shape) -> bool:
        """A waiting engine needs a card with one piece; a second holder shows its harm on a roomy one."""
        return shape.tight if self.engine_up else True


CELLS = (
    *(Cell(step, fault) for step in HOLDER for fault in OF_HOLDER),
    *(Cell(step, fault) for step in REAPER for fault in OF_REAPER),
)
