"""Sixty sessions with one flaw each, at strengths above and below the stated limits, and the seed's table with six."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from llama_assets.verdict import Judgement, judge
from llama_assets.verdict.judgement import Code

from .flaws import Flawed, flawed
from .sessions import Recipe, record, rows, write

FLAWS = list(flawed())
SLOW = {"autocorrelation", "too_few_rows"}
FOLLOWS = {"drift": SLOW, "contaminated": SLOW, "autocorrelation": SLOW}  # slow answers in a row are both


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Flawed], set[str]]:
    """The codes that a flawed session is warned of; each is judged once."""

    @cache
    def codes(at: int) -> set[str]:
        flaw = FLAWS[at]
        changed = dict(flaw.changed)
        if flaw.code == "cold_load_in_sample":
            changed["loads"] = []
        if (idle := changed.pop("idle", None)) is not None:
            told = record(flaw.recipe)
            busy = sum(row["seconds"] for row in rows(flaw.recipe))
            busy += sum(load["seconds"] + load["warm_up_seconds"] for load in told["loads"])
            changed["lease_seconds"] = busy / (1 - idle)
        folder = tmp_path_factory.mktemp("flaw") / "s"
        return {warned.code for warned in judge(write(folder, flaw.recipe, **changed)).warnings}

    return lambda flaw: codes(FLAWS.index(flaw))


def test_there_are_fifty_and_more_of_every_code_on_both_sides_of_its_limit() -> None:
    assert len(FLAWS) >= 50
    assert {flaw.code for flaw in FLAWS if flaw.fires} == set(get_args(Code))
    counted = {
        "wrong_typed_field",
        "truncated_answers",
        "errors",
        "mixed_engine",
    }  # one is enough: no strength is below
    assert {flaw.code for flaw in FLAWS if not flaw.fires} == set(get_args(Code)) - counted


@pytest.mark.parametrize("flaw", FLAWS, ids=[flaw.name for flaw in FLAWS])
def test_a_flaw_above_its_limit_is_named_and_one_below_is_not(
    named: Callable[[Flawed], set[str]], flaw: Flawed
) -> None:
    assert (flaw.code in named(flaw)) == flaw.fires


def test_what_they_do_not_have_is_named_as_seldom_as_in_clean_sessions(named: Callable[[Flawed], set[str]]) -> None:
    """At most 5 % of them, all other codes together; not counted is what follows from the flaw itself."""
    odd = [
        flaw.name
        for flaw in FLAWS
        if named(flaw) - {flaw.code} - (FOLLOWS.get(flaw.code, set()) if flaw.fires else set())
    ]
    assert len(odd) <= 0.05 * len(FLAWS), odd


CROWDED = (0, 0, 0, 0.02, 0.03, 0.08, 0.12, 0.26, 0.49, 0)
SEED_TABLE = Recipe(
    models=("qwen3vl-8b", "minicpm-v-4-5", "qwen3vl-4b"),
    ratios=(1, 0.95, 0.62),
    blocks=1,
    drift=0.9,
    noise=0.08,
    photo_effect=0.08,
    cold_first=True,
    wrong_typed={"minicpm-v-4-5": 5},
    shares={"minicpm-v-4-5": CROWDED},
    seed=3,
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Judgement:
    """300 rows as a table made by hand has them: each arm in one piece, nothing recorded, nothing left out."""
    folder = tmp_path_factory.mktemp("table") / "s"
    busy = sum(row["seconds"] for row in rows(SEED_TABLE))
    return judge(write(folder, SEED_TABLE, mmproj={"qwen3vl-4b": "Q8_0"}, lease_seconds=busy / 0.8, loads=[]))


# code, the arm, what it did to the verdict, some of its figures
SIX: list[tuple[str, str | None, str, dict[str, Any]]] = [
    ("wrong_typed_field", "minicpm-v-4-5", "none", {"count": 5, "rows": 100, "field": "instagram_fit_score"}),
    ("ties_at_top", "minicpm-v-4-5", "none", {"score": 9, "seats": 10, "top_n": 10}),
    ("drift", "minicpm-v-4-5", "interval_widened", {"leverage": 1.0}),
    ("cold_load_in_sample", "qwen3vl-8b", "rows_left_out", {"rows": 1, "recorded": 0}),
    ("mixed_mmproj", "qwen3vl-4b", "no_recommendation", {"here": "Q8_0", "incumbent": "F16"}),
    ("leased_idle", None, "none", {"share": pytest.approx(0.2)}),
]


@pytest.mark.parametrize(("code", "model", "effect", "figures"), SIX, ids=[six[0] for six in SIX])
def test_each_of_the_six_flaws_of_a_table_made_by_hand_is_named_with_figures_and_effect(
    table: Judgement, code: str, model: str | None, effect: str, figures: dict[str, Any]
) -> None:
    (warned,) = (w for w in table.warnings if (w.code, w.model) == (code, model))
    assert warned.effect == effect
    assert {name: warned.figures[name] for name in figures} == figures
    assert all(str(value) in warned.detail for value in figures.values() if isinstance(value, str))


def test_what_the_six_flaws_did_to_the_verdict_of_that_table(table: Judgement) -> None:
    """Nothing is recommended; a cold load is in no arm's seconds, a string in no ranking; drift is allowed for."""
    assert {w.code for w in table.warnings} <= {six[0] for six in SIX} | SLOW
    assert table.recommendation is None and table.exit_status == 1
    assert {figures.counted for figures in table.models.values()} == {99}
    assert table.models["minicpm-v-4-5"].schema_valid.count == 95
    assert {r.n for r in table.ranking if "minicpm-v-4-5" in (r.a, r.b)} == {95}
    pair = table.pair("minicpm-v-4-5", "seconds")
    assert pair is not None and pair.allowance is not None and pair.verdict == "inconclusive"
    assert pair.allowance >= 1.10


