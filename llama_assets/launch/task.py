"""What is asked of a task, as it crosses the border to another process or pod.

The request travels as JSON in one environment variable, so a child process and a Job are asked the same way.
Linux allows 128 KiB for one variable: a request carries only the models it is about.

    LaunchError
    └── TaskFailed    the task ended badly; says how, and its last lines
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

TaskKind = Literal["download", "benchmark", "hold", "store", "verdict"]
VARIABLE = "LLAMA_ASSETS_TASK"


@dataclass(frozen=True)
class Task:
    """One piece of work. `run_id` and `step` name it: the same pair is the same task, followed again."""

    kind: TaskKind
    run_id: str
    step: str
    request: Mapping[str, Any]
    model: str | None = None
    deadline_s: float | None = None
    """How long a Job of it may run, if not as long as any; a child process needs none: it dies with its caller."""

    def environment(self) -> dict[str, str]:
        """The variable that carries this task."""
        return {VARIABLE: json.dumps(asdict(self))}


def asked(environ: Mapping[str, str] = os.environ) -> Task | None:
    """The task this process was started for; None when it was started by hand."""
    text = environ.get(VARIABLE)
    return Task(**json.loads(text)) if text else None


@dataclass
class TaskFailed(Exception):
    """A task ended badly. `reason` says how (exit status, signal, why it never started); `lines` are its last words."""

    task: Task
    reason: str
    lines: list[str] = field(default_factory=list)

    exit_status = 1

    def __str__(self) -> str:
        of = f" of {self.task.model}" if self.task.model else ""
        words = "".join(f"\n  {line}" for line in self.lines)
        return f"task {self.task.kind}{of}: {self.reason}{words}"


class Launcher(Protocol):
    """Where tasks run. One method: all a caller needs to know of child processes and Jobs."""

    def run(self, task: Task, environment: Mapping[str, str], line: Callable[[str], None]) -> None:
        """Start the task (or follow the one already started), hand every output line to `line`, return at its good end.

        An exception in the caller (Ctrl-C, Dagster's interrupt) ends the task before it goes on up.

        Raises:
            TaskFailed: the task could not be started or ended badly.
        """
