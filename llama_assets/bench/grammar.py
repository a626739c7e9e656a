"""A JSON Schema as a GBNF grammar: what llama.cpp samples under such a grammar is valid JSON of that schema.

Here: the keywords that a grammar holds exactly, and the refusal, by name and place, of every other one: llama.cpp
itself skips many of them without a word. Everything is bounded (strings, numbers, arrays, no recursion), because a
grammar promises a valid *prefix* only, and an answer without an end is cut by `max_tokens`. Not here: checking answers
(`question`).
GBNF: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# At most one space: enough for the `": "` that models know, too little to run away in.
SPACE = "space"
PRIMITIVES = {
    SPACE: '" "?',
    # No \u escapes: a model writes UTF-8, and half a surrogate pair is no text.
    "character": r'[^"\\\x7F\x00-\x1F] | "\\" ["\\/bfnrt]',
    "number": r'"-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,9})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
}
ANNOTATIONS = frozenset({
    "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
})  # fmt: skip
HELD = {
    "string": frozenset({"minLength", "maxLength"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset[str](),
    "boolean": frozenset[str](),
    "null": frozenset[str](),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
}
LARGEST = 10**15 - 1  # integers without a bound stop here: beyond it doubles lose digits


@dataclass(frozen=True)
class GrammarLimits:
    """Bounds for what the schema leaves open."""

    text_characters: int = 400
    items: int = 16
    repetitions: int = 2000  # llama.cpp refuses a grammar that repeats more often ("exceeds sane defaults")


class QuestionError(ValueError):
    """The question cannot be asked; the tree is in `question`."""

    exit_status = 2


class NotEnforceable(QuestionError):
    """A keyword that a grammar cannot hold; `where` is the path in the schema."""

    def __init__(self, where: str, keyword: str, why: str) -> None:
        self.where, self.keyword, self.why = where, keyword, why
        super().__init__(where, keyword, why)

    def __str__(self) -> str:
        return (
            f"the question's schema cannot be enforced by a grammar: `{self.keyword}` at {self.where}: {self.why}. "
            "Take it out, or set `structured_output: response_format` in the catalog's question: "
            "then llama.cpp enforces what it can, and every answer is still checked against the whole schema"
        )


def gbnf(schema: Mapping[str, Any], limits: GrammarLimits | None = None) -> str:
    """The grammar, one rule a line, `root` first; properties come in the schema's order.

    Raises:
        NotEnforceable: the schema says something that the grammar would not hold.
    """
    writer = _Writer(schema, limits or GrammarLimits())
    root = writer.value(schema, "$", ())
    return "\n".join(f"{name} ::= {body}" for name, body in [("root", root), *writer.rules.items()]) + "\n"


class _Writer:
    def __init__(self, schema: Mapping[str, Any], limits: GrammarLimits) -> None:
        self.schema, self.limits = schema, limits
        self.rules: dict[str, str] = {}

    def value(self, node: Any, where: str, inside: tuple[str, ...]) -> str:
        """The expression for one schema node. `inside` are the references being followed."""
        if not isinstance(node, Mapping):
            raise NotEnforceable(where, str(node).lower(), "allows any value or none")
        if "$ref" in node:
            return self._reference(node, where, inside)
        if "const" in node or "enum" in node:
            self._only(node, where, {"const", "enum", "type"})
            return _alternatives(_literal(_compact(value)) for value in self._choices(node, where))
        if "anyOf" in node:
            self._only(node, where, {"anyOf"})
            return _alternatives(self.value(one, f"{where}.anyOf[{i}]", inside) for i, one in enumerate(node["anyOf"]))
        kinds = node.get("type", "object" if "properties" in node else None)
        if kinds is None:
            unknown = sorted(set(node) - ANNOTATIONS)
            raise NotEnforceable(where, unknown[0] if unknown else "(no type)", "name a `type`, `enum` or `anyOf` here")
        names = [kinds] if isinstance(kinds, str) else list(kinds)
        self._only(node, where, {"type"}.union(*(HELD[name] for name in names)))
        return _alternatives(self._typed(name, node, where, inside) for name in names)

    def _typed(self, kind: str, node: Mapping[str, Any], where: str, inside: tuple[str, ...]) -> str:
        match kind:
            case "object":
                return self._object(node, where, inside)
            case "array":
                return self._array(node, where, inside)
            case "string":
                return self._string(node, where)
            case "integer":
                return self._integer(node, where)
        return self._use(kind)  # number, boolean, null

    def _only(self, node: Mapping[str, Any], where: str, held: set[str]) -> None:
        for keyword in node:
            if keyword not in held and keyword not in ANNOTATIONS:
                raise NotEnforceable(where, keyword, "is not held beside what else stands there")

    def _choices(self, node: Mapping[str, Any], where: str) -> list[Any]:
        values = [node["const"]] if "const" in node else list(node["enum"])
        if "type" in node or ("const" in node and "enum" in node):
            from jsonschema import Draft202012Validator

            values = [value for value in values if Draft202012Validator(dict(node)).is_valid(value)]
        if not values:
            raise NotEnforceable(where, "enum", "leaves no value")
        return values

    def _reference(self, node: Mapping[str, Any], where: str, inside: tuple[str, ...]) -> str:
        self._only(node, where, {"$ref"})
        target, found = str(node["$ref"]), self.schema
        if target == "#" or target in inside:
            raise NotEnforceable(where, "$ref", f"{target} refers to itself, so an answer need not end")
        if not target.startswith("#/"):
            raise NotEnforceable(where, "$ref", f"{target} is not in this file; only `#/...` is followed")
        for step in target[2:].split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return self.value(found, where, (*inside, target))

    def _string(self, node: Mapping[str, Any], where: str) -> str:
        low, high = self._bounds(node, where, "minLength", "maxLength", self.limits.text_characters)
        return rf'"\"" {self._use("character")}{{{low},{high}}} "\""'

    def _integer(self, node: Mapping[str, Any], where: str) -> str:
        lows = [_whole_up(node["minimum"])] if "minimum" in node else []
        lows += [_whole_down(node["exclusiveMinimum"]) + 1] if "exclusiveMinimum" in node else []
        highs = [_whole_down(node["maximum"])] if "maximum" in node else []
        highs += [_whole_up(node["exclusiveMaximum"]) - 1] if "exclusiveMaximum" in node else []
        low, high = max(lows, default=-LARGEST), min(highs, default=LARGEST)
        if low > high:
            raise NotEnforceable(where, "minimum", f"no integer is at least {low} and at most {high}")
        return _alternatives(_integers(low, high))

    def _array(self, node: Mapping[str, Any], where: str, inside: tuple[str, ...]) -> str:
        if "items" not in node:
            raise NotEnforceable(where, "items", "is missing: say what the array holds")
        low, high = self._bounds(node, where, "minItems", "maxItems", self.limits.items)
        if high == 0:
            return '"[]"'
        item = self._rule(where + ".items", self.value(node["items"], where + ".items", inside))
        more = f'("," {self._use(SPACE)} {item}){{{max(low - 1, 0)},{high - 1}}}'
        filled = f"{item} {more}" if high > 1 else item
        return f'"[" {filled} "]"' if low else f'"[" ({filled})? "]"'

    def _object(self, node: Mapping[str, Any], where: str, inside: tuple[str, ...]) -> str:
        properties, required = node.get("properties", {}), set(node.get("required", ()))
        if not isinstance(node.get("additionalProperties", False), bool):
            raise NotEnforceable(where, "additionalProperties", "only true or false is understood")
        if missing := sorted(required - set(properties)):
            raise NotEnforceable(where, "required", f"{missing[0]!r} is not among the properties")
        pairs = []
        for name, below in properties.items():
            value = self._rule(f"{where}.{name}", self.value(below, f"{where}.{name}", inside))
            pairs.append((f"{_literal(_compact(name) + ':')} {self._use(SPACE)} {value}", name in required))
        return f'"{{" {self._members(pairs)} "}}"' if pairs else '"{}"'

    def _members(self, pairs: list[tuple[str, bool]]) -> str:
        """Pairs in order, a comma between two that are there; any of the leading optional ones may be the first."""

        def after(index: int) -> str:
            comma = f'"," {self._use(SPACE)}'
            return "".join(f" {comma} {p}" if must else f" ({comma} {p})?" for p, must in pairs[index:])

        starts = []
        for index, (pair, must) in enumerate(pairs):
            starts.append(pair + after(index + 1))
            if must:
                break
        else:
            return f"({' | '.join(starts)})?"
        return _alternatives(iter(starts))

    def _bounds(self, node: Mapping[str, Any], where: str, least: str, most: str, usual: int) -> tuple[int, int]:
        low = int(node.get(least, 0))
        high = int(node.get(most, max(usual, low)))
        if low > high:
            raise NotEnforceable(where, least, f"{low} is more than {most} = {high}")
        if high > self.limits.repetitions:
            raise NotEnforceable(where, most, f"{high} is more than llama.cpp repeats ({self.limits.repetitions})")
        return low, high

    def _use(self, primitive: str) -> str:
        self.rules.setdefault(primitive, PRIMITIVES[primitive])
        return primitive

    def _rule(self, where: str, body: str) -> str:
        """A rule of its own for `body`, named after its place; names in GBNF are letters, digits and dashes."""
        if body in self.rules:
            return body
        wanted = (
            "".join(c if c.isascii() and c.isalnum() else "-" for c in where.removeprefix("$.")).strip("-") or "value"
        )
        name, count = wanted, 1
        while name == "root" or name in PRIMITIVES or self.rules.get(name, body) != body:
            count += 1
            name = f"{wanted}-{count}"
        self.rules[name] = body
        return name


def _alternatives(found: Iterator[str]) -> str:
    every = list(dict.fromkeys(found))
    return every[0] if len(every) == 1 else f"({' | '.join(every)})"


def _literal(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _whole_up(bound: float) -> int:
    return -int(-bound // 1)


def _whole_down(bound: float) -> int:
    return int(bound // 1)


def _integers(low: int, high: int) -> Iterator[str]:
    """Expressions whose union is exactly the integers from low to high, written without leading zeros."""
    if low < 0:
        yield from (f'"-" {digits}' for digits in _integers(max(1, -high), -low))
    low = max(low, 0)
    while low <= high:
        length = len(str(low))
        end = min(high, 10**length - 1)
        yield from _same_length(str(low), str(end))
        low = end + 1


def _same_length(low: str, high: str) -> Iterator[str]:
    if low == high:
        yield f'"{low}"'
    elif low.strip("0") == "" and high.strip("9") == "":  # 00..99
        yield f"[0-9]{{{len(low)}}}"
    elif low[1:].strip("0") == "" and high[1:].strip("9") == "":  # 300..599
        tail = f" [0-9]{{{len(low) - 1}}}" if len(low) > 1 else ""
        yield f"[{low[0]}-{high[0]}]{tail}"
    elif low[0] == high[0]:
        yield f'"{low[0]}" ' + _alternatives(_same_length(low[1:], high[1:]))
    else:
        nines, zeros = "9" * (len(low) - 1), "0" * (len(low) - 1)
        first, last = int(low[0]), int(high[0])
        if low[1:] != zeros:
            yield from _same_length(low, low[0] + nines)
            first += 1
        if high[1:] != nines:
            last -= 1
        if first <= last:
            yield from _same_length(f"{first}{zeros}", f"{last}{nines}")
        if high[1:] != nines:
            yield from _same_length(high[0] + zeros, high)
