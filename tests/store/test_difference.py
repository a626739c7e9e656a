"""What two headers do not have in common, in names and in the sentence that a person reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from llama_assets.store import BadHeader
from llama_assets.store.difference import Difference, difference

F16, F32 = np.float16, np.float32
TENSORS = {"a": ((4, 32), F32), "b": ((4, 32), F16)}


def header(folder: Path, meta: dict[str, str] | None = None, tensors=None, tokens: int = 9) -> bytes:
    """A whole file, small enough to be its own first bytes."""
    path = folder / "x.gguf"
    writer = GGUFWriter(str(path), "qwen3vl")
    for key, value in {"general.name": "m", "tokenizer.chat_template": "{{ a }}", **(meta or {})}.items():
        writer.add_string(key, value)
    writer.add_token_list([f"t{number}" for number in range(tokens)])
    for name, (shape, kind) in (tensors or TENSORS).items():
        writer.add_tensor(name, np.zeros(shape, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("changed", "found", "says"),
    [
        ({}, Difference(), "the header is the same, so its tensor data differs"),
        ({"meta": {"tokenizer.chat_template": "{{ b }}"}}, Difference(template=True),
         "of the header only the chat template differs; tensor data was not read"),
        ({"meta": {"tokenizer.chat_template": "{{ b }}", "general.name": "n", "general.url": "u"}},
         Difference(template=True, keys=("general.name", "general.url")),
         "the chat template differs; metadata differs: general.name, general.url; tensor data was not read"),
        ({"tokens": 10}, Difference(arrays=("tokenizer.ggml.tokens",)), "lists differ: tokenizer.ggml.tokens; "),
        ({"tensors": {"a": ((4, 32), F16), "b": ((4, 32), F16)}}, Difference(retyped=("a",)),
         "tensors: 1 of another type (a); "),
        ({"tensors": {"b": ((8, 32), F16), "c": ((4, 32), F16), "d": ((4, 32), F16)}},
         Difference(added=("c", "d"), gone=("a",), reshaped=("b",)),
         "tensors: 2 new (c, d), 1 gone (a), 1 of another shape (b); "),
        ({"tensors": dict(reversed(TENSORS.items()))}, Difference(where=2), "tensors: 2 at another place; "),
    ],
    ids=["nothing", "template", "template and metadata", "vocabulary", "type", "table", "order"],
)  # fmt: skip
def test_what_differs_is_named(tmp_path, changed, found, says):
    old, new = header(tmp_path), header(tmp_path, **changed)
    assert difference(old, new) == found
    assert str(found).startswith(says) and ("tensor data" in str(found))
    assert difference(new, new) == Difference()


def test_many_names_are_counted(tmp_path):
    many = {f"t{number}": ((4, 32), F32) for number in range(9)}
    says = str(difference(header(tmp_path), header(tmp_path, tensors={**TENSORS, **many})))
    assert says == "tensors: 9 new (t0, t1, t2, t3 and 5 more); tensor data was not read"


def test_bytes_that_end_inside_the_header_are_an_error_and_no_difference(tmp_path):
    whole = header(tmp_path)
    with pytest.raises(BadHeader, match=r"m\.gguf"):
        difference(whole, whole[:200], "m.gguf")
