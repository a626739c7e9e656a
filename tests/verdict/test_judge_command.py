"""`llama-assets judge` on what people have at hand: it works, or one sentence says what is wrong and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llama_assets.cli import main

from .sessions import Recipe, write, write_csv

COLUMNS = ["model", "photo", "seconds"]
RECIPE = Recipe(models=("a", "b"), ratios=(1, 0.7), photos=40)
Judge = Callable[..., Result]


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """The command in a folder that holds `good.csv`."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "good.csv", RECIPE, COLUMNS)

    def call(*arguments: str) -> Result:
        done = CliRunner().invoke(main, ["judge", *arguments], prog_name="llama-assets")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return call


def refused(done: Result) -> str:
    """The one sentence of a refusal."""
    assert (done.exit_code, done.stdout) == (2, "")
    said = done.stderr.strip()
    assert len(said.splitlines()) == 1, said
    return said


HEAD = "model,photo,seconds"
ROWS = [f"{model},p{n}.jpg,{1 + n % 3}.5" for n in range(40) for model in "ab"]


def csv(
    head: str = HEAD, rows: list[str] = ROWS, separator: str = ",", encoding: str = "utf-8", end: str = "\n"
) -> bytes:
    return "".join(line.replace(",", separator) + end for line in (head, *rows)).encode(encoding)


@pytest.mark.parametrize(
    "data",
    [
        csv("Model,PHOTO,Seconds"),
        csv(" model , photo ,seconds "),
        csv('"model","photo","seconds"'),
        csv(separator=";"),
        csv(separator="\t"),
        csv(encoding="utf-8-sig"),
        csv(encoding="utf-8-sig", separator=";"),
        csv(end="\r\n"),
        csv(end="\r"),
        b"\n\n" + csv(),
    ],
)
def test_tables_as_spreadsheets_write_them_are_the_same_rows(judge: Judge, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "plain.csv").write_bytes(csv())
    (tmp_path / "rows.csv").write_bytes(data)
    done = judge("rows.csv")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == judge("plain.csv").stdout


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "rows.csv: no rows here; give a session folder, or .parquet, .csv or .jsonl files"),
        (b"\n \n", "rows.csv: no rows here"),
        (csv(rows=[]), "rows.csv: no rows here"),
        (csv("Modell,Bild,Dauer"), "has no column `model` and no `photo`, .* named 'Modell, Bild, Dauer'. Rename them"),
        (csv("model,image,seconds"), "has no column `photo`, which every row needs"),
        (csv("model,photo,Photo"), "names column `photo` twice; keep one"),
        (csv("model,photo,Modell,seconds"), "row 1: has not the 4 values of the header, but 3"),
        (csv(rows=[*ROWS[:5], "a,x,n/a"]), "row 6, column `seconds` = 'n/a': must be a number of seconds from 0"),
        (csv(rows=[*ROWS[:5], "a,x,inf"]), "row 6, column `seconds` = inf: must be"),
        (csv(separator=";").replace(b".5", b",5"), "row 1, column `seconds` = '1,5': must be a number of seconds"),
        (csv(rows=[*ROWS[:60], "a,été,1"], encoding="latin-1"), "is not UTF-8: byte 0xe9 in line 62; save it as UTF-8"),
        (csv(encoding="utf-16"), "is not UTF-8: byte 0xff in line 1; save it as UTF-8"),
        (csv(rows=[*ROWS, 'a,"x,1']), "row 81: is not CSV: .*a quotation mark"),
    ],
)
def test_a_table_that_cannot_be_judged_says_where_and_what_to_do(
    judge: Judge, tmp_path: Path, data: bytes, says: str
) -> None:
    (tmp_path / "rows.csv").write_bytes(data)
    said = refused(judge("rows.csv"))
    assert said.startswith("rows.csv")
    assert re.search(says, said), said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"model": "a", "photo": "x"', r"is not JSON: Expecting ',' delimiter at character \d+; each line is one"),
        ("[1]", "is not a JSON object; each line is one"),
        ('{"photo": "x"}', "column `model` is missing; every row needs it"),
        ('{"model": "a", "photo": "x", "seconds": "1.0"}', "column `seconds` = '1.0': must be a number of seconds"),
        (f'{{"model": "a", "photo": "x", "seconds": 1{"0" * 400}}}', "column `seconds` = 10+…: must be a number"),
        (f'{{"model": "a", "photo": "x", "position": 1{"0" * 30}}}', "column `position` = 10+: must be a whole number"),
        (f'{{"model": "a", "photo": "x", "seconds": 1{"0" * 5000}}}', "a number in it has too many digits"),
        (f'{{"model": "a", "photo": "x", "error": {"[" * 5000}{"]" * 5000}}}', "brackets are nested too deeply"),
        (
            f'{{"model": "a", "photo": "x", "answer_json": "{"[" * 5000}"}}',
            r"column `answer_json` = '\[+…: must be JSON",
        ),
        ('{"model": "a", "photo": "été"}', "is not UTF-8: byte 0xe9 at 26; save the file as UTF-8"),
    ],
)
def test_one_broken_line_is_named(judge: Judge, tmp_path: Path, line: str, says: str) -> None:
    good = [json.dumps({"model": model, "photo": f"{n}", "seconds": 1.0}) for n in range(10) for model in "ab"]
    (tmp_path / "rows.jsonl").write_bytes("\n".join([*good[:9], line, *good[9:], ""]).encode("latin-1"))
    said = refused(judge("rows.jsonl"))
    assert said.startswith("rows.jsonl, row 10")
    assert re.search(says, said), said


