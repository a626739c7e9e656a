"""A verified download of 2 GiB onto tmpfs: our task, beside `hf download` (which does not verify) and curl.

All three are processes of their own, from start to exit, and read the same two files (model and projector) from one
loopback hub. What arrived is measured too: a download that brought nothing would be the fastest.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from figures.hub import hub_process
from figures.measuring import Goal, How, Program, Ran, in_turns, line, run, scratch
from llama_assets.catalog import Model
from llama_assets.demo.hub import LoopbackHub, Zeros
from llama_assets.demo.models import repo_files
from llama_assets.launch import Task
from llama_assets.launch.task import VARIABLE
from llama_assets.tasks.messages import Download

TMPFS = Path("/dev/shm")
SIZE, QUICK_SIZE, RESERVE = 2 << 30, 8 << 20, 1 << 30  # bytes
BESIDE_HF, BESIDE_CURL, MEMORY = Goal(1.0, "ratio"), Goal(2.0, "ratio"), Goal(64, "ours")
REPO = "Qwen/Qwen3-VL-4B-Instruct-GGUF"
WEIGHTS, PROJECTOR = "Qwen3VL-4B-Instruct-Q4_K_M.gguf", "mmproj-Qwen3VL-4B-Instruct-F16.gguf"
MODEL = Model(id="qwen3vl-4b", repo=REPO, quant="Q4_K_M", mmproj="F16", context=3072)


def measure(how: How) -> Iterator[dict[str, Any]]:
    volume = TMPFS if TMPFS.is_dir() else None
    with scratch(volume) as folder:
        size = QUICK_SIZE if how.quick else _what_fits(folder)
        with hub_process(partial(fill, folder / "made", size)) as hub:
            programs = [ours(folder, hub.url), hf(folder, hub.url), curl(folder, hub.url)]
            runs = {program.name: partial(_arrived, program, size) for program in programs}
            found = in_turns(how, runs)
    seconds = {name: [one.seconds for one in ran] for name, ran in found.items()}
    peaks = {name: [one.peak_mib for one in ran] for name, ran in found.items()}
    typed = {program.name: str(_named(program, folder)) for program in programs}
    told = {"bytes": size, "volume": str(volume or "a temporary folder, no tmpfs")}
    if size < SIZE and not how.quick:
        told["note"] = f"{size >> 20} MiB instead of {SIZE >> 20}: {volume} has no room for more"
    for figure, rival, goal in ("download", "hf download", BESIDE_HF), ("download_curl", "curl", BESIDE_CURL):
        beside = (rival, seconds[rival], typed[rival])
        yield line(figure, how, goal, "s", seconds["ours"], typed["ours"], beside, **told)
    beside = ("hf download", peaks["hf download"], typed["hf download"])
    yield line("download_memory", how, MEMORY, "MiB", peaks["ours"], typed["ours"], beside, **told)


def ours(folder: Path, hub: str) -> Program:
    """The task as a launcher starts it."""
    task = Task("download", "figures", "gguf", Download(model=MODEL).model_dump(mode="json"), MODEL.id)
    environment = {"HF_ENDPOINT": hub, "LLAMA_ASSETS_STORE": str(folder / "ours"), **task.environment()}
    return Program("ours", (sys.executable, "-m", "llama_assets.tasks"), environment, folder)


def hf(folder: Path, hub: str) -> Program:
    """The Hub library's own command, over plain HTTP as we do; it shows no progress without a terminal."""
    command = Path(sys.executable).with_name("hf")
    environment = {
        "HF_ENDPOINT": hub, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    arguments = (str(command), "download", REPO, WEIGHTS, PROJECTOR, "--local-dir", str(folder / "hf download"))
    return Program("hf download", arguments, environment, folder)


def curl(folder: Path, hub: str) -> Program:
    """The least that a download can cost."""
    wanted: list[str] = []
    for name in (WEIGHTS, PROJECTOR):
        wanted += ["--output", str(folder / "curl" / name), f"{hub}/{REPO}/resolve/main/{name}"]
    arguments = ("curl", "--fail", "--silent", "--show-error", "--location", "--create-dirs", *wanted)
    return Program("curl", arguments, {}, folder)


def fill(made: Path, size: int, hub: LoopbackHub) -> None:
    """A real pair of generated files; the model is filled up with zeros, which no reader of its header minds."""
    files = repo_files(REPO, made)
    weights = Zeros(size, files[WEIGHTS].read_bytes()[:size])
    hub.push(REPO, {WEIGHTS: weights, PROJECTOR: files[PROJECTOR]})


def _arrived(program: Program, size: int) -> Ran:
    """One run into an empty folder, which is empty again afterwards."""
    assert program.folder is not None
    folder = program.folder / program.name
    try:
        ran = run(program)
        largest = max((path.stat().st_size for path in folder.rglob("*") if path.is_file()), default=0)
        assert largest == size, f"{program.name} brought {largest} of {size} bytes"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ran


def _what_fits(folder: Path) -> int:
    size = SIZE
    while size + RESERVE > shutil.disk_usage(folder).free and size > QUICK_SIZE:
        size //= 2
    return size


def _named(program: Program, folder: Path) -> Program:
    """The same with the scratch folder as $DIR and a short task: a line is to be read."""
    there = {name: value.replace(str(folder), "$DIR") for name, value in program.environment.items()}
    if VARIABLE in there:
        there[VARIABLE] = f'{{"kind": "download", "model": "{MODEL.id}", ...}}'
    arguments = tuple(value.replace(str(folder), "$DIR") for value in program.arguments)
    return replace(program, environment=there, arguments=arguments)
