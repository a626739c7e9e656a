"""Whether a model can fit on a card: figures by hand, and what is not judged."""

from __future__ import annotations

import pytest

from llama_assets.policy.fit import GIB, USUAL_BUFFERS, Peak, cache_bytes, fit
from llama_assets.store import Footprint

# Qwen3-VL-8B: 36 layers, 8 key-value heads of 128 and 128: 147,456 bytes a token in f16
QWEN = Footprint(weights=4_700_000_000, projector=1_160_000_000, layers=36, cached_values=36 * 8 * 256)


def test_the_cache_is_a_key_and_a_value_for_each_layer_head_and_token():
    assert cache_bytes(QWEN, 4096, ()) == 576 << 20
    assert cache_bytes(QWEN, 3000, ()) == cache_bytes(QWEN, 3072, ()), "rounded up to 256 tokens"
    assert cache_bytes(QWEN, 4096, ("-ctk", "q8_0", "-ctv", "q8_0")) == (306 << 20)
    assert cache_bytes(QWEN, 4096, ("--ctx-size", "8192")) == 1152 << 20, "an argument wins, as with the engine"
    assert cache_bytes(Footprint(1, 1, 36, None), 4096, ()) == 0, "not known is not counted"


@pytest.mark.parametrize(("card", "fits"), [(5.5, False), (5.9, True), (12, True), (None, None)])
def test_what_surely_lies_on_the_card_is_held_against_its_size(card, fits):
    least = QWEN.weights + QWEN.projector + cache_bytes(QWEN, 3072, ())
    assert 5.5 * GIB < least < 5.9 * GIB
    found = fit(QWEN, 3072, (), 99, card)
    assert found.fits is fits
    if fits is False:
        assert found.why == (
            "it cannot fit: 6.31 GB at least (weights 4.7 GB, projector 1.16 GB, cache of 3072 tokens 453 MB) on a "
            "card of 5.91 GB"
        )


def test_where_only_the_buffers_are_in_doubt_it_passes_and_is_called_tight():
    least = QWEN.weights + QWEN.projector + cache_bytes(QWEN, 3072, ())
    assert "tight" in fit(QWEN, 3072, (), 99, (least + USUAL_BUFFERS - 1) / GIB).why
    assert "tight" not in fit(QWEN, 3072, (), 99, (least + USUAL_BUFFERS + 1) / GIB).why


@pytest.mark.parametrize(
    ("arguments", "layers", "says"),
    [
        ((), 20, "beside the CPU"),
        (("-ngl", "20"), 99, "beside the CPU"),
        (("-ngl", "auto"), 99, "beside the CPU"),
        (("--n-cpu-moe", "4"), 99, "beside the CPU"),
        (("-ot", "exps=CPU"), 99, "beside the CPU"),
    ],
)
def test_what_lies_partly_beside_the_cpu_is_not_judged(arguments, layers, says):
    found = fit(QWEN, 3072, arguments, layers, 1.0)
    assert found.fits is None and says in found.why


def test_a_projector_kept_off_the_card_is_not_counted_and_unknown_tensors_are_not_judged():
    assert fit(QWEN, 3072, ("--no-mmproj-offload",), 99, 5.0).fits is True
    assert fit(Footprint(None, 1, 36, 1), 3072, (), 99, 1.0).fits is None


@pytest.mark.parametrize(
    ("peak", "card", "fits", "says"),
    [
        (Peak(7000, 500, "s"), 6.4, True, "6.82 GB measured in session s, less 524 MB that others had, on a card of"),
        (Peak(7000, 0, "s"), 6.4, False, "it cannot fit: 7.34 GB measured in session s, on a card of 6.87 GB"),
        (Peak(7000, None, "s"), 7.0, True, "7.34 GB measured in session s, others' included, on a card of 7.52 GB"),
        (Peak(9000, None, "s"), 7.0, True, "6.31 GB at least (weights"),  # who had it is not known: by the headers
        (Peak(7000, 500, "s"), None, None, "the card's size is not known"),
    ],
)
def test_what_a_session_measured_is_believed_before_the_headers(peak, card, fits, says):
    found = fit(QWEN, 3072, (), 99, card, peak)
    assert found.fits is fits and says in found.why


def test_what_lies_partly_beside_the_cpu_is_judged_once_it_was_measured():
    assert fit(QWEN, 3072, (), 20, 1.0, Peak(2000, 0, "s")).fits is False
    assert fit(Footprint(None, None, None, None), 3072, (), 99, 4.0, Peak(2000, 0, "s")).fits is True
