"""`llama-assets report --history` as a person calls it: a process, over results folders of generated sessions."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.demo_run import own_environment

from .sessions import Recipe
from .test_history import session, words

SEVEN = tuple(f"arm-{number}" for number in range(7))
NEWER = ("question_name", "contamination", "running_samples", "photo_set", "photos", "loads", "leases", "stopped")


def report_history(results: Path) -> subprocess.CompletedProcess[str]:
    environment = own_environment() | {"LLAMA_ASSETS_RESULTS": str(results)}
    command = ["llama-assets", "report", "--history"]
    return subprocess.run(
        command, cwd=results.parent, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def page_of(done: subprocess.CompletedProcess[str]) -> str:
    return words(Path(done.stdout.strip()).read_text())


def test_without_any_session_it_is_one_sentence_and_status_1(tmp_path: Path) -> None:
    done = report_history(tmp_path / "results")
    assert (done.returncode, done.stdout) == (1, "")
    said = f"no finished session in {tmp_path / 'results' / 'sessions'}; materialize benchmark/* first"
    assert done.stderr.splitlines() == [said]


def test_good_sessions_of_every_kind_are_shown_beside_a_broken_one(tmp_path: Path) -> None:
    """One of before, with fewer keys; one of seven arms; a further question's; a folder that holds no session; one
    whose rows are torn in their middle."""
    results = tmp_path / "results"
    old = session(results, 1) / "session.json"
    values = json.loads(old.read_text())
    old.write_text(json.dumps({key: value for key, value in values.items() if key not in NEWER}))
    session(results, 2, recipe=Recipe(models=SEVEN, ratios=(1, 0.9, 0.8, 1.1, 1.2, 1, 1), photos=30))
    session(results, 3, name="captions", hash="bb")
    (results / "sessions" / "20260401T000000Z-empty").mkdir()
    rows = session(results, 5) / "rows-second.jsonl"
    rows.write_text(rows.read_text().replace('"seconds": ', '"seconds": [', 1))

    done = report_history(results)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(results / "history.html")
    assert "2 of 5 sessions are not shown; the page says why" in done.stderr and "Traceback" not in done.stderr
    page = page_of(done)
    assert "3 sessions judged, 9 models" in page
    assert "The catalog&#39;s question, 2 sessions" in page and "Question captions, 1 session" in page
    assert "20260401T000000Z-empty it holds no session.json" in page
    assert re.search(r"20260514T021500Z-made cannot be judged: .*rows-second.jsonl, row 1: is not JSON", page)


@pytest.mark.parametrize("good", [False, pytest.param(True, marks=pytest.mark.long)], ids=["broken", "good"])
def test_status_is_1_where_the_only_session_could_not_be_shown_and_the_page_says_why(
    tmp_path: Path, good: bool
) -> None:
    folder = session(tmp_path / "results", 1)
    if not good:
        (folder / "session.json").write_text("{")
    done = report_history(tmp_path / "results")
    assert done.returncode == (0 if good else 1)
    page = page_of(done)
    assert ("1 session judged, 2 models" in page) is good
    assert ("20260114T021500Z-made session.json cannot be read" in page) is not good
