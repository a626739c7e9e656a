"""Sessions of a results folder are walked in one place: the newest first, none hidden, no more than asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llama_assets.bench.record import newest_first
from llama_assets.tasks.fitting import SESSIONS_BACK, measured_peaks


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Four folders: two sessions, an empty one between them, and the newest that cannot be read; and a file."""
    folder = tmp_path / "sessions"
    for name, text in (("1", '{"identity": "a"}'), ("2", None), ("3", '{"identity": "a"}'), ("4", "{")):
        (folder / name).mkdir(parents=True)
        if text:
            (folder / name / "session.json").write_text(text)
    (folder / "5").write_text("no folder")
    return tmp_path


def test_the_newest_comes_first_and_folders_without_a_record_are_told(results: Path) -> None:
    told: list[str] = []
    found = [one.folder.name for one in newest_first(results, lambda error: told.append(error.path.parent.name))]
    assert (found, told) == (["3", "1"], ["4", "2"])


def test_what_cannot_be_read_counts_among_those_looked_into(results: Path) -> None:
    assert [one.folder.name for one in newest_first(results, at_most=3)] == ["3"]
    assert list(newest_first(results / "none")) == []


def test_the_newest_finished_session_that_measured_an_arm_tells_its_peak(tmp_path: Path) -> None:
    def session(name: str, finished: str | None, mib: int | None) -> None:
        values = {"identity": "a", "finished": finished, "arms": {"m": {"loading_key": "k"}}}
        values |= {"memory": {"peak_mib": {"m": mib}, "idle_mib": 100}}
        (tmp_path / "sessions" / name).mkdir(parents=True)
        (tmp_path / "sessions" / name / "session.json").write_text(json.dumps(values))

    session("1", "t", 7000)
    session("2", "t", 8000)
    session("3", None, 9000)  # not finished
    session("4", "t", None)  # did not measure it
    assert measured_peaks(tmp_path, {"k"})["k"].mib == 8000
    for number in range(SESSIONS_BACK - 2):
        (tmp_path / "sessions" / f"9{number:03d}").mkdir()
    assert measured_peaks(tmp_path, {"k"}) == {}, "older folders are not looked into"
