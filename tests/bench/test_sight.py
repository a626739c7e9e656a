"""Whether pictures reach a model, asked of a real llama.cpp: a projector that is right, another's, dead, none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from llama_assets import catalog
from llama_assets.bench.sight import Sight, asks, compared
from llama_assets.demo.models import SMALL
from llama_assets.demo.networks import write_projector, write_text
from llama_assets.engine import Processes, Served
from llama_assets.engine.process import WORKER

pytest.importorskip("xllamacpp")
MODEL = catalog.load().models[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import gguf

    folder = tmp_path_factory.mktemp("tiny")
    write_text(folder / "m.gguf", "qwen3vl", SMALL, "F16", 1)
    write_projector(folder / "right.gguf", "qwen3vl", SMALL, "F16", 1)
    write_projector(folder / "another's.gguf", "qwen3vl", SMALL, "F16", 7)
    shutil.copy(folder / "right.gguf", folder / "dead.gguf")
    reader = gguf.GGUFReader(folder / "dead.gguf", "r+")
    for tensor in reader.tensors:
        tensor.data[...] = np.zeros_like(tensor.data)
    reader.data.flush()
    return folder


@pytest.fixture(scope="module")
def shown(files: Path) -> dict[str, Sight]:
    names = ("right", "another's", "dead")
    engine = catalog.Engine(arguments=("--threads", "1"), load_timeout_seconds=60)
    served = [
        Served(MODEL.model_copy(update={"id": name, "aliases": ()}), name, files / "m.gguf", files / f"{name}.gguf")
        for name in names
    ]
    found = {}
    with Processes(served, engine, files / "logs", WORKER) as processes:
        for name in names:
            processes.load(name)
            first, second = (processes.ask(name, one) for one in asks(30.0))
            sight = compared(first, second)
            assert sight is not None, (first, second)
            found[name] = sight
            assert "loaded multimodal model" in processes.log(name), "where it would speak of the GPU"
            assert processes.log("other") == ""
    return found


def moved(sight: Sight) -> float:
    assert sight.difference is not None
    return sight.difference


def test_a_projector_that_works_moves_the_next_words_chances(shown: dict[str, Sight]) -> None:
    assert shown["right"].reached is True and moved(shown["right"]) > 0.01


def test_a_dead_projector_is_proven(shown: dict[str, Sight]) -> None:
    assert shown["dead"].reached is False and moved(shown["dead"]) < 1e-6


def test_another_models_projector_of_the_same_width_cannot_be_told_from_the_right_one(shown: dict[str, Sight]) -> None:
    assert shown["another's"].reached is True and moved(shown["another's"]) > 0.01
