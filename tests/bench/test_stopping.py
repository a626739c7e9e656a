"""When a session has enough before its plan is done: by a rule over its rows, by its leased minutes; and a cache."""

import json
from collections import Counter

import pytest

from llama_assets.bench import Holding, begin, finish, prepare, read_rows, run, standing
from llama_assets.bench.turns import StopRule
from llama_assets.demo.photos import draw_photos

from .driven import DrivenClock, DrivenEngine, Reply, comparison


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    album = tmp_path_factory.mktemp("album")
    draw_photos(album, 8)
    with prepare(album, 8, 1, print) as prepared:
        yield prepared


class Bench:
    def __init__(self, results, photos, blocks=4):
        self.time, self.said, self.results = DrivenClock(), [], results
        self.engine, self.compared = DrivenEngine(self.time), comparison(photos, blocks=blocks)

    def run(self, **how):
        self.folder = begin(self.results, self.compared, self.said.append, self.time.clock).folder
        return run(self.folder, self.compared, self.engine, Holding(), self.said.append, clock=self.time.clock, **how)

    def record(self):
        return json.loads((self.folder / "session.json").read_text())


@pytest.fixture
def bench(tmp_path, photos):
    return Bench(tmp_path, photos)


def test_the_rule_is_asked_after_each_even_number_of_blocks_and_sees_every_arms_rows(tmp_path, photos):
    bench, asked = Bench(tmp_path, photos, blocks=8), []

    def enough(rows):
        asked.append(Counter(row.model for row in rows))
        assert len({row.photo for row in rows}) == len(rows) / 3, "the same photos of every arm"
        return False

    outcome = bench.run(rule=StopRule(enough))
    assert asked == [Counter(a=n, b=n, c=n) for n in (2, 4, 6)], "after the last block there is nothing to stop"
    assert outcome.complete and outcome.rows == 24 and bench.record()["stopped"] is None


def test_a_session_that_has_enough_is_finished_with_its_reason_and_not_continued(bench):
    outcome = bench.run(rule=StopRule(lambda rows: len(rows) >= 12))
    assert (outcome.rows, outcome.left, outcome.complete, outcome.halted) == (12, 0, True, None)
    loads = [model for kind, model, *_ in bench.engine.log if kind == "load"]
    assert loads == ["a", "b", "c", "b", "a"] and bench.engine.log[-1][0] == "ask"
    assert finish(outcome, 100.0, None, print, bench.time.clock)
    stopped = bench.record()["stopped"]
    assert (stopped["by"], stopped["position"]) == ("narrow_enough", 12)
    assert stopped["why"] == "after 2 blocks the intervals are narrow enough"
    assert Counter(row.block for row in read_rows(bench.folder)) == {1: 6, 2: 6}
    assert standing(bench.folder, bench.compared).left == 0
    assert begin(bench.results, bench.compared, print, bench.time.clock).folder != bench.folder


def test_arms_that_ended_early_are_not_waited_for(bench):
    bench.engine.broken = {"b"}
    outcome = bench.run(rule=StopRule(lambda rows: {row.model for row in rows} == {"a", "c"}))
    assert outcome.complete and outcome.rows == 8


def test_leased_minutes_end_a_session_between_two_requests_and_earlier_leases_count(bench):
    rule = StopRule(budget_s=60.0)
    folder = begin(bench.results, bench.compared, print, bench.time.clock).folder

    class Soon:
        def is_set(self):
            return len(read_rows(folder)) >= 5 if list(folder.glob("rows-*.jsonl")) else False

    stopped = run(folder, bench.compared, bench.engine, Holding(), print, Soon(), bench.time.clock, rule=rule)
    assert stopped.halted == "stopped"
    finish(stopped, 40.0, None, print, bench.time.clock)  # 20 of the 60 seconds are left
    before = bench.time.passed
    outcome = bench.run(rule=rule)
    assert bench.folder == folder and outcome.complete and outcome.rows > 5
    assert 20.0 <= bench.time.passed - before < 20.0 + 13.0, "what was begun is ended: a load, its warm-up, an answer"
    assert finish(outcome, 25.0, None, print, bench.time.clock)
    found = bench.record()
    assert (found["stopped"]["by"], found["stopped"]["why"]) == ("lease_minutes", "its 1 leased minutes are over")
    assert found["lease_seconds"] == 65.0 and (folder / "rows.parquet").is_file()
    assert Counter((row.model, row.photo) for row in read_rows(folder)).most_common(1)[0][1] == 1


def test_an_answer_from_the_cache_is_said_once_and_its_row_is_marked(bench):
    cached = Reply(text='{"score": 3}', cached_tokens=80)
    bench.engine.answer = lambda model, n: cached if model == "b" else Reply(text='{"score": 3}')
    bench.run()
    marked = [(row.model, row.marked) for row in read_rows(bench.folder) if row.marked]
    assert marked == [("b", "80 tokens of the prompt came from the engine's cache")] * 8
    assert len([line for line in bench.said if "from the engine's cache" in line]) == 1
