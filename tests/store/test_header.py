"""Headers are read as the gguf package writes them, and every way a file can be no GGUF is told by name."""

import io
import struct
from pathlib import Path

import pytest
from gguf.constants import GGML_QUANT_SIZES, LlamaFileType

from llama_assets.store import BadHeader, header
from tests.store.pairs import mmproj_gguf, model_gguf


def test_says_what_the_gguf_package_wrote(tmp_path: Path) -> None:
    read = header.check(model_gguf(tmp_path / "m.gguf", context=8192, width=64))
    assert (read.architecture, read.context_length, read.file_type) == ("qwen3vl", 8192, "Q4_K_M")
    assert (read.number("{arch}.embedding_length"), read.text("tokenizer.chat_template")) == (64, "{{ messages }}")
    assert read.shapes["output_norm.weight"] == (64,)
    assert read.projector is None


def test_says_nothing_where_the_header_does_not(tmp_path: Path) -> None:
    read = header.check(mmproj_gguf(tmp_path / "p.gguf"))
    assert (read.architecture, read.projector, read.file_type) == ("clip", "qwen3vl_merger", "F16")
    assert read.context_length is None
    assert read.text("general.file_type") is None  # a number is no text


def test_a_vocabulary_larger_than_the_window_is_walked_over(tmp_path: Path) -> None:
    path = model_gguf(tmp_path / "m.gguf", vocabulary=150_000)
    read = header.check(path)
    assert read.text("tokenizer.chat_template") == "{{ messages }}"  # it stands behind the vocabulary
    assert read.data_offset > 2 * (1 << 20)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<!DOCTYPE html><html>", "not a GGUF file, it begins with b'<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a GGUF file"),
        (b"", "ends inside its header"),
        (b"GGUF" + struct.pack("<I", 1), "is GGUF version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(100), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 5), "counts are damaged"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60), "the header is damaged"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 99), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 9, 1 << 50), "array of"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQQ", 9, 8, 5, 1 << 62), "damaged"),
    ],
)
def test_what_is_no_header_is_named(content: bytes, problem: str) -> None:
    with pytest.raises(BadHeader) as error:
        header.parse(io.BytesIO(content), "m.gguf")
    assert problem in str(error.value)
    assert str(error.value).startswith("m.gguf: ")


def test_a_file_cut_anywhere_is_found(tmp_path: Path) -> None:
    whole = model_gguf(tmp_path / "m.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in (*range(0, len(whole), 997), len(whole) - 40):
        cut.write_bytes(whole[:length])
        with pytest.raises(BadHeader):
            header.check(cut)


def test_tensors_that_lie_on_each_other_or_off_the_alignment_are_found(tmp_path: Path) -> None:
    whole = model_gguf(tmp_path / "m.gguf").read_bytes()
    second = whole.index(b"output_norm.weight") + len("output_norm.weight") + 4 + 8 + 4  # its offset field
    assert struct.unpack_from("<Q", whole, second)[0] > 0
    for offset, problem in ((32, "lies on tensor"), (7, "not on a multiple of 32"), (1 << 30, "was cut")):
        damaged = tmp_path / "damaged.gguf"
        damaged.write_bytes(whole[:second] + struct.pack("<Q", offset) + whole[second + 8 :])
        with pytest.raises(BadHeader, match=problem):
            header.check(damaged)


def test_the_tables_are_those_of_the_gguf_package() -> None:
    """The package has tables for what llama.cpp writes; a type it knows must not be a different one here."""
    theirs = {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}
    ours = header._BLOCKS
    assert {kind: ours[kind] for kind in ours if kind in theirs} == {
        kind: theirs[kind] for kind in theirs if kind in ours
    }
    assert len(set(ours) & set(theirs)) >= 30
    names = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}
    assert {kind: name for kind, name in header._FILE_TYPES.items() if kind in names} == {
        kind: names[kind] for kind in header._FILE_TYPES if kind in names
    }


def test_a_projector_fits_the_model_whose_width_it_gives(tmp_path: Path) -> None:
    """Qwen3-VL hands its deepstack layers over beside the main path: (1 + layers) times the width."""
    model = header.check(model_gguf(tmp_path / "m.gguf", width=64))
    fits = header.projector_fits(model, header.check(mmproj_gguf(tmp_path / "a.gguf", width=64, deepstack=1)))
    assert fits.fits is True
    for width, deepstack in ((32, 1), (64, 0), (64, 2)):
        other = header.check(mmproj_gguf(tmp_path / "b.gguf", width=width, deepstack=deepstack))
        misfit = header.projector_fits(model, other)
        assert misfit.fits is False
        assert f"width {width * (1 + deepstack)}" in misfit.why and "takes 128" in misfit.why


def test_a_projector_of_a_kind_not_known_here_is_unknown_and_not_guessed(tmp_path: Path) -> None:
    whole = mmproj_gguf(tmp_path / "p.gguf").read_bytes().replace(b"qwen3vl_merger", b"future_merger1")
    (tmp_path / "p.gguf").write_bytes(whole)
    model = header.check(model_gguf(tmp_path / "m.gguf"))
    fit = header.projector_fits(model, header.check(tmp_path / "p.gguf"))
    assert fit.fits is None
    assert "unknown" in fit.why and "future_merger1" in fit.why
