"""The same benchmark through a llama-swap: one that runs already, and one that is started from a binary.

The llama-swap is the stand-in, or the real one where LLAMA_SWAP_BIN names it; the servers behind it are llama.cpp.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from llama_assets import catalog as catalogs
from llama_assets.bench.rows import read_rows
from llama_assets.demo import llama_swap
from llama_assets.engine import Served, local_swap
from llama_assets.store import Store
from tests.demo_run import DemoRun

STANDIN = Path(llama_swap.__file__)
MODEL = "qwen3vl-4b"
MATERIALIZE = (
    "dagster",
    "asset",
    "materialize",
    "--select",
    f'key:"benchmark/{MODEL}"',
    "-m",
    "llama_assets.definitions",
)


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """Something to be executed as `llama-swap --config F --listen H:P`."""
    if named := os.environ.get("LLAMA_SWAP_BIN"):
        return Path(named)
    script = tmp_path / "llama-swap"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STANDIN}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@pytest.fixture
def bench(demo_run: DemoRun, tmp_path: Path) -> DemoRun:
    copied = demo_run.copy(tmp_path / "copy")
    shutil.rmtree(copied.home / "results")
    return copied


def kind(bench: DemoRun) -> str:
    return json.loads((bench.session / "session.json").read_text())["arms"][MODEL]["engine"]["kind"]


def test_a_running_llama_swap_is_asked_and_its_server_counts_our_tokens(bench, binary, tmp_path):
    catalog = catalogs.load()
    published = Store(bench.home / "store").current(MODEL)
    served = Served(catalog.model(MODEL), published.fingerprint, published.model_file, published.mmproj_file)
    with local_swap([str(binary)], [served], catalog.engine, tmp_path / "swap") as swap:
        environment = {**bench.environment, "LLAMA_ASSETS_ENGINE_URL": swap.address}
        done = DemoRun(bench.folder, bench.home, "", 0, environment).run(*MATERIALIZE)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        counted = swap.metrics(MODEL)["tokens_predicted_total"]
    rows = read_rows(bench.session)
    assert len(rows) == 40 and kind(bench) == "llama-swap"
    written = sum(row.completion_tokens or 0 for row in rows)
    loads = json.loads((bench.session / "session.json").read_text())["loads"]
    unmeasured = len(loads) + 3  # a warm-up image each, and the canary's two colours and its probe
    assert 0 < counted - written <= unmeasured * catalog.benchmark.max_tokens


def test_a_llama_swap_binary_is_used_where_there_is_one(bench, binary):
    environment = {**bench.environment, "LLAMA_SWAP_BIN": str(binary)}
    run = DemoRun(bench.folder, bench.home, "", 0, environment)
    assert f"{binary}, a child process that runs" in run.run("llama-assets", "doctor", "--offline").stdout
    done = run.run(*MATERIALIZE)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert len(read_rows(bench.session)) == 40 and kind(bench) == "llama-swap"


@pytest.mark.long
def test_an_engine_that_is_not_there_fails_the_arm_with_its_address(bench):
    environment = {**bench.environment, "LLAMA_ASSETS_ENGINE_URL": "http://127.0.0.1:9"}
    done = DemoRun(bench.folder, bench.home, "", 0, environment).run(*MATERIALIZE)
    assert done.returncode != 0
    assert "http://127.0.0.1:9" in done.stdout + done.stderr
