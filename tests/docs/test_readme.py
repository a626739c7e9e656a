"""A person who does what README says gets what README says."""

from __future__ import annotations

import re
import shlex
import struct
from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from llama_assets.catalog import load
from llama_assets.demo.hub import LoopbackHub
from llama_assets.demo.models import repo_files
from llama_assets.settings import Settings
from tests.conftest import ROOT
from tests.demo_run import DemoRun

from .reference import graph, short

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
LINES = [line.split("  #")[0].strip() for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
SELECTIONS = [line for line in LINES if line.startswith("dagster asset materialize")]
OURS = [line for line in LINES if line.startswith("llama-assets ")]
OURS += re.findall(r"^\| `(llama-assets [^`]+)`", TEXT, re.MULTILINE)


def test_the_two_commands_stand_in_the_first_fifteen_lines():
    first = "\n".join(TEXT.splitlines()[:15])
    assert "make demo" in first and "make ui" in first


@pytest.mark.parametrize("line", SELECTIONS)
def test_a_selection_selects_something(line):
    words = shlex.split(line)
    assert words[words.index("-m") + 1] == "llama_assets.definitions"
    found = graph()
    chosen = dg.AssetSelection.from_string(words[words.index("--select") + 1]).resolve(found)
    assert chosen & found.materializable_asset_keys


@pytest.fixture(scope="module")
def finished(demo_run: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun]:
    """A copy of the demo with its hub up again."""
    copied = demo_run.copy(tmp_path_factory.mktemp("readme") / "copy")
    with LoopbackHub() as hub:
        for model in load().models:
            hub.push(model.repo, repo_files(model.repo, copied.home / "models"))
        yield replace(copied, environment={**copied.environment, "HF_ENDPOINT": hub.url})


@pytest.mark.parametrize("line", sorted(set(OURS)))
def test_a_command_can_be_run_as_it_stands(line, finished):
    session = str(finished.session)
    words = shlex.split(line.replace(".llama-assets/results/sessions/*", session).replace("ROWS", session))
    words = [word for word in words if word != "--open"]  # no browser of ours
    done = finished.run(*words, *(["--dry-run"] if words[1:3] == ["lease", "hold"] else []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_the_lines_of_the_environment_file_are_settings(monkeypatch):
    lines = [line for line in LINES if re.match(r"[A-Z_]+=", line)]
    assert lines
    for line in lines:
        name, _, value = line.partition("=")
        assert name in Settings.variables()
        monkeypatch.setenv(name, value)
    Settings.read()


def test_the_end_of_the_demo_is_as_shown(demo_run):
    (shown,) = (block for kind, block in BLOCKS if kind == "text")
    for start in re.findall(
        r"^(VERDICT|recommended|not judged|report|next +make ui|qwen3vl-8b|[ ]+p50 s.*)", shown, re.M
    ):
        assert re.search(rf"^{start}", demo_run.output, re.MULTILINE), start


def test_the_graphs_table_has_every_asset():
    told = set(re.findall(r"^\| `([\w/<>]+)` \|", TEXT, re.MULTILINE))
    assert told == {short(key) for key in graph().get_all_asset_keys()}


def test_the_pictures_are_there_and_small():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert len(pictures) == 3
    for picture in pictures:
        data = (ROOT / picture).read_bytes()
        assert data.startswith(b"\x89PNG") and struct.unpack(">II", data[16:24]) == (1400, 900)
        assert len(data) < 300_000
