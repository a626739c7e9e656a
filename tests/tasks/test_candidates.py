"""Candidates from the store to the verdict and back: promoted, rejected, waiting; whoever dies in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_assets.bench.record import Record
from llama_assets.catalog import Tried
from llama_assets.store import Trial
from llama_assets.tasks.fitting import fitting
from llama_assets.tasks.settling import unsettled
from tests.bench.driven import Reply
from tests.store.pairs import fingerprint
from tests.tasks.driven_benchmark import PHOTOS, World, arm, picture


def test_a_candidate_that_is_better_is_promoted_and_its_figures_are_the_models(world: World) -> None:
    before, new = world.store.current("m").fingerprint, world.publish("m", 1)
    world.engine.seconds = {arm("m", new): 0.5}
    answer = world.benchmark()
    (settled,) = answer.settled
    assert (settled.arm, settled.action, settled.word) == (arm("m", new), "promote", "better")
    assert settled.reason == "better on seconds, equivalent on valid answers"
    assert world.store.current("m").fingerprint == new and world.store.previous("m").fingerprint == before
    assert answer.arms["m"].fingerprint == new and answer.arms["m"].figures["latency_p50_s"] < 0.6
    assert set(answer.arms) == {"m", "n"}, "a candidate's arm is no model of the catalog"
    served = {one.model.id: one.model.aliases for one in world.engine.served}
    assert served == {"m": ("m-alias",), arm("m", new): (), "n": ("n-alias",)}
    assert answer.verdict.figures[f"{arm('m', new)}/ratio"] == pytest.approx(0.5, rel=0.05)
    assert world.lineup().due == (), "the next one has no candidate"


def test_a_rejected_candidate_leaves_the_store_as_it_was_but_for_one_line(world: World) -> None:
    new = world.publish("m", 1)
    world.engine.seconds = {arm("m", new): 2.0}
    before = picture(world.folder / "store" / "models")
    answer = world.benchmark("m")
    (settled,) = answer.settled
    assert (settled.action, settled.word) == ("reject", "worse")
    after = picture(world.folder / "store" / "models")
    line = after.pop("m/refused")
    assert after == before
    session = Path(answer.session).name
    assert line.decode() == (
        f"{new} worse than current: worse on seconds, equivalent on valid answers (session {session})\n"
    )
    assert answer.arms["m"].fingerprint == world.store.current("m").fingerprint != new
    record = Record.read(Path(answer.session))
    assert record.arm(settled.arm)["decided"]["done"] and record.finished, "verdict and session stay"
    assert world.lineup().due == (), "it is never measured again"


def test_a_candidate_that_fails_its_canary_is_rejected_and_the_incumbents_session_goes_on(world: World) -> None:
    new = world.publish("m", 1)
    sound = world.engine.answer
    world.engine.answer = lambda model, n: Reply(text="<think>hm") if "@" in model else sound(model, n)
    answer = world.benchmark("m")
    (settled,) = answer.settled
    assert settled.action == "reject" and "its canary failed: its thinking leaks" in settled.reason
    assert answer.arms["m"].figures["rows"] == PHOTOS and answer.arms["m"].failed is None
    assert world.store.refused("m")[new].startswith("its canary failed")


def test_an_undecided_candidate_waits_is_tried_again_and_then_is_a_persons(world: World) -> None:
    new = world.publish("m", 1)
    world.store.trials("m").add("undecided", new, Trial("an earlier one", "too few photos", "2026-11-01T03:00:00Z"))
    world.engine.broken = {arm("m", new)}
    (settled,) = world.benchmark("m", automatic=True).settled
    assert settled.action == "wait" and "measures it again (2 of 3 tries)" in settled.reason
    assert [one.session for one in world.store.trials("m").of("undecided", new)][1:] == [world.sessions()[0].name]
    world.store.trials("m").add("undecided", new, Trial("a later one", "too few photos", "2026-11-03T03:00:00Z"))
    (waiting,) = world.lineup(automatic=True).waiting
    assert waiting.arm == arm("m", new) and waiting.tries == 3 and world.lineup(automatic=True).due == ()
    world.engine.broken, world.engine.seconds = set(), {arm("m", new): 0.5}
    (settled,) = world.benchmark("m").settled
    assert settled.action == "promote", "a person's benchmark tries it all the same"
    assert world.store.current("m").fingerprint == new
    assert not (world.folder / "store/models/m/trials.json").exists(), "nothing is left of what was tried"


def test_only_with_promotion_on_verdict_and_an_engine_of_ours_is_anything_a_candidate(world: World) -> None:
    new = world.publish("m", 1)
    world.publish("n", 1), world.store.refuse("n", fingerprint("n1"))
    assert [one.arm for one in world.lineup().arms] == ["m", arm("m", new), "n"]
    world.address = "http://127.0.0.1:9"
    assert world.lineup().due == () and [one.arm for one in world.lineup().waiting] == [arm("m", new)]
    world.automation = {"promotion": "at_once"}
    assert world.lineup().due == world.lineup().waiting == ()


@pytest.mark.parametrize("step", ["decided", "promoted"])
def test_whoever_is_killed_between_verdict_and_promotion_the_next_run_ends_it_without_the_card(
    world: World, step: str
) -> None:
    new = world.publish("m", 1)
    world.engine.seconds = {arm("m", new): 0.5}
    world.killed_at(step, "m")
    assert (world.store.current("m").fingerprint == new) == (step == "promoted"), "before or after, and never half"
    answer = world.benchmark("m")
    assert world.engine.requests == 0, "nothing is asked of a model again"
    assert [one.action for one in answer.settled] == ["promote"] and answer.arms["m"].fingerprint == new
    assert world.store.current("m").fingerprint == new and len(world.sessions()) == 1
    assert unsettled(world.folder / "results") is None, "and the run after that measures again"


def test_a_person_who_was_quicker_than_the_verdict_wins(world: World) -> None:
    new, other = world.publish("m", 1), world.publish("n", 7)
    world.engine.seconds = {arm("m", new): 0.5, arm("n", other): 0.5}

    def meanwhile(request: int) -> None:
        if request == 5:
            world.store.refuse("m", new, "a person says no")
            world.store.promote("n", other)

    world.engine.before_answer = meanwhile
    m, n = world.benchmark().settled
    assert (m.action, n.action) == ("reject", "promote")
    assert world.store.refused("m") == {new: "a person says no"} and world.store.current("m").fingerprint != new


def test_a_model_that_cannot_be_loaded_time_after_time_is_quarantined_until_something_changes(world: World) -> None:
    world.engine.broken = {"m"}
    for _ in range(3):
        assert "could not be loaded" in world.benchmark("m").arms["m"].failed
    loads = world.engine.loads("m")
    answer = world.benchmark("m")
    assert answer.session == "" and answer.arms == {} and "in 3 sessions in a row" in answer.quarantined["m"]
    assert "no tensors in m" in answer.quarantined["m"] and "quarantine release m" in answer.quarantined["m"]
    assert world.engine.loads("m") == loads, "it is not even tried"
    assert [one.arm for one in world.lineup().arms] == ["n"]

    world.arguments = ("--flash-attn", "on")
    assert not world.lineup().quarantined, "with other arguments it is free"
    world.arguments = ()
    assert world.lineup().quarantined
    world.store.promote("m", world.publish("m", 1))
    assert not world.lineup().quarantined, "another fingerprint is free"


def test_a_candidate_of_a_quarantined_model_waits_because_there_is_nothing_to_compare_it_with(world: World) -> None:
    new = world.publish("m", 1)
    world.automation["quarantine_after"] = 1
    world.engine.broken = {"m", arm("m", new)}
    assert world.benchmark("m").settled[0].action == "wait"
    assert set(world.lineup().quarantined) == {"m", arm("m", new)}
    world.arguments = ("--flash-attn", "on")
    assert [one.arm for one in world.lineup().arms] == ["m", arm("m", new), "n"]


def test_a_good_load_breaks_the_row_of_failures(world: World) -> None:
    world.engine.broken = {"m"}
    world.benchmark("m")
    assert len(world.store.trials("m").all("loads")) == 1
    world.engine.broken = set()
    world.benchmark("m")
    assert not (world.folder / "store/models/m/trials.json").exists()


def test_what_cannot_fit_is_told_with_its_figures_before_the_card_is_taken(world: World) -> None:
    new = world.publish("m", 1)
    world.card_gib = 1e-6
    answer = world.benchmark("m")
    assert "it cannot fit" in answer.arms["m"].failed and "weights" in answer.arms["m"].failed
    (settled,) = answer.settled
    assert (settled.arm, settled.action) == (arm("m", new), "reject") and settled.reason in world.store.refused("m")[
        new
    ]
    assert world.engine.log == [] and world.sessions() == [] and "gpu lease" not in "\n".join(world.said)


def test_what_an_earlier_session_measured_counts_before_the_headers_for_the_same_files_served_alike(
    world: World,
) -> None:
    world.benchmark("m")
    record = Record.read(world.sessions()[0])
    record.values["memory"] = {"peak_mib": {"m": 3000.0}, "total_mib": 12288.0, "idle_mib": 100.0}
    record.write()
    world.card_gib = 2.5

    def judged() -> str:
        said: list[str] = []
        fitting(world.store, world.catalog, world.lineup().arms[:1], said.append, world.folder / "results")
        return "".join(said)

    measured = f"3.04 GB measured in session {record.folder.name}, less 105 MB that others had, on a card of 2.68 GB"
    assert judged() == f"m: it cannot fit: {measured}"
    assert measured in str(world.benchmark("m").arms["m"].failed) and len(world.sessions()) == 1
    world.arguments = ("--flash-attn", "on")
    assert "weights" in judged(), "served otherwise it is judged by its headers"
    world.arguments = ()
    world.store.promote("m", world.publish("m", 1))
    assert "weights" in judged(), "and so are other files"


def test_other_arguments_are_a_candidate_that_is_recommended_and_never_written_anywhere(world: World) -> None:
    world.automation = {"promotion": "at_once"}
    world.tried = Tried(arguments=("--flash-attn", "on"), context=2048)
    world.engine.seconds = {"m@candidate": 0.5}
    before = picture(world.folder / "store" / "models")
    answer = world.benchmark("m")
    now, tried = world.engine.served
    assert (now.model.arguments, now.model.context, now.model.id) == ((), 3072, "m")
    assert (tried.model.arguments, tried.model.context) == (("--flash-attn", "on"), 2048)
    assert (tried.model.id, tried.model.aliases, tried.model_file) == ("m@candidate", (), now.model_file)
    (settled,) = answer.settled
    assert (settled.action, settled.word) == ("recommend", "better")
    assert "write it under models.m in the catalog" in settled.reason and '"context": 2048' in settled.reason
    assert picture(world.folder / "store" / "models") == before and answer.arms["m"].figures["latency_p50_s"] > 0.9
    assert unsettled(world.folder / "results") is None


def test_other_arguments_that_cannot_be_loaded_or_fit_leave_the_current_files_alone(world: World) -> None:
    world.tried = Tried(context=1 << 20)
    world.engine.broken = {"m", "m@candidate"}
    (settled,) = world.benchmark("m").settled
    assert settled.action == "wait" and "every benchmark measures it" in settled.reason
    world.card_gib = 1e-6
    assert [one.action for one in world.benchmark("m").settled] == ["reject"]
    assert world.store.refused("m") == {} and world.store.current("m") is not None
