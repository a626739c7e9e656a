"""What every photo is asked, and whether an answer is one: prompt, JSON Schema, ranking key.

Here: the question's files read and checked, its grammar, its hash, and the verdict on one answer, without mending it:
no fence is taken off, no "8" becomes 8. Not here: sending it (`engine`), statistics over answers (`verdict`).

QuestionError
|- NotReadable      a file is missing or is not JSON
|- BadSchema        the schema is not a JSON Schema, or not one of an object
|- NoRankingKey     the ranking key is not a number the schema knows
'- NotEnforceable   a keyword that `structured_output: grammar` would not hold (lives in `grammar`)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from .failures import OddKind, odd
from .grammar import NotEnforceable, QuestionError, gbnf

__all__ = [
    "FAILURES", "BadSchema", "Failure", "Files", "Judged", "NoRankingKey", "NotEnforceable", "NotReadable", "Problem",
    "ProblemKind", "Question", "QuestionError", "compact", "failure", "judge_answer",
]  # fmt: skip

# Why an answer is not one. A field of the wrong type is `wrong_type`, every other rule of the schema `schema`.
ProblemKind = Literal["empty", "fenced", "prose", "truncated", "not_json", "wrong_type", "schema"] | OddKind
# Why a request gave no valid answer: one of the kinds above, or there was no answer at all.
Failure = ProblemKind | Literal["error"]
FAILURES: tuple[Failure, ...] = (
    "empty", "fenced", "prose", "truncated", "not_json", "wrong_type", "schema", "loop", "garbage", "thinking",
    "refusal", "error",
)  # fmt: skip
THOUGHT_TOKENS = 8  # an empty answer that took so many was written where nobody reads
FENCE = "```"


class NotReadable(QuestionError):
    """One of the question's files."""

    def __init__(self, file: Path, reason: str) -> None:
        self.file, self.reason = file, reason
        super().__init__(file, reason)

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}. It is named by `benchmark.question` in the catalog, or by --question"


class BadSchema(QuestionError):
    """`where` is the path in the schema, `$` its root; `file` holds it, where it came from a file of its own."""

    def __init__(self, where: str, reason: str, file: Path | None = None) -> None:
        self.where, self.reason, self.file = where, reason, file
        super().__init__(where, reason, file)

    def __str__(self) -> str:
        named = f"{self.file}: " if self.file else ""
        return f"{named}the question's schema is wrong at {self.where}: {self.reason}"


class NoRankingKey(QuestionError):
    """`there` are the numeric properties that could rank photos."""

    def __init__(self, key: str, there: list[str]) -> None:
        self.key, self.there = key, there
        super().__init__(key, there)

    def __str__(self) -> str:
        if not self.key:
            return f"several numbers of the schema could rank photos ({', '.join(self.there)}); choose by --ranking-key"
        some = f"it has {', '.join(self.there)}" if self.there else "it has none; add one"
        return f"`ranking_key: {self.key}` is not an integer or number property of the question's schema; {some}"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an answer. Of `wrong_type`, `schema`: the `keyword` that failed (type, required...) at
    `field`."""  # fmt: skip

    kind: ProblemKind
    detail: str
    field: str | None = None
    keyword: str | None = None


@dataclass(frozen=True)
class Judged:
    """An answer as a strict reader sees it.

    `answer_json` is the answer as compact JSON text, None when the text is not JSON; `schema_valid` is None when no
    question was at hand. An answer with any problem is not valid.
    """

    answer_json: str | None
    schema_valid: bool | None
    problems: tuple[Problem, ...] = ()

    @property
    def parsed(self) -> bool:
        """The whole text is one JSON value."""
        return self.answer_json is not None


class Files(Protocol):
    """One of the catalog's questions."""

    @property
    def prompt(self) -> Path:
        """Text file with the prompt."""

    @property
    def answer_schema(self) -> Path:
        """JSON file with the JSON Schema."""

    @property
    def ranking_key(self) -> str | None:
        """The schema's property that ranks photos; None where none does."""

    @property
    def structured_output(self) -> Literal["grammar", "response_format"]:
        """How the engine is made to hold the schema."""


