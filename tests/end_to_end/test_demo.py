"""The demo is real: what it says it did, other parts of the machine say too."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dagster as dg
import httpx
import pytest

from llama_assets import catalog as catalogs
from llama_assets.bench.rows import read_rows
from llama_assets.engine import Processes, Served
from llama_assets.store import Store
from tests.demo_run import DemoRun, own_environment

MODELS = [model.id for model in catalogs.load().models]


@pytest.fixture
def copied(demo_run: DemoRun, tmp_path: Path) -> Path:
    """A copy of the finished demo's working folder, to spoil."""
    return demo_run.copy(tmp_path / "copy").folder


def again(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llama_assets.demo", *options],
        cwd=folder,
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        check=False,
    )


def test_it_shows_progress_and_ends_with_the_verdict_the_report_and_the_next_command(demo_run):
    shown = demo_run.output
    for model in MODELS:
        assert re.search(rf"{model}: .* of .*, 100 %", shown), "bytes and percent of each download"
        assert re.search(rf"{model}: .* sha256, header and projector are good", shown)
    end = shown[shown.index("VERDICT  session") :]
    assert str(demo_run.session.name) in end
    assert (report := re.search(r"report\s+(\S+report\.html)", end)) and (demo_run.folder / report[1]).is_file()
    assert re.search(r"next\s+make ui", end)
    assert "6 files were fetched from the hub" in end


def test_every_asset_of_the_graph_was_materialized_and_every_blocking_check_passed(demo_run, monkeypatch):
    monkeypatch.chdir(demo_run.folder)
    with dg.DagsterInstance.from_config(".") as instance:
        keys = [
            *(dg.AssetKey([stage, model]) for stage in ("huggingface", "gguf", "benchmark") for model in MODELS),
            *(dg.AssetKey(name) for name in ("llama_swap", "gpu_lease", "verdict")),
        ]
        found = {key.to_user_string(): instance.get_latest_materialization_event(key) for key in keys}
        assert [name for name, event in found.items() if event is None] == []
        for model in MODELS:
            for check in ("sha256", "header", "projector", "updated"):
                key = dg.AssetCheckKey(dg.AssetKey(["gguf", model]), check)
                (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
                assert record.status.value == "SUCCEEDED", key


def test_at_least_thirty_photos_were_asked_of_every_arm_each_once(demo_run):
    rows = read_rows(demo_run.session)
    for model in MODELS:
        photos = [row.photo for row in rows if row.model == model]
        assert len(photos) >= 30 and len(set(photos)) == len(photos)
    assert {row.photo for row in rows} == {row.photo for row in rows if row.model == MODELS[0]}, "the same photos"


def test_llama_servers_own_log_counts_as_many_answers_as_there_are_rows_and_the_same_tokens(demo_run):
    """The oracle is the server: each request is a line of its own timings, written by llama.cpp."""
    rows = read_rows(demo_run.session)
    loads = json.loads((demo_run.session / "session.json").read_text())["loads"]
    for model in MODELS:
        log = (demo_run.session / "engine" / f"{model}.log").read_text(errors="replace")
        answered = Counter(
            int(n) for n in re.findall(r"\beval time = .*? / +(\d+) tokens", log.replace("prompt eval", ""))
        )
        asked = Counter(row.completion_tokens for row in rows if row.model == model)
        assert not asked - answered, "every row is an answer that the server gave, token for token"
        unmeasured = sum((answered - asked).values())
        warm_ups = sum(load["model"] == model for load in loads)
        assert unmeasured == warm_ups + 3, "one warm-up image a load, and the canary's two colours and its probe"


def test_the_models_look_at_the_photos(demo_run, tmp_path):
    """First-token log-probabilities differ between photos of the demo, and repeat for the same photo."""
    published = Store(demo_run.home / "store").current("qwen3vl-8b")
    catalog = catalogs.load()
    served = Served(catalog.model("qwen3vl-8b"), published.fingerprint, published.model_file, published.mmproj_file)
    photos = sorted((demo_run.home / "photos").rglob("*.jpg"))[:6]
    with Processes([served], catalog.engine, tmp_path) as engine:
        engine.load("qwen3vl-8b")
        address = next(line for line in _addresses(engine))
        seen = [_first_logprob(address, photo) for photo in [*photos, photos[0]]]
    assert len(set(seen[:-1])) == len(photos)
    assert seen[-1] == seen[0]


def _addresses(engine: Processes):
    yield engine._child.address


def _first_logprob(address: str, photo: Path) -> float:
    image = "data:image/jpeg;base64," + base64.b64encode(photo.read_bytes()).decode()
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": image}}]
    body = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 1, "temperature": 0, "logprobs": True, "cache_prompt": False,
    }  # fmt: skip
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
    answer.raise_for_status()
    return answer.json()["choices"][0]["logprobs"]["content"][0]["logprob"]


def test_the_chosen_projector_is_the_named_precision_among_two(demo_run):
    arms = json.loads((demo_run.session / "session.json").read_text())["arms"]
    assert {arm["mmproj"] for arm in arms.values()} == {"F16"}


def test_a_second_run_downloads_nothing_and_says_so(copied):
    done = again(copied, "--select", "group:gguf")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("is here already, nothing was downloaded") == len(MODELS)
    assert "nothing had to be downloaded, every file was there" in done.stdout


def test_a_flipped_byte_in_a_blob_turns_the_demo_red_and_names_the_file(copied):
    blob = max((copied / ".llama-assets/demo/store/blobs").glob("?" * 64), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[-100] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    done = again(copied)
    assert done.returncode == 1
    log = (copied / ".llama-assets/demo/run.log").read_text()
    assert blob.name in log and "the demo failed" in done.stdout
    assert blob.name[:12] in done.stdout, "a person sees which file without opening the log"
    assert "turn 1" not in done.stdout, "nothing was benchmarked"


def test_the_report_is_one_file_without_script_or_address_of_anything_outside(demo_run):
    page = (demo_run.session / "report.html").read_text()
    assert "<script" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']+""", page)
    assert page.count("data:image/") >= 6, "thumbnails of the photos the arms disagree on"
