"""A task as a child process of this one: the `local` platform's launcher.

The child gets SIGTERM when its caller is interrupted, and also when its caller is killed (`die_with_parent`), so that a
benchmark can give the card back and leave whole rows. Its own process group keeps a terminal's Ctrl-C from reaching it
twice: the caller passes the news on.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llama_assets.launch.task import Task, TaskFailed

PR_SET_PDEATHSIG = 1
PARENT = "LLAMA_ASSETS_PARENT_PID"


@dataclass(frozen=True)
class ProcessTimes:
    """How long an interrupted task may take to end well, before SIGKILL."""

    grace_s: float = 60.0


TASKS = (sys.executable, "-m", "llama_assets.tasks")


class ProcessLauncher:
    """Runs each task as a process of `program`; an error carries its `last_lines`."""

    def __init__(
        self, program: Sequence[str] = TASKS, times: ProcessTimes = ProcessTimes(), last_lines: int = 20
    ) -> None:
        self._program = tuple(program)
        self._times = times
        self._last_lines = last_lines

    def run(self, task: Task, environment: Mapping[str, str], line: Callable[[str], None]) -> None:
        """See `Launcher.run`."""
        tail: collections.deque[str] = collections.deque(maxlen=self._last_lines)
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment, **task.environment(), PARENT: str(os.getpid())}
        process = subprocess.Popen(
            self._program, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
        with self._ended_with_caller(process, line):
            assert process.stdout is not None
            for text in process.stdout:
                line(text.rstrip("\n"))
                if not text.startswith("{"):  # a Pipes message is not for people
                    tail.append(text.rstrip("\n"))
            status = process.wait()
        if status:
            raise TaskFailed(task, _reason(status), list(tail))

    @contextlib.contextmanager
    def _ended_with_caller(self, process: subprocess.Popen[str], line: Callable[[str], None]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                rest, _ = process.communicate(timeout=self._times.grace_s)  # its last words: what it saved, gave back
                for text in (rest or "").splitlines():
                    line(text)
            raise
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def die_with_parent(environ: Mapping[str, str] = os.environ) -> None:
    """Ask the kernel to send SIGTERM to this process when the one that launched it dies, even by kill -9.

    Does nothing in a process that no `ProcessLauncher` started. Source: prctl(2), PR_SET_PDEATHSIG.
    """
    parent = environ.get(PARENT)
    if parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def _reason(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}" + (" (out of memory?)" if status == -signal.SIGKILL else "")
    if status == 128 + signal.SIGTERM:
        return "stopped by SIGTERM; what it had done is kept"
    return f"exit status {status}"
