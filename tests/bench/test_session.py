"""A session at its door: a driven engine on a driven clock, real photos, real files."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llama_assets.bench import (
    Comparison,
    Holding,
    Outcome,
    PhotoSet,
    SessionLimits,
    begin,
    find_unfinished,
    finish,
    prepare,
    read_rows,
    run,
    standing,
)
from llama_assets.bench.canary import CanaryLimits
from llama_assets.bench.record import AnotherSession, NotASession, stamp
from llama_assets.bench.rows import InUse, Row
from llama_assets.demo.photos import draw_photos

from .driven import QUESTION, CannotLoad, DrivenClock, DrivenEngine, Reply, comparison, lines

MODELS = ("a", "b", "c")


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    draw_photos(folder, 8)
    return folder


@pytest.fixture(scope="module")
def photos(album: Path) -> Iterator[PhotoSet]:
    with prepare(album, 8, 1, print) as prepared:
        yield prepared


@dataclass
class Bench:
    """One results folder, one engine, one clock."""

    results: Path
    compared: Comparison
    time: DrivenClock = field(default_factory=DrivenClock)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = DrivenEngine(self.time)

    def begin(self) -> Outcome:
        return begin(self.results, self.compared, self.said.append, self.time.clock)

    def run(self, folder: Path | None = None, **how: Any) -> Outcome:
        folder = folder or self.begin().folder
        holding = how.pop("holding", Holding(token=7))
        return run(folder, self.compared, self.engine, holding, self.said.append, clock=self.time.clock, **how)

    def finish(self, outcome: Outcome, seconds: float | None = 1000.0) -> bool:
        return finish(outcome, seconds, None, self.said.append, self.time.clock)


@pytest.fixture
def bench(tmp_path: Path, photos: PhotoSet) -> Bench:
    return Bench(tmp_path / "results", comparison(photos))


def record(outcome: Outcome) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((outcome.folder / "session.json").read_text())
    return values


def in_order(outcome: Outcome) -> list[Row]:
    return sorted(read_rows(outcome.folder), key=lambda row: row.position or 0)


def once_each(outcome: Outcome, models: tuple[str, ...] = MODELS, photos: int = 8) -> None:
    asked = Counter((row.model, row.photo) for row in read_rows(outcome.folder))
    assert set(asked.values()) == {1} and len(asked) == len(models) * photos


class At:
    """A stop that is set once `rows` rows are on disk."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows

    def is_set(self) -> bool:
        return lines(self.folder) >= self.rows


def test_every_photo_is_asked_once_of_every_arm_in_the_plans_order(bench: Bench) -> None:
    outcome = bench.run()
    rows = in_order(outcome)
    planned = [(turn.model, ask.photo, ask.block) for turn in bench.compared.plan.turns for ask in turn.asks]
    assert [(row.model, row.photo, row.block) for row in rows] == planned
    assert [row.position for row in rows] == list(range(1, 25))
    times = [row.started_at for row in rows]
    assert times == sorted(times) and len(set(times)) == 24  # type: ignore[type-var]
    assert (outcome.rows, outcome.asked_now, outcome.left, outcome.halted, outcome.ended) == (24, 24, 0, None, {})
    row = rows[0]
    assert row.answer == {"score": 3} and row.schema_valid is True and row.status == "ok" and row.lease_token == 7
    assert (row.seconds, row.prompt_tokens, row.cached_tokens, row.cold_load, row.marked) == (1.0, 90, 0, False, None)


