"""Which commit a catalog model follows, what it selects there, and whether that has changed.

In come catalog models; out go revisions with their files' sizes and sha256, to `tasks` and the revision sensor.
Not here: which name is meant (`selection.py`), bytes (`fetch.py`), what becomes of them (room `store`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from llama_assets.catalog import Model
from llama_assets.hub import fetch
from llama_assets.hub.answers import Asked, HubLimits, api_errors, library
from llama_assets.hub.errors import Gated, HubError, NotAHub, NotAsked, RateLimited
from llama_assets.hub.selection import Listed, RemoteFile, Role, select
from llama_assets.patience import patiently

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
class Head:
    """What a followed revision stands for now. `gated`: only those whom the repo's owner lets in get its files."""

    commit: str
    gated: bool


@dataclass(frozen=True)
class Listing:
    """The GGUF files of a repo at one commit: enough for every model that selects among them. `gated` as in `Head`."""

    commit: str
    files: tuple[Listed, ...]
    gated: bool

    def selected(self, model: Model) -> Revision:
        """What the catalog selects here. Raises FileNotFound, Ambiguous, SplitIncomplete of `selection.select`."""
        return Revision(model.repo, model.revision, self.commit, select(model, self.files, self.commit))


@dataclass(frozen=True)
class Watched:
    """A look at a followed repo. `moved`: its commit is another one; `changed`: the selected bytes that are.

    `gated`: its files are for those let in, and we are (without a token nobody is; that is an error).
    """

    revision: Revision
    moved: bool
    changed: tuple[Change, ...]
    gated: bool = False


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
        return self.look(model).commit

    def look(self, model: Model) -> Head:
        """The commit that the followed revision stands for now, and whether a gate is before its files: one request.

        Raises:
            HubError: as `head`.
        """
        info = self._info(model.repo, model.revision, expand=["sha", "gated"])
        return Head(str(info.sha), bool(info.gated))

    def resolve(self, model: Model, commit: str | None = None) -> Revision:
        """What the catalog selects at a commit (the followed revision's, if None): one request.

        Raises:
            HubError: also FileNotFound, Ambiguous, SplitIncomplete of `selection.select`.
        """
        return self.listing(model.repo, commit or model.revision).selected(model)

    def listing(self, repo: str, revision: str) -> Listing:
        """What a repo holds at a commit, branch or tag: one request.

        Raises:
            HubError: as `head`.
        """
        info = self._info(repo, revision, files_metadata=True)
        listed = (
            Listed(file.rfilename, file.lfs.size, file.lfs.sha256)
            for file in info.siblings or ()
            if file.rfilename.lower().endswith(".gguf") and file.lfs is not None  # without LFS there is no sha256
        )
        return Listing(str(info.sha), tuple(listed), bool(info.gated))

    def check_let_in(self, revision: Revision) -> None:
        """Whether a gated repo gives its files to us; nothing is asked without a token, which no gate opens to.

        Raises:
            Gated: it does not. HubError: as `stream`.
        """
        if self._token is None:
            raise Gated(revision.repo, self.endpoint, "gated", with_token=False)
        fetch.address(self._source(revision), revision.files[0], self.limits)

    def stream(self, revision: Revision, file: RemoteFile, start: int) -> AbstractContextManager[fetch.Body]:
        """One attempt at a file's bytes from `start` (less than its size) on; see `fetch.stream`."""
        return fetch.stream(self._source(revision), file, start, self.limits)

    def header(self, revision: Revision, file: RemoteFile, first_bytes: int, until: float | None = None) -> bytes:
        """The first bytes of a file that is not downloaded: two requests, no more bytes than asked for.

        Raises:
            HubError: also Cut, when they are not all here `until` a time.monotonic().
        """
        with fetch.stream(self._source(revision), file, 0, self.limits, end=first_bytes) as body:
            return b"".join(body.until(until))

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

        return patiently(call, self.limits, HubError)


def watch(hub: Hub, model: Model, seen: Revision | None) -> Watched:
    """Look whether the followed revision moved, and which selected bytes changed: 1 request if not, 2 if it did.

    With nothing seen yet everything is new. A commit that brings a README, other quantizations or new names for the
    same bytes is `moved` with nothing `changed`.

    Raises:
        HubError: also where the selected file is gone (renamed with other bytes): FileNotFound with candidates.
    """
    (found,) = watch_all(hub, [model], {model.id: seen} if seen else {}).values()
    if isinstance(found, HubError):
        raise found
    return found


