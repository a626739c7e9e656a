"""Task `download`: bring what a model's followed revision selects into the store, verified, and make it current.

The Hub gives blocks, the store proves and keeps them; here they are joined: which bytes to ask for next, when to try
again, what to say meanwhile. Not here: HTTP (`hub`), files (`store`), whether to promote on a verdict (`policy`).

Steps: resolve the revision once (everything after is at that commit, so a push half way changes nothing), hold the
set's blobs, check the room for the whole set, fetch each file from the byte that has arrived, publish, promote.
Whatever goes wrong, `current` is what it was, and what arrived stays for the next run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llama_assets.catalog import Model
from llama_assets.hub import Hub, HubError, RemoteFile, Revision
from llama_assets.store import Damaged, Part, Published, Store, StoreError, WrongBytes, in_words, short
from llama_assets.tasks.progress import Progress, duration

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from llama_assets.store import BlobWriter

Say = Callable[[str], None]
Promotion = Literal["at_once", "on_verdict"]


@dataclass(frozen=True)
class DownloadLimits:
    """The task's numbers. `attempts` counts tries of a file in a row that bring no new byte."""

    attempts: int = 8
    whole_tries: int = 2  # a file whose bytes were wrong is fetched once more: twice wrong is no accident
    first_wait_s: float = 1.0  # doubles with each attempt that brings nothing, where the server does not say how long
    longest_wait_s: float = 60.0
    longest_retry_after_s: float = 900.0  # the Hub's limits are per 5 minutes; a longer wish is told, not obeyed
    reserve_bytes: int = 256 << 20  # left free on the volume
    say_every_s: float = 10.0  # a line is a row in Dagster's event log


@dataclass(frozen=True)
class Fetched:
    """One file of the set. `found` bytes were here before, `fetched` came over the network, wrong ones included."""

    path: str
    role: Literal["model", "mmproj"]
    part: int
    parts: int
    sha256: str
    bytes: int
    found: int
    fetched: int
    attempts: int
    seconds: float


@dataclass(frozen=True)
class Downloaded:
    """What a download came to. `unchanged`: everything was here and nothing had to be done.

    `promoted` says whether `published` is current now; where it is not, `held_back` says why.
    """

    model: str
    revision: Revision
    published: Published
    files: tuple[Fetched, ...]
    seconds: float
    unchanged: bool
    promoted: bool
    held_back: str

    @property
    def fingerprint(self) -> str:
        """The set's name: its data version."""
        return self.published.fingerprint

    @property
    def bytes(self) -> int:
        """Bytes of the whole set."""
        return self.published.bytes

    @property
    def bytes_fetched(self) -> int:
        """Bytes that came over the network."""
        return sum(file.fetched for file in self.files)


@dataclass(eq=False)
class DownloadFailed(Exception):
    """The set could not be brought here; `__cause__` is the Hub's or the store's own error."""

    model: str
    why: str
    served: str | None
    kept: int
    of: int

    exit_status = 1

    def __str__(self) -> str:
        served = f"{short(self.served)} stays current" if self.served else "no earlier file is current"
        kept = f", {in_words(self.kept)} of {in_words(self.of)} are kept for the next run" if self.kept else ""
        return f"{self.model}: {self.why}\n  {served}{kept}"


