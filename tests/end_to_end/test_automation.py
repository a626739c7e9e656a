"""The switch `automation`, turned on in a real Dagster: a revision goes from the Hub to a verdict by itself, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llama_assets import catalog as catalogs
from llama_assets.demo.hub import LoopbackHub
from llama_assets.demo.models import repo_files
from llama_assets.tasks.downtime import Ledger
from tests.demo_run import DemoRun
from tests.end_to_end.test_launched_runs import Ui

MODEL = "qwen3vl-4b"
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "llama_assets"}
TURN_ON = """
mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { __typename } }
"""
TICKS = """
query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
  sensorState { ticks(limit: 500) { status runIds error { message } } } } } }
"""
RUNS = """
{ runsOrError(limit: 50) { ... on Runs { results { runId status tags { key value } assetSelection { path } } } } }
"""
# The project's own graph; only the switch is looked at each second, not each minute.
QUICK = """
import dagster as dg
from llama_assets.automation.conditions import automation_sensor
from llama_assets.definitions import build_defs
from llama_assets.platforms import open_platform
from llama_assets.settings import Settings

@dg.definitions
def quick():
    platform = open_platform(Settings.read())
    catalog = platform.catalog()
    built = build_defs(catalog, platform)
    others = [sensor for sensor in built.sensors if sensor.name != "automation"]
    return dg.Definitions(assets=built.assets, asset_checks=built.asset_checks, executor=built.executor,
                          sensors=[*others, automation_sensor(catalog, every_seconds=1)])
"""
WORKSPACE = "load_from:\n  - python_file: {relative_path: quick.py, location_name: llama_assets}\n"


@pytest.fixture
def hub(demo_run: DemoRun, tmp_path: Path) -> Iterator[LoopbackHub]:
    """The demo's repos; the smallest model's has another revision since."""
    with LoopbackHub() as hub:
        for model in catalogs.load().models:
            hub.push(model.repo, repo_files(model.repo, demo_run.home / "models"))
        model = catalogs.load().model(MODEL)
        hub.push(model.repo, repo_files(model.repo, tmp_path / "models", seed=1), title="A better one")
        yield hub


@pytest.fixture
def ui(demo_run: DemoRun, hub: LoopbackHub, tmp_path: Path) -> Iterator[Ui]:
    copied = demo_run.copy(tmp_path / "copy")
    (copied.folder / "quick.py").write_text(QUICK)
    (copied.folder / "workspace.yaml").write_text(WORKSPACE)
    (copied.folder / "questions").symlink_to(catalogs.PACKAGED.parent / "questions")
    text = catalogs.PACKAGED.read_text()
    (copied.folder / "catalog.yaml").write_text(text.replace("photos: 100", "photos: 8"))
    environment = {"HF_ENDPOINT": hub.url, "LLAMA_ASSETS_CATALOG": str(copied.folder / "catalog.yaml")}
    with Ui(replace(copied, environment={**copied.environment, **environment})) as started:
        yield started


class Switch:
    """The sensor `automation` and what it asked for."""

    def __init__(self, ui: Ui) -> None:
        self.ui = ui
        self.selector = {**LOCATION, "sensorName": "automation"}

    def on(self) -> None:
        assert self.ui.ask(TURN_ON, selector=self.selector)["startSensor"]["__typename"] == "Sensor"

    def ticks(self) -> int:
        ticks = self.ui.ask(TICKS, selector=self.selector)["sensorOrError"]["sensorState"]["ticks"]
        assert not [tick["error"] for tick in ticks if tick["error"]]
        return sum(tick["status"] != "STARTED" for tick in ticks)

    def runs(self) -> list[tuple[str, set[str]]]:
        """Status and assets of the runs that no person asked for, oldest first."""
        found = []
        for run in self.ui.ask(RUNS)["runsOrError"]["results"]:
            if {"key": "llama-assets/automatic", "value": "true"} in run["tags"]:
                found.append((run["status"], {"/".join(asset["path"]) for asset in run["assetSelection"]}))
        return found[::-1]

    def until(self, what: str, seen: Callable[[], bool]) -> None:
        until = time.monotonic() + 300
        while not seen():
            assert time.monotonic() < until, f"{what}: {self.runs()}\n{self.ui.log.read_text()[-4000:]}"
            time.sleep(0.3)


@pytest.mark.long
def test_a_new_revision_is_fetched_checked_served_measured_and_judged_by_itself_and_once(ui):
    switch = Switch(ui)
    assert switch.runs() == [], "off at first"
    switch.on()
    ended = {"SUCCESS", "FAILURE", "CANCELED"}
    switch.until("two runs have ended", lambda: [run[0] in ended for run in switch.runs()] == [True, True])
    after = switch.ticks()
    switch.until("it has looked twice more", lambda: switch.ticks() > after + 2)
    assert switch.runs() == [
        ("SUCCESS", {f"gguf/{MODEL}"}),
        ("SUCCESS", {"llama_swap", "gpu_lease", f"benchmark/{MODEL}", "verdict"}),
    ]
    (use,) = Ledger(ui.bench.home / "results" / "downtime.jsonl").uses()[-1:]
    assert use.automatic and use.whole and use.purpose == f"benchmark of {MODEL}"