def test_each_load_is_followed_by_a_warm_up_that_is_not_measured(bench: Bench) -> None:
    outcome = bench.run()
    loads = record(outcome)["loads"]
    assert [load["model"] for load in loads] == [turn.model for turn in bench.compared.plan.turns]
    assert bench.engine.requests == 24 + len(loads) == 24 + 9
    assert {(load["why"], load["seconds"], load["cold"], load["error"]) for load in loads} == {
        ("turn", 10.0, True, None)
    }
    # the arm's first load carries its probe too
    assert [load["warm_up_seconds"] for load in loads] == [2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert [load["position"] for load in loads] == [1, 3, 5, 9, 11, 15, 17, 21, 23]
    for index, (kind, model, *image) in enumerate(bench.engine.log):
        if kind == "load":
            after = [entry for entry in bench.engine.log[index + 1 : index + 4] if entry[0] == "ask"]
            assert after[0][1] == model and after[0][2:] != after[1][2:], "the warm-up shows another photo"
            assert not image


def test_a_row_is_on_disk_before_the_next_request_leaves(bench: Bench) -> None:
    folder = bench.begin().folder
    on_disk: list[int] = []
    bench.engine.before_answer = lambda n: on_disk.append(lines(folder))
    bench.run(folder)
    measured = [seen for seen, following in zip(on_disk, [*on_disk[1:], 24], strict=True) if following == seen + 1]
    assert measured == list(range(24))


def test_session_json_says_what_was_compared_and_what_it_cost(bench: Bench) -> None:
    outcome = bench.run()
    assert record(outcome)["finished"] is None and not (outcome.folder / "rows.parquet").exists()
    told = {"changes": [{"workload": "immich/ml", "became": "ready"}], "left": ["immich/ml: restored"]}
    assert finish(outcome, 200.0, {"immich/ml": [1, 0, 1]}, bench.said.append, bench.time.clock, told) is True
    found = record(outcome)
    assert found["finished"] and found["started"] == "2026-11-22T03:00:00.000Z" and found["ended"] > found["started"]
    assert found["session"] == outcome.folder.name and found["client_version"]
    assert (found["catalog_hash"], found["incumbent"], found["ranking_key"]) == ("c0ffee", "a", "score")
    assert found["question"]["hash"] == QUESTION.hash and found["question"]["schema"] == QUESTION.schema
    assert found["arms"]["b"] == {
        "fingerprint": "f-b", "mmproj": "F16", "engine": {"kind": "driven", "build": "b1"}, "ended": None,
        "ended_by": None,
        "canary": {
            "passed": True, "reason": None, "answered": True, "stopped_by_itself": True, "tokens_per_second": 38.0,
            "enforced": True, "cause": None, "gpu": None,
            "sight": {"reached": None, "words": ["Grey", "Grey"], "difference": None},
        },
    }  # fmt: skip
    source = {"kind": "folder", "ratings": None}
    assert found["photo_set"] == {"hash": bench.compared.photos.hash, "seed": 1, "source": source, "left_out": []}
    assert found["blocks"]["order"] == [["a", "b", "c"], ["c", "b", "a"]] * 2 and found["blocks"]["photos"] == [2] * 4
    assert found["leases"] == [{"token": 7, "started_at": "2026-11-22T03:00:00.000Z", "seconds": 200.0} | told]
    assert found["lease_seconds"] == 200.0 and found["tenants"] == {"immich/ml": [1, 0, 1]}
    # 24 answers, 9 loads of 10 s, 9 warm-ups and 3 probes of 1 s
    assert found["lease_efficiency"] == (24 + 90 + 9 + 3) / 200
    thumbs = [photo["thumb"] for photo in found["photos"]]
    assert len(thumbs) == 8 and thumbs[0] == "thumbs/1.jpg"
    assert all(max(Image.open(outcome.folder / thumb).size) <= 240 for thumb in thumbs)
    once_each(outcome)
    assert (outcome.folder / "rows.parquet").is_file() and find_unfinished(bench.results, bench.compared, print) is None


def test_a_stopped_session_is_found_and_continued_without_asking_a_photo_twice(bench: Bench) -> None:
    folder = bench.begin().folder
    outcome = bench.run(folder, stop=At(folder, 7))
    assert (outcome.halted, outcome.rows, outcome.left, outcome.complete) == ("stopped", 7, 17, False)
    assert bench.finish(outcome) is False and record(outcome)["finished"] is None
    assert record(outcome)["lease_seconds"] == 1000.0

    again = bench.begin()
    assert again.folder == folder and (again.rows, again.left) == (7, 17)
    assert f"session {folder.name} is continued: 7 answers are there, 17 are left" in bench.said
    outcome = bench.run(folder, holding=Holding(token=8))
    assert (outcome.rows, outcome.asked_now, outcome.halted) == (24, 17, None)
    assert bench.finish(outcome) is True
    once_each(outcome)
    rows = in_order(outcome)
    assert [row.position for row in rows] == list(range(1, 25))
    assert [row.lease_token for row in rows] == [7] * 7 + [8] * 17
    assert [lease["token"] for lease in record(outcome)["leases"]] == [7, 8]
    assert record(outcome)["lease_seconds"] == 2000.0
    assert len([entry for entry in bench.engine.log if entry[0] == "probe"]) == 3, "a canary is asked once a session"


def test_a_lost_lease_stops_at_the_next_request(bench: Bench) -> None:
    folder = bench.begin().folder
    outcome = bench.run(folder, holding=Holding(still_held=lambda: lines(folder) < 5))
    assert (outcome.halted, outcome.rows) == ("lease lost", 5)
    assert bench.engine.log[-1][0] == "ask" and bench.engine.requests == 5 + 3


def test_what_a_lease_cost_is_unknown_as_long_as_one_of_them_is(bench: Bench) -> None:
    folder = bench.begin().folder
    bench.run(folder, stop=At(folder, 7))  # this process died before it could say
    outcome = bench.run(folder)
    assert bench.finish(outcome, 100.0) is True
    assert record(outcome)["lease_seconds"] is None and record(outcome)["lease_efficiency"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"catalog_hash": "other"},
        {"question": replace(QUESTION, prompt="Well?")},
        {"max_tokens": 50},
        "fingerprint",
        "photos",
        "blocks",
    ],
)
def test_a_session_of_anything_else_is_not_continued(bench: Bench, album: Path, change: Any) -> None:
    outcome = bench.begin()
    with prepare(album, 7, 1, print) as fewer:
        match change:
            case "fingerprint":
                arms = (replace(bench.compared.arms[0], fingerprint="new"), *bench.compared.arms[1:])
                other = replace(bench.compared, arms=arms)
            case "photos":
                other = comparison(fewer)
            case "blocks":
                other = comparison(bench.compared.photos, blocks=2)
            case _:
                other = replace(bench.compared, **change)
        assert find_unfinished(bench.results, other, print) is None
        with pytest.raises(AnotherSession, match="start a new one"):
            run(outcome.folder, other, bench.engine, Holding(), print)
        new = begin(bench.results, other, print, bench.time.clock)
    assert new.folder != outcome.folder and new.rows == 0


