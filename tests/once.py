"""Dear things that are made once a session, however many workers of pytest-xdist the session has.

The first worker that asks makes it under a lock, the others wait and read what it wrote. A failure or a skip is kept
too: it is everybody's, and is not tried again.
"""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

Made = TypeVar("Made")


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The session's folder: the same for all its workers, another for each session."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """What `make(folder)` returned to whoever asked first; it must pickle. `folder` is new, and stays."""
    folder = shared_folder(factory) / f"once-{name}"
    kept = folder.with_suffix(".pickle")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            folder.mkdir()
            kept.write_bytes(pickle.dumps(_tried(make, folder)))
        outcome, found = pickle.loads(kept.read_bytes())
    if outcome == "skipped":
        pytest.skip(found)
    if outcome == "failed":
        pytest.fail(found, pytrace=False)
    return found


def _tried(make: Callable[[Path], Any], folder: Path) -> tuple[str, Any]:
    try:
        return "made", make(folder)
    except pytest.skip.Exception as reason:
        return "skipped", str(reason)
    except (pytest.fail.Exception, Exception) as reason:
        return "failed", f"{type(reason).__name__}: {reason}"
