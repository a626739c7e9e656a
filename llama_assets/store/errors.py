"""What can go wrong in the store, as one small tree. Each error writes its own sentence and says what to do.

StoreError
├── BadSet        the parts asked for are not one model and one projector
├── BadHeader     a file is not the GGUF it should be: no GGUF, cut, wrong role, context too long, projector misfit
├── WrongBytes    a complete body has another sha256 than promised
├── NoSpace       the volume is full, or would be
├── Busy          another process holds a blob or the store for too long
├── NotPublished  a fingerprint, or a model, has no published set here
├── Refused       a fingerprint that was rejected or rolled back may not be promoted
├── NoWayBack     nothing but the current set may be served
├── AlreadyCurrent  a rollback to what is current
├── Damaged       a record of the store cannot be read, or a blob is not what it was
└── Unusable      the volume cannot be written or cannot lock
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


def short(fingerprint: str) -> str:
    """The beginning of a fingerprint: what people are shown and may type, and what names a candidate's arm."""
    return fingerprint[:12]


def in_words(count: int) -> str:
    """A number of bytes as people write it, in decimal units as the Hub shows them: 5.03 GB."""
    if count < 1000:
        return f"{count} bytes"
    amount, units = float(count), iter(("kB", "MB", "GB", "TB"))
    unit = "bytes"
    while amount >= 999.5 and (following := next(units, None)):
        amount, unit = amount / 1000, following
    return f"{amount:.3g} {unit}" if amount < 100 else f"{amount:.0f} {unit}"


class StoreError(Exception):
    """Something the store cannot do. `str()` is the sentence to show."""

    exit_status = 1


@dataclass(eq=False)
class BadSet(StoreError):
    """The parts do not make up a model with its projector."""

    model: str
    problem: str

    def __str__(self) -> str:
        return f"{self.model}: {self.problem}; a set is every part of one model file and one projector"


@dataclass(eq=False)
class BadHeader(StoreError):
    """A file whose bytes are as promised but that cannot be served as what it should be."""

    file: str
    problem: str
    way_out: str = "name another file in the catalog, or wait for a fixed upload"

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}; {self.way_out}"


@dataclass(eq=False)
class WrongBytes(StoreError):
    """A whole body arrived and hashes to something else; the part file was emptied."""

    name: str
    sha256: str
    found: str
    size: int

    def __str__(self) -> str:
        return (
            f"{self.name}: all {in_words(self.size)} arrived but their sha256 is {self.found}, promised was "
            f"{self.sha256}; they were thrown away. Try again; if it stays so, a proxy or mirror between here and the "
            "Hub serves wrong bytes"
        )


@dataclass(eq=False)
class NoSpace(StoreError):
    """The volume cannot take what is asked. Sizes in bytes; `reason` is what the system refused, if a write failed."""

    folder: Path
    wanted: int
    free: int
    reserve: int = 0
    kept: int = 0
    reason: str = ""

    def __str__(self) -> str:
        what = f"{self.reason} in {self.folder}: " if self.reason else f"not enough room in {self.folder}: "
        reserve = f" and a reserve of {in_words(self.reserve)}" if self.reserve else ""
        kept = f" {in_words(self.kept)} are kept and the next run goes on from there." if self.kept else ""
        return (
            f"{what}{in_words(self.wanted)} still to write{reserve}, {in_words(self.free)} free.{kept} "
            "Make room (the store's gc shows what may go) or enlarge the volume"
        )


@dataclass(eq=False)
class Busy(StoreError):
    """Waited, in vain, for another process. `holder` is the host and process that wrote itself into the lock."""

    what: str
    holder: str
    waited_s: float

    def __str__(self) -> str:
        return (
            f"{self.what} is held by {self.holder} since more than {self.waited_s:.0f} s; end that process or try later"
        )


@dataclass(eq=False)
class NotPublished(StoreError):
    """Nothing verified of this name is here. `known` are the fingerprints that are."""

    model: str
    fingerprint: str = ""
    known: Iterable[str] = ()

    def __str__(self) -> str:
        if not self.fingerprint:
            return f"no verified file of {self.model} is here; materialize gguf/{self.model}"
        known = ", ".join(sorted(self.known)) or "none"
        return f"{self.model} has no verified fingerprint {self.fingerprint}; there are: {known}"


@dataclass(eq=False)
class Refused(StoreError):
    """A fingerprint listed in `refused`, and why it was put there."""

    model: str
    fingerprint: str
    why: str

    def __str__(self) -> str:
        return (
            f"{self.model} {self.fingerprint} is refused ({self.why}) and is not promoted; allow it first to promote it"
        )


@dataclass(eq=False)
class NoWayBack(StoreError):
    """A rollback that has nowhere to go. `obstacles`: earlier fingerprints that are here, and why they may not be."""

    model: str
    current: str
    obstacles: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        here = "; ".join(f"{short(name)} is {why}" for name, why in self.obstacles.items())
        return (
            f"{self.model}: nothing to go back to from {short(self.current)}, which stays current: "
            f"{here or 'no earlier verified fingerprint is here'}. `llama-assets store list` shows what is; "
            f"an earlier commit as `revision` in the catalog and gguf/{self.model} bring another"
        )


@dataclass(eq=False)
class AlreadyCurrent(StoreError):
    """A rollback to where we are."""

    model: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.model}: {short(self.fingerprint)} is current already; nothing is rolled back and nothing refused"


@dataclass(eq=False)
class Damaged(StoreError):
    """A record of the store was changed or cut from outside."""

    file: Path
    problem: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}; {self.way_out}"


@dataclass(eq=False)
class Unusable(StoreError):
    """The volume does not let us work."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"the store cannot use {self.path}: {self.reason}; check the volume's mount, owner and mode"
