"""Arms of one session that different engines answer: asked up to the border, and on from there with the other one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_assets.bench import Arm, Comparison, Holding, PhotoSet, begin, finish, prepare, read_rows, run
from llama_assets.bench.record import Record
from llama_assets.bench.session import Outcome, give_up
from llama_assets.demo.photos import draw_photos

from .driven import DrivenClock, DrivenEngine, comparison

OLD, NEW = "engine/old", "engine/new"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhotoSet]:
    album = tmp_path_factory.mktemp("album")
    draw_photos(album, 8)
    with prepare(album, 8, 1, print) as prepared:
        yield prepared


def compared(photos: PhotoSet, new: str = NEW) -> Comparison:
    arms = {"a": OLD, "b": OLD, "a@engine": new, "b@engine": new}
    told = tuple(Arm(name, f"f-{name[0]}", "F16", engine=engine) for name, engine in arms.items())
    return comparison(photos, tuple(arms), arms=told)


def part(results: Path, what: Comparison, token: int, answering: str) -> tuple[Outcome, list[str]]:
    """One lease's worth; and the arms that were loaded for it."""
    engine = DrivenEngine(DrivenClock())
    folder = begin(results, what, lambda _: None).folder
    outcome = run(folder, what, engine, Holding(token), lambda _: None, answering=answering)
    finish(outcome, 10.0, None, lambda _: None)
    return outcome, [entry[1] for entry in engine.log if entry[0] == "load"]


def test_each_engine_is_asked_its_arms_in_mirrored_order_and_nothing_of_the_others(photos, tmp_path):
    what = compared(photos)
    told = [part(tmp_path, what, token, engine) for token, engine in enumerate([OLD, NEW, OLD, NEW, OLD], 1)]
    assert [loads for _, loads in told] == [
        ["a", "b"],
        ["a@engine", "b@engine", "a@engine"],
        ["b", "a", "b"],
        ["a@engine", "b@engine", "a@engine"],
        ["b", "a"],
    ]
    assert [outcome.wants for outcome, _ in told] == [NEW, OLD, NEW, OLD, ""]
    assert [outcome.halted for outcome, _ in told] == [None] * 5, "a border is no trouble"
    last = told[-1][0]
    rows = read_rows([last.folder])
    assert last.complete and len({(row.model, row.photo) for row in rows}) == len(rows) == 32
    tokens: dict[int | None, set[bool]] = {}
    for row in rows:
        tokens.setdefault(row.lease_token, set()).add("@" in row.model)
    assert tokens == {1: {False}, 2: {True}, 3: {False}, 4: {True}, 5: {False}}
    assert Record.read(last.folder).values["lease_seconds"] == 50.0


def test_with_the_wrong_engine_nothing_is_asked_and_which_is_the_right_one_is_known_before(photos, tmp_path):
    what = compared(photos)
    assert begin(tmp_path, what, lambda _: None).wants == OLD
    outcome, loads = part(tmp_path, what, 1, NEW)
    assert (outcome.wants, outcome.asked_now, loads) == (OLD, 0, [])
    assert begin(tmp_path, compared(photos, "engine/newer"), lambda _: None).folder != outcome.folder, "another session"


def test_without_the_arms_of_an_engine_that_does_not_come_up_the_others_are_asked_to_their_end(photos, tmp_path):
    what = compared(photos)
    folder = part(tmp_path, what, 1, OLD)[0].folder
    assert give_up(folder, what, NEW, "no such image", Holding(2)).wants == OLD
    outcome, loads = part(tmp_path, what, 3, OLD)
    assert outcome.complete and loads == ["b", "a", "b", "a"]
    assert set(outcome.ended) == {"a@engine", "b@engine"} and "no such image" in outcome.ended["a@engine"]
    assert [lease["token"] for lease in Record.read(folder).values["leases"]] == [1, 2, 3]
