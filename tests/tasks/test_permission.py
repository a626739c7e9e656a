"""An automatic task has the card in its hours and minutes only, says what it waits for, and leaves a ledger that a kill
does not falsify. The lease and the ledger's file are real; the clock is the test's.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from llama_assets import catalog as catalogs
from llama_assets.bench.question import Question
from llama_assets.gpu import FileLease
from llama_assets.gpu.record import HeldByOther, LeaseTimes
from llama_assets.launch import Task
from llama_assets.platforms import local
from llama_assets.settings import Settings
from llama_assets.tasks.benchmark import SessionHalted
from llama_assets.tasks.downtime import Ledger, LedgerError, usual_seconds
from llama_assets.tasks.messages import Benchmark
from llama_assets.tasks.permission import Clock, NeverAllowed, NotYet, Permission, PermissionTimes
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work

NOON = datetime(2026, 6, 1, 10, tzinfo=UTC)  # 12:00 in Berlin
PURPOSE = "benchmark of a, b"


class Asked:
    """A task's permission, with a clock that only moves when it sleeps, and what it said."""

    def __init__(self, folder, automatic=True, now=NOON, **automation):
        self.now, self.said = now, []
        section = catalogs.Automation(**{"time_zone": "Europe/Berlin", **automation})
        self.catalog = catalogs.load().model_copy(update={"automation": section})
        self.lease = FileLease(folder / "lease.json", times=LeaseTimes(wait_s=0.0))
        clock, times = Clock(self.sleep, lambda: self.now), PermissionTimes(give_back_s=100)
        self.permission = Permission(folder, self.catalog, automatic, self.said.append, clock, times=times)

    def sleep(self, seconds: float) -> bool:
        self.now += timedelta(seconds=seconds)
        return False

    def take(self):
        return self.permission.over(self.lease).take("test/1", PURPOSE, self.said.append)

    def work(self, minutes: float) -> float:
        """Hold the card and work up to `minutes`, a minute a request; what it took."""
        began = self.now
        with self.take() as held:
            began = self.now
            while held.still_held() and self.now - began < timedelta(minutes=minutes):
                self.now += timedelta(minutes=1)
            self.over = held.over
        return (self.now - began).total_seconds() / 60

    @property
    def clock(self) -> str:
        return f"{(self.now + timedelta(seconds=1)).astimezone(ZoneInfo('Europe/Berlin')):%a %H:%M}"


def test_it_waits_for_the_end_of_quiet_hours_and_says_why_and_until_when(tmp_path):
    task = Asked(tmp_path, quiet_hours=("07:00-23:00",))
    task.permission.wait(PURPOSE)
    assert task.clock == "Mon 23:00"
    assert task.said[0] == (
        "automatic: waiting: quiet hours 07:00-23:00 (Europe/Berlin) hold; it may begin at 23:00. "
        "Today automatic leases had the card for 0 of 120 min, people's for 0 min"
    )
    assert len(task.said) == 23, "a line each half hour, and the last"
    assert task.said[-1].startswith(
        "automatic: it may be held until Tue 02:00, when the 120 min of that day are used up"
    )


@pytest.mark.parametrize(
    ("at", "ends"), [("21:49", "Mon 23:00"), ("22:50", None)], ids=["an hour is too long", "ten minutes are not"]
)
def test_where_somebody_asks_again_it_does_not_wait_for_long_and_names_the_moment_to_ask_at(tmp_path, at, ends):
    hour, minute = map(int, at.split(":"))
    berlin = ZoneInfo("Europe/Berlin")
    task = Asked(tmp_path, now=datetime(2026, 6, 1, hour, minute, tzinfo=berlin), quiet_hours=("07:00-23:00",))
    patient = replace(task.permission, asks_again=True)
    if ends is None:
        assert patient.wait(PURPOSE) is not None and task.clock == "Mon 23:00"
        return
    with pytest.raises(NotYet, match="quiet hours 07:00-23:00") as found:
        patient.wait(PURPOSE)
    assert f"{found.value.begin.astimezone(berlin):%a %H:%M}" == ends and task.clock == "Mon 21:49", "no time is lost"
    assert task.said[0].startswith("automatic: postponed: quiet hours 07:00-23:00 (Europe/Berlin) hold")
    with pytest.raises(NotYet), patient.over(task.lease).take("test/1", PURPOSE):
        pass
    assert task.permission.uses() == [], "nor is anything written down as had"
    task.now = found.value.begin
    assert patient.wait(PURPOSE) is not None, "at that moment it may"


