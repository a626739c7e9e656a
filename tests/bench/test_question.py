"""The question's files are checked when read, and an answer is judged as it stands."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llama_assets import catalog
from llama_assets.bench.question import (
    BadSchema,
    NoRankingKey,
    NotEnforceable,
    NotReadable,
    Question,
    QuestionError,
    judge_answer,
)

GOOD = {
    "aesthetic_score": 7,
    "instagram_fit_score": 8,
    "primary_subject": "a pier",
    "scene_tags": ["sea", "evening"],
    "suggested_caption": "Evening at the pier",
    "reasoning": "Warm light, level horizon.",
}


@pytest.fixture(scope="module")
def travel() -> Question:
    return Question.load(catalog.load().benchmark.question)


@dataclass(frozen=True)
class Files:
    prompt: Path
    answer_schema: Path
    ranking_key: str = "score"
    structured_output: Any = "grammar"


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


SCORE = {"type": "integer", "minimum": 1, "maximum": 10}


def test_the_packaged_question_can_be_asked_and_travels_as_json(travel: Question) -> None:
    again = Question.from_json(json.loads(json.dumps(travel.to_json())))
    assert again == travel and again.hash == travel.hash and again.grammar == travel.grammar
    assert travel.prompt.startswith("You choose photos") and travel.ranking_key == "instagram_fit_score"


def test_the_hash_follows_every_part_and_the_order_of_the_properties() -> None:
    first = Question("Look.", schema(score=SCORE, why={"type": "string"}), "score")
    others = [
        Question("Look!", first.schema, "score"),
        Question("Look.", schema(why={"type": "string"}, score=SCORE), "score"),
        Question("Look.", schema(score=SCORE, why={"type": "string", "maxLength": 9}), "score"),
        Question("Look.", first.schema, "score", "response_format"),
    ]
    assert len({first.hash, *(other.hash for other in others)}) == 5


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    prompt, broken = tmp_path / "prompt.txt", tmp_path / "schema.json"
    prompt.write_text("Look.")
    broken.write_text('{"type": "object",\n oops}')
    with pytest.raises(NotReadable, match=r"schema\.json: line 2 is not JSON"):
        Question.load(Files(prompt, broken))
    with pytest.raises(NotReadable, match=r"gone\.txt: cannot be read"):
        Question.load(Files(tmp_path / "gone.txt", broken))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"type": "object", "properties": {"score": {"type": "int"}}}, r"properties\.score\.type.*'int' is not valid"),
        ({"type": "array", "items": SCORE}, "an answer is one JSON object"),
        (schema(score={"$ref": "https://example.org/score.json"}), "nothing is fetched"),
        (schema(score={"$ref": "#/$defs/score"}), "leads nowhere"),
    ],
)
def test_a_wrong_schema_says_where(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadSchema, match=sentence) as found:
        Question("Look.", wrong, "score")
    assert isinstance(found.value, QuestionError) and found.value.exit_status == 2


def test_the_ranking_key_must_be_a_number_of_the_schema() -> None:
    with pytest.raises(NoRankingKey, match=r"`ranking_key: beauty` is not .*; it has score, light"):
        Question("Look.", schema(score=SCORE, light={"type": "number"}, tag={"type": "string"}), "beauty")
    with pytest.raises(NoRankingKey, match="it has none"):
        Question("Look.", schema(tag={"type": "string"}), "tag")


def test_a_keyword_that_a_grammar_does_not_hold_is_refused_with_the_way_out() -> None:
    odd = schema(score=SCORE, mail={"type": "string", "format": "email"})
    with pytest.raises(NotEnforceable, match=r"`format` at \$\.mail.*`structured_output: response_format`"):
        Question("Look.", odd, "score")
    allowed = Question("Look.", odd, "score", "response_format")
    assert allowed.grammar is None
    assert judge_answer('{"score": 3, "mail": "nobody"}', allowed).schema_valid is False


def test_a_good_answer_is_valid_and_kept_as_compact_json(travel: Question) -> None:
    judged = judge_answer("\n " + json.dumps(GOOD, indent=2) + "\n", travel)
    assert judged.schema_valid is True and judged.parsed and judged.problems == ()
    assert judged.answer_json == json.dumps(GOOD, separators=(",", ":"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("```json\n" + json.dumps(GOOD) + "\n```", "fenced"),
        ("Here it is:\n```\n{}\n```", "fenced"),
        ("Sure! " + json.dumps(GOOD), "prose"),
        (json.dumps(GOOD) + " Hope this helps.", "prose"),
        (json.dumps(GOOD)[:-20], "truncated"),
        (json.dumps(GOOD)[:30], "truncated"),
        ("a nice photo", "not_json"),
        ('{"a": NaN}', "not_json"),
        ('{"a": ' + "9" * 5000 + "}", "not_json"),
        ("[" * 100_000, "not_json"),
    ],
)
def test_what_is_not_json_is_named_and_never_mended(travel: Question, text: str, kind: str) -> None:
    judged = judge_answer(text, travel)
    assert [problem.kind for problem in judged.problems] == [kind]
    assert (judged.parsed, judged.schema_valid, judged.answer_json) == (False, False, None)


@pytest.mark.parametrize(
    ("change", "field", "keyword"),
    [
        ({"aesthetic_score": "7"}, "aesthetic_score", "type"),
        ({"aesthetic_score": 7.5}, "aesthetic_score", "type"),
        ({"aesthetic_score": True}, "aesthetic_score", "type"),
        ({"aesthetic_score": 11}, "aesthetic_score", "maximum"),
        ({"scene_tags": ["a"] * 9}, "scene_tags", "maxItems"),
        ({"scene_tags": [3]}, "scene_tags.0", "type"),
        ({"mood": "calm"}, None, "additionalProperties"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_the_rule_it_breaks(
    travel: Question, change: dict[str, Any], field: str | None, keyword: str
) -> None:
    judged = judge_answer(json.dumps(GOOD | change), travel)
    assert judged.parsed and judged.schema_valid is False
    assert [(problem.kind, problem.field, problem.keyword) for problem in judged.problems] == [
        ("wrong_type" if keyword == "type" else "schema", field, keyword)
    ]


def test_without_a_question_only_parsing_is_judged() -> None:
    assert judge_answer('{"a": 1}').schema_valid is None
    assert judge_answer("nothing").schema_valid is None and judge_answer("nothing").problems[0].kind == "not_json"


def test_a_schema_alone_judges_answers_measured_elsewhere(tmp_path):
    """`judge --question`: the only number ranks, several must be named."""
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"score": {"type": "integer"}, "tag": {"type": "string"}}}')
    question = Question.of_answers(schema)
    assert question.ranking_key == "score"
    assert judge_answer('{"score": 3}', question).schema_valid
    assert judge_answer('{"score": "3"}', question).schema_valid is False
    schema.write_text('{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "number"}}}')
    assert Question.of_answers(schema, "b").ranking_key == "b"
    with pytest.raises(NoRankingKey, match=r"several numbers .* \(a, b\); choose by --ranking-key"):
        Question.of_answers(schema)
    schema.write_text('{"type": "object", "properties": {"a": {"type": "string"}}}')
    assert Question.of_answers(schema).ranking_key is None, "a question need not rank"
    schema.write_text('{"type": "object", "properties": {"a": {"type": "strin"}}}')
    with pytest.raises(BadSchema, match=rf"{schema}: the question's schema is wrong at \$.properties.a.type"):
        Question.of_answers(schema)
