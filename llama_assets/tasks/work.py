"""Which function does which kind of task, and the few things every one of them is handed.

Not here: how a task was asked and how it answers (`__main__`), what each does (a file per kind).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from llama_assets.launch import Task
from llama_assets.platforms import Platform
from llama_assets.tasks.messages import Answer, Request
from llama_assets.tasks.stopping import Stop


@dataclass(frozen=True)
class Work:
    """One task being done: what was asked, where, and how to speak and to hear."""

    task: Task
    platform: Platform
    say: Callable[[str], None]
    stop: Stop

    def asked(self, request: Request) -> Work:
        """The same task, asked this as well."""
        return replace(self, task=replace(self.task, request=request.model_dump(mode="json")))

    def do(self) -> Answer:
        """Do it. Raises the rooms' errors; SystemExit(143) when stopped."""
        from llama_assets.tasks import benchmark, hold, housekeeping, store, verdict

        kinds: dict[str, Callable[[Work], Answer]] = {
            "download": store.download_task,
            "store": housekeeping.keeping_task if "action" in self.task.request else store.store_task,
            "benchmark": benchmark.benchmark_task,
            "hold": hold.hold_task,
            "verdict": verdict.verdict_task,
        }
        return kinds[self.task.kind](self)
