"""Several questions in one benchmark: a session and a verdict each, one lease for all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from llama_assets.bench.question import Question
from llama_assets.bench.record import Record
from llama_assets.bench.rows import read_rows
from llama_assets.tasks.verdict import NoSession, newest_session
from llama_assets.verdict import judge
from tests.bench.driven import QUESTION, Reply
from tests.tasks.driven_benchmark import PHOTOS, World, arm

CAPTIONS = Question(
    prompt="Write a caption.",
    schema={
        "type": "object",
        "properties": {"caption": {"type": "string", "maxLength": 80}},
        "required": ["caption"],
        "additionalProperties": False,
    },
    ranking_key=None,
)


@pytest.fixture
def world(world: World) -> World:
    """m scores as fast as n, and writes captions in half the time."""
    world.further = {"captions": CAPTIONS}
    scored = world.engine.answer

    def answered(model: str, n: int) -> Reply:
        reply = scored(model, n)
        if world.engine.asked[-1].prompt != CAPTIONS.prompt:
            return reply
        seconds = reply.seconds * (0.5 if model == "m" else 1)
        return Reply(text=json.dumps({"caption": f"photo {n}"}), seconds=seconds)

    world.engine.answer = answered
    return world


def prompts(world: World) -> dict[str, int]:
    return {ask.prompt: sum(one.prompt == ask.prompt for one in world.engine.asked) for ask in world.engine.asked}


def test_each_question_has_a_session_and_a_verdict_of_its_own_under_one_lease(world: World) -> None:
    answer = world.benchmark()
    captions = answer.further["captions"]
    scoring, further = (Record.read(Path(folder)) for folder in (answer.session, captions.session))
    assert (scoring.question_name, further.question_name) == ("", "captions")
    assert [len(read_rows([record.folder])) for record in (scoring, further)] == [2 * PHOTOS, 2 * PHOTOS]
    assert answer.verdict is not None and captions.verdict is not None
    assert answer.verdict.figures["m/ratio"] == pytest.approx(1.0, rel=0.02)
    assert captions.verdict.figures["m/ratio"] == pytest.approx(0.5, rel=0.05)
    assert captions.figures["m"]["schema_valid_rate"] == 1.0
    tokens = {lease["token"] for record in (scoring, further) for lease in record.values["leases"]}
    assert len(tokens) == 1, "the tenants were down once"
    assert newest_session(world.platform.results, "captions") == further.folder
    assert newest_session(world.platform.results) == scoring.folder
    with pytest.raises(NoSession, match="of question alt-text"):
        newest_session(world.platform.results, "alt-text")
    (line,) = [line for line in world.said if "given back" in line]
    parts = [record.values["lease_seconds"] for record in (scoring, further)]
    assert sum(parts) == pytest.approx(float(re.search(r"after ([\d.]+) s", line)[1]), abs=0.1) and min(parts) > 0
    judgement = judge(further.folder)
    assert judgement.ranking == () and judgement.models["m"].schema_valid.rate == 1.0
    assert any("rank" in one.question for one in judgement.not_judged), "captions do not rank"


def test_a_run_killed_in_the_second_question_asks_nothing_of_the_first_again(world: World) -> None:
    in_the_second = 2 * PHOTOS + 60
    world.killed_at(in_the_second)
    first, second = sorted(world.sessions(), key=lambda folder: Record.read(folder).question_name)
    assert len(read_rows([first])) == 2 * PHOTOS and 0 < len(read_rows([second])) < 2 * PHOTOS
    answer = world.benchmark()
    assert set(world.sessions()) == {first, second}, "no session was begun anew"
    asked = prompts(world)
    assert QUESTION.prompt not in asked, asked
    assert 0 < asked[CAPTIONS.prompt] < 2 * PHOTOS
    assert (answer.session, answer.further["captions"].session) == (str(first), str(second))
    assert answer.verdict is not None and answer.further["captions"].verdict is not None


def test_candidates_are_decided_on_by_the_question_that_every_catalog_has(world: World) -> None:
    new = world.publish("m", 1)
    world.engine.seconds = {arm("m", new): 0.5}
    answer = world.benchmark()
    (settled,) = answer.settled
    assert (settled.action, settled.session) == ("promote", Path(answer.session).name)
    captions = Record.read(Path(answer.further["captions"].session))
    assert all(not facts.get("decided") for facts in captions.values["arms"].values())
    assert arm("m", new) in answer.further["captions"].figures
