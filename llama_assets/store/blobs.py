"""Blobs: files named by the sha256 of what is in them, so that a name is a proof.

Here: writing one (`<sha256>.part`, hashed on the way, resumed, renamed when right), one writer per blob, room on the
volume, and the note that a blob is not what its name says any more. Not here: where bytes come from (`hub`), which
blobs make up a model (`publish`), finding damage (`verify`), what may go (`gc`).

A damaged blob stays where it is, with a note `<sha256>.damaged` beside it: an engine that has it open, or loads it
again, goes on as well as it can, and for everybody else it is not here. The next writer fetches it whole, its rename
puts the right bytes in place, and then the note goes. A note too many, left by a kill, costs one fetch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llama_assets.store.errors import NoSpace, StoreError, Unusable, WrongBytes, in_words
from llama_assets.store.folders import make_folder, sync_folder
from llama_assets.store.locks import Locks

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, no quota, a limit on the size of one file

Say = Callable[[str], None]


@dataclass(frozen=True)
class StoreLimits:
    """The store's numbers. Tests shorten them."""

    block_bytes: int = 1 << 20
    blob_wait_s: float = 6 * 3600.0  # for another download of the same blob: hours on a slow line
    store_wait_s: float = 60.0  # for another publish, promotion or gc: these take moments
    look_every_s: float = 0.5
    abandoned_s: float = 24 * 3600.0  # a part or an unpublished blob nobody wrote for so long may go


@dataclass(frozen=True)
class Part:
    """One file of a set: `part` of `parts`, 1-based, of the model or its projector. `size` in bytes."""

    role: Literal["model", "mmproj"]
    part: int
    parts: int
    sha256: str
    size: int


