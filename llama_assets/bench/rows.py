"""Rows: one photo asked of one model once, and the files that hold them.

Here: `Row`, writing it so that kill -9 loses at most the line in hand, reading Parquet, CSV and JSON lines into the
same `Row`s. What a file does not say stays empty. Not here: what a column holds (`columns`), the kinds of files
(`tables`), asking (`session`), judging (`verdict`).

RowsError          (with NoRows, NotRows and WrongType in `tables`)
|- RowTwice        two files hold the same row
'- InUse           another process writes this file
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .columns import COLUMNS, NAMES, PARSE_FLAG, Column
from .question import Question, compact, judge_answer
from .tables import NoRows, NotRows, RowsError, WrongType, batches, json_lines

PARQUET = "rows.parquet"

__all__ = [
    "COLUMNS", "PARQUET", "Column", "InUse", "NoRows", "NotRows", "Row", "RowTwice", "RowWriter", "RowsError",
    "WrongType", "candidate_arm", "derive", "incumbent_of", "read_rows", "storable", "to_parquet",
]  # fmt: skip


ENGINE_TRIED = "engine"


def candidate_arm(model: str, what: str) -> str:
    """The arm of a candidate for what `model` is now: `qwen3vl-8b@0123456789ab`. No model's own id holds an `@`."""
    return f"{model}@{what}"


def incumbent_of(arm: str, arms: Iterable[str]) -> str | None:
    """The arm that a candidate's arm is measured against: its model as it is now. None for every other arm."""
    model, at, _ = arm.rpartition("@")
    return model if at and model in arms else None