def download(
    hub: Hub,
    store: Store,
    model: Model,
    *,
    promotion: Promotion = "at_once",
    commit: str | None = None,
    say: Say = print,
    limits: DownloadLimits = DownloadLimits(),
    sleep: Callable[[float], None] = time.sleep,
) -> Downloaded:
    """Bring what the model selects (at `commit`, or where its followed revision is now) here, and promote it.

    Raises:
        DownloadFailed: with the cause's sentence, what stays current and what is kept. Nothing else is changed.
    """
    began, before = time.monotonic(), _current(store, model.id)
    parts: list[Part] = []
    try:
        revision = hub.resolve(model, commit)
        parts = [_part(file) for file in revision.files]
        source = f"{revision.repo}@{revision.commit}"
        was_here = _is_here(store, model.id, revision, parts)
        if was_here:
            files = tuple(_found(file) for file in revision.files)
            published = store.publish(model.id, revision.fingerprint, parts, model.context, source)
        else:
            files, published = _bring(hub, store, model, revision, parts, source, say, limits, sleep)
        held_back = _held_back(store, model, published.fingerprint, promotion)
        if not held_back:
            store.promote(model.id, published.fingerprint)
    except (HubError, StoreError) as error:
        kept, of = sum(store.arrived(part) for part in parts), sum(part.size for part in parts)
        raise DownloadFailed(model.id, str(error), before, kept, of) from error
    unchanged = was_here and (before == published.fingerprint or bool(held_back))
    done = Downloaded(
        model.id, revision, published, files, time.monotonic() - began, unchanged, not held_back, held_back
    )
    say(_last_line(done, before))
    return done


def _bring(
    hub: Hub,
    store: Store,
    model: Model,
    revision: Revision,
    parts: Sequence[Part],
    source: str,
    say: Say,
    limits: DownloadLimits,
    sleep: Callable[[float], None],
) -> tuple[tuple[Fetched, ...], Published]:
    with ExitStack() as held:
        # in the order of sha256s, so that two downloads cannot wait for each other; until the set is published, so that
        # gc takes none of them
        paths = {file.sha256: file.path for file in revision.files}
        needed = sorted({part.sha256: part for part in parts}.values(), key=lambda part: part.sha256)
        writers = {p.sha256: held.enter_context(store.blob(p, say, paths[p.sha256])) for p in needed}
        store.check_space(parts, limits.reserve_bytes)
        total, arrived = sum(part.size for part in needed), sum(writer.have for writer in writers.values())
        progress = Progress(model.id, total, arrived, say, limits.say_every_s)
        fetches = [_Fetch(hub, revision, file, writers[file.sha256], progress, say, limits) for file in revision.files]
        files = tuple(fetch.run(sleep) for fetch in fetches)
        published = store.publish(model.id, revision.fingerprint, parts, model.context, source)
    return files, published


class _Fetch:
    """One file: attempts until it is whole and right."""

    def __init__(
        self,
        hub: Hub,
        revision: Revision,
        file: RemoteFile,
        writer: BlobWriter,
        progress: Progress,
        say: Say,
        limits: DownloadLimits,
    ) -> None:
        self._hub, self._revision, self._file = hub, revision, file
        self._writer, self._progress, self._say, self._limits = writer, progress, say, limits
        self._farthest = writer.have
        self._attempts = self._barren = self._wrong = self._fetched = 0

    def run(self, sleep: Callable[[float], None]) -> Fetched:
        """Raises HubError or StoreError when trying again would not help, or has not for too long."""
        from tenacity import Retrying, retry_if_exception

        began, file = time.monotonic(), self._file
        found = self._writer.have
        if 0 < found < file.size:
            self._say(f"{file.path}: going on at {in_words(found)} of {in_words(file.size)}, which were hashed again")
        Retrying(
            retry=retry_if_exception(self._may_help),
            stop=lambda _: self._barren >= self._limits.attempts,
            wait=self._wait_s,
            before_sleep=self._tell,
            sleep=sleep,
            reraise=True,
        )(self._attempt)
        return Fetched(
            path=file.path,
            role=file.role,
            part=file.part,
            parts=file.parts,
            sha256=file.sha256,
            bytes=file.size,
            found=found,
            fetched=self._fetched,
            attempts=self._attempts,
            seconds=time.monotonic() - began,
        )

    def _attempt(self) -> None:
        writer = self._writer
        try:
            if writer.have < self._file.size:
                self._attempts += 1
                self._read()
            writer.finish()
        except WrongBytes:
            self._progress.moved(-self._file.size)
            self._wrong += 1
            self._farthest = self._barren = 0
            raise
        except HubError:
            self._barren = 0 if writer.have > self._farthest else self._barren + 1
            self._farthest = max(self._farthest, writer.have)
            raise

    def _read(self) -> None:
        writer, moved = self._writer, self._progress.moved
        with self._hub.stream(self._revision, self._file, writer.have) as body:  # a new signed address each time
            if body.start != writer.have:
                self._say(f"{self._file.path}: the server cannot go on at {in_words(writer.have)} and begins again")
                moved(-writer.have)
                writer.restart()
            for block in body:
                writer.write(block)
                self._fetched += len(block)
                moved(len(block))

    def _may_help(self, error: BaseException) -> bool:
        if isinstance(error, WrongBytes):
            return self._wrong < self._limits.whole_tries
        if not isinstance(error, HubError) or not error.transient:
            return False
        return (error.retry_after_s or 0.0) <= self._limits.longest_retry_after_s

    def _wait_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, HubError) and error.retry_after_s is not None:
            return error.retry_after_s
        return min(self._limits.first_wait_s * 2.0 ** max(self._barren - 1, 0), self._limits.longest_wait_s)

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait_s = state.next_action.sleep if state.next_action else 0.0
        barren = f", {self._barren} of {self._limits.attempts} tries without a new byte" if self._barren else ""
        at = f"{in_words(self._writer.have)} of {in_words(self._file.size)}"
        self._say(f"{error}; going on at {at} in {wait_s:.0f} s{barren}")


