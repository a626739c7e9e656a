"""What an arm's answers are worth: answered, complete, JSON, valid, held to the schema, and why the others are not."""

import json

import pytest

from llama_assets.bench.question import Question
from llama_assets.bench.rows import Row, derive
from llama_assets.verdict.facts import facts_of
from llama_assets.verdict.judgement import Rate
from llama_assets.verdict.judging import judge_rows

from .sessions import SCHEMA

QUESTION = Question("Judge this photo.", SCHEMA, "instagram_fit_score")
GOOD = json.dumps({"instagram_fit_score": 7, "suggested_caption": "Dawn"})
CUT = {"finish_reason": "length"}
# 20 rows: what they hold, and the class of each that is not valid
ODD = [
    ({"answer_text": '{"instagram_fit_score": "7", "suggested_caption": ""}'}, "wrong_type"),
    ({"answer_text": '{"instagram_fit_score": 70, "suggested_caption": ""}'}, "schema"),
    ({"answer_text": f"```json\n{GOOD}\n```"}, "fenced"),
    ({"answer_text": GOOD[:30], **CUT}, "truncated"),
    ({"answer_text": GOOD, **CUT}, "truncated"),
    ({"answer_text": '{"suggested_caption": "' + "sea, sky and " * 30, **CUT}, "loop"),
    ({"answer_text": "", "completion_tokens": 400, **CUT}, "thinking"),
    ({"answer_text": "I'm sorry, but I can't rate photos of people."}, "refusal"),
    ({"status": "error", "error": "cut: reset", "finish_reason": None, "answer_text": None}, "error"),
    ({"status": "timeout", "error": "timeout: 120 s", "finish_reason": None, "answer_text": '{"inst'}, "error"),
]


def arm(rows: list[dict], question: Question | None = QUESTION, facts: dict | None = None):
    plain = {"model": "m", "status": "ok", "finish_reason": "stop", "seconds": 1.0, "answer_text": GOOD}
    made = [derive(Row(**{**plain, "photo": f"{n}.jpg", **row}), question) for n, row in enumerate(rows)]
    return judge_rows(made, facts_of(facts) if facts else None, question).models["m"]


def test_each_step_of_an_answer_is_a_figure_of_its_own_with_its_interval():
    found = arm([row for row, _ in ODD] + [{}] * 10)
    counts = [rate.count for rate in (found.http_ok, found.complete, found.parsed_rate, found.schema_valid)]
    assert counts == [18, 14, 13, 10]
    assert found.parsed == 13
    # Wilson 1927 for 18 of 20, from the closed form in Newcombe 1998, table I's method 3
    assert found.http_ok == Rate(18, 0.9, pytest.approx(0.6990, abs=1e-4), pytest.approx(0.9721, abs=1e-4))


def test_what_is_not_valid_is_counted_by_its_class_in_one_order():
    found = arm([row for row, _ in ODD] + [{}] * 10).failures
    assert found == {
        "fenced": 1, "truncated": 2, "wrong_type": 1, "schema": 1, "loop": 1, "thinking": 1, "refusal": 1, "error": 2,
    }  # fmt: skip
    assert sum(found.values()) == len(ODD)
    assert list(found) == ["fenced", "truncated", "wrong_type", "schema", "loop", "thinking", "refusal", "error"]
    assert arm([{}] * 3).failures == {}


def test_foreign_rows_say_what_they_can_and_no_more():
    bare = {"status": None, "finish_reason": None, "seconds": None}
    found = arm([{**bare}, {**bare, "answer_text": "A pier."}], question=None)
    assert found.http_ok.rate is None and found.complete.rate is None
    assert (found.parsed_rate.count, found.failures, found.enforced) == (1, {"not_json": 1}, None)
    unknown = arm([{**bare, "answer_text": None}, {**bare, "answer_text": None, "schema_valid": False}])
    assert unknown.failures == {} and unknown.parsed_rate.rate is None


@pytest.mark.parametrize(("canary", "held"), [({"enforced": False}, False), ({"enforced": True}, True), (None, None)])
def test_whether_the_schema_was_held_is_the_probes_word(canary, held):
    assert arm([{}], facts={"arms": {"m": {"canary": canary}}}).enforced is held
