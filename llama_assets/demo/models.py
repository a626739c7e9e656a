"""What the seed's three repos hold, generated: model and projector files under their real names, a few MB in all.

Here: names, sizes and precisions of each repo, and a cache so that a second run makes nothing. Not here: tensors
(`networks.py`), and how a hub serves files (`hub.py`).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from llama_assets.demo.networks import Kind, Precision, Size, write_projector, write_text

# The 4B is the smaller and faster one, as in life; the projector of MiniCPM-V needs a text width of 128.
SMALL = Size(layers=2, width=64, vision_layers=2, vision_width=32)
LARGE = Size(layers=3, width=128, vision_layers=2, vision_width=64)
MIDDLE = Size(layers=2, width=128, vision_layers=2, vision_width=32)


@dataclass(frozen=True)
class Network:
    """One network and the files that hold it. Different seeds are different networks of one shape."""

    kind: Kind
    size: Size
    models: Mapping[str, Precision]
    projectors: Mapping[str, Precision]
    seed: int = 0


# Names as the repos have them: two precisions of projector beside each Qwen3-VL, one beside MiniCPM-V.
REPOS: Mapping[str, Network] = {
    "Qwen/Qwen3-VL-8B-Instruct-GGUF": Network(
        "qwen3vl",
        LARGE,
        {"Qwen3VL-8B-Instruct-Q4_K_M.gguf": "Q4_K_M", "Qwen3VL-8B-Instruct-Q8_0.gguf": "Q8_0"},
        {"mmproj-Qwen3VL-8B-Instruct-F16.gguf": "F16", "mmproj-Qwen3VL-8B-Instruct-Q8_0.gguf": "Q8_0"},
        seed=9,
    ),
    "openbmb/MiniCPM-V-4_5-gguf": Network(
        "minicpmv",
        MIDDLE,
        {"MiniCPM-V-4_5-Q4_K_M.gguf": "Q4_K_M", "MiniCPM-V-4_5-Q8_0.gguf": "Q8_0"},
        {"mmproj-model-f16.gguf": "F16"},
        seed=45,
    ),
    "Qwen/Qwen3-VL-4B-Instruct-GGUF": Network(
        "qwen3vl",
        SMALL,
        {"Qwen3VL-4B-Instruct-Q4_K_M.gguf": "Q4_K_M", "Qwen3VL-4B-Instruct-Q8_0.gguf": "Q8_0"},
        {"mmproj-Qwen3VL-4B-Instruct-F16.gguf": "F16", "mmproj-Qwen3VL-4B-Instruct-Q8_0.gguf": "Q8_0"},
        seed=38,
    ),
}


def repo_files(repo: str, cache: Path, seed: int = 0) -> dict[str, Path]:
    """The files of one of the seed's repos by their names there; made in `cache` if they are not in it.

    Another `seed` is another revision of the repo: the same names, other bytes.

    Raises:
        KeyError: the repo is none of `REPOS`.
    """
    network = REPOS[repo]
    return generate(cache, Network(network.kind, network.size, network.models, network.projectors, network.seed + seed))


def generate(cache: Path, network: Network) -> dict[str, Path]:
    """The files of any network, by name, as paths below `cache`; those that are there already are not made again."""
    folder = cache / _fingerprint(network)
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=cache, prefix=".making-"))
        try:
            for name, precision in network.models.items():
                write_text(making / name, network.kind, network.size, precision, network.seed)
            for name, precision in network.projectors.items():
                write_projector(making / name, network.kind, network.size, precision, network.seed)
            making.chmod(0o755)
            making.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was as quick, and made the same bytes
                raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return {name: folder / name for name in (*network.models, *network.projectors)}


def _fingerprint(network: Network) -> str:
    """Changes when the bytes would: with the arguments, this code, and the libraries that draw and write."""
    code = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("models.py", "networks.py"))
    said = f"{network} numpy {version('numpy')} gguf {version('gguf')}"
    return hashlib.sha256(said.encode() + code).hexdigest()[:16]
