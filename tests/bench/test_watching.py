"""Who else uses the card while we ask: driven looks on a driven clock, and a session whose card is shared half way."""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from llama_assets.bench import Holding, SessionLimits, begin, finish, prepare, read_rows, run
from llama_assets.bench.watching import Watcher, WatchLimits
from llama_assets.demo.photos import draw_photos

from .driven import DrivenClock, DrivenEngine, Reply, Running, comparison

START = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
QUICK = SessionLimits(watch=WatchLimits(every_s=0.001))


@dataclass(frozen=True)
class Reading:
    used_mib: float
    card: str = "GPU-1"
    total_mib: float | None = 16384.0


@dataclass(frozen=True)
class Look:
    running: tuple[Running, ...] = ()
    readings: tuple[Reading, ...] = ()


@dataclass
class Driven:
    """A watcher one step at a time: `look(...)` is what the engine shows a second later."""

    at: float = 0.0
    shown: Look | Exception = field(default_factory=Look)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watcher = Watcher(self._show, lambda: START + timedelta(seconds=self.at), self.said.append)

    def _show(self) -> Look:
        if isinstance(self.shown, Exception):
            raise self.shown
        return self.shown

    def look(self, *running: str, used: float | None = None) -> None:
        self.at += 1.0
        states = tuple(Running(*name.split(":")) for name in running)
        self.shown = Look(states, () if used is None else (Reading(used),))
        self.watcher.step()

    def marks(self, begin: float, end: float) -> list[str]:
        return self.watcher.disturbed(START + timedelta(seconds=begin), START + timedelta(seconds=end))


def test_memory_beyond_the_arms_own_marks_the_time_from_the_reading_before_to_the_one_after():
    driven = Driven()
    driven.look(used=400)
    driven.watcher.expect("a")
    for used in (None, 6000, None, 6100, None, 7300, None, 6050, None):
        driven.look("a", used=used)
    why = ["1300 MiB on the card were not a's"]
    assert driven.marks(5.5, 6.5) == why, "after the last reading in which only the arm was there"
    assert driven.marks(8.5, 8.9) == why, "it may have gone at any time before the next reading"
    assert driven.marks(2.0, 5.0) == [] and driven.marks(9.0, 9.5) == []
    assert driven.watcher.memory() == {"peak_mib": {"a": 6100.0}, "total_mib": 16384.0, "idle_mib": 400.0}


def test_who_was_there_from_the_start_is_seen_when_he_leaves():
    driven = Driven()
    driven.watcher.expect("a")
    for used in (7000, 7000, 7010, 6000, 6000):
        driven.look("a", used=used)
    assert driven.marks(2.0, 2.5) == ["1010 MiB on the card were not a's"]
    assert driven.marks(4.5, 5.0) == []  # the reading of 4.0 showed that he had gone


def test_each_arm_has_its_own_memory_and_loading_has_none():
    driven = Driven()
    for model, used in (("a", 6000), ("b", 9000), ("a", 6010), ("b", 9010)):
        driven.watcher.expect(None)
        driven.look(f"{model}:starting", used=3000)
        driven.look(f"{model}:ready", used=14000)  # measured while it loaded, or before
        driven.watcher.expect(model)
        driven.look(model, used=1000)  # maybe measured before it was ready
        driven.look(model, used=used)
    assert driven.watcher.spans() == []
    assert driven.watcher.memory()["peak_mib"] == {"a": 6010.0, "b": 9010.0}


def test_a_crash_is_no_reading_of_the_arms_own_memory():
    driven = Driven()
    driven.watcher.expect("a")
    driven.look("a", used=6000)
    driven.look("a", used=6000)
    driven.look(used=500)  # gone, and nobody has noticed yet
    driven.look("a:starting", used=2000)
    driven.look("a", used=5000)
    driven.look("a", used=6000)
    assert [span.what for span in driven.watcher.spans()] == ["load"]
    assert driven.marks(4.5, 4.9) == ["a was being loaded, and not by us"]


def test_another_model_marks_its_time_and_one_that_stays_is_one_span():
    driven = Driven()
    driven.watcher.expect("a")
    for running in (("a",), ("a", "whisper:starting"), ("a", "whisper"), ("a",), ("a", "whisper:stopped")):
        driven.look(*running)
    assert [(span.what, span.found) for span in driven.watcher.spans()] == [("model", ("whisper",))]
    assert driven.marks(2.5, 2.5) == ["whisper was loaded beside or instead of a"]
    assert driven.marks(3.5, 9.0) == ["whisper was loaded beside or instead of a"] and driven.marks(4.1, 9.0) == []


