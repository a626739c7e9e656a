"""How the tests are spread over the workers of `make test` (pytest-xdist). `pytest` by itself runs them one by one.

A file goes to one worker, so that what it starts is started once. Not so the files of APART: most of their time goes
into processes of Dagster's that each test starts for itself. The files that use the cluster share it; one that is
marked `alone` waits until the others are done with it, and has it for itself while tests of other things go on.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

APART = (
    "tests/contracts/test_commands.py",
    "tests/end_to_end/test_demo.py",
    "tests/end_to_end/test_engines.py",
    "tests/end_to_end/test_stages_alone.py",
    "tests/faults/test_benchmark.py",
)
TURNS = Path("/tmp/llama-assets-cluster-turns.lock")  # of the machine: the cluster is the machine's, too


def group_of(nodeid: str) -> str:
    """The tests of a group go to the same worker, in their order."""
    file, _, _ = nodeid.partition("::")
    return nodeid if file in APART else file


class _Turns:
    """Who uses the cluster, by a lock that a group keeps from its first test to the end of its last fixture."""

    def __init__(self) -> None:
        self._lock: IO[str] | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of what limits a test's time
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        if self._lock is None and "cluster" in getattr(item, "fixturenames", ()):
            self._lock = TURNS.open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            last = nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid)
            if self._lock is not None and last:
                self._lock.close()
                self._lock = None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Turns())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # the order is ours
    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order in which groups are handed out."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group_of(item.nodeid), []).append(item)
    items[:] = [
        item for name in _order({name: _wants(group) for name, group in groups.items()}) for item in groups[name]
    ]


def _wants(group: list[pytest.Item]) -> str:
    """The dearest thing that one of them needs."""
    if any(item.get_closest_marker("alone") for item in group):
        return "alone"
    asked = {name for item in group for name in getattr(item, "fixturenames", ())}
    return next((name for name in ("image", "cluster", "demo_run") if name in asked), "nothing")


def _order(wants: dict[str, str]) -> list[str]:
    """First one that makes the image and one that runs the demo; then the others, mixed by what they need.

    Those of the cluster mostly wait: they go early, among those that need nothing, so that who wants it alone need not
    wait long, and is not the last one. Those of the demo mostly compute, and go last.
    """

    def wanting(*what: str) -> list[str]:
        return [name for name, wanted in wants.items() if wanted in what]

    makers = [*wanting("image")[:1], *wanting("demo_run")[:1]]

    def spread(names: list[str], begin: float, end: float) -> list[tuple[float, str]]:
        kept = [name for name in names if name not in makers]
        return [(begin + (end - begin) * (place + 0.5) / len(kept), name) for place, name in enumerate(kept)]

    cluster, alone = spread(wanting("image", "cluster"), 0.0, 0.25), spread(wanting("alone"), 0.25, 0.35)
    rest = [*spread(wanting("nothing"), 0.0, 1.0), *spread(wanting("demo_run"), 0.5, 1.0)]
    return [*makers, *(name for _, name in sorted([*cluster, *alone, *rest]))]
