"""A command asks one task: done in this process where the model volume is here, else run where the platform runs tasks.

Comes in: a request. Goes out: its answer, or the task's own sentence as an error; its lines are handed on as they
come. An interrupt ends a task that runs elsewhere before it goes on up. Dagster's way to ask is `pipes`; this one needs
no Dagster: without a Pipes context a task prints its lines, and its one message as a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from llama_assets.launch import Task, TaskFailed
from llama_assets.platforms import Platform
from llama_assets.tasks.messages import Answer, Request, Said
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work

A = TypeVar("A", bound=Answer)


class TaskSaid(RuntimeError):
    """A task that ran elsewhere failed, and this is its own sentence."""

    exit_status = 1


def ask(platform: Platform, request: Request, answer: type[A], say: Callable[[str], None]) -> A:
    """The answer of one task.

    Raises:
        The rooms' errors where it is done here. TaskSaid: the task's sentence; TaskFailed: it ended without one.
    """
    name = f"command-{uuid.uuid4().hex[:12]}"
    task = Task(
        request.kind, name, "asked", request.model_dump(mode="json"), request.about, request.deadline_s
    )  # fmt: skip
    if platform.has_store:
        found = Work(task, platform, say, Stop()).do()
        assert isinstance(found, answer), f"{type(found).__name__} answers {type(request).__name__}"
        return found
    messages: list[Any] = []

    def line(text: str) -> None:
        message = _message(text)
        if message is None:
            say(text)
        else:
            messages.append(message)

    failed: TaskFailed | None = None
    with _ended_by_sigterm():
        try:
            platform.launcher.run(task, {}, line)
        except TaskFailed as error:
            failed = error
    said = Said.of(messages)
    if said.failed is not None:
        raise TaskSaid(said.failed)
    if failed is not None or said.answer is None:
        raise failed or TaskFailed(task, "ended without an answer")
    return answer.model_validate(said.answer)


def _message(text: str) -> dict[str, Any] | None:
    """The task's one message, if this line is it."""
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and set(found) in ({"answer"}, {"failed"}) else None


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the task as Ctrl-C does, instead of this process alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
