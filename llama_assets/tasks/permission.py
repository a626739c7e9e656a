"""May a task have the card now? A person's may; an automatic one waits for its hours and minutes, and ends in time.

Where somebody asks again it waits for minutes only, and ends with the moment to ask at: it would keep the pool `gpu`.

Steps: wait, before anything is prepared, and again just before the card is taken; write the ledger around the lease;
say no to `still_held` when the window closes. On one machine, where no tenant is touched, the same holds for the card.
Not here: the rules (`policy.windows`), the ledger's file (`tasks.downtime`), the card (`gpu`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from llama_assets.gpu.record import HeldByOther
from llama_assets.policy.windows import Leave, Rules, leave
from llama_assets.tasks.downtime import Entry, Ledger, LedgerError, Use, usual_seconds

if TYPE_CHECKING:
    from llama_assets.catalog import Catalog
    from llama_assets.gpu import Lease
    from llama_assets.gpu.record import Change, Disturbed, Ended, Record, Taken
    from llama_assets.tasks.work import Work

LEDGER = "downtime.jsonl"


class NeverAllowed(RuntimeError):
    """The catalog's hours leave automation no time at all."""

    exit_status = 1

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; change `automation` in the catalog, or let a person run it")


class NotYet(RuntimeError):
    """The card may be had at `begin`, which is too far away to wait for. `why` is a sentence without its stop."""

    exit_status = 1

    def __init__(self, begin: datetime, why: str) -> None:
        super().__init__(why)
        self.begin, self.why = begin, why


@dataclass(frozen=True)
class PermissionTimes:
    """How often is looked, said and written, and how long before a window's end work stops. Tests shorten them."""

    look_again_s: float = 300.0
    say_again_s: float = 1800.0
    still_s: float = 60.0
    give_back_s: float = 120.0
    """Work ends so long before the window does: an answer under way, and the tenants' way back."""
    patience_s: float = 600.0
    """What is further away is not waited for where somebody asks again. A lease of others is waited for as long."""


@dataclass(frozen=True)
class Clock:
    """Time and sleep, so that a year can be simulated. `sleep` is True when the task was told to end."""

    sleep: Callable[[float], bool]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True)
class Permission:
    """One task's leave to take the card, by its catalog's rules and the ledger in `results`.

    `asks_again`: whoever had it done does so later, and wants it to end rather than wait for long.
    """

    results: Path
    catalog: Catalog
    automatic: bool
    say: Callable[[str], None]
    clock: Clock
    stopped: Callable[[], bool] = lambda: False
    lifetime_s: float = 60.0
    times: PermissionTimes = field(default_factory=PermissionTimes)
    asks_again: bool = False

    @classmethod
    def of(cls, work: Work, catalog: Catalog, automatic: bool, asks_again: bool = False) -> Permission:
        """For the task being done; waits end at once on SIGTERM."""
        return cls(
            work.platform.results,
            catalog,
            automatic,
            work.say,
            Clock(work.stop.event.wait),
            lambda: work.stop.requested,
            work.platform.settings.lease_lifetime_seconds,
            asks_again=asks_again,
        )

    @property
    def ledger(self) -> Ledger:
        """Where leases are written down."""
        return Ledger(self.results / LEDGER)

    def wait(self, purpose: str, again: bool = False) -> Leave | None:
        """Return when an automatic lease may begin; at once, with None, for a person's.

        Asked `again` just before the card is taken, it is silent unless there is something to wait for.

        Raises:
            NeverAllowed: the rules leave no time.
            NotYet: it would be a long wait, and somebody asks again.
            LedgerError: the ledger cannot be read.
            SystemExit: told to end while waiting.
        """
        if not self.automatic:
            return None
        said: tuple[datetime, str] | None = None
        while True:
            now = self.clock.now()
            uses = self.uses()
            found = leave(self.rules, now, _spans(uses), usual_seconds(uses, purpose))
            if found.begin is None:
                raise NeverAllowed(found.why)
            if found.begin <= now:
                if said or not again:
                    self.say(f"automatic: {found.why}. {self._day(now, uses)}")
                return found
            if self.asks_again and (found.begin - now).total_seconds() > self.times.patience_s:
                self.say(f"automatic: postponed: {found.why}. {self._day(now, uses)}")
                raise NotYet(found.begin, found.why)
            if said is None or said[1] != found.why or (now - said[0]).total_seconds() >= self.times.say_again_s:
                self.say(f"automatic: waiting: {found.why}. {self._day(now, uses)}")
                said = now, found.why
            if self.clock.sleep(min(self.times.look_again_s, (found.begin - now).total_seconds())):
                raise SystemExit(143)

    def over(self, lease: Lease) -> Permitted:
        """The same lease, taken only when allowed, written down, and over when the window closes."""
        return Permitted(self, lease)

    def uses(self) -> list[Use]:
        """Every lease of this card so far. Raises LedgerError."""
        try:
            return [use for use in self.ledger.uses() if use.lease == self.catalog.gpu.lease]
        except OSError as error:
            raise LedgerError(self.ledger.path, error) from None

    @property
    def rules(self) -> Rules:
        """What the catalog says."""
        return Rules.of(self.catalog.automation)

    def _day(self, now: datetime, uses: list[Use]) -> str:
        """What was used today, by whom."""
        rules = self.rules
        ours = rules.used_s(now, _spans(uses)) / 60
        others = rules.used_s(now, [(use.begin, use.end) for use in uses if not use.automatic]) / 60
        limit = "" if rules.minutes_a_day is None else f" of {rules.minutes_a_day:g}"
        return f"Today automatic leases had the card for {ours:.0f}{limit} min, people's for {others:.0f} min"


