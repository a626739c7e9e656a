"""What a set asks of a card's memory, read from headers that the gguf package wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from llama_assets.store.footprint import footprint
from tests.store.pairs import mmproj_gguf

PROJECTOR = 64 * 256 * 2 + 64 * 4 + 64 * 4  # bytes of its three tensors


def model(path: Path, *, output: bool = True, **said: Any) -> Path:
    writer = GGUFWriter(str(path), "qwen3")
    writer.add_embedding_length(64)
    writer.add_block_count(3)
    writer.add_head_count(8)
    for name, value in said.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_tensor("token_embd.weight", np.zeros((100, 64), np.float16))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((64, 64), np.float32))
    if output:
        writer.add_tensor("output.weight", np.zeros((100, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_weights_are_all_tensors_but_the_embedding_that_stays_beside_the_cpu(tmp_path: Path) -> None:
    projector = mmproj_gguf(tmp_path / "p.gguf")
    apart = footprint([model(tmp_path / "a.gguf")], projector)
    tied = footprint([model(tmp_path / "b.gguf", output=False)], projector)
    assert apart.weights == tied.weights == 100 * 64 * 2 + 64 * 64 * 4
    assert apart.projector == PROJECTOR and apart.layers == 3


@pytest.mark.parametrize(
    ("said", "values"),
    [
        ({}, 3 * 8 * 16),
        ({"head_count_kv": 2}, 3 * 2 * 16),
        ({"head_count_kv": 2, "key_length": 32, "value_length": 24}, 3 * 2 * 56),
        ({"head_count_kv": [2, 0, 2]}, None),
        ({"sliding_window": 512}, None),
        ({"kv_lora_rank": 64}, None),
    ],
)
def test_a_token_keeps_a_key_and_a_value_per_layer_and_head_where_that_is_all_there_is(
    tmp_path: Path, said: dict[str, Any], values: int | None
) -> None:
    projector = mmproj_gguf(tmp_path / "p.gguf")
    assert footprint([model(tmp_path / "m.gguf", **said)], projector).cached_values == values