class Blobs:
    """`<root>/blobs`."""

    def __init__(self, root: Path, locks: Locks, limits: StoreLimits, at: Callable[[str], None]) -> None:
        self.folder, self._locks, self._limits, self._at = root / "blobs", locks, limits, at

    def path(self, sha256: str) -> Path:
        """Where the blob is, or will be."""
        return self.folder / sha256

    def part_path(self, sha256: str) -> Path:
        """Where its bytes are while they arrive."""
        return self.folder / f"{sha256}.part"

    def damage_path(self, sha256: str) -> Path:
        """Where it is noted that the blob is damaged."""
        return self.folder / f"{sha256}.damaged"

    def has(self, sha256: str, size: int) -> bool:
        """Whether the whole blob is here, and not known to be damaged. It got its name only after its sha256 was
        right; nothing is read.
        """  # fmt: skip
        return _size(self.path(sha256)) == size and not self.damage_path(sha256).exists()

    def note_damage(self, sha256: str, says: str) -> None:
        """From now on the blob is not here, for whoever asks `has`. Raises Unusable."""
        path = self.damage_path(sha256)
        try:
            with path.open("w", encoding="utf-8") as file:
                file.write(f"{says}\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(path.parent)
        except OSError as error:
            raise Unusable(path, error.strerror or str(error)) from error

    def forget_damage(self, sha256: str) -> None:
        """Its bytes are right. Raises Unusable."""
        path = self.damage_path(sha256)
        try:
            path.unlink()
            sync_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unusable(path, error.strerror or str(error)) from error

    def arrived(self, part: Part) -> int:
        """Bytes of this part that are here already, whole or not."""
        return (
            part.size if self.has(part.sha256, part.size) else min(_size(self.part_path(part.sha256)) or 0, part.size)
        )

    def files(self) -> list[Path]:
        """Every blob, and every beginning of one."""
        found = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [path for path in found if path.suffix in ("", ".part")]

    def check_space(self, parts: Iterable[Part], reserve_bytes: int) -> None:
        """Whether the volume can take what is still missing of the whole set, and stay usable.

        Raises:
            NoSpace: naming what is wanted, what is free and what is kept.
        """
        each = {part.sha256: part for part in parts}.values()
        arrived = sum(self.arrived(part) for part in each)
        wanted, free = sum(part.size for part in each) - arrived, self.free()
        if wanted and wanted + reserve_bytes > free:
            raise NoSpace(self.folder, wanted, free, reserve=reserve_bytes, kept=arrived)

    def free(self) -> int:
        """Bytes that may still be written on the volume."""
        make_folder(self.folder)
        return _free(self.folder)

    @contextlib.contextmanager
    def writer(self, part: Part, say: Say, name: str) -> Iterator[BlobWriter]:
        """The only writer of this blob, by its lock.

        What an earlier run left is read again and hashed. Whoever holds several blobs takes them in the order of
        their sha256s, so that two downloads cannot wait for each other. `name` is what people call the file.

        Raises:
            Busy: another process held it for longer than `blob_wait_s`.
            Unusable: the volume cannot be written or cannot lock.
        """
        name = name or f"blob {part.sha256[:12]}"
        with self._locks.held(part.sha256, name, self._limits.blob_wait_s, say):
            make_folder(self.folder)
            writer = BlobWriter(self, part, name, self._limits.block_bytes, self._at)
            try:
                yield writer
            finally:
                writer.close()


class BlobWriter:
    """One blob being written: `have` bytes arrived in order, the next is asked for; `whole` once it has its name."""

    def __init__(self, blobs: Blobs, part: Part, name: str, block_bytes: int, at: Callable[[str], None]) -> None:
        self.part, self._name, self._blobs = part, name, blobs
        self.path, self._part_path = blobs.path(part.sha256), blobs.part_path(part.sha256)
        self._at = at
        self._file: int | None = None
        self._digest, self.have = hashlib.sha256(), 0
        self.whole = blobs.has(part.sha256, part.size)
        if self.whole:
            self.have = part.size
        else:
            with self._errors_told():
                self._file = os.open(self._part_path, os.O_RDWR | os.O_CREAT, 0o644)
                self._read_again(block_bytes)
        self.resumed_at = self.have

    def write(self, block: bytes | memoryview) -> None:
        """Take the next bytes of the blob.

        Raises:
            NoSpace: the volume is full. All that arrived before is kept.
            StoreError: more bytes than the blob has.
        """
        assert self._file is not None, "the blob is whole, or its writer closed"
        if self.have + len(block) > self.part.size:
            raise StoreError(f"{self._name}: more than its {self.part.size} bytes arrived; the rest is not written")
        view, offset = memoryview(block), self.have
        with self._errors_told():
            try:
                while view:  # a write just before the end of the volume is short
                    written = os.pwrite(self._file, view, offset)
                    view, offset = view[written:], offset + written
            except OSError:
                os.ftruncate(self._file, self.have)  # what is in the file is what was hashed
                raise
        self._digest.update(block)
        self.have = offset

    def restart(self) -> None:
        """Begin at byte 0 again: the sender cannot go on where we are, or what is here is wrong."""
        assert self._file is not None, "the blob is whole, or its writer closed"
        os.ftruncate(self._file, 0)
        self._digest, self.have = hashlib.sha256(), 0

    def finish(self) -> Path:
        """Verify, make durable, and give the blob its name. Nothing to do if it has it.

        Raises:
            WrongBytes: the sha256 is another; the part file is emptied.
            NoSpace, StoreError: it cannot be made durable, or bytes are missing.
        """
        if self.whole:
            return self.path
        assert self._file is not None, "the writer is closed"
        if self.have != self.part.size:
            raise StoreError(f"{self._name} has {self.have} of {self.part.size} bytes and cannot be finished")
        if (found := self._digest.hexdigest()) != self.part.sha256:
            self.restart()
            raise WrongBytes(self._name, self.part.sha256, found, self.part.size)
        with self._errors_told():
            os.fchmod(self._file, 0o644)  # the engine may run as another user
            os.fsync(self._file)
            self._at("blob verified")
            self._part_path.replace(self.path)
            sync_folder(self.path.parent)
        self._blobs.forget_damage(self.part.sha256)
        self.whole = True
        self.close()
        self._at("blob named")
        return self.path

    def close(self) -> None:
        """Let go of the file; what arrived stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read_again(self, block_bytes: int) -> None:
        assert self._file is not None
        if os.fstat(self._file).st_size > self.part.size:
            os.ftruncate(self._file, 0)
        block = memoryview(bytearray(block_bytes))
        while count := os.preadv(self._file, [block], self.have):
            self._digest.update(block[:count])
            self.have += count

    @contextlib.contextmanager
    def _errors_told(self) -> Iterator[None]:
        """The system's errors, as ours."""
        try:
            yield
        except OSError as error:
            reason, folder = error.strerror or str(error), self._part_path.parent
            if error.errno in _FULL:
                wanted = self.part.size - self.have
                raise NoSpace(folder, wanted, _free(folder), 0, self.have, f"{self._name}: {reason}") from error
            kept = f", after {in_words(self.have)} of {in_words(self.part.size)}, which are kept" if self.have else ""
            raise Unusable(self._part_path, f"{reason}{kept}") from error


def _free(folder: Path) -> int:
    volume = os.statvfs(folder)
    return volume.f_bavail * volume.f_frsize


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
