"""One run of the demo for every test that wants a finished graph: its output, its files and its Dagster instance.

The demo is run as `make demo` runs it, in a working folder of its own. It costs half a minute, so it is run once a
session; whoever needs a store or a session to spoil copies it first. Name `demo_run` as an argument and do not import
it: tests/conftest.py makes it known, and a fixture imported by a test file would be a second one, run again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from llama_assets.demo.__main__ import HOME, demo_environment
from tests.conftest import ROOT
from tests.once import made_once

NOBODY = "http://127.0.0.1:9"  # port 9, discard: the demo's hub is gone when the demo has ended
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class DemoRun:
    """A demo that has ended well."""

    folder: Path
    """The working folder: dagster.yaml, workspace.yaml, .dagster/ and .llama-assets/ lie here."""
    home: Path
    """The demo's store/, results/, photos/ and run.log."""
    output: str
    """What a person saw."""
    seconds: float
    environment: dict[str, str]
    """For commands on the same store, results and instance; the Hub of it is down."""

    @property
    def session(self) -> Path:
        """The folder of the session that the demo measured."""
        return min((self.home / "results" / "sessions").iterdir())

    def copy(self, folder: Path) -> DemoRun:
        """The same in a folder of its own, to spoil."""
        shutil.copytree(self.folder, folder, symlinks=True)
        environment = {name: value.replace(str(self.folder), str(folder)) for name, value in self.environment.items()}
        return DemoRun(folder, folder / self.home.relative_to(self.folder), self.output, self.seconds, environment)

    def run(self, *command: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """A command in the working folder; programs of the tests' own environment are found first."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout_s
        )


def working_folder(folder: Path) -> Path:
    """A folder in which Dagster's commands behave as they do in a checkout."""
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def own_environment() -> dict[str, str]:
    """This process's environment without a person's own settings, and with our programs first on PATH."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LLAMA_", "HF_", "DAGSTER_")) or name == "LLAMA_SWAP_BIN"
    }
    return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """The demo, run once a session. Whoever changes anything in it copies it first: others read it at the same time."""
    return made_once(tmp_path_factory, "demo", _finished)


def _finished(folder: Path) -> DemoRun:
    working_folder(folder)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "llama_assets.demo"],
        cwd=folder,
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        pytest.fail(f"the demo ended with status {done.returncode}:\n{done.stdout[-6000:]}", pytrace=False)
    home = folder / HOME
    environment = {**own_environment(), **demo_environment(home, NOBODY), "PATH": own_environment()["PATH"]}
    environment = {name: value for name, value in environment.items() if not name.startswith("DAGSTER_")}
    return DemoRun(folder, home, done.stdout, seconds, environment)