def test_parquet_of_other_types_is_read_where_nothing_is_guessed(judge: Judge, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "plain.csv").write_bytes(csv())
    models, photos, seconds = zip(*(row.split(",") for row in ROWS), strict=True)
    numbers = [float(value) for value in seconds]
    base = {"model": pa.array(models), "photo": pa.array(photos), "seconds": pa.array(numbers)}

    def written(**changed: object) -> Result:
        pq.write_table(pa.table(base | changed), tmp_path / "rows.parquet")
        return judge("rows.parquet")

    for same in ({"model": pa.array(models).dictionary_encode()}, {"seconds": pa.array(numbers, pa.float32())}):
        assert written(**same).stdout == judge("plain.csv").stdout
    pq.write_table(pa.table({name.title(): values for name, values in base.items()}), tmp_path / "rows.parquet")
    assert judge("rows.parquet").stdout == judge("plain.csv").stdout
    for says, changed in (
        ("column `seconds` = '1.5': must be a number", {"seconds": pa.array(seconds)}),
        ("column `model` = b'a': must be text", {"model": pa.array(models, pa.binary())}),
        ("column `cold_load` = 0: must be true or false", {"cold_load": pa.array([0] * len(models))}),
        ("column `started_at` = .*: must be a time", {"started_at": pa.array([1] * len(models), pa.date32())}),
    ):
        assert re.search(f"rows.parquet, row 1, {says}", refused(written(**changed)))
    (tmp_path / "rows.parquet").write_bytes(b"")
    assert "rows.parquet: cannot be read as Parquet" in refused(judge("rows.parquet"))


def test_a_session_files_question_that_is_none_is_named_by_the_file(judge: Judge, tmp_path: Path) -> None:
    question = {"prompt": "x", "schema": {"type": "strin"}, "structured_output": "grammar"}
    (tmp_path / "session.json").write_text(json.dumps({"question": question}))
    said = refused(judge("good.csv", "--session", "session.json"))
    assert said.startswith("session.json: the question's schema is wrong at $.type: ")


def test_a_folder_that_is_no_session_and_a_file_of_another_kind_are_named(judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "rows.txt").write_bytes(csv())
    for name in ("folder", "rows.txt"):
        assert refused(judge(name)).startswith(f"{name}: no rows here; give a session folder, or .parquet")


@pytest.mark.parametrize(
    "session",
    [
        {"arms": 5, "lease_seconds": "long", "loads": 7, "photos": {"a": 1}, "question": [1], "incumbent": ["a"]},
        {"arms": {"a": {"loads": 3}, "b": {"loads": {"x": 1}}}, "loads": ["a", None, {"model": 3}]},
        {"arms": ["a", {"id": "b"}, None], "lease_seconds": float("inf"), "photos": [1, None, {"name": 1}]},
        {"lease_seconds": 10**400, "loads": "x"},
        {"lease_seconds": -5, "arms": {"a": None}},
    ],
)
def test_what_a_session_file_says_oddly_is_not_known(judge: Judge, tmp_path: Path, session: object) -> None:
    (tmp_path / "session.json").write_text(json.dumps(session))
    done = judge("good.csv", "--session", "session.json", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["session"]["lease"] is None
    assert "How well the lent card was used" in [one["question"] for one in found["not_judged"]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing.csv",), "Path 'missing.csv' does not exist"),
        (("good.csv", "--json", "--markdown"), "give one of them"),
        (("good.csv", "--ranking-key", "x"), "has to stand beside it"),
    ],
)
def test_wrong_use_is_status_2_and_a_way_out(judge: Judge, arguments: tuple[str, ...], says: str) -> None:
    done = judge(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_report_for_a_folder_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", RECIPE)
    done = CliRunner().invoke(main, ["report", str(folder), "--output", str(tmp_path / "none" / "page.html")])
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"there is no folder {tmp_path / 'none'}" in done.stderr


def test_half_a_surrogate_pair_is_printed_as_what_it_is_not(judge: Judge, tmp_path: Path) -> None:
    lines = [json.dumps({"model": m, "photo": f"{n}", "seconds": 1.0}) for n in range(30) for m in ("a\ud83d", "b")]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    found = json.loads(judge("rows.jsonl", "--json").stdout)
    assert list(found["models"]) == ["a\N{REPLACEMENT CHARACTER}", "b"]
    assert judge("rows.jsonl").exit_code == judge("rows.jsonl", "--markdown").exit_code == 0


def test_it_ends_with_the_next_command_where_there_is_one(judge: Judge, tmp_path: Path) -> None:
    write(tmp_path / "a session", RECIPE)
    assert judge("a session").stdout.splitlines()[-1].startswith("next         llama-assets report 'a session' ")
    (tmp_path / "a session" / "report.html").write_text("x")
    *_, page, onward = judge("a session").stdout.splitlines()
    assert page == "report       a session/report.html"
    assert onward.startswith("next         llama-assets report --open 'a session' ")
    assert "next  " not in judge("good.csv").stdout


def test_only_a_terminal_gets_bold_letters(judge: Judge) -> None:
    assert not re.search(r"\x1b", judge("good.csv").stdout)
