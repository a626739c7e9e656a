"""The history page: what is stored of a session is shown, borders stand where something changed, nothing is hidden."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from llama_assets.tasks.history import HISTORY, STORED, store, write_history
from llama_assets.tasks.verdict import NoSession
from llama_assets.verdict import judge
from llama_assets.verdict.history import read, stored

from .sessions import Recipe, record, write
from .states import Judged

RECIPE = Recipe(models=("incumbent", "second"), ratios=(1, 0.7), photos=40)


def session(results: Path, month: int, recipe: Recipe = RECIPE, **changed: Any) -> Path:
    """A finished session of ours; `hash` and `name` are its question's, `photos_hash` its photo set's."""
    question = record(recipe)["question"] | {"hash": changed.pop("hash", "aa")}
    values = {
        "id": f"2026{month:02d}14T021500Z-made",
        "identity": "ab",
        "started": f"2026-{month:02d}-14T02:15:00Z",
        "question": question,
        "question_name": changed.pop("name", ""),
        "photo_set": {"hash": changed.pop("photos_hash", "cd"), "seed": 1, "left_out": []},
    }
    return write(results / "sessions" / values["id"], recipe, **(values | changed))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three plain sessions, the third of other photos, one further question, one unfinished, one that is unreadable."""
    results = tmp_path_factory.mktemp("results")
    session(results, 1)
    session(results, 2, engine={"second": {"kind": "llama-server", "build": "b2"}})
    (session(results, 3, photos_hash="ee") / "report.html").write_text("x")
    session(results, 4, name="<b>pets</b>", hash="bb")
    session(results, 5, finished=None)
    (session(results, 6) / "session.json").write_text("{")
    write_history(results)
    return results


@pytest.fixture
def page(made: Path) -> str:
    return (made / HISTORY).read_text()


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage, with the times of its files."""
    return Path(shutil.copytree(made, tmp_path / "results"))


def figure(page: str, model: str) -> str:
    return next(svg for svg in re.findall(r"<svg class=\"fig.*?</svg>", page) if f"p50 seconds of {model}," in svg)


def words(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_every_session_is_shown_or_listed_with_its_reason(page: str) -> None:
    said = words(page)
    assert "4 sessions judged, 2 models" in said
    assert "20260514T021500Z-made unfinished" in said
    assert "20260614T021500Z-made session.json cannot be read" in said


def test_a_session_links_to_its_report_only_if_the_file_is_there(page: str) -> None:
    links = set(re.findall(r'href="(sessions/[^"]+)"', page))
    assert links == {"sessions/20260314T021500Z-made/report.html"}


def test_no_line_joins_sessions_of_other_photos_but_one_joins_those_of_another_engine(page: str) -> None:
    joined = figure(page, "second").count('class="thin')
    assert joined == 1  # January to February; not to March
    assert figure(page, "second").count('class="border"') == 2
    assert figure(page, "incumbent").count('class="border"') == 1
    assert "another engine" in words(page)
    assert "another photo set: not comparable across" in words(page)


def test_one_session_is_a_row_and_no_plot(page: str) -> None:
    assert page.count('<svg class="fig') == 2, "two models of three sessions; the further question has one"


def test_a_further_question_has_its_own_group_and_its_name_is_no_markup(page: str) -> None:
    assert "Question &lt;b&gt;pets" in page and "<b>pets" not in page
    assert "The catalog&#39;s question, 3 sessions" in page or "The catalog's question, 3 sessions" in page


def test_the_words_and_intervals_are_those_of_each_session(made: Path, page: str) -> None:
    judged = judge(made / "sessions" / "20260114T021500Z-made")
    assert judged.pair("second", "seconds").verdict == "better"
    assert words(page).count("✓ better") == 4
    assert len(re.findall(r"95 %: [\d.]+ to [\d.]+ % less, against incumbent", words(page))) == 4
    assert words(page).count("95 % Wilson") == 8


def test_an_interval_is_the_one_that_its_word_is_read_from(judged: Judged) -> None:
    j = judged("equivalent")
    told = stored(j) | {"about": stored(j)["about"] | {"started": "2026-01-01T02:00:00Z"}}
    found = read(told, "x", report=False).models["second"]
    for metric, against in (("seconds", found.seconds), ("valid_answers", found.valid_answers)):
        pair = j.pair("second", metric)
        assert (against.word, against.low, against.high, against.level) == (
            "equivalent",
            pair.low_90,
            pair.high_90,
            0.9,
        )


def test_what_is_stored_is_used_and_not_judged_again(results: Path) -> None:
    said: list[str] = []
    write_history(results, say=said.append)
    assert said == []


@pytest.mark.parametrize("damage", ["older than its rows", "another version", "not JSON", "another shape", "renamed"])
def test_a_stored_judgement_that_no_longer_holds_is_made_again(results: Path, damage: str) -> None:
    folder = results / "sessions" / "20260114T021500Z-made"
    path = folder / STORED
    whole = path.read_text()
    values = json.loads(whole)
    if damage == "older than its rows":
        os.utime(path, (0, 0))
    elif damage == "renamed":
        told = json.loads((folder / "session.json").read_text())
        (folder / "session.json").write_text(json.dumps(told | {"question_name": "b"}))
    else:
        texts = {
            "another version": json.dumps(values | {"version": 0}),
            "not JSON": whole[:100],
            "another shape": json.dumps(values | {"judgement": []}),
        }
        path.write_text(texts[damage])
        os.utime(path)
    said: list[str] = []
    write_history(results, say=said.append)
    assert said == [f"judging session {folder.name}"]
    again = json.loads(path.read_text())
    assert again["judgement"] == values["judgement"]


def test_no_more_than_asked_are_judged_again_and_the_page_names_the_rest(results: Path) -> None:
    for path in results.glob(f"sessions/*/{STORED}"):
        path.unlink()
    said: list[str] = []
    page = write_history(results, at_most=1, say=said.append).path.read_text()
    assert said == ["judging session 20260414T021500Z-made"]
    assert words(page).count("not judged again in this round") == 3


def test_a_session_whose_rows_cannot_be_read_hides_no_other(results: Path) -> None:
    folder = results / "sessions" / "20260114T021500Z-made"
    (folder / STORED).unlink()
    (folder / "rows.parquet").write_bytes(b"no table")
    said = words(write_history(results).path.read_text())
    assert "3 sessions judged" in said
    assert "20260114T021500Z-made cannot be judged:" in said


def test_a_kill_between_the_two_files_leaves_a_page_that_the_next_one_replaces(results: Path) -> None:
    """As it lies on disk then: a new judgement, the page of before, and a half-written one beside it."""
    folder = session(results, 7)
    store(judge(folder), folder)
    before = (results / HISTORY).read_text()
    (results / f".{HISTORY}.1").write_text(before[:1000])
    assert "14 Jul 2026" not in before
    after = write_history(results).path.read_text()
    assert "14 Jul 2026" in after and "5 sessions judged" in words(after)


def test_without_a_session_there_is_one_sentence_and_no_page(tmp_path: Path) -> None:
    with pytest.raises(NoSession, match="materialize benchmark"):
        write_history(tmp_path / "none")
    assert not (tmp_path / "none").exists()
