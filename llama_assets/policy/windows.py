"""When an automatic lease may begin, until when it may be held, and why: quiet hours and card time a day.

A moment is quiet when a clock on the wall of the catalog's zone shows a quiet time, so a day of 23 or 25 hours needs no
special case, and an hour that comes twice is quiet twice. A day is a local day, midnight to midnight; a lease over
midnight counts to both. A window ends where quiet hours begin or the day's minutes are used up.
Not here: the clock, the ledger of what was used (`tasks.downtime`), obeying (`tasks.permission`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from llama_assets.catalog import Automation

MINUTE = timedelta(minutes=1)
HORIZON = timedelta(hours=73)  # two whole local days lie in it, whatever the clocks do: rules repeat daily
LEAST_S = 300.0  # a shorter lease would take tenants down to load one model

Span = tuple[datetime, datetime]
"""From and to; both know their zone."""


@dataclass(frozen=True)
class Rules:
    """The catalog's rules for automatic leases. `minutes_a_day` None: no limit."""

    zone: ZoneInfo
    quiet: tuple[tuple[time, time], ...] = ()
    minutes_a_day: float | None = None

    @classmethod
    def of(cls, automation: Automation) -> Rules:
        """As `models.yaml` has them."""
        hours = (tuple(map(time.fromisoformat, one.split("-"))) for one in automation.quiet_hours)
        quiet = tuple((begin, end) for begin, end in hours)
        return cls(ZoneInfo(automation.time_zone), quiet, automation.tenant_downtime_minutes_a_day)

    def quiet_at(self, moment: datetime) -> str | None:
        """The quiet hours that hold at `moment`, as `22:30-06:00`; None when none do."""
        clock = moment.astimezone(self.zone).time()
        for begin, end in self.quiet:
            if begin <= clock < end or (end < begin and (clock >= begin or clock < end)):
                return f"{begin:%H:%M}-{end:%H:%M}"
        return None

    def day(self, moment: datetime) -> Span:
        """The local day that `moment` lies in, as instants of UTC."""
        local = moment.astimezone(self.zone).date()
        midnights = (datetime.combine(date, time(), self.zone) for date in (local, local + timedelta(days=1)))
        begin, end = (midnight.astimezone(UTC) for midnight in midnights)
        return begin, end

    def used_s(self, moment: datetime, used: Sequence[Span]) -> float:
        """Seconds of `used` that lie in the local day of `moment`."""
        begin, end = self.day(moment)
        return sum(max(0.0, (min(to, end) - max(since, begin)).total_seconds()) for since, to in used)

    def clock(self, moment: datetime, now: datetime) -> str:
        """A moment as people there say it: the time, with the day unless it is `now`'s."""
        local = moment.astimezone(self.zone)
        same = local.date() == now.astimezone(self.zone).date()
        return f"{local:%H:%M}" if same else f"{local:%a %H:%M}"


@dataclass(frozen=True)
class Leave:
    """What the rules allow. `begin` None: never; `until` None: as long as it likes.

    `why` says what is waited for when `begin` lies ahead, else what ends the lease; it is a sentence without its stop.
    """

    begin: datetime | None
    until: datetime | None
    why: str
    ends_with: str = ""
    """What happens at `until`, as the end of a sentence: "quiet hours 07:00-23:00 begin"."""


def leave(rules: Rules, now: datetime, used: Sequence[Span], expected_s: float | None = None) -> Leave:
    """When an automatic lease of about `expected_s` may begin, and until when it may be held.

    `used` are the automatic leases so far. A lease that fits into no window of the coming days begins in the first of
    the longest ones: it is cut there, and goes on in the next.
    """
    now = now.astimezone(UTC)
    if not rules.quiet and rules.minutes_a_day is None:
        return Leave(now, None, "no quiet hours and no limit a day are set")
    windows = list(_windows(rules, now, used))
    if not windows:
        return Leave(None, None, f"automation has no time for the card: {_rules_in_words(rules)}")
    longest = max(end - begin for begin, end, _ in windows)
    needed = min(timedelta(seconds=max(expected_s or 0.0, LEAST_S)), longest)
    begin, until, ends_with = next(window for window in windows if window[1] - window[0] >= needed)
    if begin <= now:
        why = f"it may be held until {rules.clock(until, now)}, when {ends_with}"
    else:
        why = f"{_why_not_now(rules, now, used, windows[0], expected_s)}; it may begin at {rules.clock(begin, now)}"
    return Leave(begin, until, why, ends_with)


