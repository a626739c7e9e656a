"""The columns of a row: their names, what their values are, and how a file's value becomes one.

Here: one place where the row format changes; the docs print `COLUMNS`. Not here: rows and their files (`rows`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Literal, NamedTuple

Kind = Literal["text", "integer", "seconds", "boolean", "time", "json", "mark"]
STATUSES = ("ok", "error", "timeout")


class Column(NamedTuple):
    """One column of the rows: its name, what its values are, and one line for the docs. `unit` is empty for text."""

    name: str
    kind: Kind
    unit: str
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column("session", "text", "", "the comparison this row belongs to"),
    Column("model", "text", "", "the model asked: its id in the catalog; required"),
    Column("photo", "text", "", "the photo's path below the photo folder; required"),
    Column("position", "integer", "1, 2, 3...", "order in the session, over all its models"),
    Column("started_at", "time", "ISO 8601, UTC", "when the request was sent; a number is read as Unix seconds"),
    Column("seconds", "seconds", "s", "one request as the client saw it, from sending to the last byte"),
    Column("status", "text", "ok, error, timeout", "how the request ended"),
    Column("finish_reason", "text", "", "why the model stopped: `stop`, or `length` for a cut answer"),
    Column("prompt_tokens", "integer", "tokens", "tokens of prompt and image, as the engine counted"),
    Column("completion_tokens", "integer", "tokens", "tokens of the answer, as the engine counted"),
    Column("prompt_seconds", "seconds", "s", "reading prompt and image, as the engine timed"),
    Column("generation_seconds", "seconds", "s", "writing the answer, as the engine timed"),
    Column("cold_load", "boolean", "true, false", "whether the model was loaded for this request"),
    Column("error", "text", "", "class and sentence of what went wrong"),
    Column("answer_text", "text", "", "the answer as it came"),
    Column("answer_json", "json", "JSON text", "the answer when all of it is JSON; derived from answer_text"),
    Column(
        "schema_valid",
        "boolean",
        "true, false",
        "whether the answer fits the question's schema; derived with a question",
    ),
    Column("block", "integer", "1, 2, 3...", "the mirrored block"),
    Column("lease_token", "integer", "", "the lease under which it was asked; a change is a break in the series"),
    Column("cached_tokens", "integer", "tokens", "prompt tokens that the engine took from its cache"),
    Column(
        "marked",
        "mark",
        "",
        "why the row may be disturbed by others; `true` in a foreign file is a mark without a reason",
    ),
)
NAMES = tuple(column.name for column in COLUMNS)
PARSE_FLAG = Column("parsed", "boolean", "true, false", "whether the answer was JSON, where the answer did not come")
BY_NAME = {column.name: column for column in (*COLUMNS, PARSE_FLAG)}  # what is read; the flag is never written

REQUIRED = ("model", "photo")
REPEATING = frozenset(
    {"session", "model", "photo", "status", "finish_reason", "error", "marked"}
)  # the same text often

LARGEST = 2**63  # Parquet holds integers below it

# (None, the value) or (what is allowed, None).
Read = tuple[str | None, Any]


def read_value(column: Column, value: Any) -> Read:
    """A value as its column holds it, or what is allowed there. Nothing is turned from one type into another, but:
    12.0 is the integer 12 (pandas writes integers so as soon as one is missing), a number is a time in Unix seconds,
    and a photo may be called by a number. NaN is no number: empty."""
    if isinstance(value, float) and math.isnan(value):
        return None, None
    if column.name == "photo" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    allowed, held = _READERS[column.kind](value)
    if allowed is None and column.name == "status" and held not in STATUSES:
        return f"one of {', '.join(STATUSES)}", None
    return allowed, held


def read_column(column: Column, values: list[Any]) -> list[Any] | None:
    """A whole column as `read_value` reads each of its values, None standing for empty; None where nearly all columns
    have nothing of the kind, so that one value after the other must be read."""
    match column.kind, set(map(type, values)) - {NoneType}:
        case _, types if not types:
            return values
        case "text", types if types == {str}:
            return values if column.name != "status" or set(values) <= {None, *STATUSES} else None
        case "boolean", types if types == {bool}:
            return values
        case "mark", types if types == {str}:
            return [value or None for value in values]
        case "integer", types if types == {int}:
            return values if _from_zero(values) else None
        case "seconds", types if types <= {int, float} and _from_zero(values):
            return [None if value is None else float(value) for value in values]
        case "time", types if types == {datetime}:
            return [value and _in_utc(value) for value in values]
        case "time", types if types == {str}:
            return _each(lambda text: _in_utc(datetime.fromisoformat(text)), values)
        case "json", types if types == {str}:
            return values if _each(json.loads, values) is not None else None
    return None


def _from_zero(values: list[Any]) -> bool:
    numbers = [value for value in values if value is not None]
    try:
        return bool(min(numbers) >= 0 and sum(numbers) < LARGEST)  # a sum with NaN is not below anything
    except OverflowError:  # a fraction and an integer of 400 digits
        return False


def _each(read: Callable[[str], Any], values: list[Any]) -> list[Any] | None:
    """None where one cannot be read."""
    try:
        return [None if value is None else read(value) for value in values]
    except (ValueError, RecursionError):  # [[[[...
        return None


def spelled(column: Column, cells: Sequence[str]) -> list[Any]:
    """A CSV's cells as values; an empty one is None. A spelling that is none stays text, and is refused later."""
    if column.kind in ("text", "json"):
        return [cell or None for cell in cells]
    if column.kind in ("integer", "seconds"):
        number: Callable[[str], Any] = int if column.kind == "integer" else float
        with suppress(ValueError):
            return [number(cell) if cell else None for cell in cells]
    if column.kind == "time" and all(cell[4:5] == "-" and cell[:4].isdecimal() for cell in cells if cell):
        return [cell or None for cell in cells]  # a year, and so no number
    known = {cell: _spelled(column.kind, cell) for cell in set(cells)}
    return [known[cell] for cell in cells]


