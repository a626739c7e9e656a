from collections.abc import Iterator

import pytest

from llama_assets.catalog import Model
from llama_assets.demo.hub import LoopbackHub
from llama_assets.hub import Hub, HubLimits

QWEN = "Qwen/Qwen3-VL-8B-Instruct-GGUF"
MINICPM = "openbmb/MiniCPM-V-4_5-gguf"
IMPATIENT = HubLimits(api_timeout_s=5, stall_s=1, first_wait_s=0, attempts=3, block_bytes=64 << 10)


@pytest.fixture
def site() -> Iterator[LoopbackHub]:
    """A hub on loopback that holds the seed's repos under their real file names."""
    with LoopbackHub() as site:
        stem = "Qwen3VL-8B-Instruct"
        names = [f"{stem}-{quant}.gguf" for quant in ("Q4_K_M", "Q8_0", "F16")]
        names += [f"mmproj-{stem}-{quant}.gguf" for quant in ("F16", "Q8_0")]
        site.push(QWEN, {"README.md": "first", **{name: name.encode() * 9999 for name in names}})
        names = ["MiniCPM-V-4_5-Q4_K_M.gguf", "MiniCPM-V-4_5-Q8_0.gguf", "mmproj-model-f16.gguf"]
        site.push(MINICPM, {name: name.encode() * 99 for name in names})
        yield site


@pytest.fixture
def hub(site: LoopbackHub) -> Hub:
    return Hub(site.url, limits=IMPATIENT)


@pytest.fixture
def qwen() -> Model:
    return Model(id="qwen3vl-8b", repo=QWEN, quant="Q4_K_M", mmproj="F16")


@pytest.fixture
def minicpm() -> Model:
    return Model(id="minicpm-v-4-5", repo=MINICPM, quant="Q4_K_M", mmproj="F16")
