"""The head of somebody's file of rows: which columns are ours, what separates them, why it cannot be read.

In: names, a first line, an error of a reader. Out: places of our columns, a separator, sentences that end in the way
out. Not here: reading rows (`tables`), what a column holds (`columns`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .columns import BY_NAME, REQUIRED

SEPARATORS = ",;\t"  # spreadsheets take the second where a comma is a decimal point
SHOWN = 120  # letters of a foreign head in a sentence


def ours(names: Sequence[str]) -> list[tuple[int, str]]:
    """(place, column of ours); capitals and spaces around a name do not matter."""
    return [(at, plain) for at, name in enumerate(names) if (plain := name.strip().lower()) in BY_NAME]


def separator(first_line: str) -> str:
    """What shows the most columns of ours; a comma where nothing does."""
    return max(SEPARATORS, key=lambda sign: len(ours([name.strip(' "\r\n') for name in first_line.split(sign)])))


def not_a_head(names: Sequence[str]) -> str | None:
    """What is wrong with a file's column names, None where nothing is."""
    known = [name for _, name in ours(names)]
    twice = next((name for name in known if known.count(name) > 1), None)
    if twice:
        return f"names column `{twice}` twice; keep one of them"
    missing = [f"`{name}`" for name in REQUIRED if name not in known]
    if not missing:
        return None
    shown = ", ".join(names)
    shown = shown if len(shown) <= SHOWN else shown[: SHOWN - 1] + "…"
    return (
        f"has no column {' and no '.join(missing)}, which every row needs; its columns are named {shown!r}. Rename them"
    )


def not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """Where a file's first byte that is none lies: a reader's own position is that of a part of it."""
    data = path.read_bytes()
    try:
        data.decode()
        at = error.start
    except UnicodeDecodeError as found:
        at = found.start
    line = data.count(b"\n", 0, at) + 1
    return f"is not UTF-8: byte 0x{data[at]:02x} in line {line}; save it as UTF-8 (a spreadsheet calls it CSV UTF-8)"


def not_json(error: Exception) -> str:
    """Why a line of JSON lines is no JSON object."""
    match error:
        case json.JSONDecodeError():
            why = f"{error.msg} at character {error.pos + 1}"
        case UnicodeDecodeError():
            return f"is not UTF-8: byte 0x{error.object[error.start]:02x} at {error.start + 1}; save the file as UTF-8"
        case RecursionError():
            why = "its brackets are nested too deeply"
        case _:
            why = "a number in it has too many digits"
    return f"is not JSON: {why}; each line is one JSON object"
