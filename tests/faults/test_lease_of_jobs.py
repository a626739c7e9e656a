"""A hold as a Job of ours on a real cluster, whoever is killed: its caller, its pod, the process in it.

Who starts it is a process that follows the Job, as `dagster asset materialize` does. The worlds, the watch of the pods
and the reapers are those of `tests/faults/lease`; the Job has the Roles of the manifests, for these tenants.
"""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import yaml

from llama_assets import catalog
from tests.cluster import Cluster
from tests.conftest import ROOT
from tests.faults.lease.injection import GRACE_S
from tests.faults.lease.world import LEASE, Shape, World, eye_on
from tests.faults.node import process_in
from tests.manifests.installation import MANIFESTS, renamed, rendered

pytestmark = pytest.mark.timeout(900)
MINUTES = 0.25
CALLER = """
import json, sys
from llama_assets.kube import Kube
from llama_assets.launch import JobLauncher, Size, Task, TaskPods
asked = json.loads(sys.argv[1])
pods = TaskPods(asked["image"], environment=asked["environment"], sizes={"hold": Size("10m", "64Mi", "512Mi")})
launcher = JobLauncher(lambda: Kube.open(asked["kubeconfig"]), asked["namespace"], pods)
launcher.run(Task("hold", "run-1", "gpu_lease", asked["request"]), {}, print)
"""


@dataclass
class Held:
    """A Job that has the card, and the process that follows it."""

    world: World
    caller: subprocess.Popen[str]

    @property
    def pod(self) -> dict:
        (pod,) = self.world.kube.list("Pod", self.world.namespace, labels="llama-assets/task=hold")
        return pod


def caller_killed(held: Held) -> None:
    held.caller.send_signal(signal.SIGKILL)


def caller_interrupted(held: Held) -> None:
    held.caller.send_signal(signal.SIGINT)


def pod_killed(held: Held) -> None:
    name = held.pod["metadata"]["name"]
    held.world.kube.delete("Pod", held.world.namespace, name, grace_s=0)


def pod_evicted(held: Held) -> None:
    """As `kubectl drain` does it; a NoExecute taint deletes the pod in the same way, and everybody else's with it."""
    name = held.pod["metadata"]["name"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": held.world.namespace},
    }
    path = f"/api/v1/namespaces/{held.world.namespace}/pods/{name}/eviction"
    held.world.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def node_tainted(held: Held) -> None:
    """Every pod of the node is evicted: the holder's, the engine's, other tests'; nothing starts until it is over."""
    (node,) = held.world.kube.list("Node", None)
    taint = ["taint", "node", node["metadata"]["name"]]
    held.world.cluster.kubectl(*taint, "llama-assets/test=out:NoExecute")
    try:
        going = lambda: "deletionTimestamp" in held.pod["metadata"]  # noqa: E731
        held.world.wait_for("the holder to be evicted", going, 60)
    finally:
        held.world.cluster.kubectl(*taint, "llama-assets/test-")


def process_killed(held: Held) -> None:
    process_in(held.pod, "llama_assets.tasks").kill()


FAULTS: tuple[Callable[[Held], None], ...] = (
    caller_killed, caller_interrupted, pod_killed, pod_evicted, process_killed,
)  # fmt: skip
SHAPE = Shape((("Deployment", 1), ("Deployment", 0)), 9, apart=True)


def rights(world: World) -> list[dict]:
    """The account of benchmark and hold Jobs, with the names that this world has."""
    moved = renamed(rendered(MANIFESTS / "overlays" / "default"), world.namespace, world.tenants_in)
    mine = [
        thing
        for thing in moved
        if thing["kind"] in ("ServiceAccount", "Role", "RoleBinding")
        and thing["metadata"]["name"] == "llama-assets-lease"
    ]
    tenants = ", ".join(json.dumps(ref.name) for ref in world.card.tenants)
    said = json.dumps(mine).replace('"llama-assets-gpu"', json.dumps(LEASE))
    return json.loads(said.replace('"immich-machine-learning"', tenants))