@dataclass(frozen=True)
class Permitted:
    """A lease that asks for permission first."""

    permission: Permission
    lease: Lease

    @contextlib.contextmanager
    def take(self, holder: str, purpose: str, say: Callable[[str], None] = lambda _: None) -> Iterator[HeldInTime]:
        """As `Lease.take`, once it is allowed.

        Raises:
            GpuError, KubeError: as `Lease.take`.
            NeverAllowed, NotYet, LedgerError: an automatic lease is not to be had.
        """
        permission = self.permission
        permission.wait(purpose, again=True)
        entry = Entry(
            permission.ledger,
            permission.clock.now,
            permission.times.still_s,
            lease=permission.catalog.gpu.lease,
            purpose=purpose,
            automatic=permission.automatic,
            lifetime_s=permission.lifetime_s,
        )
        entry.asked()
        whole, counted = False, True
        try:
            if entry.trouble is not None:
                if permission.automatic:
                    raise entry.trouble
                say(str(entry.trouble))
            with self.lease.take(holder, purpose, say) as taken:
                entry.taken(taken.seconds)
                held = HeldInTime(taken, permission, entry, self._window(entry, taken.seconds))
                yield held
                whole = not (held.ended or held.over or permission.stopped())
        except HeldByOther:
            counted = False
            raise
        finally:
            entry.given(whole, counted)

    def _window(self, entry: Entry, seconds: float) -> Leave | None:
        """Asked again with the card in hand, because waiting for it may have taken long; what it took so far counts."""
        permission = self.permission
        if not permission.automatic:
            return None
        now = permission.clock.now()
        others = _spans([use for use in permission.uses() if use.of != entry.of])
        return leave(permission.rules, now, [*others, (now - timedelta(seconds=seconds), now)])


class HeldInTime:
    """A lease that is ours, and over when its window closes. `over` is that in words, None before."""

    def __init__(self, taken: Taken, permission: Permission, entry: Entry, window: Leave | None) -> None:
        self._taken, self._permission, self._entry, self._window = taken, permission, entry, window
        self.over: str | None = None

    @property
    def token(self) -> int:
        """Grows with every take; rows bear it."""
        return self._taken.token

    @property
    def seconds(self) -> float:
        """From taking to giving back, or to now while it is held."""
        return self._taken.seconds

    @property
    def record(self) -> Record:
        """As written, with what will be restored."""
        return self._taken.record

    @property
    def ended(self) -> Ended | None:
        """Why the lease itself ended; None while it may go on."""
        return self._taken.ended

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was done to workloads, and when."""
        return self._taken.changes

    @property
    def disturbed(self) -> Disturbed | None:
        """Since when others may have used the card."""
        return self._taken.disturbed

    @property
    def left(self) -> tuple[str, ...]:
        """Once it is given back: what became of each workload, in sentences."""
        return self._taken.left

    def wait(self, seconds: float) -> bool:
        """Keep the card for `seconds` or until it must be given; True when it must."""
        return self._taken.wait(seconds)

    def still_held(self) -> bool:
        """May work go on? False once the window closes, or as the lease itself says."""
        if self.over is None and (why := self._closed()) is not None:
            self.over = f"the card had to be given back: {why}"
            self._permission.say(f"automatic: {self.over}")
        return self.over is None and self._taken.still_held()

    def _closed(self) -> str | None:
        window, now = self._window, self._permission.clock.now()
        if window is None or window.begin is None:
            return None
        if self._entry.trouble is not None:
            return str(self._entry.trouble)
        if window.begin > now:
            return window.why
        if window.until is None:
            return None
        length = (window.until - window.begin).total_seconds()
        early = timedelta(seconds=min(self._permission.times.give_back_s, length / 4))
        return None if now < window.until - early else f"at {self._at(window.until, now)} {window.ends_with}"

    def _at(self, moment: datetime, now: datetime) -> str:
        return self._permission.rules.clock(moment, now)


def _spans(uses: list[Use]) -> list[tuple[datetime, datetime]]:
    return [(use.begin, use.end) for use in uses if use.automatic]
