"""The quick yes is the validator's yes, and where it cannot be sure it is silent."""

from __future__ import annotations

import random
from typing import Any

import pytest
from jsonschema.validators import validator_for

from llama_assets import catalog
from llama_assets.bench import Question
from llama_assets.bench.plain_schema import certain

VALUES: list[Any] = [None, True, False, 0, 1, 10, 11, -1, 1.0, 7.5, "", "8", "x" * 30, "x" * 300, [], ["a"], ["a", 1]]
VALUES += [["t"] * 9, {}, {"a": 1}]
PLAIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "score": {"type": "integer", "minimum": 1, "maximum": 10},
        "weight": {"type": "number"},
        "sure": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 24}, "minItems": 1, "maxItems": 8},
        "kind": {"type": "string", "enum": ["8", "a"], "minLength": 1},
        "more": {"type": "object", "properties": {"a": {"type": "null"}}},
    },
    "required": ["score", "tags"],
}


@pytest.mark.parametrize(
    "schema", [PLAIN, PLAIN | {"additionalProperties": False}, None], ids=["open", "closed", "ours"]
)
def test_it_never_says_yes_where_the_validator_says_no_and_seldom_the_reverse(schema: dict[str, Any] | None) -> None:
    """2,000 random answers; only 1.0 for an integer is left to the validator."""
    wanted = schema or dict(Question.load(catalog.load().benchmark.question).schema)
    check, validator, rng = certain(wanted), validator_for(wanted)(wanted), random.Random(1)
    assert check is not None
    names = [*wanted["properties"], "stranger"]
    good = {"score": 3, "tags": ["a"], "aesthetic_score": 3, "instagram_fit_score": 3, "primary_subject": "s",
            "scene_tags": ["a"], "suggested_caption": "c", "reasoning": "r"}  # fmt: skip
    both = 0
    for _ in range(2_000):
        answer = {name: value for name, value in good.items() if name in names}
        for name in rng.sample(names, rng.randrange(3)):
            answer[name] = rng.choice(VALUES)
        quick, valid = check(answer), validator.is_valid(answer)
        both += quick
        assert quick == valid or (valid and 1.0 in [x for x in answer.values() if isinstance(x, float)]), answer
    assert 300 < both < 1_900
    assert not any(check(value) for value in VALUES[:-2])


@pytest.mark.parametrize(
    "keyword", [{"format": "date"}, {"$ref": "#/$defs/x"}, {"type": ["string", "null"]}, {"not": {}}]
)
def test_a_keyword_it_does_not_know_leaves_all_of_it_to_the_validator(keyword: dict[str, Any]) -> None:
    below = {"type": "string"} | keyword
    assert certain({"type": "object", "properties": {"a": {"type": "array", "items": below}}}) is None