def test_a_broken_record_is_said_and_left_alone(bench: Bench) -> None:
    broken = bench.results / "sessions" / "20260101-000000-abcdef"
    broken.mkdir(parents=True)
    (broken / "session.json").write_text("{")
    outcome = bench.begin()
    assert outcome.folder != broken and any("cannot be continued" in line for line in bench.said)
    with pytest.raises(NotASession, match="move its folder away"):
        standing(broken, bench.compared)


def test_an_interrupt_in_the_middle_of_a_request_leaves_whole_rows(bench: Bench) -> None:
    def interrupt(request: int) -> None:
        if request == 9:
            raise KeyboardInterrupt

    folder = bench.begin().folder
    bench.engine.before_answer = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.run(folder)
    assert standing(folder, bench.compared).rows == 5  # of nine requests three were warm-ups and one was cut off
    bench.engine.before_answer = lambda n: None
    outcome = bench.run(folder)
    assert bench.finish(outcome)
    once_each(outcome)


@pytest.mark.parametrize("request_in_flight", [1, 4, 17])
def test_a_session_killed_with_signal_9_resumes_where_its_rows_end(
    bench: Bench, album: Path, request_in_flight: int
) -> None:
    command = [sys.executable, "-m", "bench.killed", str(album), str(bench.results), str(request_in_flight)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout and child.stdout.readline() == "holding\n"
        with pytest.raises(InUse):  # while it lives, nobody else writes its rows
            bench.run()
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    before = bench.begin()
    kept = {(row.model, row.photo): row for row in (read_rows(before.folder) if before.rows else [])}
    torn = next(iter(before.folder.glob("rows-a.jsonl")))
    with torn.open("ab") as file:  # and the line in hand was half written
        file.write(b'{"session":"x","model":"a","photo":"tow')
    outcome = bench.run(before.folder)
    assert any("was torn by a crash" in line for line in bench.said)
    assert outcome.rows == 24 and outcome.asked_now == 24 - before.rows and bench.finish(outcome)
    once_each(outcome)
    after = {(row.model, row.photo): row for row in read_rows(outcome.folder)}
    assert all(after[key] == row for key, row in kept.items())


def test_two_benchmarks_do_not_write_one_session(bench: Bench) -> None:
    folder = bench.begin().folder
    refused: list[str] = []

    def meanwhile(request: int) -> None:
        if request == 3:
            with pytest.raises(InUse) as found:
                run(folder, bench.compared, DrivenEngine(DrivenClock()), Holding(), print)
            refused.append(str(found.value))

    bench.engine.before_answer = meanwhile
    bench.run(folder)
    assert "another benchmark writes this session" in refused[0]


def test_a_crash_while_answering_is_an_error_row_and_the_model_is_loaded_again(bench: Bench) -> None:
    bench.engine.crash_at = {5}  # the second photo of b
    outcome = bench.run()
    rows = in_order(outcome)
    once_each(outcome)
    crashed = [row for row in rows if row.status == "error"]
    assert [(row.model, row.position, row.error, row.schema_valid) for row in crashed] == [
        ("b", 3, "Died: signal 6", False)
    ]
    assert crashed[0].answer_text is None and crashed[0].completion_tokens is None
    again = [load for load in record(outcome)["loads"] if load["why"] == "crash"]
    assert [(load["model"], load["position"]) for load in again] == [("b", 4)]
    assert outcome.complete and outcome.ended == {}


def test_an_arm_that_crashes_three_times_in_a_row_ends_and_the_others_go_on(bench: Bench) -> None:
    bench.engine.before_answer = lambda n: (
        bench.engine.crash_at.add(n) if bench.engine.loaded == "b" and n > 8 else None
    )
    outcome = bench.run()
    assert outcome.ended == {"b": "3 crashes in a row; the last: the warm-up image was not answered: Died: signal 6"}
    assert outcome.complete and bench.finish(outcome)
    count = Counter(row.model for row in read_rows(outcome.folder))
    assert count["a"] == count["c"] == 8 and count["b"] == 2
    assert record(outcome)["arms"]["b"]["ended"] == outcome.ended["b"]
    assert record(outcome)["arms"]["b"]["ended_by"] == "crashes"
    images = [entry[2] for entry in bench.engine.log if entry[0] == "ask" and entry[1] == "b"][-3:]
    assert len(set(images)) == 3, "each new try shows another photo: one photo may be what kills it"


def test_a_model_that_cannot_be_loaded_ends_its_arm_only(bench: Bench) -> None:
    bench.engine.broken = {"a"}
    outcome = bench.run()
    assert outcome.ended == {"a": "it could not be loaded: no tensors in a"} and outcome.complete
    assert record(outcome)["arms"]["a"]["ended_by"] == "load"
    assert bench.engine.loads("a") == 2, "once more, in case the card was not free yet"
    loads = [load for load in record(outcome)["loads"] if load["model"] == "a"]
    assert [(load["why"], load["error"]) for load in loads] == [
        ("turn", f"{CannotLoad.__name__}: no tensors in a"), ("retry", f"{CannotLoad.__name__}: no tensors in a"),
    ]  # fmt: skip
    assert bench.finish(outcome) and {row.model for row in read_rows(outcome.folder)} == {"b", "c"}


def test_a_session_whose_every_arm_ends_is_finished_without_rows(bench: Bench) -> None:
    bench.engine.broken = set(MODELS)
    outcome = bench.run()
    assert set(outcome.ended) == set(MODELS) and outcome.complete and bench.finish(outcome)
    assert read_rows(outcome.folder) == []


def test_time_outs_are_rows_and_too_many_in_a_row_end_the_arm(bench: Bench) -> None:
    slow = Reply("timeout", 30.0, text='{"sco', finish_reason=None, error="Timeout: 30 s")
    bench.engine.answer = lambda model, n: slow if model == "c" and n > 7 else '{"score": 5}'
    outcome = bench.run()
    late = [row for row in in_order(outcome) if row.status == "timeout"]
    assert len(late) == 4 and {(row.answer_text, row.answer_json, row.schema_valid) for row in late} == {
        ('{"sco', None, False)
    }
    # the warm-up of c's next turn is not answered either
    assert outcome.ended == {"c": "3 crashes in a row; the last: the warm-up image was not answered: Timeout: 30 s"}

    two = Bench(bench.results.with_name("two"), comparison(bench.compared.photos, ("c",)))
    two.engine.answer = lambda model, n: slow if n > 3 else '{"score": 5}'
    outcome = two.run()
    assert outcome.ended == {"c": "5 answers in a row took longer than 30 s"} and outcome.rows == 2 + 5
    assert record(outcome)["arms"]["c"]["ended_by"] == "timeouts"


def test_errors_of_an_engine_that_lives_are_rows_and_nothing_is_loaded_again(bench: Bench) -> None:
    bad = Reply("error", 0.2, finish_reason=None, error="ServerError: 500 peg-native")
    bench.engine.answer = lambda model, n: bad if n in (3, 5, 6) else '{"score": 5}'
    outcome = bench.run()
    errors = [(row.model, row.error) for row in in_order(outcome) if row.status == "error"]
    assert errors == [("a", bad.error), ("b", bad.error), ("b", bad.error)]
    assert len(record(outcome)["loads"]) == 9 and outcome.ended == {}


def test_an_engine_that_says_nothing_of_itself_still_answers(bench: Bench) -> None:
    class Mute(DrivenEngine):
        def about(self, model: str) -> Any:
            raise ConnectionError("no /props")

        def running(self) -> Any:
            raise ConnectionError("no /running")

    bench.engine = Mute(bench.time)
    bench.engine.answer = lambda model, n: Reply(seconds=0.01, text='{"score": 3}')
    outcome = bench.run()
    assert outcome.rows == 24 and record(outcome)["arms"]["a"]["engine"] is None
    assert any("no /props" in line for line in bench.said)


@pytest.mark.parametrize(
    ("answer", "probed", "reason"),
    [
        (Reply(text=" ", completion_tokens=100), None, "its answer is empty after 100 tokens"),
        (Reply(text='<think>hm</think>{"score": 3}'), None, "its thinking leaks into the answer"),
        (Reply(text='{"score": 3}', reasoning="Well,"), None, "it thinks although that is switched off (5 characters)"),
        (Reply(text='{"score": 3', finish_reason="length"), None, "it does not end an answer within 100 tokens"),
        (Reply(text='{"score": 3}', generation_seconds=60.0), None, "it is too slow: 0.32 tokens/s are fewer than 1"),
        (None, "A pier in the evening.", 'its engine does not hold the schema (grammar): the probe got "A pier'),
    ],
)
def test_a_hopeless_arm_ends_after_its_first_load_with_the_reason(
    bench: Bench, answer: Reply | None, probed: str | None, reason: str
) -> None:
    good = bench.engine.answer
    bench.engine.answer = lambda model, n: answer if answer and model == "b" else good(model, n)
    right = bench.engine.probed
    bench.engine.probed = lambda model: probed if probed and model == "b" else right(model)
    outcome = bench.run()
    assert list(outcome.ended) == ["b"] and reason in outcome.ended["b"]
    assert record(outcome)["arms"]["b"]["ended_by"] == "canary"
    found = record(outcome)["arms"]
    assert found["b"]["canary"]["passed"] is False and found["a"]["canary"]["passed"] is True
    assert bench.engine.loads("b") == 1 and {row.model for row in read_rows(outcome.folder)} == {"a", "c"}


def test_the_speed_floor_can_be_set(bench: Bench) -> None:
    limits = SessionLimits(canary=CanaryLimits(tokens_per_second=40.0))
    assert "38 tokens/s are fewer than 40" in bench.run(limits=limits).ended["a"]


def test_one_cut_answer_to_the_warm_up_does_not_end_an_arm(bench: Bench) -> None:
    bench.engine.answer = lambda model, n: Reply(text='{"score": 3}', finish_reason="length" if n == 1 else "stop")
    assert bench.run().ended == {}


def test_a_model_of_somebody_else_marks_the_row_and_is_noted(bench: Bench) -> None:
    bench.engine.answer = lambda model, n: Reply(seconds=3.0, text='{"score": 3}')
    bench.engine.foreign = lambda n: ["whisper"] if n == 5 else []
    outcome = bench.run()
    marked = [row for row in in_order(outcome) if row.marked]
    assert [(row.position, row.marked) for row in marked] == [(3, "whisper was loaded beside or instead of b")]
    found = record(outcome)
    assert [(one["position"], one["model"], one["found"]) for one in found["contamination"]] == [(3, "b", ["whisper"])]
    assert found["running_samples"] == 24


def test_a_model_that_others_unloaded_is_loaded_and_warmed_again_outside_the_rows(bench: Bench) -> None:
    def unload(request: int) -> None:
        if request == 5:  # somebody asks for another model as soon as this answer is out
            bench.engine.foreign = lambda n: ["whisper"] if n == 5 else []

    def answer(model: str, request: int) -> Reply:
        if request == 5:
            bench.engine.loaded = None
        return Reply(seconds=3.0, text='{"score": 3}')

    bench.engine.before_answer, bench.engine.answer = unload, answer
    outcome = bench.run()
    once_each(outcome)
    assert all(row.status == "ok" and row.cold_load is False for row in read_rows(outcome.folder))
    again = [load for load in record(outcome)["loads"] if load["why"] == "unloaded"]
    assert [(load["model"], load["position"]) for load in again] == [("b", 4)]


@dataclass(frozen=True)
class Scaled:
    """A tenant that somebody scaled up, and the last look before that."""

    since: datetime
    why: str = "immich/ml was scaled up"


def test_rows_since_the_last_good_look_are_marked_when_a_tenant_comes_back(bench: Bench) -> None:
    """The holder looks each beat: it sees the change while row 12 is made, and last saw all well during row 8."""
    folder = bench.begin().folder
    looked: list[datetime] = []
    last_good = None

    def look(request: int) -> None:
        nonlocal last_good
        bench.time.move(0.25)
        if lines(folder) == 7 and last_good is None:
            last_good = bench.time.clock.now()
        if lines(folder) == 11:
            looked.append(bench.time.clock.now())

    bench.engine.before_answer = look
    holding = Holding(
        token=7, still_held=lambda: not looked, disturbed=lambda: Scaled(last_good) if looked and last_good else None
    )
    outcome = bench.run(folder, holding=holding)
    assert (outcome.halted, outcome.rows) == ("lease lost", 12)
    assert [row.position for row in in_order(outcome) if row.marked] == [12], "the row that saw it, on disk"
    assert not bench.finish(outcome)
    (entry,) = record(outcome)["contamination"]
    assert (entry["at"], entry["what"], entry["why"]) == (stamp(last_good), "tenant", "immich/ml was scaled up")
    bench.engine.before_answer = lambda request: None
    bench.time.move(600.0)
    outcome = bench.run(folder, holding=Holding(token=8))
    assert bench.finish(outcome) and record(outcome)["contamination"] == [entry]
    marked = {row.position: row.marked for row in in_order(outcome) if row.marked}
    assert marked == dict.fromkeys((8, 9, 10, 11, 12), "immich/ml was scaled up")


def test_a_tenant_that_came_back_with_the_last_answers_is_known_when_the_card_is_given_back(bench: Bench) -> None:
    outcome = bench.run()
    rows = in_order(outcome)
    seen = Scaled(rows[-3].started_at)
    assert finish(outcome, 1000.0, None, print, bench.time.clock, disturbed=seen)
    assert [row.position for row in in_order(outcome) if row.marked] == [row.position for row in rows[-3:]]
    assert [entry["what"] for entry in record(outcome)["contamination"]] == ["tenant"]


def test_what_came_after_the_last_answer_disturbed_nothing(bench: Bench) -> None:
    outcome = bench.run()
    assert finish(outcome, 1000.0, None, print, bench.time.clock, disturbed=Scaled(bench.time.clock.now()))
    assert record(outcome)["contamination"] == [] and not any(row.marked for row in in_order(outcome))


def test_an_engine_that_changes_in_the_middle_is_noted(bench: Bench) -> None:
    folder = bench.begin().folder
    bench.run(folder, stop=At(folder, 7))
    bench.engine.build = "b2"
    outcome = bench.run(folder)
    changes = record(outcome)["arms"]["a"]["engine_changes"]
    assert [(change["position"], change["now"]["build"]) for change in changes] == [(11, "b2")]


def test_the_schema_is_held_as_the_question_says(bench: Bench, tmp_path: Path) -> None:
    bench.run()
    assert all(ask.grammar == QUESTION.grammar and ask.json_schema is None for ask in bench.engine.asked)
    other = Bench(
        tmp_path / "other", replace(bench.compared, question=replace(QUESTION, structured_output="response_format"))
    )
    other.run()
    assert all(ask.grammar is None and ask.json_schema == QUESTION.schema for ask in other.engine.asked)
    assert {ask.max_tokens for ask in other.engine.asked} == {100} and {
        ask.timeout_s for ask in other.engine.asked
    } == {30.0}


def test_answers_that_do_not_fit_are_rows_that_say_so(bench: Bench) -> None:
    texts = {3: '{"score": "7"}', 5: "```json\n{}\n```", 8: "half \ud83c"}
    bench.engine.answer = lambda model, n: texts.get(n, '{"score": 5}')
    outcome = bench.run()
    odd = [row for row in in_order(outcome) if not row.schema_valid]
    assert [(row.status, row.answer_json, row.answer_text) for row in odd] == [
        ("ok", '{"score":"7"}', texts[3]), ("ok", None, texts[5]), ("ok", None, "half \ufffd"),
    ]  # fmt: skip


def test_a_plan_for_other_arms_or_photos_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="the plan asks"):
        replace(bench.compared, arms=bench.compared.arms[:2])
