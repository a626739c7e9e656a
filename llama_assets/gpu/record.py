"""What is written down about the card: who holds it, since when, and what will be restored.

GpuError
└── HeldByOther    somebody else has the card; says who, since when, and how to look or end it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class LeaseTimes:
    """Every wait of the lease, in seconds. Tests shorten them."""

    lifetime_s: float = 60.0
    beat_s: float = 10.0
    wait_s: float = 600.0
    look_again_s: float = 1.0
    heart_s: float = 15.0
    gone_s: float = 180.0
    ready_s: float = 300.0
    api_away_s: float = 600.0

    @classmethod
    def of_lifetime(cls, lifetime_s: float) -> LeaseTimes:
        """Six beats in a lifetime, as with the default; the other waits have nothing to do with it."""
        return cls(lifetime_s=lifetime_s, beat_s=lifetime_s / 6, look_again_s=min(1.0, lifetime_s / 6))


@dataclass(frozen=True)
class Record:
    """The lease as written. `token` grows with every take; `holder` is None when the card is free.

    Times are UTC in ISO 8601 with six fraction digits, the form Kubernetes' MicroTime demands.
    `tenants` maps namespace/name to the replicas found; None: not touched (on one machine they never are).
    """

    token: int = 0
    holder: str | None = None
    purpose: str = ""
    acquired_at: str | None = None
    renewed_at: str | None = None
    lifetime_s: float = 0.0
    tenants: tuple[tuple[str, int | None], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values."""
        return asdict(self)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.as_dict())

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote. Raises ValueError when it is something else."""
        try:
            raw = json.loads(text)
            return cls(**{**raw, "tenants": tuple((name, replicas) for name, replicas in raw["tenants"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a lease record: {error}") from None


@dataclass(frozen=True)
class Ended:
    """Why a holder must stop before it wanted to, and the same in a sentence."""

    how: Literal["release", "lost", "changed"]
    says: str

    def __str__(self) -> str:
        return self.says


@dataclass(frozen=True)
class Change:
    """One step of a workload: `set` to `replicas` by us, its pods `gone`, or as many `ready`. `at` is UTC, ISO 8601."""

    at: str
    workload: str
    became: Literal["set", "gone", "ready"]
    replicas: int


@dataclass(frozen=True)
class Disturbed:
    """Others may have used the card since `since` (UTC, this machine's clock), and why that is thought.

    Workloads are looked at once a beat: what came between the last look that was good and the one that was not is not
    known, so all of that time counts.
    """

    since: datetime
    why: str


@dataclass(frozen=True)
class Preview:
    """What taking the card would do, found out without writing. `obstacles` say why it would fail."""

    record: Record
    held: bool
    lines: tuple[str, ...]
    obstacles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overview:
    """One look at the card: who has it, what will be restored, who would restore it. `facts` are the same as values."""

    record: Record
    held: bool
    lines: tuple[str, ...]
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"held": self.held, **self.record.as_dict(), **self.facts}


class Taken(Protocol):
    """A lease that is ours, or was."""

    @property
    def token(self) -> int:
        """Grows with every take; rows bear it."""

    @property
    def seconds(self) -> float:
        """From taking to giving back, or to now while it is held."""

    @property
    def record(self) -> Record:
        """As written, with what will be restored."""

    @property
    def ended(self) -> Ended | None:
        """Why work must stop; None while it may go on."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was done to workloads so far, and when; once it is given back, the way back too."""

    @property
    def disturbed(self) -> Disturbed | None:
        """Since when others may have used the card, while it was ours; whole once it is given back."""

    @property
    def left(self) -> tuple[str, ...]:
        """Once it is given back: what became of each workload, in sentences."""

    def still_held(self) -> bool:
        """May work go on?"""

    def wait(self, seconds: float) -> bool:
        """Keep the card for `seconds` or until it must be given; True when it must."""


class Lease(Protocol):
    """Who may use one card: what the lock file of one machine and a cluster's Lease have in common."""

    @property
    def plan(self) -> str:
        """What taking would do, in one sentence."""

    def status(self) -> tuple[Record, bool]:
        """The record as it stands on the lease itself, and whether somebody has the card. `overview` adds the rest."""

    def overview(self) -> Overview:
        """One look, for people: it never fails for want of a right, it says what it may not see."""

    def preview(self, say: Callable[[str], None] = lambda _: None) -> Preview:
        """What taking would do and what stands in its way. Writes nothing; may wait for a beat of the reaper."""

    def release(self) -> Record:
        """Ask the holder to give the card back."""

    def take(
        self, holder: str, purpose: str, say: Callable[[str], None] = lambda _: None
    ) -> AbstractContextManager[Taken]:
        """Hold the card for the length of the block. Raises GpuError."""


def age(stamp: str | None, now: datetime | None = None) -> float | None:
    """Seconds since a time as `micro_time` writes it, by this machine's clock; None when there is none.

    For people only: whether a holder lives is never judged by two machines' clocks.
    """
    if not stamp:
        return None
    return ((now or datetime.now(UTC)) - datetime.fromisoformat(stamp)).total_seconds()


def micro_time(moment: datetime | None = None) -> str:
    """UTC with exactly six fraction digits."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class GpuError(RuntimeError):
    """Something about the card; the sentence says what to do."""

    exit_status = 1


class HeldByOther(GpuError):
    """The card is held and was not given back in the time we were ready to wait."""

    def __init__(self, record: Record, waited_s: float | None = None) -> None:
        self.record = record
        waited = "" if waited_s is None else f"; waited {waited_s:.0f} s"
        super().__init__(
            f"the card is held by {record.holder} ({record.purpose or 'no purpose given'}) since {record.acquired_at}"
            f"{waited}. `llama-assets lease status` shows it, `llama-assets lease release` asks for it"
        )
