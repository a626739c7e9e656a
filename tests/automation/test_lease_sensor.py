"""`gpu_lease_sensor` on a real cluster, as an account that may only read: what a person sees of the card in Dagster."""

from __future__ import annotations

import dagster as dg
import pytest

from llama_assets import catalog as catalogs
from llama_assets.assets.gpu import GPU_LEASE, RESTORED
from llama_assets.automation.gpu_lease import gpu_lease_sensor
from llama_assets.definitions import build_defs
from llama_assets.gpu.vigil import VigilLimits
from llama_assets.gpu.workloads import Cluster as Observer
from llama_assets.platforms import kubernetes, local
from llama_assets.settings import Settings
from tests.cluster import until
from tests.gpu.place import TIMES, Place

LIMITS = VigilLimits(after_lifetime_s=0.5, heart_s=1.0)


class Ticks:
    """The sensor, ticked by hand; what it reports is stored as the daemon would."""

    def __init__(self, catalog, platform, limits=LIMITS):
        self.instance = dg.DagsterInstance.ephemeral()
        self.sensor = gpu_lease_sensor(catalog, platform, limits)
        self.cursor = None

    def tick(self):
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        said = self.sensor.evaluate_tick(context)
        self.cursor = said.cursor
        for event in said.asset_events:
            self.instance.report_runless_asset_event(event)
        self.skipped = said.skip_message
        return said.asset_events

    def check(self):
        storage = self.instance.event_log_storage
        for record in storage.get_asset_check_execution_history(RESTORED, limit=1):
            return record.event.dagster_event.asset_check_evaluation_data
        return None


@pytest.fixture
def watched(place: Place, monkeypatch: pytest.MonkeyPatch):
    """A tenant of its own, and the catalog that names it."""

    def make(name: str, kubeconfig: str):
        monkeypatch.setenv("KUBECONFIG", kubeconfig)
        found = catalogs.load()
        catalog = found.model_copy(
            update={
                "tenants": (catalogs.TenantEntry(namespace=place.namespace, name=name),),
                "gpu": found.gpu.model_copy(update={"lease": name}),
            }
        )
        settings = Settings(platform="kubernetes", namespace=place.namespace, engine_url="http://127.0.0.1:1")
        return catalog, kubernetes(settings)

    return make


@pytest.mark.long  # what it decides is in tests/gpu/test_vigil.py
def test_a_dead_holders_tenant_turns_the_check_red_until_it_is_put_back(place, watched, reader):
    tenant = place.workload("seen", asleep=True)
    lease = place.lease(tenant, name="seen")
    heart = Observer(place.kube, place.namespace, "seen", TIMES)
    ticks = Ticks(*watched("seen", reader))
    (free,) = ticks.tick()
    assert isinstance(free, dg.AssetObservation) and free.description == "free"
    heart.beat_heart("a reaper")
    ticks.tick()
    assert ticks.check().passed
    heart.beat_heart("a reaper")
    assert ticks.tick() == [] and ticks.skipped == "as before: free"
    process = place.process(lease)
    process.stdout.readline()
    until("the tenant is down", lambda: place.at(tenant)[0] == 0)
    process.kill()
    process.wait()
    heart.beat_heart("a reaper")
    (held,) = ticks.tick()
    assert held.metadata["held_by"].value.startswith("test/")
    assert any(f"{tenant} at 0" in text for text in held.metadata["with_a_note"].value)

    def red() -> bool:
        heart.beat_heart("a reaper")
        ticks.tick()
        return not ticks.check().passed

    until("the check is red", red, 20)
    assert "has not renewed for" in ticks.check().description and str(tenant) in ticks.check().description
    place.reaper(lease).once()
    heart.beat_heart("a reaper")
    events = ticks.tick()
    assert [type(event) for event in events] == [dg.AssetObservation, dg.AssetCheckEvaluation]
    assert events[0].description == "free" and ticks.check().passed
    assert len(ticks.instance.fetch_observations(GPU_LEASE, limit=10).records) == 3


def test_an_api_server_that_is_away_is_a_reason_to_skip_and_no_news(cluster, wire, watched):
    ticks = Ticks(*watched("away", str(wire.kubeconfig)))
    ticks.tick()
    wire.cut()
    assert ticks.tick() == [] and "does not answer" in ticks.skipped
    wire.mend()
    ticks.tick()
    assert "does not answer" not in (ticks.skipped or "")


def test_the_sensor_is_there_in_a_cluster_runs_by_default_and_not_on_one_machine(tmp_path):
    catalog = catalogs.load()
    there = {sensor.name: sensor for sensor in build_defs(catalog, kubernetes(Settings(platform="kubernetes"))).sensors}
    sensor = there["gpu_lease_sensor"]
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING and sensor.minimum_interval_seconds == 60
    here = build_defs(catalog, local(Settings(store=tmp_path, results=tmp_path))).sensors
    assert "gpu_lease_sensor" not in {sensor.name for sensor in here}
