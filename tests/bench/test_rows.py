"""Rows come back as they were written, from every kind of file, and a value that does not fit is named."""

import csv
import dataclasses
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llama_assets.bench.question import Question
from llama_assets.bench.rows import (
    COLUMNS,
    InUse,
    NoRows,
    NotRows,
    Row,
    RowsError,
    RowTwice,
    RowWriter,
    WrongType,
    derive,
    read_rows,
    storable,
    to_parquet,
)

SCORE = Question(
    "Look.",
    {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]},
    "score",
)
FULL = Row(
    session="s1", model="m", photo="a/ü.jpg", position=1, started_at=datetime(2026, 11, 22, 8, 0, 0, 5, UTC),
    seconds=1.25, status="ok", finish_reason="stop", prompt_tokens=90, completion_tokens=12, prompt_seconds=0.5,
    generation_seconds=0.7, cold_load=False, answer_text='{"score":3}', answer_json='{"score":3}', schema_valid=True,
    block=1, lease_token=7, cached_tokens=0, marked="tenant came back",
)  # fmt: skip
BARE = Row(session="s1", model="m", photo="b.jpg", position=2, status="timeout", error="Timeout: no answer in 120 s")


def silent(_: str) -> None:
    pass


def lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_columns_are_the_row_and_each_has_a_meaning() -> None:
    assert {column.name for column in COLUMNS} | {"parse_flag"} == {field.name for field in dataclasses.fields(Row)}
    assert " ".join(column.name for column in COLUMNS) == (
        "session model photo position started_at seconds status finish_reason prompt_tokens completion_tokens "
        "prompt_seconds generation_seconds cold_load error answer_text answer_json schema_valid block lease_token "
        "cached_tokens marked"
    )
    assert all(column.meaning and (column.unit or column.kind in ("text", "integer", "mark")) for column in COLUMNS)


def test_a_row_survives_json_lines_parquet_and_csv(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "rows-m.jsonl", silent) as writer:
        writer.append(FULL)
        writer.append(BARE)
    assert read_rows(tmp_path) == [FULL, BARE]
    parquet = to_parquet(tmp_path, [FULL, BARE])
    assert read_rows(parquet) == [FULL, BARE]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [column.name for column in COLUMNS])
        table.writeheader()
        table.writerows(json.loads(line) for line in (tmp_path / "rows-m.jsonl").read_text().splitlines())
    assert read_rows(tmp_path / "rows.csv") == [FULL, BARE]


def test_pandas_reads_the_parquet_and_what_pandas_writes_is_read(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.read_parquet(to_parquet(tmp_path, [FULL, BARE]))
    assert list(frame.columns) == [column.name for column in COLUMNS] and frame["seconds"].sum() == 1.25
    frame.to_parquet(tmp_path / "again.parquet")
    frame.to_csv(tmp_path / "again.csv", index=False)
    assert read_rows(tmp_path / "again.parquet") == [FULL, BARE]
    assert read_rows(tmp_path / "again.csv") == [FULL, BARE]


def test_in_a_folder_the_parquet_wins_over_the_lines_it_was_made_of(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "rows-m.jsonl", silent) as writer:
        writer.append(FULL)
    to_parquet(tmp_path, [FULL])
    assert read_rows(tmp_path) == [FULL]
    with pytest.raises(RowTwice, match=r"rows-m\.jsonl and in .*rows\.parquet; give each row once"):
        read_rows([tmp_path / "rows-m.jsonl", tmp_path / "rows.parquet"])


def test_missing_columns_are_empty_and_foreign_ones_are_said(tmp_path: Path) -> None:
    said: list[str] = []
    rows = read_rows(lines(tmp_path / "f.jsonl", {"model": "m", "photo": "p", "gpu": "T4"}), say=said.append)
    assert rows == [Row(model="m", photo="p")]
    assert said == [f"{tmp_path / 'f.jsonl'}: columns that are not ours are left out: gpu"]


def test_what_the_answer_says_is_derived_and_what_the_file_says_is_kept(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "f.jsonl",
        {"model": "m", "photo": "1", "answer_text": '{"score": 3}'},
        {"model": "m", "photo": "2", "answer_text": '{"score": "3"}'},
        {"model": "m", "photo": "3", "answer_text": "```json\n{}\n```"},
        {"model": "m", "photo": "4", "status": "error", "error": "EngineDied: gone"},
        {"model": "m", "photo": "5", "answer_json": {"score": 9}},
        {"model": "m", "photo": "6", "answer_text": "no", "schema_valid": True},
    )
    found = read_rows(path, SCORE)
    assert [row.schema_valid for row in found] == [True, False, False, False, True, True]
    assert [row.parsed for row in found] == [True, True, False, False, True, False]
    assert [row.answer for row in found] == [{"score": 3}, {"score": "3"}, None, None, {"score": 9}, None]
    assert [row.schema_valid for row in read_rows(path)] == [None, None, None, None, None, True]


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("seconds", "fast", "a number of seconds from 0"),
        ("seconds", -1.0, "a number of seconds from 0"),
        ("seconds", True, "a number of seconds from 0"),
        ("prompt_tokens", 1.5, "a whole number from 0"),
        ("position", "3", "a whole number from 0"),
        ("cold_load", 1, "true or false"),
        ("schema_valid", "true", "true or false"),
        ("status", "fine", "one of ok, error, timeout"),
        ("started_at", "yesterday", "a time as ISO 8601 or Unix seconds"),
        ("answer_json", "{oops", "JSON text"),
        ("answer_text", {"score": 1}, "text"),
        ("model", 7, "text"),
    ],
)
def test_a_value_of_the_wrong_type_names_file_row_column_and_value(
    tmp_path: Path, column: str, value: object, allowed: str
) -> None:
    good = {"model": "m", "photo": "p"}
    path = lines(tmp_path / "f.jsonl", good, good | {column: value})
    with pytest.raises(WrongType) as found:
        read_rows(path)
    shown = repr(value)
    assert str(found.value) == f"{path}, row 2, column `{column}` = {shown}: must be {allowed} (or empty)"
    assert found.value.exit_status == 2


