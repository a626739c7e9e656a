"""Verify: read what is published again and compare it with the sha256s it was published under.

Here: finding out, and noting a damaged blob, so that for a download it is not here. Not here: repair; the next download
of the set fetches what is missing or damaged again, and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llama_assets.store.blobs import Blobs, Part
from llama_assets.store.errors import Busy, in_words
from llama_assets.store.locks import Locks
from llama_assets.store.publish import Published

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Fault:
    """One file of a set that is not what was published."""

    model: str
    blob: Path
    part: Part
    problem: str

    def __str__(self) -> str:
        return (
            f"{self.model} {self.part.role} ({self.blob}): {self.problem}; materialize gguf/{self.model}, "
            f"which fetches it alone, or `llama-assets rollback {self.model}` if the Hub has it no more"
        )


def verify(
    blobs: Blobs, locks: Locks, published: Published, tick: Callable[[int], None] = lambda _: None
) -> list[Fault]:
    """Read every blob of a set, 1 to 1.3 GB a second when it is in memory; `tick` is told of bytes read.

    What was found is noted: a damaged blob is not here for the next download, a right one is again.

    Raises:
        OSError: a blob is there and cannot be read. Unusable: the note cannot be written.
    """
    each = {part.sha256: part for part in published.parts}.values()
    faults = ((part, _problem(blobs, locks, part, tick)) for part in each)
    return [Fault(published.model, blobs.path(part.sha256), part, problem) for part, problem in faults if problem]


def warm(blobs: Blobs, published: Published) -> int:
    """Ask the kernel to read a set into memory, so that the next load is not a cold one. Returns the bytes asked for.

    Only a hint: it does not wait, and where there is no such call nothing is asked.
    """
    if not hasattr(os, "posix_fadvise"):
        return 0
    for part in published.parts:
        with blobs.path(part.sha256).open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, part.size, os.POSIX_FADV_WILLNEED)
    return sum(part.size for part in published.parts)


def _problem(blobs: Blobs, locks: Locks, part: Part, tick: Callable[[int], None]) -> str | None:
    path = blobs.path(part.sha256)
    if not path.is_file():
        return "is gone"
    size = path.stat().st_size
    if size != part.size:
        return f"has {size} bytes, {part.size} ({in_words(part.size)}) were published"
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        read = os.fstat(file.fileno())
        while count := file.readinto(block):
            digest.update(block[:count])
            tick(count)
    found = digest.hexdigest()
    problem = None if found == part.sha256 else f"has sha256 {found}, which is not its name"
    if problem or blobs.damage_path(part.sha256).exists():
        _note(blobs, locks, part.sha256, read, problem)
    return problem


def _note(blobs: Blobs, locks: Locks, sha256: str, read: os.stat_result, problem: str | None) -> None:
    """Not while a download has the blob, nor of a file that was replaced since: then somebody mends it just now."""
    with contextlib.suppress(Busy), locks.held(sha256, f"blob {sha256[:12]}", 0.0, lambda _: None):
        try:
            now = blobs.path(sha256).stat()
        except FileNotFoundError:
            return
        if not os.path.samestat(read, now):
            return
        if problem:
            blobs.note_damage(sha256, problem)
        else:
            blobs.forget_damage(sha256)
