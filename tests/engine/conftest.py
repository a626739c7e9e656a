"""Two tiny real models, a broken one, and engines that serve them: nothing here is mocked."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from llama_assets import catalog
from llama_assets.demo import llama_swap as standing_in
from llama_assets.demo.models import SMALL, Network, generate
from llama_assets.engine import Served, SwapClient, local_swap
from llama_assets.engine.process import WORKER, free_ports

STANDIN = Path(standing_in.__file__)
REAL_SWAP = os.environ.get("LLAMA_SWAP_BIN")
REAL_SERVER = os.environ.get("LLAMA_SERVER_BIN") or shutil.which("llama-server")
ENGINE = catalog.Engine(arguments=("--threads", "1"), load_timeout_seconds=60)
NAMES = {"m-Q4_K_M.gguf": "Q4_K_M"}, {"mmproj-F16.gguf": "F16"}

needs_swap = pytest.mark.skipif(not REAL_SWAP, reason="LLAMA_SWAP_BIN names no llama-swap binary")
needs_server = pytest.mark.skipif(not REAL_SERVER, reason="LLAMA_SERVER_BIN names no llama-server binary")
SWAPS = ["standin", "llama_swap"] if REAL_SWAP else ["standin"]
ROUTERS = ["router"] if REAL_SERVER else []


@dataclass(frozen=True)
class Question:
    """What engine.Ask asks for."""

    prompt: str = "Describe the photo."
    image_jpeg: bytes = b""
    max_tokens: int = 60
    timeout_s: float = 60.0
    grammar: str | None = 'root ::= "{\\"score\\": " [1-9] "}"'
    json_schema: dict[str, Any] | None = None
    logprobs: int = 0


def photo(colour: str = "navy") -> bytes:
    """A small photo; another colour is another photo."""
    image = Image.new("RGB", (160, 120), colour)
    ImageDraw.Draw(image).ellipse((20, 20, 90, 80), fill="white")
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    """`one` and `two` work, `broken` is a model file cut short; `one` also answers as `first`."""
    cache = tmp_path_factory.mktemp("models")
    found = {}
    for seed, name in enumerate(("one", "two", "broken")):
        files = generate(cache, Network("qwen3vl", SMALL, *NAMES, seed=seed))
        aliases = ("first",) if name == "one" else ()
        model = catalog.Model(
            id=name, repo=f"demo/{name}-GGUF", quant="Q4_K_M", mmproj="F16", context=3072, aliases=aliases
        )
        found[name] = Served(model, f"{seed}" * 64, files["m-Q4_K_M.gguf"], files["mmproj-F16.gguf"])
    cut = cache / "cut.gguf"
    cut.write_bytes(found["broken"].model_file.read_bytes()[:20_000])
    return {**found, "broken": replace(found["broken"], model_file=cut)}


@pytest.fixture(scope="module", params=SWAPS)
def swap(request: pytest.FixtureRequest) -> SwapClient:
    """A client of the stand-in, and of the real llama-swap where there is one."""
    client: SwapClient = request.getfixturevalue(request.param)
    return client


@pytest.fixture(scope="module")
def standin(models: dict[str, Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwapClient]:
    with local_swap(
        swap_command("standin"), list(models.values()), ENGINE, tmp_path_factory.mktemp("swap"), WORKER
    ) as client:
        yield client


@pytest.fixture(scope="module")
def llama_swap(models: dict[str, Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwapClient]:
    with local_swap(
        swap_command("llama_swap"), list(models.values()), ENGINE, tmp_path_factory.mktemp("swap"), WORKER
    ) as client:
        yield client


def swap_command(which: str) -> list[str]:
    return [sys.executable, str(STANDIN)] if which == "standin" else [str(REAL_SWAP)]


@pytest.fixture(scope="module")
def plain(models: dict[str, Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwapClient]:
    """A client of one llama-server that serves `one` and cannot swap."""
    from llama_assets.engine import command

    port = free_ports(1)
    log = (tmp_path_factory.mktemp("plain") / "log").open("wb")
    process = subprocess.Popen(command(models["one"], ENGINE, str(port), WORKER), stdout=log, stderr=log)
    with SwapClient(f"http://127.0.0.1:{port}") as client:
        _wait_for(client)
        yield client
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def router(models: dict[str, Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwapClient]:
    """A client of llama.cpp's own router."""
    folder = tmp_path_factory.mktemp("router")
    lines = ["version = 1"]
    for name, one in models.items():
        lines += [f"[{name}]", f"model = {one.model_file}", f"mmproj = {one.mmproj_file}", "ctx-size = 3072", "np = 1"]
    preset = folder / "presets.ini"
    preset.write_text("\n".join(lines) + "\n")
    port = free_ports(1)
    words = [str(REAL_SERVER), "--models-preset", str(preset), "--models-max", "1", "--port", str(port)]
    words += ["--host", "127.0.0.1", "--metrics", "--threads", "1", "--offline"]
    with (folder / "log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        with SwapClient(f"http://127.0.0.1:{port}") as client:
            _wait_for(client)
            yield client
        process.terminate()


def _wait_for(client: SwapClient) -> None:
    from llama_assets.engine import Unreachable

    while True:
        try:
            client.running()
        except Unreachable:
            continue
        return
