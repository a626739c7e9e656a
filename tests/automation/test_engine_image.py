"""`engine_image` against a registry on loopback, and what it leaves in a real Dagster instance; the clock is ours."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from llama_assets import catalog as catalogs
from llama_assets.assets.serving import ENGINE
from llama_assets.automation.engine_image import engine_image_sensor
from llama_assets.definitions import build_defs
from llama_assets.platforms import kubernetes, local
from llama_assets.settings import Settings
from tests.registry.conftest import site
from tests.registry.loopback import LoopbackRegistry, always

__all__ = ["site"]

HOUR, DAY = 3600.0, 86400.0
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


class Ticks:
    """The sensor, ticked by hand at a time of ours; what it reports is stored as the daemon would."""

    def __init__(self, image: str) -> None:
        self.instance, self.cursor, self.now, self.skipped = dg.DagsterInstance.ephemeral(), None, 1e9, None
        self.catalog = catalogs.load()
        self.pin(image)

    def pin(self, image: str) -> None:
        """As a person does, and reloads the code location."""
        self.platform = kubernetes(Settings(platform="kubernetes", engine_image=image))
        chosen = self.platform.engine_image(self.catalog)
        self.sensor = engine_image_sensor(self.catalog, self.platform, chosen, clock=lambda: self.now)

    def tick(self, later: float = 0.0) -> list[str]:
        """What was reported: names of checks, and `engine` for a new image."""
        self.now += later
        said = self.sensor.evaluate_tick(dg.build_sensor_context(instance=self.instance, cursor=self.cursor))
        self.cursor, self.skipped = said.cursor, said.skip_message
        for event in said.asset_events:
            self.instance.report_runless_asset_event(event)
        return [getattr(event, "check_name", "engine") for event in said.asset_events]

    def version(self) -> str:
        return self.instance.get_latest_materialization_event(ENGINE).asset_materialization.tags[DATA_VERSION_TAG]

    def check(self, name: str):
        key = dg.AssetCheckKey(ENGINE, name)
        return self.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key].evaluation


def test_the_pinned_image_is_reported_once_and_asked_for_once_a_day(site: LoopbackRegistry):
    digest = site.push("swap", "cuda", "first")
    ticks = Ticks(f"{site.host}/swap:cuda@{digest}")
    assert ticks.tick() == ["engine", "available", "newest"]
    assert ticks.version() == digest and ticks.check("available").passed and ticks.check("newest").passed
    asked = len(site.heard)
    assert ticks.tick(HOUR) == [] and "again in 23 h" in ticks.skipped and len(site.heard) == asked == 2
    assert ticks.tick(23 * HOUR) == [] and ticks.skipped.startswith("as before") and len(site.heard) == 4
    ticks.cursor = None  # somebody reset the sensor: the instance knows what was reported
    assert ticks.tick() == []


def test_a_newer_digest_is_a_warning_with_the_line_to_write_and_pinning_it_is_news(site):
    old = site.push("swap", "cuda", "first")
    ticks = Ticks(f"{site.host}/swap:cuda@{old}")
    ticks.tick()
    new = site.push("swap", "cuda", "second")
    assert ticks.tick(DAY) == ["newest"]
    found, line = ticks.check("newest"), f"LLAMA_ASSETS_ENGINE_IMAGE={site.host}/swap:cuda@{new}"
    assert not found.passed and found.severity == WARN and f"`{line}`" in found.description
    assert ticks.version() == old, "never upgraded by itself"
    assert ticks.tick(DAY) == []
    ticks.pin(line.partition("=")[2])
    assert ticks.tick() == ["engine", "available", "newest"], "a changed pin is looked at without waiting for the day"
    assert ticks.version() == new and ticks.check("newest").passed


def test_a_digest_that_is_gone_turns_available_red_and_back(site):
    digest = site.push("swap", "cuda", "first")
    ticks = Ticks(f"{site.host}/swap:cuda@{digest}")
    ticks.tick()
    body = site.manifests[f"swap/{digest}"]
    site.delete("swap", digest)
    assert ticks.tick(DAY) == ["available"]
    found = ticks.check("available")
    assert not found.passed and found.severity == ERROR and digest in found.description
    site.manifests[f"swap/{digest}"] = body
    assert ticks.tick(DAY) == ["available"] and ticks.check("available").passed


def test_trouble_of_the_registry_is_nothing_red_before_three_days_and_hides_nothing_known(site):
    digest = site.push("swap", "cuda", "first")
    ticks = Ticks(f"{site.host}/swap:cuda@{digest}")
    ticks.tick()
    site.faults = [always(503)]
    assert ticks.tick(DAY) == [] and "answered 503" in ticks.skipped and ticks.check("available").passed
    for later in (HOUR, 36 * HOUR, 34 * HOUR):
        assert ticks.tick(later) == []
    assert ticks.tick(HOUR) == ["available", "newest"]
    found = ticks.check("available")
    assert not found.passed and found.severity == WARN and found.description.startswith("not known: ")
    assert ticks.tick(HOUR) == []
    site.faults = []
    assert ticks.tick(HOUR) == ["available", "newest"] and ticks.check("available").passed


def test_retry_after_is_obeyed_across_ticks(site):
    digest = site.push("swap", "cuda", "first")
    ticks = Ticks(f"{site.host}/swap:cuda@{digest}")
    site.faults = [always(429, headers={"Retry-After": str(int(5 * HOUR))})]
    assert ticks.tick() == ["engine"], "the pin is known without the registry"
    asked = len(site.heard)
    for _ in range(4):
        assert ticks.tick(HOUR) == [] and len(site.heard) == asked == 1
    site.faults = []
    assert ticks.tick(HOUR) == ["available", "newest"]


def test_a_private_image_is_a_warning_at_once_because_waiting_does_not_help(site):
    ticks = Ticks(f"{site.host}/swap@sha256:{'0' * 64}")
    site.faults = [always(401, headers={"WWW-Authenticate": 'Basic realm="x"'})]
    assert ticks.tick() == ["engine", "available", "newest"]
    assert ticks.check("available").severity == WARN and "private or not there" in ticks.check("available").description


@pytest.mark.parametrize("tag", ["", ":cuda"])
def test_an_image_without_a_digest_is_told_the_line_that_pins_it(site, tag):
    digest = site.push("swap", tag[1:] or "latest", "first")
    ticks = Ticks(f"{site.host}/swap{tag}")
    assert ticks.tick() == ["engine", "available", "newest"]
    assert ticks.version() == f"{site.host}/swap{tag}" and ticks.check("newest").passed
    line = f"`LLAMA_ASSETS_ENGINE_IMAGE={site.host}/swap:{tag[1:] or 'latest'}@{digest}`"
    assert line in ticks.check("newest").description
    site.manifests.clear()
    assert ticks.tick(DAY) == ["available", "newest"] and ticks.check("available").severity == ERROR


def test_an_image_without_a_tag_is_only_asked_for(site):
    digest = site.push("swap", "cuda", "first")
    ticks = Ticks(f"{site.host}/swap@{digest}")
    assert ticks.tick() == ["engine", "available", "newest"] and len(site.heard) == 1
    assert ticks.check("newest").passed and "without a tag" in ticks.check("newest").description


def test_a_tag_that_is_gone_is_a_warning_while_the_digest_can_be_pulled(site):
    digest = site.push("swap", "cuda", "first")
    ticks = Ticks(f"{site.host}/swap:gone@{digest}")
    ticks.tick()
    assert ticks.check("available").passed
    assert not ticks.check("newest").passed and ticks.check("newest").severity == WARN


def executed(platform) -> dict[str, dg.AssetCheckEvaluation]:
    """Both checks, as somebody executes them in the UI."""
    both = dg.AssetSelection.checks(*(dg.AssetCheckKey(ENGINE, name) for name in ("available", "newest")))
    job = dg.Definitions(jobs=[dg.define_asset_job("by_hand", both)])
    result = dg.Definitions.merge(build_defs(catalogs.load(), platform), job).resolve_job_def("by_hand")
    return {one.check_name: one for one in result.execute_in_process().get_asset_check_evaluations()}


def test_the_checks_executed_by_hand_look_now(site):
    digest = site.push("swap", "cuda", "first")
    platform = kubernetes(Settings(platform="kubernetes", engine_image=f"{site.host}/swap:cuda@{digest}"))
    assert {name: found.passed for name, found in executed(platform).items()} == {"available": True, "newest": True}
    site.delete("swap", digest)
    site.push("swap", "cuda", "second")
    assert {name: found.severity for name, found in executed(platform).items()} == {"available": ERROR, "newest": WARN}


def test_the_checks_are_green_where_the_engine_is_no_pod_of_ours(tmp_path):
    found = executed(local(Settings(store=tmp_path, results=tmp_path)))
    assert {(one.passed, one.description) for one in found.values()} == {(True, "the engine is no pod of ours")}


def test_the_sensor_runs_by_default_where_the_engine_is_a_pod_of_ours(tmp_path):
    def names(platform):
        return {sensor.name: sensor for sensor in build_defs(catalogs.load(), platform).sensors}

    sensor = names(kubernetes(Settings(platform="kubernetes")))["engine_image"]
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert "engine_image" not in names(kubernetes(Settings(platform="kubernetes", engine_url="http://other:8080")))
    assert "engine_image" not in names(local(Settings(store=tmp_path, results=tmp_path)))