def _windows(rules: Rules, now: datetime, used: Sequence[Span]) -> Iterator[tuple[datetime, datetime, str]]:
    """The windows of the coming days in which a lease may be held, with what ends each, by their beginning.

    What is left of a day may be used at once, or late, so that the next day's minutes follow without a break.
    """
    for opens, closes, ends_with in _not_quiet(rules, now):
        begin = opens
        while begin < closes:
            spent = _spent_at(rules, begin, closes, used)
            if spent is None:
                yield begin, closes, ends_with
                break
            used_up = f"the {rules.minutes_a_day:g} min of that day are used up"
            if spent > begin:
                yield begin, spent, used_up
            tomorrow = rules.day(spent)[1]
            late = tomorrow - timedelta(seconds=_left_s(rules, spent, used)) + MINUTE  # or one second decides
            if begin < late < tomorrow < closes:
                until = _spent_at(rules, late, closes, used)
                yield late, until or closes, used_up if until else ends_with
            begin = tomorrow


def _not_quiet(rules: Rules, now: datetime) -> Iterator[tuple[datetime, datetime, str]]:
    last = now + HORIZON
    if not rules.quiet:
        yield now, last, "three days are over"
        return
    opens: datetime | None = None
    moment = now
    while moment < last:
        quiet = rules.quiet_at(moment)
        if quiet is None and opens is None:
            opens = moment
        elif quiet is not None and opens is not None:
            yield opens, moment, f"quiet hours {quiet} begin"
            opens = None
        moment = _look_again(rules, moment)
    if opens is not None:
        yield opens, last, "three days are over"


def _look_again(rules: Rules, moment: datetime) -> datetime:
    """When it may next have become quiet, or not quiet any more: at a boundary, or where the clocks change."""
    local = moment.astimezone(rules.zone)
    seconds = (local.hour * 60 + local.minute) * 60 + local.second
    edges = ((edge.hour * 60 + edge.minute) * 60 for span in rules.quiet for edge in span)
    ahead = min((edge - seconds - 1) % 86400 + 1 for edge in edges)
    then = moment.replace(microsecond=0) + timedelta(seconds=ahead)
    if then.astimezone(rules.zone).utcoffset() == local.utcoffset():
        return then
    return moment.replace(second=0, microsecond=0) + MINUTE


def _spent_at(rules: Rules, begin: datetime, closes: datetime, used: Sequence[Span]) -> datetime | None:
    """When a lease from `begin` on has used up a day's minutes; None when it has not before `closes`."""
    if rules.minutes_a_day is None:
        return None
    while begin < closes:
        tomorrow = rules.day(begin)[1]
        left = timedelta(seconds=_left_s(rules, begin, used))
        if begin + left < min(tomorrow, closes):
            return begin + left
        begin = tomorrow
    return None


def _left_s(rules: Rules, moment: datetime, used: Sequence[Span]) -> float:
    assert rules.minutes_a_day is not None
    return max(0.0, rules.minutes_a_day * 60 - rules.used_s(moment, used))


def _why_not_now(
    rules: Rules, now: datetime, used: Sequence[Span], first: tuple[datetime, datetime, str], expected_s: float | None
) -> str:
    if quiet := rules.quiet_at(now):
        return f"quiet hours {quiet} ({rules.zone.key}) hold"
    begin, end, ends_with = first
    if begin > now:
        used_min = rules.used_s(now, used) / 60
        return f"{used_min:.0f} of the {rules.minutes_a_day:g} min that automatic leases have today are used"
    left = f"only {(end - begin).total_seconds() / 60:.0f} min are left until {rules.clock(end, now)}, when {ends_with}"
    if expected_s and expected_s > LEAST_S:
        return f"{left}, and it took {expected_s / 60:.0f} min before"
    return f"{left}: too few to take the card for"


def _rules_in_words(rules: Rules) -> str:
    hours = ", ".join(f"{begin:%H:%M}-{end:%H:%M}" for begin, end in rules.quiet)
    return f"quiet hours {hours} ({rules.zone.key}) leave none" if hours else f"{rules.minutes_a_day:g} min a day"
