"""When an automatic lease may begin and until when: by the clock on the wall, whatever the length of the day."""

from __future__ import annotations

import random
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from llama_assets.catalog import Automation
from llama_assets.policy.windows import LEAST_S, Rules, leave

BERLIN = "Europe/Berlin"
NOON = datetime(2026, 6, 1, 10, tzinfo=UTC)  # 12:00 in Berlin


def rules(*quiet: str, minutes: int | None = None, zone: str = BERLIN) -> Rules:
    return Rules.of(Automation(time_zone=zone, quiet_hours=quiet, tenant_downtime_minutes_a_day=minutes))


def local(moment: datetime | None) -> str:
    assert moment is not None
    return f"{moment.astimezone(ZoneInfo(BERLIN)):%d %H:%M}"


def test_without_rules_it_may_begin_now_and_last():
    found = leave(rules(), NOON, [])
    assert (found.begin, found.until) == (NOON, None)


def test_in_quiet_hours_it_waits_for_their_end_and_ends_with_their_next_beginning():
    found = leave(rules("07:00-23:00"), NOON, [])
    assert (local(found.begin), local(found.until)) == ("01 23:00", "02 07:00")
    assert found.why == "quiet hours 07:00-23:00 (Europe/Berlin) hold; it may begin at 23:00"


def test_hours_over_midnight():
    night = NOON + timedelta(hours=13)  # 01:00
    found = leave(rules("22:30-06:00"), night, [])
    assert (local(found.begin), local(found.until)) == ("02 06:00", "02 22:30")


def test_the_days_minutes_end_it_and_what_is_left_is_used_before_the_next_day_begins():
    used = [(NOON - timedelta(hours=2), NOON - timedelta(hours=1))]
    found = leave(rules(minutes=90), NOON, used)
    assert (local(found.begin), local(found.until)) == ("01 12:00", "01 12:30")
    assert found.why == "it may be held until 12:30, when the 90 min of that day are used up"
    found = leave(rules(minutes=60), NOON, used)
    assert (local(found.begin), local(found.until)) == ("02 00:00", "02 01:00")
    assert found.why == "60 of the 60 min that automatic leases have today are used; it may begin at Tue 00:00"


def test_one_that_takes_longer_than_what_is_left_waits_for_the_next_day_and_says_so():
    used = [(NOON - timedelta(hours=2), NOON - timedelta(hours=1))]
    found = leave(rules(minutes=90), NOON, used, expected_s=45 * 60)
    assert (local(found.begin), local(found.until)) == ("01 23:31", "02 01:30"), "so late that tomorrow's follow"
    assert found.why == (
        "only 30 min are left until 12:30, when the 90 min of that day are used up, and it took 45 min before; it may "
        "begin at 23:31"
    )


def test_one_that_fits_into_no_day_begins_in_the_longest_window():
    found = leave(rules("07:00-23:00", minutes=60), NOON, [], expected_s=5 * 3600)
    assert (local(found.begin), local(found.until)) == ("01 23:00", "02 01:00"), "an hour of each day"


def test_a_lease_over_midnight_counts_to_both_days():
    midnight = datetime(2026, 6, 1, 22, tzinfo=UTC)
    used = [(midnight - timedelta(minutes=30), midnight + timedelta(minutes=20))]
    both = rules(minutes=120)
    assert both.used_s(midnight - timedelta(hours=1), used) == 30 * 60
    assert both.used_s(midnight, used) == 20 * 60


def test_hours_that_leave_nothing_say_never():
    found = leave(rules("00:00-12:00", "12:00-00:00"), NOON, [])
    assert found.begin is None and "leave none" in found.why


def test_when_the_clocks_change_the_wall_clock_counts():
    spring = datetime(2026, 3, 29, 0, tzinfo=UTC)  # 01:00; 02:00 becomes 03:00
    found = leave(rules("02:30-05:00"), spring, [])
    assert local(found.until) == "29 03:00", "02:30 does not come, and 03:00 is quiet"
    autumn = datetime(2026, 10, 25, 0, tzinfo=UTC)  # 02:00, the first one
    found = leave(rules("02:00-02:30"), autumn, [])
    assert found.begin == autumn + timedelta(minutes=30) and found.until == autumn + timedelta(hours=1)
    begin, end = rules().day(autumn)
    assert end - begin == timedelta(hours=25)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_allowed_is_never_quiet_never_over_the_days_minutes_and_never_needlessly_late(seed):
    draw = random.Random(seed)
    zone = draw.choice([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
    hours = [f"{draw.randrange(24):02}:{draw.randrange(60):02}" for _ in range(2 * draw.randrange(3))]
    quiet = tuple(f"{a}-{b}" for a, b in zip(hours[::2], hours[1::2], strict=True) if a != b)
    minutes = draw.choice([None, 20, 120, 1440])
    day = draw.choice([datetime(2026, 3, 28), datetime(2026, 10, 24), datetime(2026, 4, 4), datetime(2026, 7, 1)])
    now = day.replace(tzinfo=UTC) + timedelta(minutes=draw.randrange(2880), seconds=draw.randrange(60))
    used = []
    for _ in range(draw.randrange(4)):
        since = now - timedelta(minutes=draw.randrange(1, 1500))
        used.append((since, min(now, since + timedelta(minutes=draw.randrange(60)))))
    which = rules(*quiet, minutes=minutes, zone=zone)
    expected = draw.choice([None, 1800.0, 7200.0])
    found = leave(which, now, used, expected)
    if found.begin is None:
        assert all(which.quiet_at(now + timedelta(minutes=m)) for m in range(0, 2880))
        return
    assert found.begin >= now and found.begin - now <= timedelta(hours=49), "the limit of an automatic Job's wait"
    if found.until is None:
        return
    moment = found.begin
    while moment < found.until:
        assert which.quiet_at(moment) is None
        moment += timedelta(minutes=1)
    if minutes is not None:
        held = [*used, (found.begin, found.until)]
        for at in (found.begin, found.until):
            assert which.used_s(at, held) <= max(minutes * 60, which.used_s(at, used)) + 1e-6
    if found.begin > now and expected is None:
        first = leave(which, now, used, expected)
        assert first.why and "it may begin at" in first.why
        early = found.begin - timedelta(seconds=LEAST_S)
        spent = minutes is not None and which.used_s(early, used) >= minutes * 60 - LEAST_S
        assert (
            early < now
            or spent
            or any(which.quiet_at(early + timedelta(seconds=s)) for s in range(0, int(LEAST_S) + 60, 30))
            or found.until - found.begin < timedelta(seconds=LEAST_S)
            or which.day(early)[1] <= found.begin
        )


def test_hours_are_read_as_written():
    assert rules("22:30-06:00").quiet == ((time(22, 30), time(6)),)
