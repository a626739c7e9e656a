"""Courtesy to Immich: its machine-learning queues wait while their tenant's card is leased, and catch up afterwards.

Immich counts a job as failed when its machine learning is gone, and does not try again. So, with an administrator's
key: pause the queues that nobody paused, let what is under way end, lend the card; once tenants are back, ask for what
is missing and resume exactly those queues. Trouble is said and nothing waits for it longer than `QueueLimits` allow:
the lease never depends on Immich.

Nobody leaves a queue paused for ever. Before the first is paused, a file of ours names them: `courtesy/<claim>.json`
beside the sessions, locked by its holder as long as that lives. The kernel drops a dead holder's lock, and whoever
looks next (another holder, `mend`) resumes what dead files name and no living one does. Kill points, in order:

    claim written      nothing paused yet: resuming is without effect
    some paused        the file names all: the next who looks resumes them
    resumed            the file is still there: resuming again is without effect, "missing" is looked for once more

Two holders hand over: who finds a queue paused by a file of ours claims it, too, and the last one resumes it. A queue
that a person paused is left alone; one that a person pauses while we have it paused looks the same, and is resumed.
Not here: Immich's HTTP (`llama_assets/immich.py`), who scales workloads (`courtesy.py`), the lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from llama_assets.gpu.record import Lease, Overview, Preview, Record, Taken

if TYPE_CHECKING:  # its HTTP client is imported where a queue is paused
    from llama_assets.immich import Immich, Queue

# What Immich asks its machine learning for (QueueName of its OpenAPI); `ocr` since 2.2. The first feeds on faces of the
# second, and duplicates on what smart search found: `missing` is asked for in this order.
LEARNING = ("smartSearch", "faceDetection", "facialRecognition", "ocr", "duplicateDetection")


@dataclass(frozen=True)
class QueueLimits:
    """How long courtesy may take. A request counts in full: each bound may be passed by one."""

    request_s: float = 5.0
    attempts: int = 2
    pause_s: float = 45.0
    settle_s: float = 30.0  # for jobs under way; they would fail when the tenant goes
    look_again_s: float = 1.0
    resume_s: float = 90.0
    lock_s: float = 60.0


@dataclass
class Told:
    """What was done around one lease, for session.json. Counts are by queue: active, waiting, paused, failed..."""

    paused: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    before: dict[str, dict[str, int]] = field(default_factory=dict)
    after: dict[str, dict[str, int]] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Claim:
    """One holder's file: which queues it wants paused. Locked by it while it lives."""

    path: Path
    file: IO[str]

    def write(self, queues: list[str], address: str) -> None:
        """Say so, on disk when this returns."""
        self.file.seek(0)
        self.file.truncate()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        json.dump({"queues": queues, "address": address, "at": at, "holder": os.uname().nodename}, self.file)
        self.file.flush()
        os.fsync(self.file.fileno())


