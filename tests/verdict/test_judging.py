"""Judging a session folder or foreign files: words, shape, incumbent, recommendation, what could not be judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llama_assets.bench.question import Question
from llama_assets.bench.rows import NoRows
from llama_assets.verdict import Judgement, judge
from llama_assets.verdict.facts import NotASession
from llama_assets.verdict.judging import NoSuchArm

from .sessions import SCHEMA, Recipe, rows, write, write_csv

QUESTION = Question("Judge this photo.", SCHEMA, "instagram_fit_score")


def questions(j: Judgement) -> str:
    return "\n".join(f"{x.question}: {x.why}" for x in j.not_judged)


def test_the_json_has_the_contracts_shape(tmp_path: Path) -> None:
    found = judge(write(tmp_path / "s", Recipe(ratios=(1, 0.95, 0.6)))).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    keys = {"models", "pairs", "ranking", "warnings", "quiet", "not_judged", "incumbent", "recommendation"}
    assert keys <= found.keys()
    model = {"rows", "ok", "parsed", "schema_valid", "latency_p50_s", "latency_p95_s"}
    assert all(model <= figures.keys() for figures in found["models"].values())
    assert found["models"]["third"]["schema_valid"].keys() == {"count", "rate", "low", "high"}
    pair = {"a", "b", "metric", "estimate", "low", "high", "level", "low_90", "high_90", "n", "verdict"}
    assert all(pair | {"photos_needed", "note"} <= p.keys() for p in found["pairs"])
    rank = {"a", "b", "tau_b", "low", "high", "top_n", "expected_overlap", "tie_group_a", "tie_group_b"}
    assert all(rank <= r.keys() for r in found["ranking"])
    assert all(x.keys() == {"question", "why", "would_take"} for x in found["not_judged"])
    assert found["recommendation"].keys() == {"model", "reason"}


def test_a_candidate_is_judged_against_the_incumbent_at_a_shared_level(tmp_path: Path) -> None:
    j = judge(write(tmp_path / "s", Recipe(ratios=(1, 0.95, 0.6))))
    third = j.pair("third", "seconds")
    assert third is not None
    assert (third.a, third.verdict, third.level) == ("incumbent", "better", 0.975)
    assert third.low is not None
    assert third.high is not None
    assert third.low < 0.6 < third.high
    assert (j.recommendation.model if j.recommendation else None) == "third"
    assert j.exit_status == 0
    assert not j.warnings


@pytest.mark.parametrize(
    ("ratio", "noise", "word"),
    [(0.8, 0.08, "better"), (1.25, 0.08, "worse"), (1.0, 0.02, "equivalent"), (1.03, 0.2, "inconclusive")],
)
def test_the_four_words(tmp_path: Path, ratio: float, noise: float, word: str) -> None:
    recipe = Recipe(models=("incumbent", "second"), ratios=(1, ratio), noise=noise, rho=0.3)
    pair = judge(write(tmp_path / "s", recipe)).pair("second", "seconds")
    assert pair is not None
    assert pair.verdict == word
    assert (pair.photos_needed is not None) == (word == "inconclusive")


def test_equal_valid_answers_are_equivalent_and_fewer_are_worse(tmp_path: Path) -> None:
    recipe = Recipe(ratios=(1, 0.7, 0.7), wrong_typed={"second": 12})
    j = judge(write(tmp_path / "s", recipe))
    words = {b: pair.verdict for b in ("second", "third") if (pair := j.pair(b, "valid_answers"))}
    assert words == {"second": "worse", "third": "equivalent"}
    assert j.recommendation
    assert j.recommendation.model == "third"


def test_an_error_and_a_cut_answer_are_not_valid_and_never_missing(tmp_path: Path) -> None:
    recipe = Recipe(ratios=(1, 1, 1), failed={"second": 3}, truncated={"second": 2})
    second = judge(write(tmp_path / "s", recipe)).models["second"]
    assert (second.rows, second.ok, second.schema_valid.count) == (100, 97, second.parsed)
    assert second.schema_valid.count is not None
    assert 95 <= second.schema_valid.count <= 97


def test_the_incumbent_is_asked_for_or_told_or_the_catalogs_or_the_first(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", Recipe())
    assert judge(folder).incumbent == "incumbent"
    assert judge(folder, incumbent="third", catalog_incumbent="second").incumbent == "third"
    untold = write(tmp_path / "u", Recipe(), incumbent=None)
    assert judge(untold, catalog_incumbent="second").incumbent == "second"
    assert judge(untold, catalog_incumbent="not here").incumbent == "incumbent"
    with pytest.raises(NoSuchArm, match=r"'fourth'.*incumbent, second, third"):
        judge(folder, incumbent="fourth")


def test_swapping_the_incumbent_mirrors_the_ratio(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", Recipe(models=("a", "b"), ratios=(1, 0.8)))
    there, back = judge(folder).pair("b", "seconds"), judge(folder, incumbent="b").pair("a", "seconds")
    assert there is not None
    assert back is not None
    assert there.estimate == pytest.approx(1 / (back.estimate or 0))
    assert there.low == pytest.approx(1 / (back.high or 0), rel=0.01)  # reordered rows may widen one of them


def test_nothing_is_recommended_where_more_than_the_model_differs(tmp_path: Path) -> None:
    j = judge(write(tmp_path / "s", Recipe(ratios=(1, 1, 0.6)), mmproj={"third": "Q8_0"}))
    assert j.recommendation is None
    assert j.exit_status == 1
    pair = j.pair("third", "seconds")
    assert pair is not None
    assert (pair.verdict, pair.note) == ("better", "projector differs")


def test_arms_that_did_not_take_turns_get_a_wider_interval(tmp_path: Path) -> None:
    wide, narrow = (
        judge(write(tmp_path / str(blocks), Recipe(ratios=(1, 0.9, 0.6), blocks=blocks))).pair("third", "seconds")
        for blocks in (1, 4)
    )
    assert wide is not None
    assert narrow is not None
    assert wide.allowance == pytest.approx(1.10)
    assert narrow.allowance is None
    assert (wide.high or 0) / (wide.low or 1) > 1.15 * (narrow.high or 0) / (narrow.low or 1)


def test_an_unfinished_session_is_judged_by_the_rows_it_has(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", Recipe(), finished=None)
    lines = (folder / "rows-third.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows-third.jsonl").write_text("".join(lines[:40]) + '{"torn":')
    j = judge(folder)
    pair = j.pair("third", "seconds")
    assert pair is not None
    assert pair.n == 40
    assert "not finished" in questions(j)


def test_one_arm_is_described_and_nothing_is_compared(tmp_path: Path) -> None:
    j = judge(write(tmp_path / "s", Recipe(models=("alone",))))
    assert (j.pairs, j.recommendation, j.exit_status) == ((), None, 0)
    assert "Whether another model would do better" in questions(j)


def test_arms_without_any_answer_are_inconclusive(tmp_path: Path) -> None:
    recipe = Recipe(models=("a", "b"), failed={"a": 100, "b": 100})
    j = judge(write(tmp_path / "s", recipe))
    pair = j.pair("b", "seconds")
    assert pair is not None
    assert (pair.n, pair.estimate, pair.verdict) == (0, None, "inconclusive")
    assert j.models["a"].latency_p50_s is None


def test_fewer_than_30_photos_have_no_verdict(tmp_path: Path) -> None:
    j = judge(write(tmp_path / "s", Recipe(models=("a", "b"), ratios=(1, 0.5), photos=24)))
    assert {pair.verdict for pair in j.pairs} == {"inconclusive"}
    assert [w.code for w in j.warnings] == ["too_few_rows"]


def test_a_csv_with_little_more_than_seconds_is_judged_and_says_what_it_lacks(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "old.csv", Recipe(ratios=(1, 0.95, 0.6)), ["model", "photo", "seconds"])
    j = judge([path])
    pair = j.pair("third", "seconds")
    assert pair is not None
    assert (pair.verdict, pair.allowance) == ("better", pytest.approx(1.10))
    assert j.pair("third", "valid_answers") is None
    assert j.models["third"].schema_valid.count is None
    lacks = ("neither `position` nor `started_at`", "took turns", "are valid", "wrong type", "rank photos alike")
    lacks += ("projector precision", "same engine", "lent card", "cold load costs", "another program")
    for lack in lacks:
        assert lack in questions(j), lack


def test_answers_and_a_question_give_validity_and_ranks_to_foreign_rows(tmp_path: Path) -> None:
    columns = ["model", "photo", "position", "seconds", "answer_text"]
    path = write_csv(tmp_path / "old.csv", Recipe(wrong_typed={"second": 5}), columns)
    j = judge([path], question=QUESTION)
    assert j.models["second"].schema_valid.count == 95
    assert len(j.ranking) == 3
    assert [w.code for w in j.warnings] == ["wrong_typed_field"]
    pair = j.pair("second", "seconds")
    assert pair is not None
    assert pair.allowance is None  # the positions are of the session: the arms took turns


def test_a_position_counted_by_each_arm_for_itself_does_not_pass_for_taking_turns(tmp_path: Path) -> None:
    made = [row | {"position": int(row["photo"][6:9]), "started_at": None, "block": None} for row in rows(Recipe())]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    pair = judge(path, question=QUESTION).pair("second", "seconds")
    assert pair is not None
    assert pair.allowance == pytest.approx(1.10)


def test_parquet_csv_and_json_lines_give_the_same_judgement(tmp_path: Path) -> None:
    from llama_assets.bench.rows import read_rows, to_parquet

    recipe = Recipe(photos=40)
    folder = write(tmp_path / "s", recipe)
    to_parquet(tmp_path, read_rows(folder))
    columns = [c for c in rows(recipe)[0] if c not in ("error", "lease_token")]
    csv = write_csv(tmp_path / "rows.csv", recipe, columns)
    judged = [judge([path], session=folder / "session.json").to_json() for path in (folder, tmp_path, csv)]
    for other in judged[1:]:
        assert other["pairs"] == judged[0]["pairs"]
        assert other["ranking"] == judged[0]["ranking"]


def test_of_two_sessions_the_newest_is_judged_and_the_other_named(tmp_path: Path) -> None:
    write(tmp_path / "new", Recipe(models=("a", "b"), ratios=(1, 0.6)))
    old = [row | {"session": "20250101T000000Z-old"} for row in rows(Recipe(models=("a", "b"), ratios=(1, 2)))]
    for row in old:
        row["started_at"] = "2025" + row["started_at"][4:]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    j = judge([tmp_path / "old.jsonl", tmp_path / "new"])
    pair = j.pair("b", "seconds")
    assert pair is not None
    assert pair.verdict == "better"
    assert j.session.id == "20261114T021500Z-made"
    assert "1 other session" in questions(j)


def test_a_photo_asked_twice_counts_once(tmp_path: Path) -> None:
    made = [{k: v for k, v in row.items() if k != "session"} for row in rows(Recipe(models=("a", "b")))]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*made, made[0] | {"seconds": 99, "position": 999}]))
    j = judge(path)
    assert j.models[made[0]["model"]].rows == 100
    assert "ask a photo again" in questions(j)


def test_what_is_no_session_and_what_holds_no_rows_is_said(tmp_path: Path) -> None:
    bad = tmp_path / "session.json"
    bad.write_text("[1]")
    csv = write_csv(tmp_path / "rows.csv", Recipe(photos=4), ["model", "photo"])
    with pytest.raises(NotASession, match=r"session\.json: holds list"):
        judge(csv, session=bad)
    empty = tmp_path / "empty.csv"
    empty.write_text("model,photo,seconds\n")
    with pytest.raises(NoRows):
        judge(empty)


def test_a_hand_written_session_file_is_understood(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "rows.csv", Recipe(), ["model", "photo", "position", "seconds"])
    told = tmp_path / "old.json"
    arms = [{"model": m, "mmproj": "F16", "image": "llama-swap:cuda"} for m in ("incumbent", "second", "third")]
    told.write_text(json.dumps({"arms": arms, "incumbent": "second", "lease_seconds": 9_000, "loads": []}))
    j = judge(csv, session=told)
    assert j.incumbent == "second"
    assert j.session.lease is not None
    assert {w.code for w in j.warnings} == {"leased_idle"}
    assert {"mixed_mmproj", "mixed_engine"} <= {q.code for q in j.quiet}


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_a_judgement_is_the_one_that_simulations_are_made_with(tmp_path: Path, seed: int) -> None:
    """Equal arms with slow noise, through files and all: bounds and word are those of the stacked functions."""
    from llama_assets.verdict import statistics

    recipe = Recipe(models=("a", "b"), ratios=(1, 1), rho=0.6, noise=0.1, seed=100 + seed)
    made = {(row["model"], row["photo"]): row["seconds"] for row in rows(recipe)}
    asked = [row["photo"] for row in rows(recipe) if row["model"] == "a"]
    d = np.log([made["b", photo] / made["a", photo] for photo in asked])
    wide, narrow = statistics.typical_ratio(d, 0.95), statistics.typical_ratio(d, 0.90)
    pair = judge(write(tmp_path / "s", recipe)).pair("b", "seconds")
    assert pair is not None and pair.low is not None and pair.high is not None
    bounds = np.exp([wide.estimate - wide.half_width, wide.estimate + wide.half_width])
    assert (pair.low, pair.high) == pytest.approx(tuple(bounds))
    assert pair.verdict == str(statistics.ratio_words(wide.estimate, wide.half_width, narrow.half_width))
