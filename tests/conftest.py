"""What every test may lean on: golden texts, and an environment without a person's own settings."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest_plugins = ("tests.side_by_side", "tests.demo_run", "tests.cluster", "tests.no_skipped_cluster")
ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started with `&`, all that we start would not hear a Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write what is found as the golden text")
    parser.addoption(
        "--long",
        action="store_true",
        help="also what takes minutes: large worlds of the lease, outages, a killing in every step",
    )
    parser.addoption("--keep-pictures", action="store_true", help="keep the UI's screenshots as docs/pictures/*.png")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; `--long` does it"))


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
