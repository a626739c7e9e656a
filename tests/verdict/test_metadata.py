"""Figures, pictures and tables for Dagster: flat stable keys, small pictures, nothing private."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from llama_assets.verdict import distribution_png, judge, metadata, verdict_png, worst_and_best
from llama_assets.verdict.pictures import COLOURS

from .sessions import Recipe, write
from .states import ALL, Judged

CONTRACT = {
    "latency_p50_s",
    "latency_p95_s",
    "tokens_per_second",
    "schema_valid_rate",
    "cold_load_s",
    "rows",
    "lease_efficiency",
}


def test_an_arm_has_the_contracts_keys_as_numbers(judged: Judged) -> None:
    found = metadata(judged("better"), "third")
    assert found.keys() == CONTRACT | {"ok"}
    assert all(isinstance(value, int | float) for value in found.values())


def test_the_verdict_has_a_ratio_and_a_difference_for_each_candidate(judged: Judged) -> None:
    found = metadata(judged("better"))
    per_candidate = {f"{m}/{k}" for m in ("second", "third") for k in ("ratio", "ratio_low", "ratio_high")}
    per_candidate |= {f"{m}/valid_difference" for m in ("second", "third")}
    assert found.keys() == per_candidate | {"warnings", "not_judged", "lease_efficiency"}


def test_each_arm_has_an_auc_where_ratings_came_and_none_where_they_did_not(judged: Judged) -> None:
    arms = ("incumbent", "second", "third")
    keys = {f"{m}/{key}" for m in arms for key in ("auc", "auc_stars")}
    found = metadata(judged("rated"))
    assert keys <= found.keys()
    assert all(isinstance(found[key], float) and 0 <= found[key] <= 1 for key in keys)
    assert not keys & metadata(judged("better")).keys()


def test_what_is_not_known_has_no_key(judged: Judged) -> None:
    found = metadata(judged("no_answer"), "second")
    assert {"latency_p50_s", "latency_p95_s", "tokens_per_second"}.isdisjoint(found)


@pytest.mark.parametrize("state", ALL)
def test_pictures_are_small_opaque_and_there_in_every_state(judged: Judged, state: str) -> None:
    j = judged(state)
    for png in (verdict_png(j), *(distribution_png(j, model) for model in j.models)):
        assert len(png) < 60_000
        image = Image.open(BytesIO(png))
        assert (image.format, image.mode) == ("PNG", "P") and "transparency" not in image.info
        assert len(image.getcolors()) <= 64
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert Image.open(BytesIO(verdict_png(j))).size == (860, 600)


def test_every_arm_keeps_its_colour_however_few_its_marks_are(tmp_path: Path) -> None:
    arms = ("incumbent", *"bcde")
    j = judge(write(tmp_path, Recipe(models=arms, ratios=(1, 1, 0.9, 0.8, 1.2), photos=30)))
    image = Image.open(BytesIO(verdict_png(j)))
    there = {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in image.convert("RGB").getcolors()}
    assert set(COLOURS) <= there


def test_worst_and_best_name_photos_by_number_only(judged: Judged) -> None:
    table = worst_and_best(judged("better"), "third", n=5)
    assert [row["place"] for row in table] == ["best"] * 5 + ["worst"] * 5
    assert all(row.keys() == {"photo", "place", "score", "seconds", "valid"} for row in table)
    assert all(not isinstance(value, str) for row in table for key, value in row.items() if key != "place")
    scores = [float(row["score"]) for row in table]
    assert scores == sorted(scores, reverse=True)


def test_importing_the_room_loads_neither_scipy_nor_matplotlib() -> None:
    heavy = ("scipy", "matplotlib", "pandas", "pyarrow", "dagster")
    code = f"import sys, llama_assets.verdict; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
