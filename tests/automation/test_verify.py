"""Files that are served are hashed again by the calendar, and a flipped bit turns the check red; no card is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from llama_assets import catalog as catalogs
from llama_assets.assets import gguf
from llama_assets.automation.conditions import automation_sensor
from llama_assets.definitions import build_defs
from llama_assets.demo.hub import LoopbackHub
from llama_assets.launch import Task, TaskFailed
from llama_assets.platforms import Platform
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work
from tests.automation.test_conditions import A, B, World, damage
from tests.tasks.test_repair import MODEL, REPO, Desk

FIRST_OF_MONTH = datetime(2029, 2, 1, 3, tzinfo=UTC)  # 04:00 in Berlin


def asked(world: World, at: datetime) -> set[dg.AssetCheckKey]:
    """The checks of files that are asked for; a world's own ticks tell the assets."""
    found = dg.evaluate_automation_conditions(
        defs=world.defs, instance=world.instance, cursor=world.cursor, evaluation_time=at
    )
    world.cursor, world.now = found.cursor, at
    return {subset.key for subset in found._requested_subsets} & checks(A, B)


def checks(*models: str) -> set[dg.AssetCheckKey]:
    return {dg.AssetCheckKey(gguf.key(model), name) for model in models for name in gguf.CHECKS}


def test_once_a_month_what_is_there_is_hashed_again_and_damage_is_found(tmp_path):
    world = World(tmp_path)
    assert asked(world, FIRST_OF_MONTH - timedelta(days=1)) == set()
    world.report("1", A)
    assert asked(world, FIRST_OF_MONTH - timedelta(hours=2)) == set()
    world.run(f"gguf/{A}")
    asked(world, FIRST_OF_MONTH - timedelta(minutes=1))
    due = asked(world, FIRST_OF_MONTH + timedelta(seconds=20))
    assert due == checks(A), "and not of B, which is not there"
    damage(world, A)
    job = world.defs.resolve_implicit_global_asset_job_def()
    subset = job.get_subset(asset_selection=set(), asset_check_selection=due)
    done = subset.execute_in_process(instance=world.instance, raise_on_error=False)
    red = {one.check_name for one in done.get_asset_check_evaluations() if not one.passed}
    assert red == {"sha256"}
    assert asked(world, FIRST_OF_MONTH + timedelta(minutes=2)) == set(), "once"
    assert asked(world, FIRST_OF_MONTH + timedelta(days=3)) == set()


class Alone:
    """One model's files from a loopback hub in a real store: the graph, what automation asks for, and its runs."""

    def __init__(self, folder: Path, hub: LoopbackHub) -> None:
        self.desk, self.cursor, self.now = Desk(hub, folder), None, FIRST_OF_MONTH
        self.desk.push(1)
        found = catalogs.load().model_copy(update={"models": (MODEL,)})
        self.catalog = found.model_copy(update={"benchmark": found.benchmark.model_copy(update={"incumbent": None})})
        self.platform = Platform("local", self.desk.platform.settings, self)
        self.defs, self.instance = build_defs(self.catalog, self.platform), dg.DagsterInstance.ephemeral()

    def run(self, task: Task, environment: Mapping[str, str], line: Callable[[str], None]) -> None:
        """See `Launcher.run`: the real task, in this process."""
        try:
            payload = {"answer": Work(task, self.platform, self.desk.lines.append, Stop()).do().model_dump(mode="json")}
        except Exception as error:
            payload = {"failed": str(error)}
        messages = [("opened", {"extras": {}}), ("report_custom_message", {"payload": payload}), ("closed", None)]
        for method, params in messages:
            line(json.dumps({"__dagster_pipes_version": "0.1", "method": method, "params": params}))
        if "failed" in payload:
            raise TaskFailed(task, "exit status 1")

    def looked_at(self, *assets: dg.AssetKey) -> dict[str, bool]:
        """These assets are made and every check of the files is executed; what the checks said."""
        job = self.defs.resolve_implicit_global_asset_job_def()
        graph = self.defs.resolve_asset_graph()
        checks = dg.AssetSelection.checks_for_assets(gguf.key("m")).resolve_checks(graph)
        wanted = {one for one in checks if assets or one.name in gguf.CHECKS}
        subset = job.get_subset(asset_selection=set(assets), asset_check_selection=wanted)
        done = subset.execute_in_process(instance=self.instance, raise_on_error=False)
        return {one.check_name: one.passed for one in done.get_asset_check_evaluations()}

    def asked(self, after: timedelta = timedelta(minutes=1)) -> set[dg.AssetKey]:
        self.now += after
        found = dg.evaluate_automation_conditions(
            self.defs, self.instance, dg.AssetSelection.assets(gguf.key("m")), evaluation_time=self.now,
            cursor=self.cursor,
        )  # fmt: skip
        self.cursor = found.cursor
        return {one.key for one in found.results if not one.true_subset.is_empty and isinstance(one.key, dg.AssetKey)}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    with LoopbackHub() as hub:
        yield Alone(tmp_path, hub)


def test_a_flipped_bit_is_found_and_that_file_alone_is_fetched_from_the_hub_by_itself(alone: Alone) -> None:
    files = gguf.key("m")
    assert alone.looked_at(files)["sha256"] and alone.asked() == set()
    before = alone.desk.sent()
    size = alone.desk.flip()
    assert alone.looked_at() == {"sha256": False, "header": True, "projector": True}, "the monthly look"
    assert alone.asked() == {files}
    assert alone.looked_at(files) == {"updated": True, "sha256": True, "header": True, "projector": True}
    assert alone.desk.sent() - before == size and not alone.desk.verify()
    assert alone.asked() == alone.asked(timedelta(days=1)) == set()
    alone.desk.flip()
    assert not alone.looked_at()["sha256"] and alone.asked() == {files}, "another red check"


def test_what_the_hub_has_no_more_is_asked_for_once_a_red_check(alone: Alone) -> None:
    files = gguf.key("m")
    alone.looked_at(files)
    alone.asked()
    alone.desk.flip()
    alone.looked_at()
    alone.desk.hub.push(REPO, {"m-Q4_K_M.gguf": b"GGUF, and not that any more"})
    assert alone.asked() == {files}
    assert alone.asked() == set(), "not while that run is under way, nor before it said something"
    assert not alone.looked_at()["sha256"], "looked at again, as red as before"
    assert alone.asked() == set()


def test_the_one_switch_counts_for_it(tmp_path):
    world = World(tmp_path)
    graph = world.defs.resolve_asset_graph()
    assert checks(A, B) <= automation_sensor(world.catalog).asset_selection.resolve_checks(graph)
