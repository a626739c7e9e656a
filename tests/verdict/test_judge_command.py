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
