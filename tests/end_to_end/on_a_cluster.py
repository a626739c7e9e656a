"""One installation of the demo on the test kit for the whole file of tests: images, namespaces, a watch of the card.

`World` is that installation with a Dagster on this machine beside it, both on one PostgreSQL. `CardWatch` sees every
change of every pod that wants the card, from before the first run to after the last.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from llama_assets import catalog as catalogs
from llama_assets.demo.cluster import flat_catalog, outside_environment
from llama_assets.demo.cluster_install import (
    NAMESPACE,
    NAMESPACES,
    TENANT,
    TENANT_NAMESPACE,
    Chosen,
    Installation,
    Patience,
)
from llama_assets.demo.cluster_site import CARD, find_site
from llama_assets.demo.cluster_world import Images, build_world
from tests.cluster import KIT, Cluster, until
from tests.conftest import ROOT
from tests.demo_run import own_environment
from tests.manifests.calls import Recorded, recorded

WORLD_IMAGE = "llama-assets-demo-world:test"
ANOTHER_IMAGE = "llama-assets-demo-engine:test"
ROUTER = "llama-server"  # the kit's image of llama.cpp's own server, which is a router too
LOCK = Path("/tmp/llama-assets-cluster-demo.lock")  # these namespaces have one name, however many sessions there are
OUT = ROOT / "figures" / "out" / "cluster.jsonl"
MODELS = ("qwen3vl-4b", "qwen3vl-8b")
ENDS = ("SUCCESS", "FAILURE", "CANCELED")
LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on InvalidSubsetError { message } ... on RunConfigValidationInvalid { errors { message } } } }
"""
RUN = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { status
  eventConnection { events { __typename ... on MessageEvent { message } } } } } }"""
FOUND = """{ assetNodes { assetKey { path } isMaterializable
  assetMaterializations(limit: 1) { runId metadataEntries { label
    ... on FloatMetadataEntry { floatValue } ... on IntMetadataEntry { intValue }
    ... on TextMetadataEntry { text } ... on BoolMetadataEntry { boolValue } } }
  assetChecksOrError { ... on AssetChecks { checks { name
    executionForLatestMaterialization { runId status evaluation { description } } } } } } }"""
STARTED = "{ runsOrError(filter: {statuses: [STARTED]}) { ... on Runs { results { runId } } } }"
CANCELED = """mutation ($id: String!) {
  terminateRun(runId: $id, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) { __typename } }"""
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "llama_assets"}
SWITCH = """
mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { ... on Sensor { id } __typename } }"""
SWITCH_OFF = """
mutation ($id: String!) { stopSensor(id: $id) { __typename } }"""
TICKS = """query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
  sensorState { ticks(limit: 500) { status error { message } } } } } }"""
AUTOMATIC = """{ runsOrError(limit: 100) { ... on Runs {
  results { status tags { key value } assetSelection { path } } } } }"""
KEYS = "{ assetNodes { assetKey { path } isMaterializable isExecutable } }"


@dataclass
class CardWatch:
    """Every pod that wants the card, as the API server tells its changes."""

    card: str = CARD
    using: set[str] = field(default_factory=set)
    most: int = 0
    seen: list[str] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None
    _stopped: bool = False

    def start(self, cluster: Cluster) -> None:
        threading.Thread(target=self._watch, args=(cluster,), daemon=True).start()

    def stop(self) -> None:
        self._stopped = True
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def again(self) -> None:
        """Count from here."""
        self.most = len(self.using)

    def _watch(self, cluster: Cluster) -> None:
        """A watch ends when the API server does; the next one begins with every pod there is."""
        command = ["kubectl", "get", "pods", "-A", "--watch", "--output-watch-events", "-o", "json"]
        environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        while not self._stopped:
            self.using.clear()
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as self._process:
                self._read(self._process)
            time.sleep(0.5)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:  # kubectl writes an event a line
            event = json.loads(line)
            self._event(event["type"], event["object"])

    def _event(self, kind: str, pod: dict[str, Any]) -> None:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        wants = any(self.card in (box["resources"].get("limits") or {}) for box in pod["spec"]["containers"])
        states = [one["state"] for one in pod["status"].get("containerStatuses") or []]
        if wants and pod["metadata"]["namespace"] in NAMESPACES:
            before = len(self.using)
            running = kind != "DELETED" and any("running" in state for state in states)
            (self.using.add if running else self.using.discard)(name)
            if len(self.using) != before:
                self.seen.append(f"{time.time():.1f} {sorted(self.using)}")
            self.most = max(self.most, len(self.using))


@dataclass
class World:
    """The demo, installed."""

    cluster: Cluster
    installation: Installation
    chosen: Chosen
    """What the cluster's own Dagster was installed with."""
    standin: str
    """Image of the stand-in engine, by digest."""
    router: str
    watch: CardWatch
    home: Path
    database_port: int
    ui_port: int
    recording: ExitStack
    """While it is open, the API server logs what our accounts call; closing it fills `recorded`."""
    recorded: Recorded
    timings: dict[str, float] = field(default_factory=dict)

    # -- from outside

    def environment(self, catalog: Path, engine_image: str) -> dict[str, str]:
        """A Dagster on this machine with another catalog and engine than the cluster's own."""
        settings = {**self.chosen.settings, "LLAMA_ASSETS_ENGINE_IMAGE": engine_image}
        chosen = Chosen(self.chosen.image, self.chosen.world, settings, catalog, cards=True)
        return outside_environment(self.installation, chosen, self.home, self.database_port)

    def started(self, environment: Mapping[str, str], select: str) -> subprocess.Popen[str]:
        """`dagster asset materialize`, as a person starts it."""
        command = [sys.executable, "-m", "dagster", "asset", "materialize"]
        return subprocess.Popen(
            [*command, "--select", select, "-m", "llama_assets.definitions"], cwd=self.home, env=dict(environment),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def materialize(self, environment: Mapping[str, str], select: str) -> tuple[int, str]:
        """Its exit status and output."""
        process = self.started(environment, select)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    # -- from inside

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The webserver's GraphQL, through a port-forward."""
        asked = {"query": query, "variables": variables}
        answer = httpx.post(f"http://127.0.0.1:{self.ui_port}/graphql", json=asked, timeout=60)
        assert answer.status_code == 200 and "errors" not in answer.json(), answer.text
        return answer.json()["data"]

    def launch_everything(self) -> str:
        """A run of every asset there is, as `Materialize all` of the UI starts it."""
        nodes = self.ask(KEYS)["assetNodes"]
        return self.launch(*("/".join(node["assetKey"]["path"]) for node in nodes if node["isExecutable"]))

    def launch(self, *assets: str) -> str:
        """A run of these, as the UI starts it."""
        selector = {
            "repositoryName": "__repository__", "repositoryLocationName": "llama_assets",
            "pipelineName": "__ASSET_JOB", "assetCheckSelection": None,
            "assetSelection": [{"path": asset.split("/")} for asset in assets],
        }  # fmt: skip
        found = self.ask(LAUNCH, params={"selector": selector, "mode": "default", "runConfigData": {}})["launchRun"]
        assert found["__typename"] == "LaunchRunSuccess", found
        return found["run"]["runId"]

    def ended(self, run: str, limit_s: float = 600) -> tuple[str, str]:
        """A run's final status and everything it said."""

        def over() -> dict[str, Any] | None:
            found = self.ask(RUN, id=run)["runOrError"]
            return found if found["status"] in ENDS else None

        found = until(f"the end of run {run}", over, limit_s)
        assert isinstance(found, dict)
        return found["status"], "\n".join(event.get("message", "") for event in found["eventConnection"]["events"])

    @contextmanager
    def switched_on(self, sensor: str) -> Iterator[None]:
        """A sensor that is off at first, on."""
        found = self.ask(SWITCH, selector={**LOCATION, "sensorName": sensor})["startSensor"]
        assert found["__typename"] == "Sensor", found
        try:
            yield
        finally:
            self.ask(SWITCH_OFF, id=found["id"])

    def two_more_ticks(self, sensor: str) -> None:
        """Return when it has looked twice again, without an error."""

        def ticks() -> int:
            asked = self.ask(TICKS, selector={**LOCATION, "sensorName": sensor})
            found = asked["sensorOrError"]["sensorState"]["ticks"]
            assert not [tick["error"] for tick in found if tick["error"]]
            return sum(tick["status"] != "STARTED" for tick in found)

        before = ticks()
        until("two more ticks", lambda: ticks() > before + 1, 300)

    def automatic_runs(self) -> list[tuple[str, frozenset[str]]]:
        """Status and assets of the runs that no person asked for, oldest first."""
        found = [
            (run["status"], frozenset("/".join(asset["path"]) for asset in run["assetSelection"]))
            for run in self.ask(AUTOMATIC)["runsOrError"]["results"]
            if {"key": "llama-assets/automatic", "value": "true"} in run["tags"]
        ]
        return found[::-1]

    def at_work(self) -> list[tuple[str, frozenset[str]]]:
        """Those of them that have not ended."""
        return [run for run in self.automatic_runs() if run[0] not in ENDS]

    def cancel_started(self) -> None:
        """As a person does it for the run of a killed command: nothing else ends that one, and it keeps its pool."""
        for run in self.ask(STARTED)["runsOrError"]["results"]:
            assert self.ask(CANCELED, id=run["runId"])["terminateRun"]["__typename"] == "TerminateRunSuccess"

    def words(self, run: str) -> str:
        """A run's status, and everything it has said so far."""
        found = self.ask(RUN, id=run)["runOrError"]
        said = (event.get("message", "") for event in found["eventConnection"]["events"])
        return "\n".join([found["status"], *said])

    def assets(self) -> dict[str, dict[str, Any]]:
        """Asset -> its newest materialization's run and metadata, and what its checks found of it."""
        found = {}
        for node in self.ask(FOUND)["assetNodes"]:
            (made,) = node["assetMaterializations"] or [{"runId": None, "metadataEntries": []}]
            ran = {
                check["name"]: check["executionForLatestMaterialization"]
                for check in node["assetChecksOrError"].get("checks") or []
            }
            checks = {
                name: (one["status"], (one["evaluation"] or {}).get("description")) for name, one in ran.items() if one
            }
            metadata = {entry.pop("label"): next(iter(entry.values()), None) for entry in made["metadataEntries"]}
            found["/".join(node["assetKey"]["path"])] = {"run": made["runId"], "checks": checks, **metadata}
        return found

    # -- the cluster

    def jobs(self, kind: str) -> list[dict[str, Any]]:
        """Jobs of one kind of task, oldest first."""
        found = self.cluster.kube.list("Job", NAMESPACE, labels=f"llama-assets/task={kind}")
        return sorted(found, key=lambda job: str(job["metadata"]["creationTimestamp"]))

    def sessions(self) -> list[Path]:
        """Folders of sessions on the claim llama-results, which the kit keeps on this machine; oldest first."""
        claim = self.cluster.kube.get("PersistentVolumeClaim", NAMESPACE, "llama-results")
        volume = self.cluster.kube.get("PersistentVolume", None, claim["spec"]["volumeName"])
        return sorted(Path(volume["spec"]["hostPath"]["path"]).glob("sessions/*"))

    def tenant(self) -> dict[str, Any]:
        """The tenant's Deployment."""
        return self.cluster.kube.get("Deployment", TENANT_NAMESPACE, TENANT)

    def engine(self) -> dict[str, Any]:
        """llama-swap's Deployment."""
        return self.cluster.kube.get("Deployment", NAMESPACE, "llama-swap")

    def another_standin(self, folder: Path) -> str:
        """The stand-in engine in an image that is not the same, by digest."""
        folder.mkdir()
        (folder / "Dockerfile").write_text(f"FROM {WORLD_IMAGE}\nENV ANOTHER_ENGINE=1\n")
        self.installation.site.build(ANOTHER_IMAGE, folder)
        return pinned(self.cluster, ANOTHER_IMAGE.partition(":")[0])

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Wall seconds, for the figures."""
        began = time.monotonic()
        yield
        self.timings[what] = round(time.monotonic() - began, 1)


def small_catalog(
    folder: Path,
    models: tuple[str, ...] = MODELS,
    candidate: Mapping[str, Any] | None = None,
    **changes: Mapping[str, Any],
) -> Path:
    """The packaged catalog with fewer models and photos; the first may try something; `changes` go into sections."""
    said = yaml.safe_load(catalogs.PACKAGED.read_text())
    said["models"] = {name: said["models"][name] for name in models}
    if candidate:
        said["models"][models[0]]["candidate"] = dict(candidate)
    said["engine"]["arguments"] = ["--threads", "1"]
    said["benchmark"] |= {"photos": 8, "max_tokens": 80, "incumbent": models[0]}
    for section, values in changes.items():
        said[section] |= values
    return flat_catalog(said, folder)


def pinned(cluster: Cluster, image: str) -> str:
    """The kit's image by its digest."""
    assert cluster.kit is not None
    listed = subprocess.run([str(cluster.kit), "images"], capture_output=True, text=True, check=True).stdout.split()
    return next(name for name in listed if name.startswith(f"docker.io/library/{image}@sha256:"))


@pytest.fixture(scope="module")
def world(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Installed once for the file, and removed."""
    assert cluster.kit is not None, "the image fixture skips elsewhere"
    home = tmp_path_factory.mktemp("cluster-demo")
    began = time.monotonic()
    environment = {**own_environment(), "KUBECONFIG": str(cluster.kubeconfig)}
    site = find_site(KIT, False, environment, print)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installation = Installation(site, cluster.kube, home, ROOT, print, Patience(look_s=0.3))
        build_world(site, Images(image, WORLD_IMAGE), ROOT, home / "image", ROOT / ".llama-assets/demo/models")
        router = pinned(cluster, ROUTER)
        catalog = small_catalog(home / "catalog", engine={"kind": "llama-server"})
        settings = {"LLAMA_ASSETS_ENGINE_IMAGE": router, "LLAMA_ASSETS_LEASE_LIFETIME_SECONDS": "30"}
        chosen = Chosen(image, WORLD_IMAGE, settings, catalog, cards=True)
        watch, recording = CardWatch(), ExitStack()
        try:
            installation.write(chosen)
            installation.refuse_strangers()
            calls = recording.enter_context(recorded(cluster, NAMESPACE))
            watch.start(cluster)
            installation.apply_world()
            installation.await_world()
            standin = installation.engine_digest()
            assert standin, "the kit knows images by their digest"
            installation.apply()
            installation.await_ready()
            with (
                installation.forwarded("dagster-postgresql", 5432) as database,
                installation.forwarded("dagster-webserver", 3000) as ui,
            ):
                made = World(
                    cluster, installation, chosen, standin, router, watch, home, database, ui, recording, calls
                )
                made.timings["installed"] = round(time.monotonic() - began, 1)
                yield made
            _write_figures(made)
        finally:
            recording.close()
            watch.stop()
            installation.remove()


def _write_figures(world: World) -> None:
    OUT.parent.mkdir(exist_ok=True)
    with OUT.open("a") as out:
        print(json.dumps({"figure": "cluster_end_to_end", "at": time.time(), **world.timings}), file=out)
