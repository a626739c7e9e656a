"""The engine in a real cluster: llama.cpp's own router on generated models, nothing faked.

All tests share one namespace in which Pod Security `restricted` is enforced, and one volume of models.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import httpx
import pytest

from llama_assets.catalog import EngineImage, load
from llama_assets.demo.models import repo_files
from llama_assets.engine import (
    EngineDeployment,
    EnginePod,
    EngineTimes,
    FieldsTaken,
    NotRolledOut,
    OtherConfig,
    OtherImage,
    Served,
    SwapClient,
    Unreachable,
    engine_config,
)
from llama_assets.engine.deployment_body import deployment as deployment_body
from llama_assets.engine.drift import MANAGER, owns
from llama_assets.gpu import HeldByOther, LeaseTimes
from llama_assets.gpu.cluster_lease import ClusterLease
from llama_assets.gpu.waiting import wait_until_free
from llama_assets.gpu.workloads import card_of
from llama_assets.platforms import open_platform
from llama_assets.settings import Settings
from tests.cluster import Cluster, until
from tests.kube.test_cluster import RESTRICTED

IMAGE = "llama-server:debian"
TINY = load().model("qwen3vl-4b").model_copy(update={"context": 1024, "aliases": ("small",)})
ROUTER = load().engine.model_copy(update={"kind": "llama-server", "gpu_layers": 0, "idle_unload_seconds": 2})
TIMES = EngineTimes(start_s=90, hopeless_s=2, poll_s=0.1, api_away_s=10)
KEY = "key: of # a cluster"
FOLDER = f"/models/{'1' * 64}"
NOBODYS = "example.com/no-such-card"

FAILING: list[tuple[str, str, dict[str, Any], str]] = [
    ("absent", "registry.invalid/no/such:image", {}, "image.*LLAMA_ASSETS_ENGINE_IMAGE"),
    ("crashing", "python:3.13-slim", {}, "(?s)ends again and again.*exit status 127.*llama-server: not found"),
    ("keyless", IMAGE, {"secret": "no-such"}, 'secret "no-such" not found.*Make what is missing'),
]


def served(fingerprint: str = "1") -> list[Served]:
    folder = PurePosixPath(f"/models/{fingerprint * 64}")
    return [Served(TINY, fingerprint * 64, folder / "model.gguf", folder / "mmproj.gguf")]


def config(pod: EnginePod, fingerprint: str = "1"):
    return engine_config(served(fingerprint), ROUTER, pod.address, pod.secret is not None)


@dataclass(frozen=True)
class World:
    """The namespace, with models in its volume and a Secret."""

    cluster: Cluster
    namespace: str

    def engine(self, name: str, image: str = IMAGE, times: EngineTimes = TIMES, **how: Any) -> EngineDeployment:
        pod = EnginePod(
            self.namespace,
            EngineImage(image, "the test"),
            "llama-server",
            name,
            **{"resource": None, "exclusive": False, "grace_s": 5, **how},
        )
        return EngineDeployment(self.cluster.kube, pod, times, say=lambda _: None)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.cluster.kube.get(kind, self.namespace, name)

    def address(self, name: str) -> str:
        """The Service's, as this machine reaches it (the node is this machine)."""
        return f"http://{self.get('Service', name)['spec']['clusterIP']}:8080"


