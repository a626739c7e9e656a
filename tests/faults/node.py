"""The kit's node is this machine: a process inside of a pod, to be killed as the kernel kills."""

from __future__ import annotations

from typing import Any

import psutil
import pytest


def process_in(pod: dict[str, Any], words: str) -> psutil.Process:
    """The oldest process of a pod whose command line holds `words`: its container ends with it."""
    uid = pod["metadata"]["uid"]
    found = []
    for process in psutil.process_iter():
        try:
            with open(f"/proc/{process.pid}/cgroup") as cgroup:
                inside = uid in cgroup.read().replace("_", "-")
            if inside and words in " ".join(process.cmdline()):
                found.append((process.create_time(), process.pid, process))
        except (OSError, psutil.Error):  # it ended meanwhile
            continue
    if not found:
        pytest.fail(f"no process of pod {uid} that is {words!r} is on this machine")
    return min(found)[2]
