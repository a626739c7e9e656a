"""Locks: files under `<root>/locks` held by flock, which the kernel lets go of when a process dies, however it dies.

Here: holding, waiting with the holder's name, looking who holds. Not here: what is locked when (`blobs`, `publish`).
A volume without working flock needs one writer by other means; in a cluster that is the Job's name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from llama_assets.store.errors import Busy, Unusable
from llama_assets.store.folders import make_folder

_TAKEN = (errno.EAGAIN, errno.EACCES)  # what flock says of a lock that another process holds


class Locks:
    """The locks of one store."""

    def __init__(self, root: Path, look_every_s: float) -> None:
        self._folder, self._look_every_s = root / "locks", look_every_s

    @contextlib.contextmanager
    def held(self, name: str, what: str, wait_s: float, say: Callable[[str], None]) -> Iterator[None]:
        """Hold `<name>.lock`; `what` is what people call it. Waiting says for whom, once for each holder.

        The file names its holder for those who wait. It is never removed: a removed lock can be held twice.

        Raises:
            Busy: it was not free within `wait_s`. Unusable: the volume cannot be written or cannot lock.
        """
        make_folder(self._folder)
        path = self._folder / f"{name}.lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
        except OSError as error:
            raise Unusable(path, error.strerror or str(error)) from error
        try:
            self._wait(lock, path, what, wait_s, say)
            os.ftruncate(lock, 0)
            with contextlib.suppress(OSError):  # a full volume: those who wait then read "(unknown)"
                os.pwrite(lock, f"{os.uname().nodename} process {os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(lock)

    def holder(self, name: str) -> str | None:
        """Who holds `<name>.lock` now, None if nobody does. Raises Unusable."""
        path = self._folder / f"{name}.lock"
        try:
            lock = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unusable(path, error.strerror or str(error)) from error
        try:
            return None if _taken(lock, path) else _holder(lock)
        finally:
            os.close(lock)

    def _wait(self, lock: int, path: Path, what: str, wait_s: float, say: Callable[[str], None]) -> None:
        began, told = time.monotonic(), ""
        while not _taken(lock, path):
            holder = _holder(lock)
            if time.monotonic() - began > wait_s:
                raise Busy(what, holder, wait_s)
            if holder != told:
                say(f"waiting for {holder}, which holds {what}")
                told = holder
            time.sleep(self._look_every_s)


def _taken(lock: int, path: Path) -> bool:
    """Whether we have it now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise Unusable(path, f"it cannot lock files ({error.strerror}); it needs a volume with flock") from error
    return True


def _holder(lock: int) -> str:
    return os.pread(lock, 200, 0).decode("utf-8", "replace").strip() or "(unknown)"