def watch_all(
    hub: Hub,
    models: Sequence[Model],
    seen: Mapping[str, Revision],
    *,
    let_in: Collection[str] = (),
    until: float | None = None,
) -> dict[str, Watched | HubError]:
    """`watch` for many models (`seen` by model id), `hub.limits.at_once` requests at a time, in the order given.

    One request for each followed revision of a repo, however many models follow it, and one more for each commit that
    somebody has not seen yet. An error of one model is its value; the others are not disturbed. A gated repo costs one
    HEAD more, but not for models in `let_in`, who were found to be. Once the Hub limits requests, or at `until` (a
    time.monotonic()), nobody is asked any more: the rest is NotAsked.
    """
    by_name = {model.id: model for model in models}
    followed = {(m.repo, m.revision): m for m in models if _follows(m, seen.get(m.id))}
    door = _Door(hub.endpoint, until)

    def head_of(key: tuple[str, str]) -> Head:
        door.check(key[0])
        return hub.look(followed[key])

    def listing_of(key: tuple[str, str]) -> Listing:
        door.check(key[0])
        return hub.listing(*key)

    heads = _at_once(hub, followed, head_of, door)
    unseen = {m.id: (m.repo, at) for m in models if (at := _unseen(m, seen.get(m.id), heads)) is not None}
    listings = _at_once(hub, dict.fromkeys(unseen.values()), listing_of, door)

    def look(name: str) -> Watched:
        model, before = by_name[name], seen.get(name)
        answer = listings[unseen[name]] if name in unseen else heads[model.repo, model.revision]
        if isinstance(answer, HubError):
            raise answer
        return _looked(hub, model, before, answer, name in let_in)

    return _at_once(hub, by_name, look, door)


def changes(old: Revision | None, new: Revision) -> tuple[Change, ...]:
    """Which selected bytes differ, in the order of selection; what is gone comes last."""
    before = {(file.role, file.part): file for file in old.files} if old else {}
    after = {(file.role, file.part): file for file in new.files}
    return tuple(
        Change(role, part, before.get((role, part)), after.get((role, part)))
        for role, part in {**after, **before}
        if _sha256(before.get((role, part))) != _sha256(after.get((role, part)))
    )


def _follows(model: Model, seen: Revision | None) -> bool:
    return seen is not None and (seen.repo, seen.followed) == (model.repo, model.revision)


def _unseen(model: Model, seen: Revision | None, heads: Mapping[tuple[str, str], Head | HubError]) -> str | None:
    """The commit at which the model's files are to be listed, or what it follows where nobody knows the commit; None
    where they were seen, or the commit cannot be had.
    """  # fmt: skip
    head = heads.get((model.repo, model.revision))
    if head is None:
        return model.revision
    if isinstance(head, HubError) or (seen is not None and _follows(model, seen) and seen.commit == head.commit):
        return None
    return head.commit  # and not the branch: that may move on between two requests


def _looked(hub: Hub, model: Model, seen: Revision | None, answer: Head | Listing, let_in: bool) -> Watched:
    """What a listing shows; or a head, of what was seen before."""
    if isinstance(answer, Listing):
        now = answer.selected(model)
    else:
        assert seen is not None
        now = seen
    if answer.gated and not let_in:
        hub.check_let_in(now)
    return Watched(now, seen is None or seen.commit != now.commit, changes(seen, now), answer.gated)


def _sha256(file: RemoteFile | None) -> str | None:
    return file.sha256 if file else None


class _Door:
    """Whether another request may be begun. Closes when the Hub says that there were too many, and when time is up."""

    def __init__(self, endpoint: str, until: float | None) -> None:
        self._endpoint, self._until = endpoint, until
        self._limited: RateLimited | None = None

    def heard(self, error: HubError) -> None:
        """What an answer was."""
        if isinstance(error, RateLimited):
            self._limited = error

    def check(self, repo: str) -> None:
        """Raises NotAsked."""
        if self._limited is not None:
            said = "because it limits requests (429)"
            raise NotAsked(repo, self._endpoint, said, self._limited.retry_after_s)
        if self._until is not None and time.monotonic() >= self._until:
            raise NotAsked(repo, self._endpoint, "because the others had taken the time there is")


def _at_once(hub: Hub, keys: Iterable[Key], ask: Callable[[Key], Value], door: _Door) -> dict[Key, Value | HubError]:
    def answer(key: Key) -> Value | HubError:
        try:
            return ask(key)
        except HubError as error:
            door.heard(error)
            return error

    names = list(keys)
    with ThreadPoolExecutor(max_workers=hub.limits.at_once) as pool:
        return dict(zip(names, pool.map(answer, names), strict=True))
