"""What every test may lean on: golden texts, and an environment without a person's own settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ("tests.demo_run", "tests.cluster")
ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write what is found as the golden text")
    parser.addoption("--long", action="store_true", help="search the lease's large worlds whole; takes minutes")
    parser.addoption("--keep-pictures", action="store_true", help="keep the UI's screenshots as docs/pictures/*.png")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side (`make test`), a file goes to one worker, so that what it starts is started once.

    The tests of a file marked `apart` go anywhere. Files that wait for the cluster are spread among those that compute.
    """
    if not getattr(config.option, "numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        apart = item.get_closest_marker("apart")
        name = item.nodeid if apart else item.nodeid.partition("::")[0]
        groups.setdefault(name, []).append(item)
        if not apart:
            item.add_marker(pytest.mark.xdist_group(Path(name).stem))
    items[:] = [
        item for name in _order({name: _wants(group) for name, group in groups.items()}) for item in groups[name]
    ]


def _wants(group: list[pytest.Item]) -> str:
    """The dearest thing that one of them needs."""
    asked = {name for item in group for name in getattr(item, "fixturenames", ())}
    return next((name for name in ("image", "cluster", "demo_run") if name in asked), "nothing")


def _order(wants: dict[str, str]) -> list[str]:
    """First one that makes the image and one that runs the demo, then what needs neither, then all others, mixed."""

    def wanting(*what: str) -> list[str]:
        return [name for name, wanted in wants.items() if wanted in what]

    makers = [*wanting("image")[:1], *wanting("demo_run")[:1]]
    later = [[name for name in wanting(*what) if name not in makers] for what in (("image", "cluster"), ("demo_run",))]
    mixed = sorted(((place + 0.5) / len(names), name) for names in later for place, name in enumerate(names))
    return [*makers, *wanting("nothing"), *(name for _, name in mixed)]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("LLAMA_", "HF_", "DAGSTER_")) and name != "LLAMA_SWAP_BIN":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")


@pytest.fixture
def golden(request: pytest.FixtureRequest):
    """Compares a text with the one others rely on; `make golden` rewrites it."""

    def compare(name: str, found: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--rewrite-golden"):
            path.write_text(found)
        assert path.exists(), f"{path} is not there; `make golden` writes it"
        assert found == path.read_text(), f"differs from {path}; if that is meant, `make golden` and read the diff"

    return compare