def _spelled(kind: Kind, cell: str) -> Any:
    if not cell:
        return None
    if kind in ("boolean", "mark"):
        return {"true": True, "false": False}.get(cell.lower(), cell)
    try:
        return int(cell) if cell.lstrip("+-").isdecimal() else float(cell)
    except ValueError:
        return cell


def _read_text(value: Any) -> Read:
    return (None, value) if isinstance(value, str) else ("text", None)


def _read_integer(value: Any) -> Read:
    if isinstance(value, int) and not isinstance(value, bool):
        whole = value
    elif isinstance(value, float) and value.is_integer():
        whole = int(value)
    else:
        return "a whole number from 0", None
    return (None, whole) if 0 <= whole < LARGEST else ("a whole number from 0", None)


def _read_seconds(value: Any) -> Read:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LARGEST:
        return None, float(value)
    return "a number of seconds from 0", None


def _read_boolean(value: Any) -> Read:
    return (None, value) if isinstance(value, bool) else ("true or false", None)


def _read_mark(value: Any) -> Read:
    if isinstance(value, bool):
        return None, "marked" if value else None
    return (None, value or None) if isinstance(value, str) else ("text, true or false", None)


def _read_time(value: Any) -> Read:
    """ISO 8601 (UTC where it names no offset), or Unix seconds; in milliseconds and finer too, as pandas writes them:
    seconds of that size are thousands of years away."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            finer = next((10**digits for digits in (9, 6, 3) if abs(value) >= 10 ** (8 + digits)), 1)
            value = datetime.fromtimestamp(value / finer, UTC)
    except (ValueError, OverflowError, OSError):
        value = None
    if not isinstance(value, datetime):
        return "a time as ISO 8601 or Unix seconds", None
    return None, _in_utc(value)


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _read_json(value: Any) -> Read:
    """JSON text; in JSON lines an object or a list may stand there as itself."""
    if isinstance(value, dict | list):
        return None, json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, str):
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            return "JSON text", None
        return None, value
    return "JSON text", None


_READERS: dict[Kind, Callable[[Any], Read]] = {
    "text": _read_text,
    "integer": _read_integer,
    "seconds": _read_seconds,
    "boolean": _read_boolean,
    "time": _read_time,
    "json": _read_json,
    "mark": _read_mark,
}
