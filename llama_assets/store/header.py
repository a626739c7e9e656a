"""GGUF headers: what a model file says about itself, and whether all of it is there.

Here: reading a header in a tenth of a second and one window of memory, the structure check, and whether a projector
fits a model. Not here: which file should be which (`publish`), whether the bytes are the promised ones (`blobs`).

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A header is magic, version, counts, key-values,
tensor infos, then padding to the alignment; tensor offsets count from there. The arrays of a vocabulary are nearly
all of it (6 MB of 6.5 for 150,000 tokens), so they are walked over and not kept.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from llama_assets.store.errors import BadHeader, in_words

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_WINDOW_BYTES = 1 << 20
_MOST = 1 << 20  # keys, tensors: more than any model has by far, less than would exhaust memory on damaged counts
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_WIDTHS = {kind: struct.calcsize(form) for kind, form in _SCALARS.items()}

# ggml type -> (elements, bytes) of one block; ggml's type table, kept equal to the gguf package's by a test
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18),
}  # fmt: skip

# general.file_type -> the name people know; llama.cpp's llama_ftype, kept equal to the gguf package's by a test
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip

Value = int | float | bool | str


@dataclass(frozen=True)
class Tensor:
    """One tensor: `shape` as stored (ne[0] first), `offset` from `Header.data_offset`; bytes None for a new type."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    bytes: int | None


@dataclass(frozen=True)
class Header:
    """A parsed header. `meta` holds scalars and strings; arrays are walked over, `arrays` says from where to where."""

    version: int
    meta: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int
    arrays: Mapping[str, tuple[int, int]]

    def number(self, key: str) -> int | None:
        """The whole number under `key`; `{arch}` stands for the architecture. None if the header does not say."""
        value = self.meta.get(key.replace("{arch}", self.architecture or "?"))
        return int(value) if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, key: str) -> str | None:
        """The string under `key`, None if the header does not say."""
        value = self.meta.get(key)
        return value if isinstance(value, str) else None

    @property
    def architecture(self) -> str | None:
        """`clip` for a projector, else the text model's: `qwen3vl`, `qwen3`..."""
        return self.text("general.architecture")

    @property
    def context_length(self) -> int | None:
        """Tokens the model was trained for."""
        return self.number("{arch}.context_length")

    @property
    def file_type(self) -> str | None:
        """The quantization most tensors have, by the name in file names: `Q4_K_M`."""
        number = self.number("general.file_type")
        return None if number is None else _FILE_TYPES.get(number)

    @property
    def projector(self) -> str | None:
        """The projector's kind, for a projector file."""
        return self.text("clip.vision.projector_type") or self.text("clip.projector_type")

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> shape."""
        return {tensor.name: tensor.shape for tensor in self.tensors}


@dataclass(frozen=True)
class Fit:
    """Whether a projector fits a model: `fits` is None where the headers do not say enough. `why` is a sentence."""

    fits: bool | None
    why: str


def read(path: Path, name: str = "") -> Header:
    """The header of a file, without reading its tensors. `name` is how errors call the file.

    Raises:
        BadHeader: no GGUF, a version we cannot read, or the header runs past the end of the file.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return parse(file, name or path.name)


def check(path: Path, name: str = "") -> Header:
    """`read`, and every tensor lies on the alignment, inside the file, and on no other tensor.

    Finds cut files, HTML pages, LFS pointers and damaged counts. A flipped byte in a tensor only the sha256 finds.

    Raises:
        BadHeader: with what is wrong.
        OSError: the file cannot be read.
    """
    name = name or path.name
    header, size = read(path, name), path.stat().st_size
    alignment = header.number("general.alignment") or 32
    end, before = 0, ""
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.offset):
        if tensor.offset % alignment:
            raise BadHeader(name, f"tensor {tensor.name} begins at {tensor.offset}, not on a multiple of {alignment}")
        if tensor.offset < end:
            raise BadHeader(name, f"tensor {tensor.name} lies on tensor {before}")
        end, before = tensor.offset + (tensor.bytes or 0), tensor.name
        if header.data_offset + end > size:
            missing = in_words(header.data_offset + end - size)
            raise BadHeader(name, f"the file ends {missing} before tensor {tensor.name} does: it was cut")
    if len(header.shapes) < len(header.tensors):
        raise BadHeader(name, "a tensor name stands twice")
    return header


def projector_fits(model: Header, mmproj: Header) -> Fit:
    """Whether the projector gives embeddings as wide as the model takes them.

    llama.cpp refuses the pair at load when the widths differ (tools/mtmd/mtmd.cpp, "mismatch between text model and
    mmproj"): the model's is embedding_length times 1 + n_deepstack_layers, the projector's is read from the tensor
    that `clip_n_mmproj_embd` in tools/mtmd/clip.cpp takes for its kind. Kinds not listed here are unknown, not guessed.
    """
    width, deepstack = model.number("{arch}.embedding_length"), model.number("{arch}.n_deepstack_layers") or 0
    kind, given = mmproj.projector, _projector_width(mmproj)
    if width is None:
        return Fit(None, f"unknown: the model's header names no embedding length ({model.architecture})")
    if given is None:
        return Fit(None, f"unknown: how wide a projector of kind {kind or '(not named)'} is, is not known here")
    taken = width * (1 + deepstack)
    says = f"the projector ({kind}) gives embeddings of width {given}, the model ({model.architecture}) takes {taken}"
    return Fit(given == taken, says)


