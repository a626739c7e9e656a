"""Which commit a catalog model follows, what it selects there, and whether that has changed.

In come catalog models; out go revisions with their files' sizes and sha256, to `tasks` and the revision sensor.
Not here: which name is meant (`selection.py`), bytes (`fetch.py`), what becomes of them (room `store`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from llama_assets.catalog import Model
from llama_assets.hub import fetch
from llama_assets.hub.answers import Asked, HubLimits, api_errors, library, patient
from llama_assets.hub.errors import HubError, NotAHub
from llama_assets.hub.selection import Listed, RemoteFile, Role, select

Key = TypeVar("Key")
Value = TypeVar("Value")
DEFAULT_LIMITS = HubLimits()


@dataclass(frozen=True)
class Revision:
    """What a catalog model selects at one commit (40 hex digits). `followed` is the branch, tag or commit asked for."""

    repo: str
    followed: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the files' sorted (role, part, sha256): a rename or another commit changes nothing."""
        blobs = sorted((file.role, file.part, file.sha256) for file in self.files)
        return hashlib.sha256(json.dumps(blobs).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a task's request or a sensor's cursor."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Revision:
        """What `as_json` gave. KeyError or TypeError if it is something else."""
        files = tuple(RemoteFile(**file) for file in value["files"])
        return cls(value["repo"], value["followed"], value["commit"], files)


@dataclass(frozen=True)
class Change:
    """A selected file with other bytes than before. `old` None: it is new; `new` None: it is not selected any more."""

    role: Role
    part: int
    old: RemoteFile | None
    new: RemoteFile | None


@dataclass(frozen=True)
class Watched:
    """A look at a followed repo. `moved`: its commit is another one; `changed`: the selected bytes that are."""

    revision: Revision
    moved: bool
    changed: tuple[Change, ...]


class Hub:
    """A Hugging Face hub at `endpoint`. `token` goes there and nowhere else; without one nothing is sent."""

    def __init__(self, endpoint: str, token: str | None = None, limits: HubLimits = DEFAULT_LIMITS) -> None:
        self.endpoint, self.limits = endpoint.rstrip("/"), limits
        self._token = token

    def head(self, model: Model) -> str:
        """The commit that the followed revision stands for now: one request of about 200 bytes.

        Raises:
            HubError: transient ones after `limits.attempts` tries.
        """
        info = self._info(model.repo, model.revision, expand=["sha"])
        return str(info.sha)

    def resolve(self, model: Model, commit: str | None = None) -> Revision:
        """What the catalog selects at a commit (the followed revision's, if None): one request.

        Raises:
            HubError: also FileNotFound, Ambiguous, SplitIncomplete of `selection.select`.
        """
        info = self._info(model.repo, commit or model.revision, files_metadata=True)
        listed = [
            Listed(file.rfilename, file.lfs.size, file.lfs.sha256)
            for file in info.siblings or ()
            if file.rfilename.lower().endswith(".gguf") and file.lfs is not None  # without LFS there is no sha256
        ]
        return Revision(model.repo, model.revision, info.sha, select(model, listed, info.sha))

    def stream(self, revision: Revision, file: RemoteFile, start: int) -> AbstractContextManager[fetch.Body]:
        """One attempt at a file's bytes from `start` (less than its size) on; see `fetch.stream`."""
        return fetch.stream(self._source(revision), file, start, self.limits)

    def header(self, revision: Revision, file: RemoteFile, first_bytes: int) -> bytes:
        """The first bytes of a file that is not downloaded: two requests, no more bytes than asked for."""
        with fetch.stream(self._source(revision), file, 0, self.limits, end=first_bytes) as body:
            return b"".join(body)

    def _source(self, revision: Revision) -> fetch.Source:
        return fetch.Source(self.endpoint, self._token, revision.repo, revision.commit)

    def _info(self, repo: str, revision: str, **what: Any) -> Any:
        """model_info, with our time-out and patience: the library has neither for this call."""
        asked = Asked(self.endpoint, repo, revision, None, self._token is not None)

        def call() -> Any:
            with api_errors(asked):
                api = library().HfApi(endpoint=self.endpoint, token=self._token or False, library_name="llama-assets")
                info = api.model_info(repo, revision=revision, timeout=self.limits.api_timeout_s, **what)
            if not info.sha:
                raise NotAHub(self.endpoint, f"no commit in what it said about {repo}")
            return info

        return patient(self.limits, call)


def watch(hub: Hub, model: Model, seen: Revision | None) -> Watched:
    """Look whether the followed revision moved, and which selected bytes changed: 1 request if not, 2 if it did.

    With nothing seen yet everything is new. A commit that brings a README, other quantizations or new names for the
    same bytes is `moved` with nothing `changed`.

    Raises:
        HubError: also where the selected file is gone (renamed with other bytes): FileNotFound with candidates.
    """
    if seen is None or (seen.repo, seen.followed) != (model.repo, model.revision):
        return _compared(hub.resolve(model), seen)
    return _moved_to(hub, model, seen, hub.head(model))


def watch_all(hub: Hub, models: Sequence[Model], seen: Mapping[str, Revision]) -> dict[str, Watched | HubError]:
    """`watch` for many models (`seen` by model id), `hub.limits.at_once` requests at a time.

    One request for each followed revision of a repo, however many models follow it, and one more for each model whose
    commit moved. An error of one model is its value; the others are not disturbed.
    """
    followed = {(model.repo, model.revision): model for model in models if model.id in seen}
    heads = _at_once(hub, followed, lambda key: hub.head(followed[key]))

    def look(name: str) -> Watched:
        model, before = by_name[name], seen.get(name)
        head = heads.get((model.repo, model.revision))
        if isinstance(head, HubError):
            raise head
        if head is None or before is None or (before.repo, before.followed) != (model.repo, model.revision):
            return _compared(hub.resolve(model), before)
        return _moved_to(hub, model, before, head)

    by_name = {model.id: model for model in models}
    return _at_once(hub, by_name, look)


def _moved_to(hub: Hub, model: Model, seen: Revision, head: str) -> Watched:
    if head == seen.commit:
        return Watched(seen, moved=False, changed=())
    return _compared(hub.resolve(model, head), seen)  # by commit: the branch may move on between two requests


def _compared(now: Revision, seen: Revision | None) -> Watched:
    old = {(file.role, file.part): file for file in seen.files} if seen else {}
    new = {(file.role, file.part): file for file in now.files}
    changed = tuple(
        Change(role, part, old.get((role, part)), new.get((role, part)))
        for role, part in {**new, **old}  # in the order of selection; what is gone comes last
        if _sha256(old.get((role, part))) != _sha256(new.get((role, part)))
    )
    return Watched(now, moved=seen is None or seen.commit != now.commit, changed=changed)


def _sha256(file: RemoteFile | None) -> str | None:
    return file.sha256 if file else None


def _at_once(hub: Hub, keys: Iterable[Key], ask: Callable[[Key], Value]) -> dict[Key, Value | HubError]:
    def answer(key: Key) -> Value | HubError:
        try:
            return ask(key)
        except HubError as error:
            return error

    names = list(keys)
    with ThreadPoolExecutor(max_workers=hub.limits.at_once) as pool:
        return dict(zip(names, pool.map(answer, names), strict=True))
