"""A candidate asked by the real engine: llama.cpp behind llama-swap's stand-in, under a name with an `@`.

Six photos settle nothing, so it waits; what its verdicts do is in tests/tasks/test_candidates.py.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from llama_assets import catalog as catalogs
from llama_assets.bench.record import Record
from llama_assets.bench.rows import read_rows
from llama_assets.demo import llama_swap
from llama_assets.demo.models import SMALL
from llama_assets.demo.networks import write_projector, write_text
from llama_assets.demo.photos import draw_photos
from llama_assets.launch import Task
from llama_assets.platforms import local
from llama_assets.settings import Settings
from llama_assets.store import Store
from llama_assets.tasks.benchmark import benchmark_task
from llama_assets.tasks.messages import Benchmark
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work
from tests.bench.driven import QUESTION
from tests.store.pairs import as_part, fingerprint, put

pytest.importorskip("xllamacpp")

MODEL = "qwen3vl-4b"
NEW = fingerprint("2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a current set and a candidate of one model, and six photos."""
    folder = tmp_path_factory.mktemp("candidate")
    draw_photos(folder / "photos", 6)
    write_projector(folder / "p.gguf", "qwen3vl", SMALL, "F16", 1)
    store = Store(folder / "store")
    for seed in (1, 2):
        write_text(folder / f"{seed}.gguf", "qwen3vl", SMALL, "F16", seed)
        files = {"model": folder / f"{seed}.gguf", "mmproj": folder / "p.gguf"}
        parts = [as_part(path, role) for role, path in files.items()]
        for part, path in zip(parts, files.values(), strict=True):
            put(store, part, path, 1 << 20)
        store.publish(MODEL, fingerprint(str(seed)), parts)
    store.promote(MODEL, fingerprint("1"))
    return folder


def test_both_arms_of_one_model_answer_from_their_own_files(made: Path, tmp_path: Path) -> None:
    binary = tmp_path / "llama-swap"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} {llama_swap.__file__} "$@"\n')
    binary.chmod(0o755)
    settings = Settings(
        store=made / "store", results=tmp_path / "results", photos=made / "photos",
        llama_swap_bin=binary,
    )  # fmt: skip
    packaged = catalogs.load()
    catalog = packaged.only([MODEL]).model_copy(
        update={
            "automation": catalogs.Automation(promotion="on_verdict"),
            "benchmark": packaged.benchmark.model_copy(update={"photos": 6, "blocks": 2, "max_tokens": 40}),
            "engine": packaged.engine.model_copy(update={"arguments": ("--image-max-tokens", "64")}),
        }
    )
    request = Benchmark(catalog=catalog, question=QUESTION.to_json())
    task = Task("benchmark", "run", "step", request.model_dump(mode="json"))
    said: list[str] = []
    answer = benchmark_task(Work(task, local(settings), said.append, Stop()))
    candidate = f"{MODEL}@{NEW[:12]}"
    rows, arms = read_rows([Path(answer.session)]), Record.read(Path(answer.session)).values["arms"]
    assert Counter(row.model for row in rows) == {MODEL: 6, candidate: 6}, said
    assert {row.status for row in rows} == {"ok"} and all(arm["canary"]["passed"] for arm in arms.values())
    files = {name: arm["engine"]["model_file"] for name, arm in arms.items()}
    assert fingerprint("1") in files[MODEL] and NEW in files[candidate]
    (settled,) = answer.settled
    assert settled.action == "wait" and answer.arms[MODEL].fingerprint == fingerprint("1")
