"""A server in a process of its own for the length of a block, and a line to it.

`serve(line, *given)` runs over there: it sends what a caller must know first, answers, and returns at EOFError, when
the block has ended. It must be picklable: the process starts afresh, with nothing of the one who measures in it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any


@contextmanager
def company(serve: Callable[..., None], *given: Any) -> Iterator[tuple[Any, Connection]]:
    """What `serve` sent first, and the line."""
    start_afresh = multiprocessing.get_context("spawn")
    here, there = start_afresh.Pipe()
    process = start_afresh.Process(target=serve, args=(there, *given), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv(), here
    finally:
        here.close()
        process.join()
