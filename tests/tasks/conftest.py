"""The driven world, made once: its photos and its two published models take longest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tasks.driven_benchmark import World


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driven") / "world"
    World.make(folder)
    return folder


@pytest.fixture
def world(made: Path, tmp_path: Path) -> World:
    """A copy of this test's own."""
    shutil.copytree(made, tmp_path / "world", symlinks=True)
    return World(tmp_path / "world")
