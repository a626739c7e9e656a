"""How the tests are spread over the workers of `make test` (pytest-xdist). `pytest` by itself runs them one by one.

A file goes to one worker, so that what it starts is started once. Not so the files of APART: most of their time goes
into processes of Dagster's that each test starts for itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

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

# The longest that mostly wait for pods begin early, or one worker is still at them when the others are done.
LONGEST = (
    "tests/faults/test_lease_faults.py",
    "tests/faults/test_lease_of_jobs.py",
    "tests/manifests/test_installation.py",
    "tests/launch/test_job.py",
    "tests/gpu/test_lease_commands.py",
    "tests/platforms/test_kubernetes.py",
    "tests/engine/test_deployment.py",
)
EARLY = 0.6  # of the way: the cluster's are handed out by then


def group_of(nodeid: str) -> str:
    """The tests of a group go to the same worker, in their order."""
    file, _, _ = nodeid.partition("::")
    return nodeid if file in APART else file


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
    asked = {name for item in group for name in getattr(item, "fixturenames", ())}
    return next((name for name in ("image", "cluster", "demo_run") if name in asked), "nothing")


def _order(wants: dict[str, str]) -> list[str]:
    """First one that makes the image and one that runs the demo; then all, mixed.

    Those of the cluster mostly wait and the others mostly compute. The longest of the cluster's begin early.
    """

    def wanting(*what: str) -> list[str]:
        return [name for name, wanted in wants.items() if wanted in what]

    makers = [*wanting("image")[:1], *wanting("demo_run")[:1]]
    waiting = sorted(
        (name for name in wanting("image", "cluster") if name not in makers),
        key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST),
    )
    demo, nothing = [name for name in wanting("demo_run") if name not in makers], wanting("nothing")
    mixed = sorted(
        ((place + 0.5) / len(names) * reach, name)
        for names, reach in ((waiting, EARLY), (demo, 1.0), (nothing, 1.0))
        for place, name in enumerate(names)
    )
    return [*makers, *(name for _, name in mixed)]
