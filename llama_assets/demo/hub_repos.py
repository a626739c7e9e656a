"""What lies on the loopback hub: contents, commits, repos, and who may read them.

Here: git-like history, the sha256 of what is stored, the JSON rows that the Hub's API answers with. Not here: HTTP
(`hub_http.py`), faults, and the face that demo and tests use (`hub.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

BLOCK = 1 << 20
LFS_SUFFIXES = (".gguf", ".safetensors", ".bin", ".png", ".jpg")
LFS_FROM_BYTES = 10 << 20


class Content(Protocol):
    """Bytes of one file, wherever they are."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def sha256(self) -> str:
        """Hex digest of all bytes."""

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) in pieces of at most 1 MiB."""


@dataclass(frozen=True)
class Held:
    """A content held in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of all bytes."""
        return hashlib.sha256(self.data).hexdigest()

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) in pieces of at most 1 MiB."""
        for at in range(start, end, BLOCK):
            yield self.data[at : min(at + BLOCK, end)]


@dataclass(frozen=True)
class OnDisk:
    """A content that stays in its file; size (bytes) and digest (hex) are those at the time of the push."""

    path: Path
    size: int
    sha256: str

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) in pieces of at most 1 MiB."""
        with self.path.open("rb") as file:
            file.seek(start)
            while start < end and (block := file.read(min(BLOCK, end - start))):
                start += len(block)
                yield block


@dataclass(frozen=True)
class Zeros:
    """`first`, then zero bytes up to `size`: a file of any size that costs neither memory nor disk."""

    size: int
    first: bytes = b""

    @property
    def sha256(self) -> str:
        """Hex digest of all bytes; worked out once for each size (1.6 s for 2 GiB)."""
        return _digest_of_zeros(self.size, self.first)

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) in pieces of at most 1 MiB."""
        zeros = bytes(min(BLOCK, max(end - start, 0)))
        if start < len(self.first):
            yield self.first[start:end]
            start = min(end, len(self.first))
        while start < end:
            yield zeros[: end - start]
            start += min(len(zeros), end - start)


@lru_cache(maxsize=256)
def _digest_of_file(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=256)
def _digest_of_zeros(size: int, first: bytes) -> str:
    digest = hashlib.sha256()
    for block in Zeros(size, first).blocks(0, size):
        digest.update(block)
    return digest.hexdigest()


def content(source: bytes | str | os.PathLike[str] | Content) -> Content:
    """What was handed in as a content: bytes and text are held, a path stays on disk."""
    if isinstance(source, bytes):
        return Held(source)
    if isinstance(source, str):
        return Held(source.encode())
    if isinstance(source, os.PathLike):
        path = Path(source).absolute()
        stat = path.stat()
        return OnDisk(path, stat.st_size, _digest_of_file(path, stat.st_size, stat.st_mtime_ns))
    return source


@dataclass(frozen=True)
class File:
    """One path in one commit. `lfs` files live on the CDN and carry a sha256, the rest on the hub itself."""

    path: str
    content: Content

    @property
    def lfs(self) -> bool:
        """Whether the file is stored in LFS, as the Hub's .gitattributes decide by name."""
        return self.path.lower().endswith(LFS_SUFFIXES) or self.content.size >= LFS_FROM_BYTES

    @property
    def pointer(self) -> bytes:
        """The LFS pointer that git holds instead of the bytes (git-lfs specification, version 1)."""
        lines = (
            "version https://git-lfs.github.com/spec/v1",
            f"oid sha256:{self.content.sha256}",
            f"size {self.content.size}",
        )
        return "".join(line + "\n" for line in lines).encode()

    @property
    def blob_id(self) -> str:
        """git's id of the blob: of the pointer for an LFS file."""
        data = self.pointer if self.lfs else b"".join(self.content.blocks(0, self.content.size))
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def sibling(self, with_blobs: bool) -> dict[str, Any]:
        """The file's row in an answer to model_info."""
        if not with_blobs:
            return {"rfilename": self.path}
        row: dict[str, Any] = {"rfilename": self.path, "blobId": self.blob_id, "size": self.content.size}
        if self.lfs:
            size, pointer = self.content.size, len(self.pointer)
            row["lfs"] = {"sha256": self.content.sha256, "size": size, "pointerSize": pointer}
        return row

    def entry(self) -> dict[str, Any]:
        """The file's row in an answer to a tree or paths-info request."""
        row: dict[str, Any] = {"type": "file", "oid": self.blob_id, "size": self.content.size, "path": self.path}
        if self.lfs:
            size, pointer = self.content.size, len(self.pointer)
            row["lfs"] = {"oid": self.content.sha256, "size": size, "pointerSize": pointer}
        return row


