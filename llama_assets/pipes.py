"""A run's context to a task, its messages back: the one file that knows Dagster Pipes.

A task writes its log lines and its one answer as Pipes messages on stderr; the platform's launcher hands every output
line here, whether it came from a child process or from a pod's log. Not here: how a task is started (`launch`), what it
is asked and answers (`tasks.messages`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

import dagster as dg
from dagster._core.pipes.context import PipesMessageHandler
from dagster._core.pipes.utils import extract_message_or_forward_to_stdout
from dagster_pipes import PipesDefaultMessageWriter, PipesParams

from llama_assets.launch import Task, TaskFailed
from llama_assets.platforms import Platform
from llama_assets.tasks.messages import Answer, Request, Said

A = TypeVar("A", bound=Answer)


class LineReader(dg.PipesMessageReader):
    """Takes messages from lines somebody else reads; `no message at all` is the launcher's error to explain."""

    @contextlib.contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        """Dagster's side of the channel; tells the task to write to stderr."""
        self._handler = handler
        yield {PipesDefaultMessageWriter.STDIO_KEY: PipesDefaultMessageWriter.STDERR}

    def line(self, text: str) -> None:
        """One output line: a message for Dagster, or text for the run's compute log."""
        extract_message_or_forward_to_stdout(self._handler, text)

    def no_messages_debug_text(self) -> str:
        """Shown by Dagster when a task ended without a word."""
        return "The task wrote no Pipes message; its output is in the run's compute log."


def run_task(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext,
    platform: Platform,
    request: Request,
    answer: type[A],
    part: str = "",
) -> A:
    """Ask a task, follow it, and return its answer. A step that asks several of one kind tells them apart by `part`:
    without, the second is taken for the first, followed again.

    Raises:
        dagster.Failure: with the room's own sentence when the task says why it failed, else with its last lines.
    """  # fmt: skip
    op = context.op_execution_context
    task = Task(
        request.kind,
        op.run_id,
        f"{op.op_handle}.{op.retry_number}{f'.{part}' if part else ''}",
        request.model_dump(mode="json"),
        request.about,
        request.deadline_s,
    )
    reader = LineReader()
    failed: TaskFailed | None = None
    with dg.open_pipes_session(op, dg.PipesEnvContextInjector(), reader) as session:
        try:
            platform.launcher.run(task, session.get_bootstrap_env_vars(), reader.line)
        except TaskFailed as error:
            failed = error
    said = Said.of(session.get_custom_messages())
    if failed is not None or said.answer is None:
        reason = said.failed or str(failed or f"task {task.kind} ended without an answer")
        raise dg.Failure(reason, allow_retries=False)
    return answer.model_validate(said.answer)


def may_skip(context: dg.AssetExecutionContext) -> None:
    """The step may leave assets out. A Pipes session has Dagster demand every asset and check that was selected."""
    context.op_execution_context.get_step_execution_context()._requires_typed_event_stream = False