def _started(world: World, image: str) -> Held:
    found = catalog.load()
    tenants = tuple(
        catalog.TenantEntry(kind=ref.kind, namespace=ref.namespace, name=ref.name) for ref in world.card.tenants
    )
    gpu = found.gpu.model_copy(update={"lease": LEASE, "resource": world.resource})
    mine = found.model_copy(update={"tenants": tenants, "gpu": gpu})
    asked = {
        "image": image, "kubeconfig": str(world.cluster.kubeconfig), "namespace": world.namespace,
        "environment": {
            "LLAMA_ASSETS_PLATFORM": "kubernetes", "LLAMA_ASSETS_NAMESPACE": world.namespace,
            "LLAMA_ASSETS_LEASE_LIFETIME_SECONDS": str(world.times.lifetime_s),
        },
        "request": {"catalog": mine.model_dump(mode="json"), "minutes": MINUTES},
    }  # fmt: skip
    return Held(world, subprocess.Popen([sys.executable, "-c", CALLER, json.dumps(asked)], cwd=ROOT, text=True))


def _played(world: World, image: str, fault: Callable[[Held], None]) -> tuple[float, list[str]]:
    """Seconds until everything was as found, and what was wrong."""
    world.make()
    world.cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rights(world)))
    held = _started(world, image)
    try:
        engine = lambda: (world.at(world.engine) or {})["spec"].get("replicas")  # noqa: E731
        world.wait_for("the Job to have the card", lambda: world.lease_holder() and engine() == 1, 240)
        fault(held)
        began = time.monotonic()
        if fault is caller_killed:  # nobody hears of it: the hold goes on to its end
            held.caller.wait()
            assert world.lease_holder()
            began += MINUTES * 60
        want = {world.engine: 0, **world.found}
        limit = MINUTES * 60 + world.times.lifetime_s + GRACE_S
        world.wait_for("everything as found", lambda: world.trouble(want) is None, limit)
        seconds = time.monotonic() - began
        world.wait_for("no Job at work", lambda: not _active(world), 60)
        return seconds, [what for name, _, what in world.eye.overlaps if name == world.name]
    finally:
        held.caller.kill()
        held.caller.wait()


def _active(world: World) -> bool:
    return any((job.get("status") or {}).get("active") for job in world.kube.list("Job", world.namespace))


@pytest.fixture(scope="module")
def played(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """Each fault in a world of its own, side by side."""
    if cluster.kit is None:
        pytest.skip("a process in a pod is killed on the node, and only the kit's node is this machine")
    folder = tmp_path_factory.mktemp("jobs")
    with eye_on(cluster, secrets.token_hex(3)) as eye, ThreadPoolExecutor() as pool:
        worlds = [World(cluster, eye, at, SHAPE, folder / str(at)) for at in range(len(FAULTS))]
        try:
            yield {
                fault: pool.submit(_played, world, image, fault) for world, fault in zip(worlds, FAULTS, strict=True)
            }
        finally:
            pool.shutdown()
            for world in worlds:
                world.remove()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_tenants_come_back_when_a_jobs(fault, played):
    seconds, violations = played[fault].result()
    print(f"{fault.__name__}: as found after {seconds:.1f} s")
    assert not violations


@pytest.mark.alone  # it is everybody's node
def test_tenants_come_back_when_the_node_is_tainted(cluster, image, tmp_path, request):
    if not request.config.getoption("--long"):
        pytest.skip("`--long` does it; `pod_evicted` stands for it")
    with eye_on(cluster, secrets.token_hex(3)) as eye:
        world = World(cluster, eye, 0, SHAPE, tmp_path)
        try:
            seconds, violations = _played(world, image, node_tainted)
        finally:
            world.remove()
    print(f"node_tainted: as found after {seconds:.1f} s")
    assert not violations
