"""What one read shows: the card's workloads, their notes, the Lease, and whether its holder lives.

Plain values, as the plans (`lease.py`) see them. Not here: how they look in Kubernetes (`workloads.py`), what is done
with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llama_assets.gpu.errors import ForeignNote
from llama_assets.gpu.note import Note
from llama_assets.gpu.record import Record


@dataclass(frozen=True)
class Ref:
    """A workload by name."""

    kind: Literal["Deployment", "StatefulSet"]
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Card:
    """Who uses the card: tenants, and the engine that takes their place (None: it is not ours to scale)."""

    tenants: tuple[Ref, ...]
    engine: Ref | None = None
    exclusive: bool = True

    @property
    def workloads(self) -> tuple[Ref, ...]:
        """Engine first: the order in which they are put back."""
        return (*((self.engine,) if self.engine else ()), *self.tenants)


@dataclass(frozen=True)
class Workload:
    """What one read of a workload showed. `label` is the note as it stands there."""

    ref: Ref
    uid: str
    version: str
    replicas: int
    label: str | None = None
    ready: int = 0
    claims_deleted: bool = False

    @property
    def note(self) -> Note | None:
        """The note, if there is one. Raises ForeignNote when the label says something else."""
        if self.label is None:
            return None
        try:
            return Note.parse(self.label)
        except ValueError:
            raise ForeignNote(self.ref, self.label) from None


@dataclass(frozen=True)
class LeaseObject:
    """What one read of the Lease showed. `release` is the token whose release somebody asked for."""

    uid: str
    version: str
    token: int
    holder: str | None
    purpose: str = ""
    acquired_at: str | None = None
    renewed_at: str | None = None
    lifetime_s: float = 0.0
    release: int | None = None

    def same(self, other: LeaseObject | None) -> bool:
        """The same lease by the same holder, however often it was renewed."""
        return other is not None and (self.uid, self.token, self.holder) == (other.uid, other.token, other.holder)

    @property
    def record(self) -> Record:
        """As `lease status` shows it."""
        return Record(self.token, self.holder, self.purpose, self.acquired_at, self.renewed_at, self.lifetime_s)


@dataclass(frozen=True)
class Seen:
    """The Lease as an observer sees it now; `lease` is None when there is no such object."""

    lease: LeaseObject | None
    dead: bool = False

    @property
    def holder(self) -> str | None:
        """Who has the card, dead or alive."""
        return self.lease.holder if self.lease else None


class Standing:
    """Is the holder dead? By when this observer saw its last renewal, never by what two machines' clocks say.

    A new observer waits one lifetime before it calls a named holder dead.
    """

    def __init__(self) -> None:
        self._renewal: tuple[str, int, str | None, str | None] | None = None
        self._since = 0.0

    def see(self, lease: LeaseObject | None, now_s: float) -> Seen:
        """`now_s` is this process's monotonic clock."""
        if lease is None or lease.holder is None:
            self._renewal = None
            return Seen(lease)
        renewal = (lease.uid, lease.token, lease.holder, lease.renewed_at)
        if renewal != self._renewal:
            self._renewal, self._since = renewal, now_s
        return Seen(lease, dead=now_s - self._since >= lease.lifetime_s)

    def silent_s(self, now_s: float) -> float:
        """Since this observer saw the last renewal; 0.0 while nobody has the card."""
        return now_s - self._since if self._renewal else 0.0
