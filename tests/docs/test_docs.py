"""The documents say what is: every name in the code is in them, and every name in them is in the code."""

from __future__ import annotations

import ast
import inspect
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llama_assets.catalog import load
from llama_assets.cli import main
from llama_assets.settings import Settings
from llama_assets.verdict import warnings
from llama_assets.verdict.judgement import EFFECTS
from tests.conftest import ROOT
from tests.verdict.states import judgement

from .reference import graph, leaves, rewritten, short

PACKAGE = ROOT / "llama_assets"
REFERENCE = ROOT / "docs" / "reference.md"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MODELS = [model.id for model in load().models]


def section(title: str, document: Path = REFERENCE) -> str:
    """One `## ` section of a document."""
    parts = re.split(r"^## ", document.read_text(), flags=re.MULTILINE)
    (found,) = (part for part in parts if part.startswith(f"{title}\n"))
    return found


def cells(title: str) -> list[list[str]]:
    """The section's table lines as cells, without the head."""
    lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def unquoted(cell: str) -> str:
    return cell.strip("` ")


def paths(value: Any, above: str = "") -> Iterator[str]:
    """Every key of a JSON value as a dotted path; a list's items are `[]`, a model's name is `<m>`."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from paths(below, f"{above}.{'<m>' if key in MODELS else key}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            yield from paths(item, f"{above}[]")
    else:
        yield above


def test_the_references_tables_are_the_codes(request):
    text = REFERENCE.read_text()
    if request.config.getoption("--rewrite-golden"):
        REFERENCE.write_text(rewritten(text))
    assert REFERENCE.read_text() == rewritten(text), "`make golden` rewrites the tables"


def test_every_variable_is_in_the_reference_and_every_one_in_a_document_exists():
    found = re.compile(r"\b(?:LLAMA_[A-Z_]*[A-Z]|HF_(?:TOKEN|ENDPOINT))\b")
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    read = set(Settings.variables()) | set(re.findall(r"\"(LLAMA_[A-Z_]+[A-Z])\"", source))
    for document in DOCUMENTS:
        assert set(found.findall(document.read_text())) <= read, document
    assert set(found.findall(REFERENCE.read_text())) >= set(Settings.variables())
    assert {"LLAMA_ASSETS_TASK", "LLAMA_ASSETS_PARENT_PID"} <= read, "a variable the reference explains is gone"


def test_every_warning_code_is_in_the_reference_with_the_effects_it_can_have():
    told = {unquoted(line[0]): set(re.findall(r"`(\w+)`", line[2])) for line in cells("Warnings")}
    assert tuple(told) == tuple(check.__name__ for check in warnings.CHECKS)
    assert set(told) == set(warnings.CODES)
    for check in warnings.CHECKS:
        source = inspect.getsource(check)
        if "_mixed(" in source:
            source += inspect.getsource(warnings._mixed)
        strings = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
        assert told[check.__name__] == strings & set(EFFECTS), check.__name__


def test_every_key_of_judge_json_is_in_the_reference(tmp_path: Path):
    told = {unquoted(line[0]) for line in cells("Verdict")}
    found = set()
    for state in ("better", "stopped", "rated"):
        judged = json.loads(json.dumps(judgement(tmp_path / state, state).to_json()))
        for finding in (*judged["warnings"], *judged["quiet"]):
            finding["figures"] = 0
        for figures in judged["models"].values():
            figures["failures"] = 0
        renamed = dict(zip(judged["models"], MODELS, strict=False))
        judged["models"] = {renamed[m]: figures for m, figures in judged["models"].items()}
        for one in judged.pop("truth").values():
            one["models"] = {renamed[m]: figures for m, figures in one["models"].items()}
            found |= set(paths({"truth": {"<truth>": one}}))
        found |= set(paths(judged))
    whole = {"recommendation", "session.lease", "models.<m>.tie", "warnings"}  # null or empty in one of them
    assert told == found - whole


def test_every_key_of_session_json_is_in_the_reference(demo_run):
    told = {unquoted(line[0]) for line in cells("session.json")}
    record = json.loads((demo_run.session / "session.json").read_text())
    for arm in record["arms"].values():
        arm["engine"], arm["canary"] = 0, 0
    record["question"]["schema"], record["tenants"] = 0, 0
    assert told == set(paths(record))


# Of candidates, which the demo has none of.
OF_CANDIDATES = {("gguf/<m>", name) for name in ("candidate", "tried", "tried_error")} | {
    ("benchmark/<m>", f"{of}candidate{what}") for of in ("", "engine_") for what in ("", "_decision", "_reason")
}

# Of ratings, which the demo's photos have none of.
OF_RATINGS = {("verdict", "<m>/auc"), ("verdict", "<m>/auc_stars")}


def test_every_metadata_key_is_in_the_reference(demo_run, monkeypatch):
    told = {(unquoted(line[0]), unquoted(line[1])) for line in cells("Metadata")}
    monkeypatch.chdir(demo_run.folder)
    found = set()
    nodes = graph()
    with dg.DagsterInstance.from_config(".") as instance:
        for key in nodes.get_all_asset_keys():
            event = instance.get_latest_materialization_event(key)
            labels = {*nodes.get(key).metadata, *(event.asset_materialization.metadata if event else ())}
            found |= {(short(key), _without_model(label)) for label in labels if not label.startswith("dagster")}
    of_a_hold = ("seconds", "ended_by", "ended", "tenants", "put_back")  # which the demo does not make
    alone = {("gpu_lease", name) for name in of_a_hold}
    of_the_sensor = {("huggingface/<m>", "changed")}  # likewise
    assert told - alone - of_the_sensor - OF_CANDIDATES - OF_RATINGS == found
    assert all(f'"{name}"' in (PACKAGE / "assets" / "gpu.py").read_text() for _, name in alone)


def _without_model(label: str) -> str:
    model, slash, name = label.partition("/")
    return f"<m>/{name}" if slash and model in MODELS else label


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_targets_named_in_a_document_exist(document):
    known = dict(leaves(main, "llama-assets"))
    groups = {name.rsplit(" ", 1)[0] for name in known}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in code(document):
        words = line.split("  #")[0].split()
        if words[:1] == ["llama-assets"] and len(words) > 1:
            name = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in known), None)
            if name is None:
                assert " ".join(words[:2]) in groups, line
                continue
            options = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
            assert {word for word in words if word.startswith("--")} <= options, line
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word and word != "..."} <= targets, line


def code(document: Path) -> list[str]:
    """Lines of code blocks, and code in sentences."""
    text = document.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    sentences = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [*lines, *re.findall(r"`([^`\n]+)`", sentences)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_links_named_in_a_document_exist(document):
    text = document.read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        target, _, anchor = link.partition("#")
        linked = (document.parent / target) if target else document
        assert "://" in link or linked.exists(), link
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), link
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    for named in re.findall(r"`([\w./-]+(?:\.(?:py|md|yaml|toml|txt|json|j2)|/))`", text):
        there = any((folder / named).exists() for folder in (ROOT, PACKAGE, document.parent))
        made_by_a_run = named.startswith((".llama-assets/", ".dagster/")) or f'"{named}"' in source
        assert there or made_by_a_run, named


def anchors(document: Path) -> set[str]:
    """As the forges make them from headings."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_room_is_in_the_layout_with_the_order_that_is_checked():
    layout = ROOT / "docs" / "layout.md"
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    rooms -= {"__init__"}
    assert set(re.findall(r"^\| `(\w+)(?:/|\.py)`", section("The rooms", layout), re.MULTILINE)) == rooms

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lines = [set(re.findall(r"\w+", line)) & rooms for line in contracts[0]["layers"]]
    (block,) = re.findall(r"```\n(.*?)```", section("Who may import whom", layout), re.DOTALL)
    assert [set(re.findall(r"\w+", line)) for line in block.splitlines()] == [line for line in lines if line]