def _projector_width(mmproj: Header) -> int | None:
    kind, shapes = mmproj.projector, mmproj.shapes
    match kind:
        case "qwen3vl_merger":
            layers = {name.split(".")[2] for name in shapes if name.startswith("v.deepstack.")}
            main = shapes.get("mm.2.bias")
            return main[0] * (1 + len(layers)) if main else None
        case "qwen2vl_merger" | "qwen2.5vl_merger":
            shape = shapes.get("mm.2.bias")
        case "resampler":  # MiniCPM-V
            shape = shapes.get("resampler.proj.weight")
        case "gemma3":
            shape = shapes.get("mm.input_projection.weight")
        case _:
            shape = None
    return shape[0] if shape else None


def parse(file: BinaryIO, name: str) -> Header:
    """The header at the beginning of `file`; reads no further than its end and keeps one window in memory.

    Raises:
        BadHeader: no GGUF, a version we cannot read, or `file` ends inside the header.
    """
    window = _Window(file, name)
    if (magic := window.take(4)) != MAGIC:
        raise BadHeader(name, f"is not a GGUF file, it begins with {magic + window.rest(12)!r}")
    version = window.number("I")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = f"is a big-endian GGUF (version {swapped})" if swapped in VERSIONS else f"is GGUF version {version}"
        raise BadHeader(name, f"{what}; little-endian versions {VERSIONS} can be served")
    tensors, keys = window.number("Q"), window.number("Q")
    if max(tensors, keys) > _MOST:
        raise BadHeader(name, f"its counts are damaged: {tensors} tensors, {keys} keys")
    meta: dict[str, Value] = {}
    arrays: dict[str, tuple[int, int]] = {}
    for _ in range(keys):
        key, kind, began = window.string(), window.number("I"), window.at
        value = window.value(kind)
        if value is None:
            arrays[key] = began, window.at
        else:
            meta[key] = value
    infos = tuple(_tensor(window) for _ in range(tensors))
    alignment = meta.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise BadHeader(name, f"general.alignment is {alignment!r}")
    return Header(version, meta, infos, -(-window.at // alignment) * alignment, arrays)


def _tensor(window: _Window) -> Tensor:
    name, dimensions = window.string(), window.number("I")
    if dimensions > 4:
        raise BadHeader(window.name, f"tensor {name} has {dimensions} dimensions")
    shape = tuple(window.number("Q") for _ in range(dimensions))
    kind, offset = window.number("I"), window.number("Q")
    elements = 1
    for length in shape:
        elements *= length
    block = _BLOCKS.get(kind)
    return Tensor(name, shape, kind, offset, -(-elements // block[0]) * block[1] if block else None)


class _Window:
    """A moving window over a file that is read once, from the beginning."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file, self._buffer, self._at, self._before = file, b"", 0, 0

    @property
    def at(self) -> int:
        """Bytes read so far."""
        return self._before + self._at

    def take(self, count: int) -> bytes:
        self._need(count)
        self._at += count
        return self._buffer[self._at - count : self._at]

    def rest(self, count: int) -> bytes:
        """Up to `count` bytes more, for a message."""
        return self._buffer[self._at : self._at + count]

    def number(self, form: str) -> int:
        return int.from_bytes(self.take(struct.calcsize("<" + form)), "little")

    def string(self) -> str:
        length = self.number("Q")
        if length > 16 * _WINDOW_BYTES:
            raise BadHeader(self.name, f"a string of {length} bytes at {self.at}: the header is damaged")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Value | None:
        """The value of this kind; None for an array, which is walked over."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            self._array(self.number("I"), self.number("Q"))
            return None
        if kind not in _SCALARS:
            raise BadHeader(self.name, f"value of unknown type {kind} at {self.at}: the header is damaged")
        (scalar,) = struct.unpack("<" + _SCALARS[kind], self.take(_WIDTHS[kind]))
        return scalar  # type: ignore[no-any-return]  # a struct code of _SCALARS gives a Value

    def _array(self, kind: int, count: int) -> None:
        if kind in _WIDTHS:
            self._skip(count * _WIDTHS[kind])
        elif kind == _STRING:
            self._skip_strings(count)
        else:  # llama.cpp takes no arrays of arrays either
            raise BadHeader(self.name, f"array of {count} values of type {kind} at {self.at}: the header is damaged")

    def _skip_strings(self, count: int) -> None:
        """300,000 of them in one vocabulary: the loop stays inside the window and calls nothing it can avoid."""
        unpack, done = struct.Struct("<Q").unpack_from, 0
        while done < count:
            self._need(8)
            buffer, at, last = self._buffer, self._at, len(self._buffer) - 8
            while done < count and at <= last:
                at += 8 + unpack(buffer, at)[0]
                done += 1
            self._at = min(at, len(buffer))
            self._skip(max(at - len(buffer), 0))

    def _skip(self, count: int) -> None:
        if count > 1 << 40:
            raise BadHeader(self.name, f"a value of {count} bytes at {self.at}: the header is damaged")
        while count > 0:
            self._need(1)
            step = min(count, len(self._buffer) - self._at)
            self._at += step
            count -= step

    def _need(self, count: int) -> None:
        while len(self._buffer) - self._at < count:
            more = self._file.read(_WINDOW_BYTES)
            if not more:
                raise BadHeader(
                    self.name, f"ends inside its header, after {in_words(self._before + len(self._buffer))}"
                )
            self._before += self._at
            self._buffer, self._at = self._buffer[self._at :] + more, 0