@dataclass(frozen=True)
class Courtesy:
    """Queues of one Immich. `folder` is where all holders of its card keep their files: `<results>/courtesy`."""

    folder: Path
    connect: Callable[[QueueLimits], Immich]
    say: Callable[[str], None]
    limits: QueueLimits = field(default_factory=QueueLimits)

    @contextlib.contextmanager
    def around(self) -> Iterator[Told]:
        """Take the lease inside of this block: queues wait while it lasts. Never raises by itself."""
        told = Told()
        claim: Claim | None = None
        try:
            with self._saying(told, "Immich's queues are not paused"):
                with self._alone():
                    claim = self._new_claim()
                with self._asked() as immich:
                    self._pause(immich, claim, told)
            yield told
        finally:
            if claim is not None:
                with self._saying(told, "Immich's queues may still be paused; `llama-assets courtesy` resumes them"):
                    self._give(claim, told)

    def mend(self) -> Told:
        """Resume what holders that died left paused. Asks Immich only if there is something to resume."""
        told = Told()
        with self._saying(told, "Immich's queues may still be paused"), self._alone():
            self._resume(self._files(), told)
        return told

    def left(self) -> tuple[str, ...]:
        """Queues that a dead holder left paused, as far as files say."""
        return tuple(dict.fromkeys(queue for found in self._files() if not found.living for queue in found.queues))

    def _pause(self, immich: Immich, claim: Claim, told: Told) -> None:
        end = time.monotonic() + self.limits.pause_s
        with self._alone():
            files = [found for found in self._files() if found.path != claim.path]
            ours = {queue for found in files if found.address == immich.address for queue in found.queues}
            found = _learning(immich.queues())
            told.before = {name: dict(queue.counts) for name, queue in found.items()}
            wanted = [name for name, queue in found.items() if not queue.paused or name in ours]
            claim.write(wanted, immich.address)
            for dead in files:
                if not dead.living and dead.address == immich.address:  # what it named is ours to resume now
                    dead.path.unlink(missing_ok=True)
        for name in wanted:
            if not found[name].paused:
                self._in_time(end, "pausing")
                immich.pause(name)
            told.paused.append(name)
        theirs = [name for name in found if name not in wanted]
        kept = f"; {', '.join(theirs)} somebody else paused" if theirs else ""
        self.say(f"immich: {', '.join(wanted) or 'nothing'} paused{kept}")
        self._settle(immich, wanted)

    def _settle(self, immich: Immich, names: list[str]) -> None:
        """Wait until nothing is under way, for a while."""
        end = time.monotonic() + self.limits.settle_s
        while True:
            queues = immich.queues()
            busy = [name for name in names if queues[name].counts.get("active")]
            if not busy:
                return
            if time.monotonic() >= end:
                self.say(f"immich: {', '.join(busy)} still at work after {self.limits.settle_s:.0f} s; that may fail")
                return
            time.sleep(self.limits.look_again_s)

    def _give(self, claim: Claim, told: Told) -> None:
        try:
            with self._alone():
                self._resume(self._files(mine=claim.path), told)
        finally:
            claim.file.close()  # with what could not be resumed it is a dead holder's from here on

    def _resume(self, files: list[_File], told: Told) -> None:
        """Resume what `files` of the dead name and none of the living does, then take those files away."""
        dead = [found for found in files if not found.living]
        if not any(found.queues for found in dead):
            _unlink(dead)
            return
        with self._asked() as immich:
            here = [found for found in dead if found.address in ("", immich.address)]
            for found in set(dead) - set(here):
                self.say(f"immich: {found.path} is about {found.address}; it is left to whoever has a key there")
            still = {queue for found in files if found.living for queue in found.queues}
            named = {queue for found in here for queue in found.queues}
            end = time.monotonic() + self.limits.resume_s
            for name in (name for name in LEARNING if name in named - still):
                self._in_time(end, "resuming")
                # First: once it is resumed it is at work, and then Immich does not look for what is missing.
                if immich.start_missing(name):
                    told.started.append(name)
                else:
                    told.trouble.append(f"{name} is at work already, so it was not asked for what is missing")
                immich.resume(name)
                told.resumed.append(name)
            _unlink(here)
            told.after = {name: dict(queue.counts) for name, queue in _learning(immich.queues()).items()}
        kept = f"; {', '.join(sorted(named & still))} wait for another holder" if named & still else ""
        self.say(f"immich: {', '.join(told.resumed) or 'nothing'} resumed{kept}")

    def _asked(self) -> Immich:
        return self.connect(self.limits)

    def _in_time(self, end: float, doing: str) -> None:
        if time.monotonic() > end:
            raise TimeoutError(f"{doing} took too long")

    @contextlib.contextmanager
    def _saying(self, told: Told, means: str) -> Iterator[None]:
        """Trouble with Immich or with the files is said and goes no further: the lease is more important."""
        from llama_assets.immich import ImmichError

        try:
            yield
        except (ImmichError, OSError) as error:
            told.trouble.append(str(error))
            self.say(f"immich: {means}: {error}")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else looks at the files meanwhile. Raises TimeoutError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as lock:
            end = time.monotonic() + self.limits.lock_s
            while not _locked(lock):
                if time.monotonic() > end:
                    raise TimeoutError(f"{lock.name} is held by somebody for more than {self.limits.lock_s:.0f} s")
                time.sleep(min(0.1, self.limits.look_again_s))
            yield

    def _new_claim(self) -> Claim:
        path = self.folder / f"{uuid.uuid4().hex}.json"
        file = path.open("x+", encoding="utf-8")
        if not _locked(file):
            raise OSError(f"{path} cannot be locked: does this volume know flock?")
        return Claim(path, file)

    def _files(self, mine: Path | None = None) -> list[_File]:
        """What every holder claims; `mine` counts as given up. Call it alone."""
        return [_File.read(path, given=path == mine) for path in sorted(self.folder.glob("*.json"))]


@dataclass
class CourteousLease:
    """A lease with courtesy around it. `told` is what was done around the last one, None before the first."""

    lease: Lease
    courtesy: Courtesy
    told: Told | None = None

    @property
    def plan(self) -> str:
        """What taking would do, in one sentence."""
        return f"{self.lease.plan}; meanwhile Immich's machine learning queues wait"

    def status(self) -> tuple[Record, bool]:
        """As the lease says."""
        return self.lease.status()

    def overview(self) -> Overview:
        """As the lease says."""
        return self.lease.overview()

    def preview(self, say: Callable[[str], None] = lambda _: None) -> Preview:
        """As the lease says: Immich is not asked."""
        return self.lease.preview(say)

    def release(self) -> Record:
        """As the lease does."""
        return self.lease.release()

    @contextlib.contextmanager
    def take(self, holder: str, purpose: str, say: Callable[[str], None] = lambda _: None) -> Iterator[Taken]:
        """Queues wait, then the card is taken; tenants are back before queues go on. Raises as the lease does."""
        with self.courtesy.around() as self.told, self.lease.take(holder, purpose, say) as held:
            yield held


@dataclass(frozen=True)
class _File:
    path: Path
    queues: tuple[str, ...]
    address: str
    living: bool

    @classmethod
    def read(cls, path: Path, given: bool) -> _File:
        with path.open("r+", encoding="utf-8") as file:
            living = not given and not _locked(file)
            try:
                told = json.load(file)
                return cls(path, tuple(told["queues"]), str(told["address"]), living)
            except (ValueError, KeyError, TypeError):  # killed before it was written: nothing was paused by it
                return cls(path, (), "", living)


def _learning(queues: dict[str, Queue]) -> dict[str, Queue]:
    return {name: queues[name] for name in LEARNING if name in queues}


def _unlink(files: list[_File]) -> None:
    for found in files:
        found.path.unlink(missing_ok=True)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