def test_the_same_table_without_its_flaws_has_no_warning(tmp_path: Path) -> None:
    clean = Recipe(models=SEED_TABLE.models, ratios=SEED_TABLE.ratios, seed=SEED_TABLE.seed)
    j = judge(write(tmp_path / "s", clean))
    assert j.warnings == () and j.exit_status == 0
    assert j.recommendation is not None and j.recommendation.model == "qwen3vl-4b"


ALL = list(rows(Recipe(photos=2))[0])
ANSWER, TURNS = "How many answers of", "Whether the arms met the same conditions"
DRIFT = "Whether drift, slow noise or a cold load is in these rows"
COLUMN_SETS: list[tuple[str, set[str], set[str], bool]] = [
    ("without times", {"started_at"}, set(), False),
    ("without positions", {"position"}, set(), False),
    ("without blocks", {"block"}, set(), False),
    ("without times and positions", {"started_at", "position"}, {DRIFT, TURNS}, False),
    ("without any order", {"started_at", "position", "block"}, {DRIFT, TURNS}, True),
    ("without tokens", {"prompt_tokens", "completion_tokens", "prompt_seconds", "generation_seconds"}, set(), False),
    ("without a status", {"status", "error"}, {"Whether every request was answered"}, False),
    ("without a reason to end", {"finish_reason"}, {"Whether an answer was cut at the limit of tokens"}, False),
    ("without answers", {"answer_text", "answer_json"}, {ANSWER}, False),
    ("without a session's name", {"session", "lease_token", "cold_load", "marked", "cached_tokens"}, set(), False),
]  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(("name", "lacks", "asked", "widened"), COLUMN_SETS, ids=[one[0] for one in COLUMN_SETS])
def test_what_a_column_set_cannot_say_is_listed_and_the_rest_is_judged(
    tmp_path: Path, name: str, lacks: set[str], asked: set[str], widened: bool, form: str
) -> None:
    """As pandas writes them: integers as floats, an index column, columns of somebody else."""
    import pandas as pd

    recipe = Recipe(models=("a", "b"), ratios=(1, 0.6), photos=60)
    frame = pd.DataFrame(rows(recipe)).drop(columns=[*lacks])
    for column in {"position", "completion_tokens", "block"} & set(frame.columns):
        frame[column] = frame[column].astype(float)
    frame["gpu"], frame["parsed"] = "T4", True
    path = tmp_path / f"old.{form}"
    match form:
        case "csv":
            frame.to_csv(path)
        case "parquet":
            frame.dropna(axis="columns", how="all").to_parquet(path)
        case _:
            frame.to_json(path, orient="records", lines=True)
    told = tmp_path / "told.json"
    told.write_text(json.dumps(record(recipe)))
    said: list[str] = []
    j = judge(path, session=told, say=said.append)
    assert j.warnings == ()
    pair = j.pair("b", "seconds")
    assert pair is not None and pair.verdict == "better" and (pair.allowance is not None) == widened
    open_ = [one.question for one in j.not_judged]
    for question in asked:
        assert any(one.startswith(question) for one in open_), open_
    standing = {"Which model scores", "The slow tail", "Whether b gives fewer valid answers", *asked}
    assert all(any(one.startswith(known) for known in standing) for one in open_), open_
    assert [model.parsed for model in j.models.values()] == [60, 60]
    assert "gpu" in said[0] and "parsed" not in said[0]


def test_every_code_is_a_warning_or_quiet_or_stands_among_what_was_not_judged(tmp_path: Path) -> None:
    """Model, photo and seconds are the least: what these leave open is said, code for code."""
    path = tmp_path / "rows.jsonl"
    made = [{name: row[name] for name in ("model", "photo", "seconds")} for row in rows(Recipe())]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    j = judge(path)
    silent = set(get_args(Code)) - {one.code for one in (*j.warnings, *j.quiet)}
    listed = {
        "wrong_typed_field": "Whether a field has the wrong type",
        "ties_at_top": "Whether the arms rank photos alike",
        "mixed_mmproj": "Whether the arms had the same projector precision",
        "mixed_engine": "Whether the same engine answered",
        "leased_idle": "How well the lent card was used",
        "truncated_answers": "Whether an answer was cut at the limit of tokens",
        "errors": "Whether every request was answered",
    }
    assert silent == set(listed)
    assert {listed[code] for code in silent} <= {one.question for one in j.not_judged}


def test_a_wrong_type_is_found_without_a_schema_and_behind_a_reader_that_took_it(tmp_path: Path) -> None:
    """`"8"` is not 8: not where no schema came, and not where the file calls every answer valid."""
    recipe = Recipe(wrong_typed={"second": 4})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row | {"schema_valid": True}) + "\n" for row in rows(recipe)))
    (bare,) = judge(path).warnings
    assert (bare.code, bare.model, bare.figures["count"], bare.figures["against"]) == (
        "wrong_typed_field", "second", 4, "most answers",
    )  # fmt: skip
    told = tmp_path / "told.json"
    told.write_text(json.dumps(record(recipe)))
    j = judge(path, session=told)
    assert [w.figures["count"] for w in j.warnings] == [4]
    assert j.models["second"].schema_valid.count == 96
    assert {r.n for r in j.ranking if "second" in (r.a, r.b)} == {96}


def test_seconds_that_are_missing_are_counted_and_said(tmp_path: Path) -> None:
    made = rows(Recipe(models=("a", "b"), photos=50))
    for row in made[:3]:
        row["seconds"] = None
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    j = judge(path)
    assert "How long answers took: 3 of a" in {one.question for one in j.not_judged}
    assert j.models["a"].counted == 47