@dataclass(frozen=True)
class Question:
    """A question that can be asked: building one checks it.

    Raises:
        BadSchema, NoRankingKey: as above.
        NotEnforceable: `structured_output` is `grammar` and the schema holds a keyword that a grammar does not.
    """

    prompt: str
    schema: Mapping[str, Any]
    ranking_key: str | None
    structured_output: Literal["grammar", "response_format"] = "grammar"

    def __post_init__(self) -> None:
        _check(self.schema)
        properties = self.schema.get("properties", {})
        numeric = [name for name, below in properties.items() if _numeric(below)]
        if self.ranking_key is not None and self.ranking_key not in numeric:
            raise NoRankingKey(self.ranking_key, numeric)
        _ = self.grammar

    @classmethod
    def load(cls, files: Files) -> Question:
        """Read the files that the catalog names.

        Raises:
            NotReadable: and what building a Question raises.
        """
        return cls(
            prompt=_text(files.prompt).strip(),
            schema=_json(files.answer_schema),
            ranking_key=files.ranking_key,
            structured_output=files.structured_output,
        )

    @classmethod
    def of_answers(cls, schema: Path, ranking_key: str | None = None) -> Question:
        """What answers measured elsewhere should obey; the prompt is not known, so it cannot be asked.

        Without `ranking_key` the schema's only number ranks; without a number nothing does.

        Raises:
            NotReadable, BadSchema, NoRankingKey: as above; the last also when several numbers could rank.
        """
        wanted = _json(schema)
        properties = wanted.get("properties", {}) if isinstance(wanted, dict) else {}
        numeric = [name for name, below in properties.items() if _numeric(below)]
        alone = numeric[0] if len(numeric) == 1 else "" if numeric else None
        try:
            return cls("", wanted, ranking_key or alone, "response_format")
        except BadSchema as error:
            raise BadSchema(error.where, error.reason, schema) from None

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` gives an equal question."""
        return {
            "prompt": self.prompt,
            "schema": dict(self.schema),
            "ranking_key": self.ranking_key,
            "structured_output": self.structured_output,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Question:
        """The question that `to_json` wrote. Raises what building one raises."""
        return cls(values["prompt"], values["schema"], values["ranking_key"], values["structured_output"])

    @property
    def hash(self) -> str:
        """sha256 hex over all of it, the order of properties included: models answer in that order."""
        return _sha256(self.to_json())

    @property
    def prompt_hash(self) -> str:
        """sha256 hex of the prompt."""
        return _sha256(self.prompt)

    @property
    def schema_hash(self) -> str:
        """sha256 hex of the schema."""
        return _sha256(dict(self.schema))

    @cached_property
    def grammar(self) -> str | None:
        """GBNF of the schema; None when `response_format` is asked to hold it."""
        return gbnf(self.schema) if self.structured_output == "grammar" else None

    @cached_property
    def _validator(self) -> Any:
        from jsonschema.validators import validator_for
        from referencing import Registry

        kind = validator_for(self.schema)
        # An empty registry: a reference is looked up in this file, never fetched.
        return kind(dict(self.schema), registry=Registry(), format_checker=kind.FORMAT_CHECKER)


def compact(text: str) -> str | None:
    """The answer as compact JSON text; None when the text is not JSON, all of it."""
    return _read(text)[1]


def judge_answer(text: str, question: Question | None = None) -> Judged:
    """Parse and, with a question, validate one answer as it stands. Never raises for what a model wrote."""
    parsed, answer_json, problem = _read(text)
    if problem:
        return Judged(None, None if question is None else False, (problem,))
    problems = _against(parsed, question) if question else ()
    return Judged(answer_json, None if question is None else not problems, problems)


def _against(parsed: Any, question: Question) -> tuple[Problem, ...]:
    return tuple(
        Problem(
            kind="wrong_type" if error.validator == "type" else "schema",
            detail=error.message if len(error.message) <= 200 else error.message[:199] + "…",
            field=".".join(str(step) for step in error.absolute_path) or None,
            keyword=str(error.validator),
        )
        for error in sorted(
            question._validator.iter_errors(parsed), key=lambda error: list(map(str, error.absolute_path))
        )
    )


def failure(
    text: str | None,
    question: Question | None = None,
    status: str | None = None,
    finish_reason: str | None = None,
    completion_tokens: int | None = None,
) -> Failure | None:
    """The one class of a request that gave no valid answer; None for a valid one, or where nothing is known of it.

    An answer cut at the limit of tokens is `truncated`, unless its text says why it did not end. An empty one that
    took eight tokens or more is `thinking`: they were written somewhere else. Of several problems with a schema
    `wrong_type` goes first.
    """
    if status in ("error", "timeout"):
        return "error"
    if text is None:
        return None
    parsed, problem = _parse(text)
    kinds = [problem.kind] if problem else [one.kind for one in _against(parsed, question)] if question else []
    if kinds == ["empty"]:
        return "thinking" if (completion_tokens or 0) >= THOUGHT_TOKENS else "empty"
    if finish_reason == "length" and not {"loop", "garbage", "thinking"}.intersection(kinds):
        return "truncated"
    return min(kinds, key=FAILURES.index, default=None)


def _read(text: str) -> tuple[Any, str | None, Problem | None]:
    parsed, problem = _parse(text)
    if problem:
        return None, None, problem
    try:
        encoded = _ENCODER.encode(parsed)
        return parsed, text if text == encoded else encoded, None  # one text in memory where it is compact already
    except RecursionError as error:
        return None, None, Problem("not_json", str(error))


def _parse(text: str) -> tuple[Any, Problem | None]:
    stripped = text.strip()
    if not stripped:
        return None, Problem("empty", "the answer is empty")
    try:
        parsed, end = _DECODER.raw_decode(stripped)
        if end < len(stripped):
            _DECODER.decode(stripped)  # raises, with the place where more begins
        return parsed, None
    except json.JSONDecodeError as error:
        return None, Problem(*found) if (found := odd(text)) else _why_not(stripped, error)
    except (ValueError, RecursionError) as error:  # NaN, a number of 5,000 digits, brackets a thousand deep
        return None, Problem("not_json", str(error))


def _why_not(text: str, error: json.JSONDecodeError) -> Problem:
    if text.startswith(FENCE):
        return Problem("fenced", "the JSON stands in a Markdown fence")
    if "{" in text and not text.startswith(("{", "[")):
        return Problem("fenced" if FENCE in text else "prose", "text stands before the JSON")
    if error.msg == "Extra data":
        return Problem("prose", f"text stands after the JSON, from character {error.pos}")
    if text.startswith(("{", "[")) and (error.pos >= len(text) or error.msg.startswith("Unterminated string")):
        return Problem("truncated", f"the JSON ends too early, after {len(text)} characters")
    return Problem("not_json", f"{error.msg} at character {error.pos}")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _check(schema: Any) -> None:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    if not isinstance(schema, Mapping):
        raise BadSchema("$", f"it is {type(schema).__name__}, not an object")
    try:
        validator_for(schema).check_schema(dict(schema))
    except SchemaError as error:
        raise BadSchema(error.json_path, error.message) from None
    if schema.get("type") != "object" or not schema.get("properties"):
        raise BadSchema("$", 'it must have `"type": "object"` and `properties`: an answer is one JSON object')
    for where, target in _references(schema, "$"):
        if not target.startswith("#"):
            raise BadSchema(where, f"`$ref: {target}` is not in this file, and nothing is fetched")
        found: Any = schema
        for step in target[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or key not in found:
                raise BadSchema(where, f"`$ref: {target}` leads nowhere")
            found = found[key]


def _references(node: Any, where: str) -> list[tuple[str, str]]:
    if isinstance(node, Mapping):
        here = [(where, node["$ref"])] if isinstance(node.get("$ref"), str) else []
        return here + [found for key, below in node.items() for found in _references(below, f"{where}.{key}")]
    if isinstance(node, list):
        return [found for index, below in enumerate(node) for found in _references(below, f"{where}[{index}]")]
    return []


def _numeric(below: Any) -> bool:
    return isinstance(below, Mapping) and below.get("type") in ("integer", "number")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotReadable(file, f"cannot be read: {error}") from None


def _json(file: Path) -> Any:
    try:
        return json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise NotReadable(file, f"line {error.lineno} is not JSON: {error.msg}") from None


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