@pytest.fixture(scope="module")
def world(cluster, module_namespace, tmp_path_factory) -> World:
    if cluster.kit is None:
        pytest.skip(f"{IMAGE} is the kit's, and this cluster is not")
    kube = cluster.kube
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Mi"}}}
    kube.create("PersistentVolumeClaim", module_namespace, {"metadata": {"name": "llama-models"}, "spec": spec})
    kube.create("Secret", module_namespace, {"metadata": {"name": "engine-key"}, "stringData": {"api-key": KEY}})
    box = {
        "name": "box", "image": IMAGE, "command": ["sleep", "3600"], "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }  # fmt: skip
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": "llama-models"}}
    pod = {"containers": [box], "volumes": [volume], "terminationGracePeriodSeconds": 0}
    kube.create("Pod", module_namespace, {"metadata": {"name": "filler"}, "spec": pod})
    phase = lambda: kube.get("Pod", module_namespace, "filler")["status"].get("phase") == "Running"  # noqa: E731
    until("the filler's pod", phase)
    files = repo_files(TINY.repo, tmp_path_factory.mktemp("models"))
    wanted = {
        "model.gguf": next(path for name, path in files.items() if "Q4_K_M" in name),
        "mmproj.gguf": next(path for name, path in files.items() if name.startswith("mmproj") and "F16" in name),
    }
    cluster.kubectl("exec", "-n", module_namespace, "filler", "--", "mkdir", FOLDER)
    for name, path in wanted.items():
        with path.open("rb") as data:
            copy = ["kubectl", "--kubeconfig", str(cluster.kubeconfig), "exec", "-i", "-n", module_namespace, "filler"]
            subprocess.run([*copy, "--", "sh", "-c", f"cat > {FOLDER}/{name}"], stdin=data, check=True)
    made = World(cluster, module_namespace)
    for name, image, how, _ in FAILING:  # side by side: they fail while the others are tested
        engine = made.engine(name, image, **how)
        engine.apply(config(engine.pod))
    return made


@pytest.fixture(scope="module")
def router(world) -> EngineDeployment:
    """One that runs, demands a key, and is not changed by the tests that read it."""
    engine = world.engine("router", secret="engine-key")
    written = engine.apply(config(engine.pod))
    assert len(written.changed) == 3 and written.replicas == 1
    engine.wait_until_ready()
    return engine


def test_an_apply_that_changes_nothing_writes_nothing(world, router):
    def versions() -> list[str]:
        kinds = (("ConfigMap", "router-config"), ("Service", "router"), ("Deployment", "router"))
        return [world.get(kind, name)["metadata"]["resourceVersion"] for kind, name in kinds]

    pod = router.wait_until_ready()["metadata"]["uid"]
    until("the Deployment's own status", lambda: world.get("Deployment", "router")["status"].get("readyReplicas"))
    before = versions()
    assert router.plan(config(router.pod)) == ()
    assert router.apply(config(router.pod)).changed == ()
    assert versions() == before
    assert router.wait_until_ready()["metadata"]["uid"] == pod


def test_it_demands_the_secrets_key_and_answers_who_has_it(world, router):
    address = world.address("router")
    with SwapClient(address, KEY) as client:
        client.wait_until_up(60)  # a Service leads to a pod some time after the pod is ready
    with SwapClient(address) as stranger, pytest.raises(Unreachable, match="Invalid API Key"):
        stranger.load(TINY.id)
    assert httpx.get(f"{address}/v1/models", trust_env=False).status_code == 401
    with SwapClient(address, KEY, image="as proven") as client:
        client.wait_until_up(10)
        assert client.kind == "router"
        assert client.load(TINY.id).cold
        about = client.about(TINY.id)
        assert (about.model_file, about.image) == (f"{FOLDER}/model.gguf", "as proven")
        assert "vision" in about.modalities
        until("it to sleep, as nobody asks it", lambda: [one.state for one in client.running()] == ["sleeping"])
        assert client.load(TINY.id).cold, "one that sleeps is loaded again"
        assert not client.load(TINY.id).cold
    body = {"model": "small", "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx.post(
        f"{address}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
    )
    assert answer.json()["model"] == TINY.id, "an alias answers as the model"


def test_its_pod_dumps_no_core_writes_nowhere_and_has_no_token(world, router):
    pod = router.wait_until_ready()["metadata"]["name"]
    looks = ("grep 'core file' /proc/1/limits", "id -u", "touch /x", "touch /models/x", "ls /var/run/secrets")
    shell = "; ".join([*looks, "cat /proc/1/comm"])
    said = world.cluster.kubectl("exec", "-n", world.namespace, pod, "--", "sh", "-c", f"exec 2>&1; {shell}")
    core, user, root, models, token, first = said.splitlines()
    assert core.split()[4:6] == ["0", "0"]
    assert (user, first) == ("10001", "llama-server")
    assert "Read-only" in root and "Read-only" in models and "No such file" in token


def test_what_runs_is_proven_by_digest_and_by_what_it_serves(world, router):
    runs = router.prove({TINY.id: "1" * 64})
    assert runs.digest and runs.image.endswith(runs.digest), "the kit's node knows its images by digest"
    pinned = world.engine("router", f"{IMAGE}@{runs.digest}", secret="engine-key")
    assert pinned.prove({TINY.id: "1" * 64}) == runs
    other = world.engine("router", f"{IMAGE}@sha256:{'0' * 64}", secret="engine-key")
    with pytest.raises(OtherImage, match=f"{runs.digest}.*sha256:000.*nothing was asked"):
        other.prove({TINY.id: "1" * 64})
    with pytest.raises(OtherConfig, match="serves 111111111111 of qwen3vl-4b, and 222222222222 is to be asked"):
        router.prove({TINY.id: "2" * 64})
    with pytest.raises(OtherConfig, match="serves no minicpm"):
        router.prove({"minicpm": "1" * 64})
    status = router.status()
    assert (status.replicas, status.running, status.served) == (1, runs, {TINY.id: "1" * 64})
    assert status.good and "drift: none" in status.lines()
    assert not other.status().good


def test_a_new_fingerprint_is_a_new_pod_and_who_else_wrote_is_named(world):
    engine = world.engine("changing")
    engine.apply(config(engine.pod))
    old = engine.wait_until_ready()["metadata"]["uid"]
    assert engine.drift() == ()
    assert engine.apply(config(engine.pod, "2")).changed == (
        f"ConfigMap {world.namespace}/changing-config",
        f"Deployment {world.namespace}/changing",
    )
    assert engine.wait_until_ready()["metadata"]["uid"] != old
    engine.prove({TINY.id: "2" * 64})

    kube = world.cluster.kube
    edited = {"data": {"presets.ini": "version = 1\n"}}
    kube.patch("ConfigMap", world.namespace, "changing-config", edited, manager="kubectl-edit")
    box = {"spec": {"template": {"metadata": {"annotations": {"who": "helm"}}}}}
    kube.patch("Deployment", world.namespace, "changing", box, manager="helm")
    named = " | ".join(map(str, engine.drift()))
    assert "changing-config: kubectl-edit set data.presets.ini" in named
    assert "changing: helm set spec.template.metadata.annotations.who" in named
    assert not engine.status().good
    with pytest.raises(OtherConfig, match="was started with another configuration than ConfigMap"):
        engine.prove({TINY.id: "2" * 64})

    before = world.get("Deployment", "changing")["spec"]
    with pytest.raises(FieldsTaken) as taken:
        engine.apply(config(engine.pod, "3"))
    assert taken.value.owners == {".data.presets.ini": 'conflict with "kubectl-edit" using v1'}
    assert "engine apply --take-over" in str(taken.value)
    assert world.get("Deployment", "changing")["spec"] == before, "nothing was written"
    engine.apply(config(engine.pod, "3"), take_over=True)
    engine.prove({TINY.id: "3" * 64})


def test_on_an_exclusive_card_it_rests_and_its_replicas_are_left_alone(world):
    engine = world.engine("resting", resource=NOBODYS, exclusive=True, times=replace(TIMES, start_s=3))
    assert engine.apply(config(engine.pod)).replicas == 0
    assert engine.apply(config(engine.pod, "2")).replicas == 0
    assert not owns(world.get("Deployment", "resting"), MANAGER, "spec.replicas")
    assert engine.drift() == ()
    assert "at 0 replicas" in engine.status().lines()[0]
    up = {"spec": {"replicas": 1}}
    world.cluster.kube.patch("Deployment", world.namespace, "resting", up, manager="llama-assets-lease")
    assert engine.apply(config(engine.pod, "3")).replicas == 1
    with pytest.raises(NotRolledOut, match=f"is Pending, no node has {NOBODYS} free.*who has it"):
        engine.wait_until_ready()
    with pytest.raises(NotRolledOut, match="because the GPU lease is lost"):
        engine.prove({TINY.id: "3" * 64}, still_wanted=lambda: False)


def test_a_making_that_was_cut_off_leaves_it_at_rest(world):
    engine = world.engine("cut-off", exclusive=True)
    wanted = deployment_body(engine.pod, config(engine.pod))
    at_rest = {**wanted, "spec": {**wanted["spec"], "replicas": 0}}
    world.cluster.kube.apply("Deployment", world.namespace, at_rest, MANAGER)
    assert engine.apply(config(engine.pod)).replicas == 0
    assert engine.apply(config(engine.pod)).changed == ()
    assert world.get("Deployment", "cut-off")["spec"]["replicas"] == 0


@pytest.mark.parametrize(("name", "image", "how", "says"), FAILING, ids=[name for name, *_ in FAILING])
def test_a_pod_that_cannot_start_says_why_and_what_to_do(world, name, image, how, says):
    with pytest.raises(NotRolledOut, match=says):
        world.engine(name, image, **how).wait_until_ready()


class Held:
    """The cluster's Lease in somebody's hands."""

    def __init__(self, world: World, name: str) -> None:
        self.kube, self.namespace, self.name = world.cluster.kube, world.namespace, name
        spec = {"holderIdentity": "somebody", "leaseTransitions": 3, "leaseDurationSeconds": 2}
        body = {"metadata": {"name": name}, "spec": {**spec, "renewTime": "2026-01-01T00:00:00.000000Z"}}
        self.kube.create("Lease", self.namespace, body)

    def free(self) -> None:
        self.kube.patch("Lease", self.namespace, self.name, {"spec": {"holderIdentity": None}})

    def renewed(self, seconds: int) -> None:
        stamp = f"2026-01-01T00:00:{seconds:02}.000000Z"
        self.kube.patch("Lease", self.namespace, self.name, {"spec": {"renewTime": stamp}})


def test_nothing_is_written_under_somebodys_lease(world, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(world.cluster.kubeconfig))
    catalog = load()
    held = Held(world, catalog.gpu.lease)
    settings = Settings(platform="kubernetes", namespace=world.namespace, engine_image=IMAGE)
    platform = open_platform(settings)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "waits for somebody" in line:
            assert not [name for name in _names(world) if name.startswith("llama-swap")]
            held.free()

    dry = platform.apply_config(catalog, served(), say, dry_run=True)
    assert len(dry.changed) == 3 and not said and not [n for n in _names(world) if n.startswith("llama-swap")]
    applied = platform.apply_config(catalog, served(), say)
    assert applied.state.startswith("applied, not started") and len(said) == 1
    assert world.get("Deployment", "llama-swap")["spec"]["replicas"] == 0
    again = platform.apply_config(catalog, served(), say)
    assert again.changed == () and len(said) == 1, "who writes nothing need not wait"
    assert json.loads(world.get("ConfigMap", "llama-swap-config")["data"]["served.json"]) == {TINY.id: "1" * 64}
    assert platform.engine_status(catalog).good and platform.engine_drift(catalog) == ()


def _names(world: World) -> list[str]:
    kinds = ("ConfigMap", "Service", "Deployment")
    return [one["metadata"]["name"] for kind in kinds for one in world.cluster.kube.list(kind, world.namespace)]


def test_who_waits_for_a_lease_goes_on_when_its_holder_is_dead_and_gives_up_while_it_lives(world):
    held = Held(world, "another-card")
    card = card_of(load(), None)
    lease = ClusterLease(world.cluster.kube, world.namespace, "another-card", card)
    said: list[str] = []
    times = LeaseTimes(wait_s=30, look_again_s=0.2)
    assert wait_until_free(lease, "a test", times, said.append) >= 2
    assert "did not renew for 2 s and is dead" in said[-1]

    beats = itertools.cycle(range(1, 60))
    looks: Callable[[float], object] = lambda _: held.renewed(next(beats))  # noqa: E731
    with pytest.raises(HeldByOther, match="somebody"):
        wait_until_free(lease, "a test", LeaseTimes(wait_s=1, look_again_s=0), said.append, looks)


def test_the_configuration_holds_no_key(world, router):
    data = world.get("ConfigMap", "router-config")["data"]
    assert KEY not in json.dumps(data) and set(data) == {"presets.ini", "served.json", "litellm.yaml"}
