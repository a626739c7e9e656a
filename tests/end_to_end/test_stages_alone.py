"""Stages materialized on their own, with the real tasks under them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.demo_run import DemoRun


@pytest.fixture
def copied(demo_run: DemoRun, tmp_path: Path) -> DemoRun:
    return demo_run.copy(tmp_path / "copy")


def materialize(run: DemoRun, select: str, *options: str) -> tuple[int, str]:
    done = run.run("dagster", "asset", "materialize", "--select", select, "-m", "llama_assets.definitions", *options)
    return done.returncode, done.stdout + done.stderr


def token(run: DemoRun) -> int:
    return json.loads(run.run("llama-assets", "lease", "status", "--json").stdout)["token"]


def test_the_lease_alone_takes_the_card_for_the_minutes_asked_and_gives_it_back(copied):
    before = token(copied)
    config = json.dumps({"ops": {"gpu_lease": {"config": {"minutes": 0.01}}}})
    status, said = materialize(copied, "gpu_lease", "--config-json", config)
    assert status == 0, said[-3000:]
    assert f"gpu lease: taken, token {before + 1}" in said and "gpu lease: given back" in said
    found = json.loads(copied.run("llama-assets", "lease", "status", "--json").stdout)
    assert found["held"] is False and found["token"] == before + 1


def test_the_verdict_alone_judges_the_newest_session_again_without_the_card(copied):
    before = token(copied)
    report = copied.session / "report.html"
    report.unlink()
    status, said = materialize(copied, "verdict")
    assert status == 0, said[-3000:]
    assert report.is_file() and "gpu lease" not in said
    assert token(copied) == before


@pytest.mark.long
def test_a_verdict_without_any_session_says_what_to_do(copied):
    copied.session.rename(copied.folder / "elsewhere")
    status, said = materialize(copied, "verdict")
    assert status != 0 and "materialize benchmark/* first" in said


@pytest.mark.long
def test_a_benchmark_without_photos_says_which_variable_to_set(copied):
    environment = {**copied.environment, "LLAMA_ASSETS_PHOTOS": str(copied.folder / "nowhere")}
    run = DemoRun(copied.folder, copied.home, "", 0, environment)
    status, said = materialize(run, "benchmark/qwen3vl-4b")
    assert status != 0 and "LLAMA_ASSETS_PHOTOS=" in said and "no such folder" in said


def test_a_benchmark_of_a_model_without_a_file_fails_that_model_only(copied):
    import shutil

    shutil.rmtree(copied.home / "store" / "models" / "minicpm-v-4-5")
    status, said = materialize(copied, 'key:"benchmark/minicpm-v-4-5" or key:"benchmark/qwen3vl-4b"')
    assert status != 0
    assert "minicpm-v-4-5: no verified file; materialize gguf/minicpm-v-4-5 first" in said
    assert "Materialized value benchmark qwen3vl-4b" in said.replace("/", " ")