def test_csv_cells_are_read_by_their_column_and_refused_by_it(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("model,photo,seconds,prompt_tokens,cold_load,marked,answer_text\n7,12,3,90.0,True,false,12\n")
    assert read_rows(path) == [
        Row(model="7", photo="12", seconds=3.0, prompt_tokens=90, cold_load=True, answer_text="12", answer_json="12")
    ]
    path.write_text("model,photo,seconds\na,b,1.0\na,c,3 s\n")
    with pytest.raises(WrongType, match=r"f\.csv, row 2, column `seconds` = '3 s'"):
        read_rows(path)
    path.write_text("model,photo,seconds\na,b\n")
    with pytest.raises(NotRows, match="row 1: has not the 3 values"):
        read_rows(path)


def test_of_thousands_of_rows_one_that_is_odd_is_read_and_one_that_is_wrong_is_named(tmp_path: Path) -> None:
    """Rows are read some thousand at a time and a column at once; nobody can tell."""
    many = [
        {"model": "m", "photo": f"{n}.jpg", "started_at": "2026-11-14T02:15:00Z", "seconds": 1.5, "prompt_tokens": n}
        for n in range(5_000)
    ]
    many[4_700] |= {"started_at": 1794622500, "seconds": 3, "prompt_tokens": 90.0}
    many[4_800] |= {"started_at": None, "seconds": None, "prompt_tokens": float("nan"), "answer_text": "[1]"}

    def written() -> tuple[Path, Path]:
        lines(tmp_path / "f.jsonl", *many)
        with (tmp_path / "f.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, [*many[0], "answer_text"])
            table.writeheader()
            table.writerows(many)
        return tmp_path / "f.jsonl", tmp_path / "f.csv"

    for path in written():
        found = read_rows(path)
        at = datetime(2026, 11, 14, 2, 15, tzinfo=UTC)
        assert found[4_999] == Row(model="m", photo="4999.jpg", started_at=at, seconds=1.5, prompt_tokens=4_999)
        assert found[4_700] == Row(model="m", photo="4700.jpg", started_at=at, seconds=3.0, prompt_tokens=90)
        assert type(found[4_700].seconds) is float and type(found[4_700].prompt_tokens) is int
        assert found[4_800] == Row(model="m", photo="4800.jpg", answer_text="[1]", answer_json="[1]")
    many[4_900]["seconds"] = -1.0
    many[4_901]["prompt_tokens"] = many[4_899]["photo"] = None
    many[4_902]["started_at"] = "soon"
    for path in written():
        with pytest.raises(NotRows, match="row 4900: column `photo` is empty"):
            read_rows(path)
    many[4_899]["photo"] = "back.jpg"
    for path in written():
        with pytest.raises(WrongType, match=r"row 4901, column `seconds` = '?-1\.0'?: must be a number"):
            read_rows(path)


@pytest.mark.filterwarnings("ignore:.*format.*epoch|.*epoch.*format")
def test_what_pandas_writes_is_read_in_each_of_its_three_forms(tmp_path: Path) -> None:
    """Integers as floats, NaN for what is missing, milliseconds for times, a photo's number as its name."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            "model": pd.Categorical(["m", "m"]),
            "photo": [7, 8],
            "started_at": pd.to_datetime(["2026-11-14T02:15:00.250Z", None]),
            "seconds": [1.5, None],
            "completion_tokens": [90, None],
            "parsed": [True, None],
            "gpu": [{"name": "T4"}, None],
        }
    )
    frame.to_parquet(tmp_path / "f.parquet")
    frame.to_csv(tmp_path / "f.csv")
    frame.to_csv(tmp_path / "g.csv", na_rep="nan", index=False, columns=["model", "photo", "seconds"])
    frame.to_json(tmp_path / "f.jsonl", orient="records", lines=True, date_format="epoch")
    at = datetime(2026, 11, 14, 2, 15, 0, 250_000, UTC)
    whole = Row(model="m", photo="7", started_at=at, seconds=1.5, completion_tokens=90, parse_flag=True)
    for name in ("f.parquet", "f.csv", "f.jsonl"):
        assert read_rows(tmp_path / name) == [whole, Row(model="m", photo="8")], name
    assert [row.parsed for row in read_rows(tmp_path / "f.csv")] == [True, None]
    assert read_rows(tmp_path / "g.csv") == [Row(model="m", photo="7", seconds=1.5), Row(model="m", photo="8")]


def test_the_answer_itself_says_more_than_a_flag_and_an_error_without_a_status_is_one(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "f.jsonl",
        {"model": "m", "photo": "1", "answer_text": "```json\n{}\n```", "parsed": True},
        {"model": "m", "photo": "2", "error": "Timeout: 120 s", "parsed": True},
        {"model": "m", "photo": "3", "parsed": False},
    )
    assert [(row.failed, row.parsed) for row in read_rows(path)] == [(False, False), (True, False), (False, False)]


def test_a_row_needs_its_model_and_its_photo(tmp_path: Path) -> None:
    with pytest.raises(NotRows, match="row 1: column `photo` is missing"):
        read_rows(lines(tmp_path / "f.jsonl", {"model": "m"}))
    with pytest.raises(NotRows, match="row 1: column `model` is empty"):
        read_rows(lines(tmp_path / "f.jsonl", {"model": None, "photo": "p"}))


def test_files_that_are_not_rows_are_named(tmp_path: Path) -> None:
    for name, content in {"a.parquet": "PAR?", "a.jsonl": "[1]\n", "b.jsonl": "{\n{}\n", "a.csv": '"x\n'}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(RowsError, match=name.replace(".", r"\.")):
            read_rows(tmp_path / name)
    for nothing in (tmp_path / "gone.parquet", tmp_path / "a.xlsx", tmp_path / "empty"):
        with pytest.raises(NoRows, match="give a session folder"):
            read_rows(nothing)


def test_a_line_torn_by_a_crash_is_left_out_when_reading_and_cut_off_when_writing_on(tmp_path: Path) -> None:
    path, said = tmp_path / "rows-m.jsonl", list[str]()
    with RowWriter(path, silent) as writer:
        writer.append(FULL)
    whole = path.read_bytes()
    for torn in (whole[:40], whole[:-1], '{"photo": "ü'.encode()[:-1]):
        path.write_bytes(whole + torn)
        if torn != whole[:-1]:  # a whole row without its line end may be read; it was never acknowledged
            assert read_rows(path, say=said.append) == [FULL]
        with RowWriter(path, said.append) as writer:
            assert writer.rows == [FULL] and path.read_bytes() == whole
            writer.append(BARE)
        assert read_rows(path) == [FULL, BARE]
    assert sum("its 40 bytes are cut off" in line for line in said) == 1


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "rows-m.jsonl"
    child = os.fork()
    if child == 0:
        try:
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            writer = RowWriter(path, silent)
            writer.append(FULL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, resource.RLIM_INFINITY))
            try:
                writer.append(FULL)
            except OSError:
                os._exit(3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert path.read_bytes().endswith(b"\n") and read_rows(path) == [FULL]


def test_two_writers_of_one_file_are_refused(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "rows-m.jsonl", silent), pytest.raises(InUse, match="another benchmark writes"):
        RowWriter(tmp_path / "rows-m.jsonl", silent)
    RowWriter(tmp_path / "rows-m.jsonl", silent).close()


def test_half_a_surrogate_pair_in_an_answer_can_be_stored(tmp_path: Path) -> None:
    text = storable("sun \ud83c\udf05, half \ud83c!")
    assert text == "sun \U0001f305, half \ufffd!"
    row = derive(Row(session="s", model="m", photo="p", answer_text=text))
    with RowWriter(tmp_path / "rows-m.jsonl", silent) as writer:
        writer.append(row)
    to_parquet(tmp_path, [row])
    assert read_rows(tmp_path)[0].answer_text == text
