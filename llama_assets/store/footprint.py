"""What a published set asks of a card's memory, as its headers say: weights, projector, and what a token's cache costs.

Here: reading it, a tenth of a second a file. Not here: how large the card is, whether it is enough (`policy.fit`).

Which weights lie on the card: all but the token embedding, which llama.cpp keeps beside the CPU, unless it is the
output layer, too (src/llama-model.cpp: `dev_input` is the CPU's; without `output.weight` it is `token_embd.weight`).
What a token takes in the cache: one key and one value per layer and key-value head (src/llama-kv-cache.cpp: `k` and `v`
of `n_embd_head_k * n_head_kv` and `n_embd_head_v * n_head_kv` elements). Heads that differ by layer, sliding windows,
latent attention and recurrent layers cost less than that; nothing is claimed of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llama_assets.store import header
from llama_assets.store.header import Header

OTHER_CACHES = ("attention.sliding_window", "attention.kv_lora_rank", "ssm.state_size", "full_attention_interval")
HEADS, KV_HEADS = "attention.head_count", "attention.head_count_kv"


@dataclass(frozen=True)
class Footprint:
    """Bytes and counts; None where the headers do not say, or say something this reading does not know."""

    weights: int | None
    projector: int | None
    layers: int | None
    cached_values: int | None
    """Numbers that one token keeps in the cache, over all layers."""


def footprint(model_files: Sequence[Path], mmproj_file: Path) -> Footprint:
    """Read the headers of a set. Raises BadHeader, OSError."""
    models = [header.check(path) for path in model_files]
    tensors = {tensor.name: tensor.bytes for model in models for tensor in model.tensors}
    if "output.weight" in tensors:
        tensors.pop("token_embd.weight", None)
    first = models[0]
    return Footprint(
        weights=_sum(list(tensors.values())),
        projector=_sum([tensor.bytes for tensor in header.check(mmproj_file).tensors]),
        layers=first.number("{arch}.block_count"),
        cached_values=_cached_values(first),
    )


def _cached_values(model: Header) -> int | None:
    keys = [f"{model.architecture}.{name}" for name in OTHER_CACHES]
    if any(key in model.meta or key in model.arrays for key in keys):
        return None
    layers, width, heads = (model.number(f"{{arch}}.{n}") for n in ("block_count", "embedding_length", HEADS))
    by_layer = {f"{model.architecture}.{name}" for name in (HEADS, KV_HEADS)} & model.arrays.keys()
    kv_heads = model.number(f"{{arch}}.{KV_HEADS}") or heads
    if by_layer or not layers or not width or not heads or not kv_heads:
        return None
    key_width = model.number("{arch}.attention.key_length") or width // heads
    value_width = model.number("{arch}.attention.value_length") or width // heads
    return layers * kv_heads * (key_width + value_width)


def _sum(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else sum(size or 0 for size in sizes)