def _part(file: RemoteFile) -> Part:
    return Part(file.role, file.part, file.parts, file.sha256, file.size)


def _found(file: RemoteFile) -> Fetched:
    return Fetched(file.path, file.role, file.part, file.parts, file.sha256, file.size, file.size, 0, 0, 0.0)


def _is_here(store: Store, model: str, revision: Revision, parts: Sequence[Part]) -> bool:
    return revision.fingerprint in store.sets(model) and all(store.has(part.sha256, part.size) for part in parts)


def _current(store: Store, model: str) -> str | None:
    """What is current before; a damaged record is no reason not to download, and downloading mends it."""
    try:
        current = store.current(model)
    except Damaged:
        return None
    return current.fingerprint if current else None


def _held_back(store: Store, model: Model, fingerprint: str, promotion: Promotion) -> str:
    """Why the set is not to be promoted; empty if it is."""
    if (why := store.refused(model.id).get(fingerprint)) is not None:
        return f"it is refused: {why}"
    current = _current(store, model.id)
    if current in (None, fingerprint):  # a first file has none to beat
        return ""
    if (named := store.tried(model.id).get(current)) is not None and model.candidate and model.candidate.files:
        return _stays_aside(model, current, is_named=named.startswith(tried_words(model)))
    return "" if promotion == "at_once" else "it waits for its verdict"


def tried_words(model: Model) -> str:
    """How the store's list `tried` begins to say what the candidate of `model` names."""
    asked = model.as_tried()
    return f"{asked.quant or asked.file} with {asked.mmproj or asked.mmproj_file} of {asked.repo}"


def _stays_aside(model: Model, current: str, is_named: bool) -> str:
    """What a person does about a candidate's files that became current: the catalog still names the others."""
    what = "its files"
    if is_named and model.candidate:
        what = json.dumps(model.candidate.files)
    since = "tries" if is_named else "tried before"
    return (
        f"{short(current)} is current, which the catalog {since}; write {what} under models.{model.id} in the catalog "
        f"in the place of what is there, and take `candidate` out; `llama-assets rollback {model.id}` goes back"
    )


def _last_line(done: Downloaded, before: str | None) -> str:
    name = f"{done.model}: {short(done.fingerprint)} of {done.revision.repo} at {done.revision.commit[:7]}"
    if done.unchanged:
        state = "and is not promoted: " + done.held_back if done.held_back else "and is current"
        return f"{name} is here already, nothing was downloaded, {state}"
    fetched = f"{in_words(done.bytes_fetched)} fetched in {duration(done.seconds)}"
    if done.held_back:
        return f"{name} is here, verified, {fetched}; {done.held_back}"
    return f"{name} is current, verified, {fetched}" + (f"; before it was {short(before)}" if before else "")
