"""What a plan may ask for: one read, one conditional write or one wait, and what it may be answered.

Here too: the loop that carries a plan out. Not here: the order of actions (`lease.py`), requests (`workloads.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from llama_assets.gpu.note import Note
from llama_assets.gpu.objects import LeaseObject, Ref, Workload


@dataclass(frozen=True)
class ReadWorkload:
    """Answered by a Workload, or by Denied."""

    ref: Ref


@dataclass(frozen=True)
class ReadLease:
    """Answered by Seen."""


@dataclass(frozen=True)
class ReadHeart:
    """Answered by what the reaper's Lease says of its last renewal, None when there is none."""


@dataclass(frozen=True)
class ReadHolders:
    """Answered by the ids (as notes bear them) of who is named by the other Leases of our namespace."""


@dataclass(frozen=True)
class CountPods:
    """Answered by how many pods of the workload may still hold the card."""

    ref: Ref


@dataclass(frozen=True)
class PatchWorkload:
    """Replicas and note in one write, if `seen` is still what is there; answered by Workload, Refused or Denied."""

    seen: Workload
    replicas: int
    note: Note | None

    def __str__(self) -> str:
        to = f"{self.seen.replicas} -> {self.replicas}" if self.replicas != self.seen.replicas else f"{self.replicas}"
        return f"{self.seen.ref}: {to} replicas, {f'note {self.note}' if self.note else 'note removed'}"


@dataclass(frozen=True)
class WriteLease:
    """Holder and token, if `seen` is still what is there (None: if nothing is); answered by LeaseObject or Refused."""

    seen: LeaseObject | None
    holder: str | None
    token: int

    def __str__(self) -> str:
        return f"Lease: {self.holder or 'nobody'}, token {self.token}"


@dataclass(frozen=True)
class Wait:
    """Look again later; answered by True, or by False when the time for this wait is over."""

    why: Literal["held", "heart", "gone", "ready"]
    ref: Ref | None = None


@dataclass(frozen=True)
class Refused:
    """A write that did not land, or one whose answer was lost: only a new read can tell."""


@dataclass(frozen=True)
class Denied:
    """403, 404 or a 422 that is no precondition: trying again does not help."""

    status: int
    message: str = ""


Action = ReadWorkload | ReadLease | ReadHeart | ReadHolders | CountPods | PatchWorkload | WriteLease | Wait
Result = TypeVar("Result")
Plan = Generator[Action, Any, Result]


def perform(plan: Plan[Result], answer: Callable[[Action], Any]) -> Result:
    """The loop around a plan: ask `answer` for each action, until the plan returns or raises."""
    said: Any = None
    while True:
        try:
            action = plan.send(said)
        except StopIteration as end:
            return cast(Result, end.value)
        said = answer(action)