def test_growth_below_the_threshold_and_an_engine_that_does_not_measure_mark_nothing():
    driven = Driven()
    driven.watcher.expect("a")
    for used in (6000, 6000, 6250, 6100):
        driven.look("a", used=used)
    assert driven.watcher.spans() == []
    silent = Driven()
    silent.watcher.expect("a")
    silent.look("a")
    assert silent.watcher.memory() is None and silent.watcher.spans() == []


def test_an_engine_that_does_not_answer_is_said_once_and_counted():
    driven = Driven(shown=ConnectionError("no /running"))
    for _ in range(3):
        driven.watcher.step()
    assert driven.said == ["the engine could not be looked at: ConnectionError: no /running"]
    assert (driven.watcher.looks, driven.watcher.failed) == (0, 3)


def test_what_is_kept_stays_bounded_and_covers_the_rest():
    driven = Driven()
    driven.watcher.limits = WatchLimits(most_spans=3)
    driven.watcher.expect("a")
    for number in range(20):
        driven.look("a", f"m{number}")
        driven.look("a")
    spans = driven.watcher.spans()
    assert len(spans) == 3 and spans[-1].end >= START + timedelta(seconds=39)


class WatchedEngine(DrivenEngine):
    """Shows `used` MiB of the model and of others; `seen()` returns when it was looked at twice more."""

    foreign_mib = 0.0

    @contextmanager
    def watch(self):
        self.looked = threading.Semaphore(0)
        yield self

    def look(self) -> Look:
        self.looked.release()
        running = tuple(self.running())
        used = 400.0 + (5000.0 if running else 0.0) + self.foreign_mib
        return Look(running, (Reading(used),))

    def seen(self) -> None:
        while self.looked.acquire(blocking=False):
            pass
        for _ in range(3):
            assert self.looked.acquire(timeout=60)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    album = tmp_path_factory.mktemp("album")
    draw_photos(album, 8)
    with prepare(album, 8, 1, print) as prepared:
        yield prepared


def test_a_foreigner_in_the_middle_marks_the_rows_of_his_time_and_no_others(photos, tmp_path):
    """He comes while the seventh request is answered and leaves during the eleventh; he was seen in between."""
    time, said = DrivenClock(), []
    engine, compared = WatchedEngine(time), comparison(photos, models=("a", "b"))

    def play(request: int) -> None:
        engine.foreign_mib = 900.0 if 7 <= request <= 11 else 0.0
        engine.seen()

    def answer(model: str, request: int) -> Reply:
        return Reply(text='{"score": 3}')

    engine.before_answer, engine.answer = play, answer
    folder = begin(tmp_path, compared, said.append, time.clock).folder
    outcome = run(folder, compared, engine, Holding(), said.append, clock=time.clock, limits=QUICK)
    assert finish(outcome, 500.0, None, said.append, time.clock)
    record = json.loads((folder / "session.json").read_text())
    rows = sorted(read_rows(folder), key=lambda row: row.position)
    marked = {row.position: row.marked for row in rows if row.marked}
    assert marked and set(marked.values()) <= {f"900 MiB on the card were not {model}'s" for model in "ab"}
    last = max(marked)
    assert set(marked) == set(range(min(marked), last + 1)) and 4 <= min(marked) <= 6 and last <= 10
    assert {entry["what"] for entry in record["contamination"]} == {"memory"}
    assert record["memory"] == {"peak_mib": {"a": 5400.0, "b": 5400.0}, "total_mib": 16384.0, "idle_mib": 400.0}
    assert record["watch"]["looks"] > 20 and record["watch"]["failed"] == 0
    assert any("somebody else was seen: 900 MiB" in line for line in said)


def test_nobody_else_marks_nothing(photos, tmp_path):
    time = DrivenClock()
    engine, compared = WatchedEngine(time), comparison(photos, models=("a", "b"))
    engine.before_answer = lambda n: engine.seen()
    folder = begin(tmp_path, compared, print, time.clock).folder
    outcome = run(folder, compared, engine, Holding(), print, clock=time.clock, limits=QUICK)
    assert finish(outcome, 500.0, None, print, time.clock)
    assert not [row for row in read_rows(folder) if row.marked]
    assert json.loads((folder / "session.json").read_text())["contamination"] == []
