"""Rows: one photo asked of one model once, and the files that hold them.

Here: `Row`, writing it so that kill -9 loses at most the line in hand, reading Parquet, CSV and JSON lines into the
same `Row`s. A value of the wrong type is an error with file, row, column and value; what a file does not say stays
empty. Not here: what a column holds (`columns`), asking (`session`), judging (`verdict`).

RowsError
|- NoRows          nothing to read at that path
|- NotRows         the file cannot be read as rows
|- WrongType       a value is not what its column holds
|- RowTwice        two files hold the same row
'- InUse           another process writes this file
"""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .columns import BY_NAME, COLUMNS, NAMES, PARSE_FLAG, PLAIN, Column, read_value, spelling
from .question import Question, judge_answer

PARQUET = "rows.parquet"
REQUIRED = ("model", "photo")

__all__ = [
    "COLUMNS", "PARQUET", "Column", "InUse", "NoRows", "NotRows", "Row", "RowTwice", "RowWriter", "RowsError",
    "WrongType", "candidate_arm", "derive", "incumbent_of", "read_rows", "storable", "to_parquet",
]  # fmt: skip


def candidate_arm(model: str, what: str) -> str:
    """The arm of a candidate for what `model` is now: `qwen3vl-8b@0123456789ab`. No model's own id holds an `@`."""
    return f"{model}@{what}"


def incumbent_of(arm: str, arms: Iterable[str]) -> str | None:
    """The arm that a candidate's arm is measured against: its model as it is now. None for every other arm."""
    model, at, _ = arm.rpartition("@")
    return model if at and model in arms else None


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


class RowsError(ValueError):
    """Rows cannot be read or written."""

    exit_status = 2


class NoRows(RowsError):
    """`path` has no rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(path)

    def __str__(self) -> str:
        return f"{self.path}: no rows here; give a session folder, or .parquet, .csv or .jsonl files"


class NotRows(RowsError):
    """`path` is not a file of rows; `row` is 1-based, None when it is about the file."""

    def __init__(self, path: Path, row: int | None, reason: str) -> None:
        self.path, self.row, self.reason = path, row, reason
        super().__init__(path, row, reason)

    def __str__(self) -> str:
        return f"{self.path}{'' if self.row is None else f', row {self.row}'}: {self.reason}"


class WrongType(RowsError):
    """A value that its column cannot hold; `row` is 1-based, without a CSV's header."""

    def __init__(self, path: Path, row: int, column: Column, value: object, allowed: str) -> None:
        self.path, self.row, self.column, self.value, self.allowed = path, row, column.name, value, allowed
        super().__init__(path, row, column, value, allowed)

    def __str__(self) -> str:
        shown = repr(self.value)
        shown = shown if len(shown) <= 80 else shown[:79] + "…"
        return f"{self.path}, row {self.row}, column `{self.column}` = {shown}: must be {self.allowed} (or empty)"


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
        self.rows: list[Row] = [Row(**values) for values in _values(path, _json_lines(path, say))]

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
    seen: dict[tuple[str, str, str], Path] = {}
    rows: list[Row] = []
    for path in _files(source):
        for values in _values(path, _records(path, tell)):
            row = _row(values, question)
            if row.session is not None:
                key = (row.session, row.model, row.photo)
                if key in seen:
                    raise RowTwice(row, seen[key], path)
                seen[key] = path
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


def _records(path: Path, say: Callable[[str], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(1-based row number, values by column) of one file."""
    match path.suffix.lower():
        case ".parquet":
            return _parquet(path, say)
        case ".csv":
            return _csv(path, say)
        case ".jsonl" | ".ndjson":
            return _json_lines(path, say)
    raise NoRows(path)


def _parquet(path: Path, say: Callable[[str], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            ours = [name for name in names if name in BY_NAME]
            number = 0
            for batch in file.iter_batches(8192, columns=ours):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield number, dict(zip(batch.schema.names, values, strict=True))
    except (pa.ArrowException, OSError) as error:
        raise NotRows(path, None, f"is not Parquet: {error}") from None
    _say_foreign(path, names, say)


def _csv(path: Path, say: Callable[[str], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        number = 0
        try:
            header = next(reader, [])
            ours = [(at, name, spelling(name)) for at, name in enumerate(header) if name in BY_NAME]
            for cells in reader:
                if not cells:
                    continue
                number += 1
                if len(cells) != len(header):
                    raise NotRows(path, number, f"has not the {len(header)} values of the header")
                yield number, {name: read(cell) if read else cell for at, name, read in ours if (cell := cells[at])}
        except (csv.Error, UnicodeDecodeError) as error:
            raise NotRows(path, number + 1, f"is not CSV: {error}") from None
    _say_foreign(path, header, say)


def _say_foreign(path: Path, names: Iterable[str], say: Callable[[str], None]) -> None:
    foreign = sorted({name for name in names if name and name not in BY_NAME})
    if foreign:
        say(f"{path}: columns that are not ours are left out: {', '.join(foreign)}")


def _json_lines(path: Path, say: Callable[[str], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    foreign: set[str] = set()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:  # a JSONDecodeError, or bytes that are not UTF-8
                if not line.endswith(b"\n"):
                    say(f"{path}: the last line is torn and left out")
                    break
                raise NotRows(path, number, f"is not JSON: {error}") from None
            if not isinstance(record, dict):
                raise NotRows(path, number, "is not a JSON object")
            foreign |= record.keys() - BY_NAME.keys()
            yield number, record
    _say_foreign(path, foreign, say)


def _values(path: Path, records: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Each row's fields, checked. Nearly every cell stands as it is, so that is told first and without a call."""
    for number, record in records:
        values: dict[str, Any] = {}
        for name, value in record.items():
            if value is None or name not in BY_NAME:
                continue
            held = type(value)
            if held is PLAIN.get(name) and (held is str or held is bool or 0 <= value < math.inf):
                values[name] = value
            else:
                values[name] = _value(path, number, BY_NAME[name], value)
        for name in REQUIRED:
            if values.get(name) in (None, ""):
                raise NotRows(
                    path, number, f"column `{name}` is {'empty' if name in record else 'missing'}; every row needs it"
                )
        values["parse_flag"] = values.pop(PARSE_FLAG.name, None)
        yield values


def _row(values: dict[str, Any], question: Question | None) -> Row:
    """`derive`, before the row is made: a row is dear to copy when there are 300,000."""
    failed = _failed(values.get("status"), values.get("error"))
    text, answer_json, valid = (values.get(name) for name in ("answer_text", "answer_json", "schema_valid"))
    values["answer_json"], values["schema_valid"] = _derived(failed, text, answer_json, valid, question)
    return Row(**values)


def _value(path: Path, row: int, column: Column, value: Any) -> Any:
    allowed, held = read_value(column, value)
    if allowed is not None:
        raise WrongType(path, row, column, value, allowed)
    return held
