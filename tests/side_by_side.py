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
    """First one that makes the image and one that runs the demo, then what needs neither.

    Then the others, mixed, since those of the cluster mostly wait and those of the demo mostly compute.
    """

    def wanting(*what: str) -> list[str]:
        return [name for name, wanted in wants.items() if wanted in what]

    makers = [*wanting("image")[:1], *wanting("demo_run")[:1]]
    later = [[name for name in wanting(*what) if name not in makers] for what in (("image", "cluster"), ("demo_run",))]
    mixed = sorted(((place + 0.5) / len(names), name) for names in later for place, name in enumerate(names))
    return [*makers, *wanting("nothing"), *(name for _, name in mixed)]
