"""The process of one task: reads what is asked, does it, answers once, and exits 0, 1 or 143.

Started by a launcher with the request in the environment. Under Dagster its lines and its answer are Pipes messages; by
hand they are printed. A known error answers with its own sentence; an unknown one leaves a traceback.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes

from llama_assets.launch import asked, die_with_parent
from llama_assets.platforms import open_platform
from llama_assets.settings import Settings
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work

INTERRUPTED = 143  # a task must not exit 0 on SIGTERM: a deleted pod that does counts as Succeeded


def main() -> int:
    """Exit status: 0 answered, 1 failed with a sentence, 143 stopped."""
    stop = Stop.on_signals()
    die_with_parent()
    task = asked()
    if task is None:
        raise SystemExit("python -m llama_assets.tasks is started by a launcher, with LLAMA_ASSETS_TASK set")
    with _channel() as (say, report):
        try:
            answer = Work(task, open_platform(Settings.read()), say, stop).do()
        except Exception as error:
            if not hasattr(error, "exit_status"):
                raise
            report({"failed": str(error)})
            return 1
        report({"answer": answer.model_dump(mode="json")})
    return INTERRUPTED if stop.requested else 0


@contextlib.contextmanager
def _channel() -> Iterator[tuple[Callable[[str], None], Callable[[dict[str, Any]], None]]]:
    """How to say a line, and how to report the one message at the end."""
    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        yield print, lambda message: print(json.dumps(message))
        return
    with open_dagster_pipes() as pipes:
        yield pipes.log.info, pipes.report_custom_message


if __name__ == "__main__":
    sys.exit(main())