def test_minutes_that_are_used_up_postpone_to_a_moment_at_which_there_are_enough(tmp_path):
    task = Asked(tmp_path, tenant_downtime_minutes_a_day=60)
    task.work(minutes=40)
    patient = replace(task.permission, asks_again=True)
    for _ in range(2):
        with pytest.raises(NotYet, match="it took 40 min before") as found:
            patient.wait(PURPOSE)
    task.now = found.value.begin
    assert patient.wait(PURPOSE) is not None and task.clock == "Mon 23:41", "19 minutes of Monday, and Tuesday's"


def test_the_task_ends_with_the_moment_to_ask_at_before_it_prepares_anything(tmp_path):
    quiet = ("00:00-12:00", "12:01-00:00")
    catalog = Asked(tmp_path, quiet_hours=quiet).catalog
    request = Benchmark(
        catalog=catalog, question=Question.load(catalog.benchmark.question).to_json(), automatic=True, asks_again=True
    )
    said: list[str] = []
    settings = Settings(store=tmp_path / "store", results=tmp_path / "results")
    work = Work(Task("benchmark", "r", "s", request.model_dump(mode="json")), local(settings), said.append, Stop())
    answer = work.do()
    assert answer.postponed is not None and answer.postponed.until > datetime.now(UTC)
    assert f"{answer.postponed.until.astimezone(ZoneInfo('Europe/Berlin')):%H:%M}" == "12:00"
    assert "postponed: quiet hours" in said[-1] and not (tmp_path / "results").exists()


def test_it_gives_back_before_the_window_closes_and_the_session_says_so(tmp_path):
    task = Asked(tmp_path, quiet_hours=("12:40-23:00",))
    assert task.work(minutes=60) == 39, "the rest is for the tenants' way back"
    assert task.over == "the card had to be given back: at 12:40 quiet hours 12:40-23:00 begin"
    (use,) = task.permission.uses()
    assert (use.automatic, use.whole, use.open, round(use.seconds)) == (True, False, False, 39 * 60)
    outcome = SimpleNamespace(folder=tmp_path / "s1", halted=task.over, left=40, rows=12)
    assert "quiet hours 12:40-23:00 begin with 40 questions left; 12 answers are kept" in str(SessionHalted(outcome))


def test_the_minutes_of_a_day_hold_over_several_leases_and_the_next_day_has_new_ones(tmp_path):
    task = Asked(tmp_path, tenant_downtime_minutes_a_day=60)
    assert task.work(minutes=20) == 20 and task.clock == "Mon 12:20"
    assert task.work(minutes=300) == 39, "40 less the way back"
    task.said.clear()
    assert task.work(minutes=10) == 10
    assert task.clock == "Tue 00:10", "a minute was left: too few to take tenants down for"
    assert "only 1 min are left until 12:59, when the 60 min of that day are used up: too few" in task.said[0]


def test_one_that_took_longer_before_waits_for_the_next_day(tmp_path):
    task = Asked(tmp_path, tenant_downtime_minutes_a_day=60)
    task.work(minutes=40)
    task.said.clear()
    task.work(minutes=30)
    assert task.clock == "Tue 00:11", "nineteen minutes of Monday and eleven of Tuesday"
    assert "only 20 min are left" in task.said[0] and "it took 40 min before" in task.said[0]


def test_a_persons_lease_does_not_wait_is_in_the_ledger_and_does_not_count(tmp_path):
    person = Asked(tmp_path, automatic=False, quiet_hours=("00:00-23:59",), tenant_downtime_minutes_a_day=60)
    assert person.work(minutes=90) == 90 and person.clock == "Mon 13:30"
    task = Asked(tmp_path, now=person.now, tenant_downtime_minutes_a_day=60)
    task.permission.wait(PURPOSE)
    assert task.said[0].endswith("Today automatic leases had the card for 0 of 60 min, people's for 90 min")


