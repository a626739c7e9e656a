"""Tiny GGUF files that are right in every field the store looks at, written by the gguf package, not by us.

    model = model_gguf(tmp_path / "m.gguf", size=300_000)      # random tensor data, the same for the same seed
    mmproj = mmproj_gguf(tmp_path / "p.gguf")                  # fits it
    parts = [as_part(model, "model"), as_part(mmproj, "mmproj")]

They cannot be loaded by an engine: they hold a header and a few tensors. `demo/models.py` makes ones that can.
"""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGUFWriter

from llama_assets.store import Part, Store

WIDTH, DEEPSTACK = 64, 1


def model_gguf(
    path: Path,
    *,
    size: int = 20_000,
    seed: int = 0,
    arch: str = "qwen3vl",
    width: int = WIDTH,
    context: int = 4096,
    vocabulary: int = 100,
    split: tuple[int, int] | None = None,
) -> Path:
    """A text model with about `size` bytes of tensor data; `split` is (split.no, split.count)."""
    writer = _model_writer(path, arch, width, context, vocabulary)
    if split:
        writer.add_uint16("split.no", split[0])
        writer.add_uint16("split.count", split[1])
    _tensor(writer, "token_embd.weight", (max(size // 2 // width, 1), width), np.float16, seed)
    _tensor(writer, "output_norm.weight", (width,), np.float32, seed + 1)
    return _write(writer, path)


def bare_header(path: Path, *, tensor_bytes: int, vocabulary: int = 100) -> Path:
    """The header of a model with one tensor of so many bytes, which are not written: zeros may follow."""
    writer = _model_writer(path, "qwen3vl", WIDTH, 4096, vocabulary)
    writer.add_tensor_info("token_embd.weight", (tensor_bytes // 2 // WIDTH, WIDTH), np.dtype(np.float16), tensor_bytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return path


def mmproj_gguf(path: Path, *, width: int = WIDTH, deepstack: int = DEEPSTACK, seed: int = 0) -> Path:
    """A Qwen3-VL projector; it fits `model_gguf` as it stands."""
    writer = GGUFWriter(str(path), "clip")
    writer.add_type("mmproj")
    writer.add_file_type(1)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("qwen3vl_merger")
    writer.add_vision_projection_dim(width)
    _tensor(writer, "mm.2.weight", (width, 4 * width), np.float16, seed)
    _tensor(writer, "mm.2.bias", (width,), np.float32, seed)
    for layer in range(deepstack):
        _tensor(writer, f"v.deepstack.{layer}.fc2.bias", (width,), np.float32, seed)
    return _write(writer, path)


def as_part(path: Path, role: Literal["model", "mmproj"], part: int = 1, parts: int = 1) -> Part:
    """What the Hub would say about the file."""
    data = path.read_bytes()
    return Part(role, part, parts, hashlib.sha256(data).hexdigest(), len(data))


def fingerprint(name: str) -> str:
    """A fingerprint for tests that do not care what it is made of."""
    return hashlib.sha256(name.encode()).hexdigest()


def put(store: Store, part: Part, path: Path, block: int = 4096) -> None:
    """Write the file into the store as a download does."""
    with store.blob(part) as writer:
        data = path.read_bytes()
        while not writer.whole and writer.have < part.size:
            writer.write(data[writer.have : writer.have + block])
        writer.finish()


def published(store: Store, folder: Path, model: str = "m", seed: int = 0) -> str:
    """Publish a pair whose model file depends on the seed; returns the fingerprint."""
    folder.mkdir(parents=True, exist_ok=True)
    files = model_gguf(folder / f"model{seed}.gguf", seed=seed), mmproj_gguf(folder / "mmproj.gguf")
    parts = [as_part(files[0], "model"), as_part(files[1], "mmproj")]
    for part, path in zip(parts, files, strict=True):
        put(store, part, path)
    store.publish(model, fingerprint(f"{model}{seed}"), parts, source=f"org/{model}@{seed}")
    return fingerprint(f"{model}{seed}")


def _model_writer(path: Path, arch: str, width: int, context: int, vocabulary: int) -> GGUFWriter:
    writer = GGUFWriter(str(path), arch)
    writer.add_file_type(15)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    if arch == "qwen3vl":
        writer.add_num_deepstack_layers(DEEPSTACK)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{number}" for number in range(vocabulary)])
    writer.add_token_scores([0.5] * vocabulary)
    writer.add_chat_template("{{ messages }}")
    return writer


def _tensor(writer: GGUFWriter, name: str, shape: tuple[int, ...], kind: type, seed: int) -> None:
    writer.add_tensor(name, np.random.default_rng(seed).standard_normal(shape).astype(kind))


def _write(writer: GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
