"""Whether a model can fit on the card, before anybody's tenant is evicted for it.

In come what its headers ask for (`store.footprint`), what an earlier session measured, how it is served, and the card's
size; out goes a judgement with its figures. What was measured of the same files, served in the same way, is believed
before headers are; of those only what surely lies on the card is counted: a model that is called too large is. Not
here: reading headers or sessions, refusing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llama_assets.store import Footprint, in_words

MIB, GIB = 1 << 20, 1 << 30
# Compute buffers of text and vision are known only once they are made; so much is usual, and is a warning only.
USUAL_BUFFERS = 512 << 20
# bytes of one cached number: ggml's block sizes (ggml/src/ggml-common.h)
CACHE_TYPES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
CACHE_STEP = 256  # llama.cpp rounds the cache up to so many tokens
# With these a part lies beside the CPU, and how much is not said anywhere.
PARTLY = re.compile(
    r"-{1,2}(n-)?(cpu-moe|ncmoe|cmoe|ot|override-tensor|nkvo|no-kv-offload|ts|tensor-split|dev|device)\b"
)


@dataclass(frozen=True)
class Fit:
    """`fits` is None where it is not judged. `why` is a sentence with the figures."""

    fits: bool | None
    why: str


@dataclass(frozen=True)
class Peak:
    """The most that lay on the card while a model answered in a `session`, and what lay there with none loaded.

    `idle_mib` is None where that is not known: others may have had a part of the peak.
    """

    mib: float
    idle_mib: float | None
    session: str


def fit(
    asks: Footprint,
    context: int,
    arguments: Sequence[str],
    gpu_layers: int,
    card_gib: float | None,
    peak: Peak | None = None,
) -> Fit:
    """Hold what it took, or else what surely lies on the card, against its size. `arguments` are the engine's and then
    the model's own; `peak` is of the same files, told to the engine in the same way.
    """  # fmt: skip
    if card_gib is None:
        return Fit(None, "not judged: the card's size is not known (`gpu.memory_gib`)")
    if peak is not None and (found := _measured(peak, round(card_gib * GIB))) is not None:
        return found
    if asks.weights is None:
        return Fit(None, "not judged: its headers do not say how large its tensors are")
    on_card = _number(arguments, gpu_layers, "--n-gpu-layers", "-ngl", "--gpu-layers")
    if (
        asks.layers is None
        or on_card is None
        or on_card <= asks.layers
        or any(PARTLY.match(word) for word in arguments)
    ):
        return Fit(None, "not judged: a part of it lies beside the CPU")
    projector = 0 if "--no-mmproj-offload" in arguments else asks.projector or 0
    cache = cache_bytes(asks, context, arguments)
    least, card = asks.weights + projector + cache, round(card_gib * GIB)
    figures = (
        f"{in_words(least)} at least (weights {in_words(asks.weights)}, projector {in_words(projector)}, cache of "
        f"{context} tokens {in_words(cache) if cache else 'not known'}) on a card of {in_words(card)}"
    )
    if least > card:
        return Fit(False, f"it cannot fit: {figures}")
    tight = f"; tight: buffers usually take {in_words(USUAL_BUFFERS)} more" if least + USUAL_BUFFERS > card else ""
    return Fit(True, f"{figures}{tight}")


def _measured(peak: Peak, card: int) -> Fit | None:
    """By what it took; None where that proves nothing: more than the card has, and who had it is not known."""
    took = round((peak.mib - (peak.idle_mib or 0.0)) * MIB)
    if took > card and peak.idle_mib is None:
        return None
    others = (
        f", less {in_words(round(peak.idle_mib * MIB))} that others had" if peak.idle_mib
        else "" if peak.idle_mib is not None else ", others' included"
    )  # fmt: skip
    figures = f"{in_words(took)} measured in session {peak.session}{others}, on a card of {in_words(card)}"
    return Fit(True, figures) if took <= card else Fit(False, f"it cannot fit: {figures}")


def cache_bytes(asks: Footprint, context: int, arguments: Sequence[str]) -> int:
    """The key-value cache of `context` tokens; 0 where it is not known. Keys and values are taken as equally wide."""
    if asks.cached_values is None:
        return 0
    kinds = [_value(arguments, *names) or "f16" for names in (("--cache-type-k", "-ctk"), ("--cache-type-v", "-ctv"))]
    if not set(kinds) <= CACHE_TYPES.keys():
        return 0
    tokens = _number(arguments, context, "--ctx-size", "-c")
    return round(
        -(-(tokens or 0) // CACHE_STEP) * CACHE_STEP * asks.cached_values * sum(CACHE_TYPES[kind] for kind in kinds) / 2
    )


def _value(arguments: Sequence[str], *names: str) -> str | None:
    """What follows the last of these flags."""
    found = [value for flag, value in itertools.pairwise(arguments) if flag in names]
    return found[-1] if found else None


def _number(arguments: Sequence[str], otherwise: int, *names: str) -> int | None:
    """The same as a number; None for a word such as `auto`."""
    value = _value(arguments, *names)
    return otherwise if value is None else int(value) if value.isdigit() else None