def is_engine_arm(arm: str) -> bool:
    """Whether another engine is what the arm tries: the model's own files and arguments, as `<model>@engine`."""
    return arm.endswith(f"@{ENGINE_TRIED}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. None is "not known". Columns, units and meanings: `COLUMNS`.

    `parse_flag` is what a foreign file says of an answer that it does not hold; ours hold the answer.
    """

    model: str
    photo: str
    session: str | None = None
    position: int | None = None
    started_at: datetime | None = None
    seconds: float | None = None
    status: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_seconds: float | None = None
    generation_seconds: float | None = None
    cold_load: bool | None = None
    error: str | None = None
    answer_text: str | None = None
    answer_json: str | None = None
    schema_valid: bool | None = None
    block: int | None = None
    lease_token: int | None = None
    cached_tokens: int | None = None
    marked: str | None = None
    parse_flag: bool | None = None

    @property
    def failed(self) -> bool:
        """The request got no answer: by its status, or where there is none because it names an error."""
        return _failed(self.status, self.error)

    @property
    def answer(self) -> Any:
        """`answer_json` as Python values; None when there is none."""
        return None if self.answer_json is None else json.loads(self.answer_json)

    @property
    def parsed(self) -> bool | None:
        """Whether the answer was JSON; None when neither the answer nor a flag nor an error is known."""
        if self.answer_json is not None:
            return True
        if self.answer_text is None and not self.failed:
            return self.parse_flag
        return False


FIELDS = tuple(field.name for field in dataclasses.fields(Row))


class RowTwice(RowsError):
    """The same photo of the same model of the same session stands in two places."""

    def __init__(self, row: Row, first: Path, second: Path) -> None:
        self.row, self.first, self.second = row, first, second
        super().__init__(row, first, second)

    def __str__(self) -> str:
        where = f"twice in {self.first}" if self.first == self.second else f"in {self.first} and in {self.second}"
        asked = f"photo {self.row.photo!r} of model {self.row.model!r} in session {self.row.session!r}"
        return f"{asked} stands {where}; give each row once"


class InUse(RowsError):
    """Another process has the file open for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(path)

    def __str__(self) -> str:
        return f"{self.path}: another benchmark writes this session; wait until it ends"


class RowWriter:
    """Appends rows to a JSON-lines file, one write and one fsync each, so a killed process loses at most its last line.

    Opening cuts off a torn last line and says so. `rows` is what is on disk. Use as a context manager.

    Raises:
        InUse: another process writes the file.
        WrongType, NotRows: a whole line on disk is not a row.
        OSError: the disk is full; the file then still ends with a whole line.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise InUse(path) from None
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
            say(f"{path}: the last line was torn by a crash; its {len(text) - whole} bytes are cut off")
        self.rows: list[Row] = [row for batch in json_lines(path, say) for row in _made(batch.columns)]

    def append(self, row: Row) -> None:
        """Write the row; on return it survives the process and the machine."""
        line = _line(row)
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(f"{self.path}: the disk took a part of a row only")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise
        self.rows.append(row)

    def close(self) -> None:
        """Let others write the file."""
        os.close(self._file)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_rows(
    source: Path | Sequence[Path], question: Question | None = None, say: Callable[[str], None] | None = None
) -> list[Row]:
    """The rows of a session folder, a file, or files that together hold the arms; in the files' order.

    Missing columns are empty. `answer_json` is derived from `answer_text`, and with a question `schema_valid` too (an
    error or a time-out is not valid); what the file says itself is kept, but an answer with a field of the wrong type
    is not valid whoever says so. In a folder `rows.parquet` wins over the JSON lines it was made of. `say` hears of
    columns that are not ours and of a torn last line.

    Raises:
        NoRows, NotRows, WrongType, RowTwice
    """
    tell = say or (lambda _: None)
    seen: dict[tuple[str, str], dict[str, Path]] = {}  # by session and model, by photo
    rows: list[Row] = []
    for path in _files(source):
        for batch in batches(path, tell):
            for row in _made(_with_derived(batch.columns, question)):
                if row.session is not None:
                    asked = seen.setdefault((row.session, row.model), {})
                    if row.photo in asked:
                        raise RowTwice(row, asked[row.photo], path)
                    asked[row.photo] = path
                rows.append(row)
    return rows


def derive(row: Row, question: Question | None = None) -> Row:
    """The row with `answer_json` and, given a question, `schema_valid` filled in where they were empty."""
    answer_json, valid = _derived(row.failed, row.answer_text, row.answer_json, row.schema_valid, question)
    if (answer_json, valid) == (row.answer_json, row.schema_valid):
        return row
    return dataclasses.replace(row, answer_json=answer_json, schema_valid=valid)


def _failed(status: str | None, error: str | None) -> bool:
    return status != "ok" if status is not None else bool(error)


def _derived(
    failed: bool, text: str | None, answer_json: str | None, valid: bool | None, question: Question | None
) -> tuple[str | None, bool | None]:
    if failed:  # a part of an answer is none
        return answer_json, False if valid is None and question is not None else valid
    source = answer_json if text is None else text
    if source is None or (question is None and answer_json is not None):
        return answer_json, valid
    if question is None:
        return compact(source), valid
    judged = judge_answer(source, question)
    if valid:  # whoever read it so: a field of the wrong type is not valid
        valid = not any(problem.keyword == "type" for problem in judged.problems)
    return judged.answer_json if answer_json is None else answer_json, judged.schema_valid if valid is None else valid


def to_parquet(folder: Path, rows: Iterable[Row]) -> Path:
    """Write `rows.parquet` in the folder, whole or not at all; returns its path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = {
        "text": pa.string(),
        "json": pa.string(),
        "mark": pa.string(),
        "integer": pa.int64(),
        "seconds": pa.float64(),
    }
    held |= {"boolean": pa.bool_(), "time": pa.timestamp("us", tz="UTC")}
    schema = pa.schema([(column.name, held[column.kind]) for column in COLUMNS])
    everything = list(rows)
    table = pa.table({name: [getattr(row, name) for row in everything] for name in NAMES}, schema=schema)
    written, target = folder / (PARQUET + ".tmp"), folder / PARQUET
    with written.open("wb") as file:
        pq.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
    written.replace(target)
    return target


def storable(text: str) -> str:
    """Text that every file can hold: halves of a surrogate pair are joined, a lone one becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _line(row: Row) -> bytes:
    values = {name: getattr(row, name) for name in NAMES}
    if row.started_at is not None:
        values["started_at"] = row.started_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return (json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _files(source: Path | Sequence[Path]) -> list[Path]:
    given = [source] if isinstance(source, Path) else list(source)
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            whole = path / PARQUET
            inside = [whole] if whole.is_file() else sorted(path.glob("rows-*.jsonl"))
            if not inside:
                raise NoRows(path)
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise NoRows(path)
    return found


def _made(columns: Mapping[str, list[Any]]) -> list[Row]:
    """Rows of a batch, written a column at a time: the frozen class's own __init__ takes five times as long, which is
    seconds on 300,000 rows. What the file does not say is None, as the class has it."""
    count = len(columns["model"])
    rows = [Row.__new__(Row) for _ in range(count)]
    for field in FIELDS:
        values = columns.get(PARSE_FLAG.name if field == "parse_flag" else field) or [None] * count
        deque(map(getattr(Row, field).__set__, rows, values), maxlen=0)
    return rows


def _with_derived(columns: Mapping[str, list[Any]], question: Question | None) -> Mapping[str, list[Any]]:
    """`derive`, before the rows are made: a row is dear to copy when there are 300,000."""
    read = ("status", "error", "answer_text", "answer_json", "schema_valid")
    if not columns.keys() & read:
        return columns
    nothing = [None] * len(columns["model"])
    told = zip(*(columns.get(name, nothing) for name in read), strict=True)
    derived = [
        _derived(_failed(status, error), text, given, valid, question) for status, error, text, given, valid in told
    ]
    return {**columns, "answer_json": [one[0] for one in derived], "schema_valid": [one[1] for one in derived]}
