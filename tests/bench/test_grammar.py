"""The grammar is checked as a regular expression, which ours are; and under a real llama.cpp in test_llama_cpp.py."""

import json
import random
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from llama_assets import catalog
from llama_assets.bench.grammar import GrammarLimits, NotEnforceable, gbnf
from llama_assets.bench.question import Question

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[a-zA-Z][a-zA-Z0-9-]*|[(){}|?*+,\s]|\d+')


def expression(grammar: str) -> re.Pattern[str]:
    """Our grammars do not recurse, so each is a regular expression: rules are put in place of their names."""
    rules = dict(line.split(" ::= ", 1) for line in grammar.splitlines())

    def translated(rule: str) -> str:
        out = []
        for token in TOKEN.findall(rules[rule]):
            if token.startswith('"'):
                out.append(re.escape(token[1:-1].replace('\\"', '"').replace("\\\\", "\\")))
                out[-1] = f"(?:{out[-1]})"
            elif token in rules:
                out.append(f"(?:{translated(token)})")
            elif token == "(":
                out.append("(?:")
            elif not token.isspace():
                out.append(token)
        return "".join(out)

    return re.compile(translated("root"))


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def test_integers_are_held_exactly_for_any_bounds() -> None:
    chance = random.Random(7)
    pairs = [(1, 10), (0, 0), (-5, 5), (0, 100), (9, 10), (99, 1000), (-100, -9)]
    pairs += [tuple(sorted((chance.randint(-2000, 2000), chance.randint(-2000, 2000)))) for _ in range(60)]
    for low, high in pairs:
        held = expression(gbnf(obj(n={"type": "integer", "minimum": low, "maximum": high})))
        found = [n for n in range(-2100, 2101) if held.fullmatch(json.dumps({"n": n}, separators=(",", ":")))]
        assert found == list(range(low, high + 1)), (low, high)
        assert not held.fullmatch('{"n":01}') and not held.fullmatch('{"n":-0}') and not held.fullmatch('{"n":+1}')


def test_large_and_open_bounds_end() -> None:
    held = expression(gbnf(obj(n={"type": "integer", "exclusiveMinimum": 10**9, "exclusiveMaximum": 3 * 10**11})))
    for number in (10**9 + 1, 5 * 10**10, 3 * 10**11 - 1):
        assert held.fullmatch(f'{{"n": {number}}}')
    for number in (10**9, 3 * 10**11, 10**12):
        assert not held.fullmatch(f'{{"n": {number}}}')
    free = expression(gbnf(obj(n={"type": "integer"})))
    assert free.fullmatch('{"n":-999999999999999}') and not free.fullmatch('{"n":1000000000000000}')


def test_the_packaged_question_takes_good_answers_in_the_schemas_order_only() -> None:
    question = Question.load(catalog.load().benchmark.question)
    held = expression(question.grammar or "")
    good = {
        "aesthetic_score": 10, "instagram_fit_score": 1, "primary_subject": 'a "pier" \\ é', "scene_tags": ["sea"] * 8,
        "suggested_caption": "", "reasoning": "ü" * 240,
    }  # fmt: skip
    for separators in ((",", ":"), (", ", ": ")):
        assert held.fullmatch(json.dumps(good, ensure_ascii=False, separators=separators))
    assert not held.fullmatch(json.dumps(good, indent=1))
    assert not held.fullmatch(json.dumps(dict(reversed(good.items()))))
    for worse in (
        {"aesthetic_score": 11}, {"aesthetic_score": "7"}, {"scene_tags": ["sea"] * 9}, {"reasoning": "x" * 241},
        {"primary_subject": "two\nlines".replace("\n", chr(10))}, {"suggested_caption": None},
    ):  # fmt: skip
        text = json.dumps(good | worse, ensure_ascii=False)
        assert not held.fullmatch(text.replace("\\n", "\n"))


def test_optional_properties_may_be_missing_anywhere_and_commas_stay_right() -> None:
    schema = obj(a={"type": "boolean"}, b={"const": 1}, c={"type": "null"}, d={"enum": ["x", "y"]})
    for required in ([], ["a"], ["b"], ["c", "d"], ["d"]):
        schema["required"] = required
        held = expression(gbnf(schema))
        full = {"a": True, "b": 1, "c": None, "d": "y"}
        for chosen in range(16):
            some = {key: value for bit, (key, value) in enumerate(full.items()) if chosen >> bit & 1}
            assert bool(held.fullmatch(json.dumps(some))) == (set(required) <= some.keys()), (required, some)
        assert not held.fullmatch('{,"a":true}') and not held.fullmatch('{"a":true,}')


def test_alternatives_references_and_nesting_are_followed() -> None:
    schema = obj(
        place={"$ref": "#/$defs/place"},
        mood={"type": ["string", "null"], "maxLength": 3},
        which={"anyOf": [{"type": "integer", "minimum": 5, "maximum": 6}, {"enum": ["none", 'q"']}]},
        pairs={"type": "array", "items": {"$ref": "#/$defs/place"}, "minItems": 1, "maxItems": 2},
    ) | {"$defs": {"place": obj(x={"type": "number"})}}
    held = expression(gbnf(schema))
    good = {"place": {"x": -1.5}, "mood": None, "which": 'q"', "pairs": [{"x": 0}, {"x": 3}]}
    assert held.fullmatch(json.dumps(good))
    for worse in ({"which": 4}, {"which": "some"}, {"pairs": []}, {"mood": "long"}, {"place": {}}):
        assert not held.fullmatch(json.dumps(good | worse))
    assert Draft202012Validator(schema).is_valid(good)


@pytest.mark.parametrize(
    ("node", "keyword"),
    [
        ({"type": "string", "pattern": "^a$"}, "pattern"),
        ({"type": "string", "format": "date"}, "format"),
        ({"type": "integer", "multipleOf": 5}, "multipleOf"),
        ({"type": "number", "minimum": 0}, "minimum"),
        ({"type": "array", "items": {"type": "null"}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "array"}, "items"),
        ({"type": "object", "properties": {}, "patternProperties": {}}, "patternProperties"),
        ({"oneOf": [{"type": "string"}]}, "oneOf"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "string", "maxLength": 5000}, "maxLength"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "minimum"),
        ({"$ref": "#"}, "$ref"),
        ({"enum": [1, 2], "type": "string"}, "enum"),
        ({}, "(no type)"),
        (True, "true"),
    ],
)
def test_what_a_grammar_would_not_hold_is_refused_by_name_and_place(node: Any, keyword: str) -> None:
    with pytest.raises(NotEnforceable) as found:
        gbnf(obj(score={"type": "integer"}, odd=node))
    assert (found.value.keyword, found.value.where) == (keyword, "$.odd")
    assert f"`{keyword}` at $.odd" in str(found.value) and "response_format" in str(found.value)


def test_what_the_schema_leaves_open_is_bounded() -> None:
    held = expression(
        gbnf(obj(s={"type": "string"}, a={"type": "array", "items": {"type": "null"}}), GrammarLimits(5, 2))
    )
    assert held.fullmatch('{"s":"12345","a":[null,null]}')
    assert not held.fullmatch('{"s":"123456","a":[]}') and not held.fullmatch('{"s":"","a":[null,null,null]}')


def test_properties_of_one_name_at_two_places_get_rules_of_their_own() -> None:
    held = expression(
        gbnf(obj(a=obj(b={"const": 1}), **{"a-b": {"const": 2}, "root": {"const": 3}, "é": {"const": 4}}))
    )
    assert held.fullmatch('{"a":{"b":1},"a-b":2,"root":3,"é":4}')