def test_a_killed_holder_counts_until_its_last_line_and_a_lifetime_more_and_a_torn_line_is_passed_over(tmp_path):
    task = Asked(tmp_path, tenant_downtime_minutes_a_day=60)
    if (child := os.fork()) == 0:
        with task.take():
            task.now += timedelta(minutes=9)
            task.permission.ledger.append("still", task.permission.uses()[0].of, task.now)
            with (tmp_path / "downtime.jsonl").open("a") as file:
                file.write('{"event": "giv')
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (use,) = task.permission.uses()
    assert use.open and round(use.seconds) == 600
    task.now += timedelta(minutes=30)
    assert task.work(minutes=30) == 30
    assert [use.whole for use in task.permission.uses()] == [False, True], "a new line after the torn one"
    text = (tmp_path / "downtime.jsonl").read_text().splitlines()
    assert [line for line in text if not line.endswith("}")] == ['{"event": "giv']


def test_what_is_waited_for_in_vain_is_not_counted(tmp_path):
    task = Asked(tmp_path)
    with task.lease.take("other/1", "a person's"), pytest.raises(HeldByOther), task.take():
        pass
    assert task.permission.uses() == []


def test_a_session_cut_into_pieces_is_one_and_what_is_left_of_it_is_expected(tmp_path):
    ledger = Ledger(tmp_path / "downtime.jsonl")
    for number, (minutes, whole) in enumerate([(30, True), (20, False), (30, True), (10, False)]):
        facts = {"lease": "l", "purpose": PURPOSE, "automatic": True, "lifetime_s": 60.0}
        ledger.append("asked", str(number), NOON, **facts)
        ledger.append("taken", str(number), NOON, since=NOON.isoformat())
        ledger.append("given", str(number), NOON + timedelta(minutes=minutes), whole=whole)
    assert usual_seconds(ledger.uses()[:2], PURPOSE) == 10 * 60, "30 in all, 20 of them done"
    assert usual_seconds(ledger.uses(), PURPOSE) == 30 * 60, "the median of 30 and 50, 10 of them done"
    assert usual_seconds(ledger.uses(), "benchmark of c") is None


def test_without_a_ledger_automation_takes_nothing_and_a_person_is_told(tmp_path):
    (tmp_path / "downtime.jsonl").mkdir()
    with pytest.raises(LedgerError, match="no automatic lease is taken"), Asked(tmp_path).take():
        pass
    person = Asked(tmp_path, automatic=False)
    assert person.work(minutes=1) == 1
    assert any("cannot be written" in line for line in person.said)


def test_hours_that_leave_no_time_are_an_error_that_says_what_to_change(tmp_path):
    task = Asked(tmp_path, quiet_hours=("00:00-12:00", "12:00-00:00"))
    with pytest.raises(NeverAllowed, match="change `automation` in the catalog"):
        task.permission.wait(PURPOSE)


def test_told_to_end_it_stops_waiting_at_once(tmp_path):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = Stop.on_signals()
        catalog = Asked(tmp_path, quiet_hours=("00:00-12:00", "12:01-00:00")).catalog
        settings = Settings(store=tmp_path, results=tmp_path)
        work = Work(
            Task("benchmark", "r", "s", {}), local(settings), lambda _: os.kill(os.getpid(), signal.SIGTERM), stop
        )
        with pytest.raises(SystemExit) as ended:
            Permission.of(work, catalog, automatic=True).wait(PURPOSE)
        assert ended.value.code == 143
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_ledger_has_a_line_a_minute_while_the_card_is_held(tmp_path):
    task = Asked(tmp_path)
    quick = Permission(
        tmp_path, task.catalog, True, task.said.append, task.permission.clock, times=PermissionTimes(still_s=0.01)
    )
    with quick.over(task.lease).take("test/1", PURPOSE) as held:
        while "still" not in (tmp_path / "downtime.jsonl").read_text():
            held.wait(0.01)
    events = [json.loads(line)["event"] for line in (tmp_path / "downtime.jsonl").read_text().splitlines()]
    assert [events[0], events[-1]] == ["asked", "given"] and {"taken", "still"} < set(events)


def test_an_automatic_job_may_run_as_long_as_it_may_have_to_wait():
    request = Benchmark(catalog=catalogs.load(), question={})
    assert request.deadline_s is None
    request = request.model_copy(update={"automatic": True})
    assert request.deadline_s == (49 + 6) * 3600
    assert request.model_copy(update={"asks_again": True}).deadline_s is None, "it hardly waits"