@dataclass(frozen=True)
class Commit:
    """One state of a repo. `sha` is 40 hex digits."""

    sha: str
    title: str
    when: datetime
    parent: str | None
    files: Mapping[str, File]

    @property
    def date(self) -> str:
        """The date as the Hub writes it."""
        return self.when.strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass
class Repo:
    """One model repo. Who may read it: `private` hides it, `gated` closes its files, but not to tokens in `allowed`."""

    name: str
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    disabled: bool = False
    allowed: set[str] = field(default_factory=set)

    def add(self, put: Mapping[str, Content], remove: tuple[str, ...], title: str, branch: str) -> Commit:
        """A commit on top of `branch`: its files without `remove`, with `put`."""
        parent = self.branches.get(branch)
        files = dict(self.commits[parent].files) if parent else {}
        for path in remove:
            del files[path]
        files |= {path: File(path, what) for path, what in put.items()}
        when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=len(self.commits))
        identity = [
            self.name,
            branch,
            parent,
            title,
            len(self.commits),
            sorted((f.path, f.blob_id) for f in files.values()),
        ]
        sha = hashlib.sha1(json.dumps(identity).encode()).hexdigest()
        commit = Commit(sha, title, when, parent, dict(sorted(files.items())))
        self.commits[sha] = commit
        self.branches[branch] = sha
        return commit

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag, a sha or at least 7 digits of one stand for."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        found = [commit for key, commit in self.commits.items() if key.startswith(sha)] if len(sha) >= 7 else []
        return self.commits.get(sha) or (found[0] if len(found) == 1 else None)

    def info(self, commit: Commit, with_blobs: bool, only: list[str]) -> dict[str, Any]:
        """The answer to model_info; `only` are the keys asked for by `expand`."""
        first = next(iter(self.commits.values()))
        whole: dict[str, Any] = {
            "_id": hashlib.md5(self.name.encode()).hexdigest()[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.name.split("/")[0],
            "sha": commit.sha,
            "lastModified": commit.date,
            "createdAt": first.date,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": self.disabled,
            "tags": ["gguf"],
            "downloads": 0,
            "likes": 0,
            "siblings": [file.sibling(with_blobs) for file in commit.files.values()],
        }
        if only:
            return {key: value for key, value in whole.items() if key in {"_id", "id", "modelId", *only}}
        return whole

    def tree(self, commit: Commit, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """The rows of a folder (`""` is the top): folders first, then files."""
        above = folder.rstrip("/") + "/" if folder else ""
        folders: dict[str, dict[str, Any]] = {}
        files = []
        for file in commit.files.values():
            if not file.path.startswith(above):
                continue
            steps = file.path[len(above) :].split("/")
            for depth in range(1, len(steps) if recursive else min(len(steps), 2)):
                path = above + "/".join(steps[:depth])
                oid = hashlib.sha1(path.encode()).hexdigest()
                folders[path] = {"type": "directory", "oid": oid, "size": 0, "path": path}
            if recursive or len(steps) == 1:
                files.append(file.entry())
        return [*folders.values(), *files]

    def history(self, commit: Commit) -> list[dict[str, Any]]:
        """The rows of a commit and those before it, newest first."""
        rows: list[dict[str, Any]] = []
        at: Commit | None = commit
        while at is not None:
            authors = [{"user": "demo"}]
            rows.append({"id": at.sha, "title": at.title, "message": "", "date": at.date, "authors": authors})
            at = self.commits.get(at.parent) if at.parent else None
        return rows
