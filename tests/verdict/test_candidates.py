"""A candidate for a model is compared with that model as it is now, whatever the session's incumbent is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llama_assets.verdict import Judgement, judge, render_html, render_markdown, render_text, verdict_png

from .sessions import Recipe, write

CANDIDATE = "second@0123456789ab"
ARMS = ("incumbent", "second", CANDIDATE)


def test_a_candidates_pair_is_against_its_own_model_and_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", Recipe(models=ARMS, ratios=(1, 0.6, 0.5)))
    j = judge(folder)
    pairs = {(pair.a, pair.b): pair.verdict for pair in j.pairs if pair.metric == "seconds"}
    assert pairs == {("incumbent", "second"): "better", ("second", CANDIDATE): "better"}
    pair = j.pair(CANDIDATE, "seconds")
    assert pair is not None and pair.low is not None and pair.high is not None
    assert pair.low < 0.5 / 0.6 < pair.high, "0.5 would be against the session's incumbent"
    valid = j.pair(CANDIDATE, "valid_answers")
    assert valid is not None and valid.a == "second"
    said = render_text(j, 200) + render_markdown(j)
    assert said.count("incumbent, candidates against their own model") == 2
    assert f"{CANDIDATE} is better than second on seconds" in said
    assert CANDIDATE in render_html(j, folder) and verdict_png(j)


def test_only_arms_compared_with_the_incumbent_are_recommended(tmp_path: Path) -> None:
    j = judge(write(tmp_path / "s", Recipe(models=ARMS, ratios=(1, 0.6, 0.5))))
    assert j.recommendation is not None and j.recommendation.model == "second", "not the quicker one, of another pair"


def test_a_candidate_of_the_incumbent_itself_is_compared_and_recommended_as_any_arm(tmp_path: Path) -> None:
    arms = ("incumbent", "incumbent@candidate", "second")
    j = judge(write(tmp_path / "s", Recipe(models=arms, ratios=(1, 0.7, 1))))
    assert {pair.a for pair in j.pairs} == {"incumbent"}
    assert j.recommendation is not None and j.recommendation.model == "incumbent@candidate"


def test_an_incumbent_that_is_asked_for_is_compared_with_everything(tmp_path: Path) -> None:
    j = judge(write(tmp_path / "s", Recipe(models=ARMS)), incumbent="incumbent")
    assert {pair.a for pair in j.pairs} == {"incumbent"}


def test_a_name_with_an_at_sign_whose_model_is_no_arm_is_an_arm_like_any(tmp_path: Path) -> None:
    j = judge(write(tmp_path / "s", Recipe(models=("incumbent", "other@v2"), ratios=(1, 1))))
    assert {(pair.a, pair.b) for pair in j.pairs} == {("incumbent", "other@v2")}


def test_another_projector_in_a_candidate_is_what_is_tried_and_no_flaw(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", Recipe(models=ARMS), mmproj={CANDIDATE: "Q8_0"})
    assert "mixed_mmproj" not in {warned.code for warned in judge(folder).warnings}
    other = write(tmp_path / "t", Recipe(models=ARMS), mmproj={"second": "Q8_0"})
    assert "mixed_mmproj" in {warned.code for warned in judge(other).warnings}


def test_an_arm_that_never_answered_is_in_the_report_with_why(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", Recipe(models=ARMS[:2], ratios=(1, 1)))
    session = json.loads((folder / "session.json").read_text())
    session["arms"][CANDIDATE] = {"fingerprint": "ab" * 32, "ended": "it could not be loaded: no tensors"}
    (folder / "session.json").write_text(json.dumps(session))
    page = render_html(judge(folder), folder)
    assert CANDIDATE in page and "no tensors" in page


ENGINES = ("incumbent", "second", "incumbent@engine", "second@engine")
OLD, NEW, NEWER = ({"kind": "llama-swap", "image": f"i@sha256:{n}"} for n in "123")


def engines(tmp_path: Path, name: str, **told: dict[str, str]) -> Judgement:
    changed = {model: told.get(model, NEW if "@" in model else OLD) for model in ENGINES}
    return judge(write(tmp_path / name, Recipe(models=ENGINES, ratios=(1, 1, 0.6, 0.6)), engine=changed))


def test_another_engine_is_what_its_arms_try_and_each_pair_says_whose_leases_are_in_it(tmp_path: Path) -> None:
    j = engines(tmp_path, "s")
    assert "mixed_engine" not in {warned.code for warned in j.warnings}
    (quiet,) = (one for one in j.quiet if one.code == "mixed_engine")
    assert "i@sha256:1 in every arm but those that try llama-swap, i@sha256:2" in quiet.detail
    pairs = {(pair.a, pair.b): pair for pair in j.pairs if pair.metric == "seconds"}
    assert set(pairs) == {("incumbent", "second"), ("incumbent", "incumbent@engine"), ("second", "second@engine")}
    assert "leases of its own" in str(pairs["second", "second@engine"].note)
    assert "leases" not in str(pairs["incumbent", "second"].note)


@pytest.mark.parametrize(
    ("arm", "engine"), [("second", NEW), ("second@engine", NEWER), ("second@engine", OLD), ("incumbent@engine", OLD)]
)
def test_two_engines_on_one_side_of_the_comparison_are_a_mix(tmp_path: Path, arm: str, engine: dict[str, str]) -> None:
    found = [warned for warned in engines(tmp_path, "s", **{arm: engine}).warnings if warned.code == "mixed_engine"]
    assert [warned.effect for warned in found] == ["no_recommendation"], found


def test_against_another_arm_than_its_own_model_a_tried_engine_is_a_mix(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "s", Recipe(models=ENGINES[:3]), engine={ENGINES[2]: NEW, ENGINES[0]: OLD, ENGINES[1]: OLD}
    )
    assert "mixed_engine" in {warned.code for warned in judge(folder, incumbent="second").warnings}
