"""Files of rows as columns: Parquet, CSV and JSON lines, some thousand rows at a time, each value checked.

In: a file. Out: `Batch`es whose columns hold what `columns` says. A whole column is told at a glance where its values
stand as nearly all do; else each is looked at, and the first that does not fit is an error with file, row, column and
value. Not here: what a column holds (`columns`), what follows from several columns (`rows`).

RowsError             (more of them: `rows`)
|- NoRows             nothing to read at that path
|- NotRows            the file cannot be read as rows
'- WrongType          a value is not what its column holds
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from .columns import BY_NAME, REPEATING, REQUIRED, Column, read_column, read_value, spelled
from .heading import not_a_head, not_json, not_utf8, ours, separator

BATCH = 4096  # rows


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


@dataclass(frozen=True)
class Batch:
    """Successive rows as columns of equal length; `numbers` are theirs in the file, 1-based. None is empty."""

    numbers: Sequence[int]
    columns: dict[str, list[Any]]


def batches(path: Path, say: Callable[[str], None]) -> Iterator[Batch]:
    """The checked columns of one file; `say` hears of columns that are not ours and of a torn last line.

    Raises:
        NoRows: the file's name ends in nothing we read.
        NotRows, WrongType
    """
    reading = {".parquet": _parquet, ".csv": _csv, ".jsonl": json_lines, ".ndjson": json_lines}
    read = reading.get(path.suffix.lower())
    if read is None:
        raise NoRows(path)
    return read(path, say)


def json_lines(path: Path, say: Callable[[str], None]) -> Iterator[Batch]:
    """The same of JSON lines, whatever the file is called."""
    foreign: set[str] = set()
    shared = _Shared()
    with path.open("rb") as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        failed: RowsError | None = None
        while failed is None:
            numbers: list[int] = []
            records: list[dict[str, Any]] = []
            for number, line in islice(lines, BATCH):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:  # not JSON, bytes that are not UTF-8, [[[[...
                    if line.endswith(b"\n"):
                        failed = NotRows(path, number, not_json(error))
                    else:
                        say(f"{path}: the last line is torn and left out")
                    break
                if not isinstance(record, dict):
                    failed = NotRows(path, number, "is not a JSON object; each line is one")
                    break
                numbers.append(number)
                records.append(record)
            if not records:
                break
            names = set[str]().union(*records)
            foreign |= names - BY_NAME.keys()
            columns = {name: [record.get(name) for record in records] for name in BY_NAME if name in names}
            yield _checked(path, numbers, columns, shared, records)
    if failed:
        raise failed
    _say_foreign(path, foreign, say)


def _parquet(path: Path, say: Callable[[str], None]) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    shared = _Shared()
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if wrong := not_a_head(names):
                raise NotRows(path, None, wrong)
            called, number = {names[at]: name for at, name in ours(names)}, 0
            for batch in file.iter_batches(BATCH, columns=list(called)):
                numbers = range(number + 1, number + 1 + batch.num_rows)
                number += batch.num_rows
                read = zip(batch.schema.names, batch.columns, strict=True)
                yield _checked(path, numbers, {called[name]: column.to_pylist() for name, column in read}, shared)
    except (pa.ArrowException, OSError) as error:
        raise NotRows(path, None, f"cannot be read as Parquet: {error}") from None
    _say_foreign(path, names, say)


def _csv(path: Path, say: Callable[[str], None]) -> Iterator[Batch]:
    shared, number = _Shared(), 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        failed: RowsError | None = None
        header: list[str] = []
        try:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            reader = csv.reader(file, strict=True, delimiter=separator(first))
            header = next((cells for cells in reader if any(map(str.strip, cells))), [])
        except (csv.Error, UnicodeDecodeError) as error:
            failed = _not_csv(path, 1, error)
        if header and (wrong := not_a_head(header)):
            failed = NotRows(path, None, wrong)
        while failed is None:
            held: list[list[str]] = []
            try:
                for cells in islice(reader, BATCH):
                    if len(cells) == len(header):
                        held.append(cells)
                    elif cells:
                        reason = f"has not the {len(header)} values of the header, but {len(cells)}"
                        failed = NotRows(path, number + len(held) + 1, reason)
                        break
            except (csv.Error, UnicodeDecodeError) as error:
                failed = _not_csv(path, number + len(held) + 1, error)
            if held:
                turned = list(zip(*held, strict=True))
                columns = {name: spelled(BY_NAME[name], turned[at]) for at, name in ours(header)}
                numbers = range(number + 1, number + 1 + len(held))
                number += len(held)
                yield _checked(path, numbers, columns, shared)
            elif failed is None:
                break
    if failed:
        raise failed
    _say_foreign(path, header, say)


def _not_csv(path: Path, row: int, error: csv.Error | UnicodeDecodeError) -> NotRows:
    if isinstance(error, UnicodeDecodeError):
        return NotRows(path, None, not_utf8(path, error))
    return NotRows(path, row, f"is not CSV: {error}; a quotation mark in a value is doubled, and each is closed")


# --- values checked --------------------------------------------------------------------------------------------------
class _Shared(dict[Any, Any]):
    """One object for equal texts: of 300,000 rows, models and sessions are a few, and each photo comes once an arm."""

    def of(self, values: list[Any]) -> list[Any]:
        """The same values."""
        return [self.setdefault(value, value) for value in values]


def _checked(
    path: Path,
    numbers: Sequence[int],
    columns: Mapping[str, list[Any]],
    shared: _Shared,
    records: Sequence[Mapping[str, Any]] | None = None,
) -> Batch:
    """Raises what is wrong with the first row that has something wrong. `records` are the rows as they came."""
    wrong: list[tuple[int, RowsError]] = []
    made: dict[str, list[Any]] = {}
    for name, values in columns.items():
        column = BY_NAME[name]
        held = read_column(column, values)
        if held is None:
            held = []
            for at, value in enumerate(values):
                allowed, one = (None, None) if value is None else read_value(column, value)
                if allowed is not None:
                    wrong.append((at, WrongType(path, numbers[at], column, value, allowed)))
                    break
                held.append(one)
        made[name] = shared.of(held) if name in REPEATING else held
    for name in REQUIRED:
        found = made.get(name, [None])
        empty = next((at for at, value in enumerate(found) if value is None or value == ""), None)
        if empty is not None:
            there = name in columns and (records is None or name in records[empty])
            reason = f"column `{name}` is {'empty' if there else 'missing'}; every row needs it"
            wrong.append((empty, NotRows(path, numbers[empty], reason)))
    if wrong:
        raise min(wrong, key=lambda one: one[0])[1]
    return Batch(numbers, made)


def _say_foreign(path: Path, names: Iterable[str], say: Callable[[str], None]) -> None:
    foreign = sorted({name for name in names if name and name.strip().lower() not in BY_NAME})
    if foreign:
        say(f"{path}: columns that are not ours are left out: {', '.join(foreign)}")
