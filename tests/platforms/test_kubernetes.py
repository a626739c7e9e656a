"""The graph's first stage on a real cluster: from a laptop's kubeconfig to verified files in the model volume.

The Hub is the loopback hub in a pod, the models are generated, the image is built from this checkout; `dagster asset
materialize` is run as a person runs it.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from llama_assets.catalog import PACKAGED, load
from llama_assets.demo.models import repo_files
from llama_assets.gpu.workloads import Cluster as Observer
from llama_assets.platforms import PlatformError, open_platform
from llama_assets.settings import Settings
from llama_assets.store import Store
from tests.cluster import Cluster, until
from tests.demo_run import BIN, own_environment, working_folder
from tests.gpu.place import Place, account
from tests.kube.test_cluster import RESTRICTED
from tests.manifests.installation import volumes
from tests.store.pairs import published

MODEL = load().model("qwen3vl-4b")


@dataclass(frozen=True)
class Laptop:
    """A checkout outside the cluster, with a kubeconfig."""

    cluster: Cluster
    namespace: str
    folder: Path
    environment: dict[str, str]

    def started(self, select: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BIN / "dagster", "asset", "materialize", "--select", select, "-m", "llama_assets.definitions"],
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def materialize(self, select: str) -> tuple[int, str]:
        running = self.started(select)
        output, _ = running.communicate(timeout=200)
        return running.returncode, output

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "llama-assets", *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=200,
        )  # fmt: skip

    def jobs(self) -> list[dict]:
        return list(self.cluster.kube.list("Job", self.namespace))


def hub_in_a_pod(cluster: Cluster, namespace: str, image: str, cache: Path) -> str:
    """Address of a hub that serves MODEL's repo."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, path in repo_files(MODEL.repo, cache).items():
            tar.add(path, f"hub/{MODEL.repo}/{name}")
        tar.addfile(tarfile.TarInfo("ready"))
    wait = "until [ -e /tmp/ready ]; do sleep 0.2; done; exec python -m llama_assets.demo.hub --dir /tmp/hub "
    box = {
        "name": "hub", "image": image, "command": ["sh", "-c", f"{wait} --host 0.0.0.0 --port 8000"],
        "securityContext": RESTRICTED,
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
    }  # fmt: skip
    pod = {"metadata": {"name": "hub"}, "spec": {"containers": [box], "terminationGracePeriodSeconds": 1}}
    cluster.kube.create("Pod", namespace, pod)

    def status() -> dict:
        (found,) = cluster.kube.get("Pod", namespace, "hub")["status"].get("containerStatuses") or [{}]
        return found

    until("the hub's pod", lambda: "running" in status().get("state", {}))
    subprocess.run(
        ["kubectl", "exec", "-i", "-n", namespace, "hub", "--", "tar", "-x", "-C", "/tmp", "-f", "-"],
        env={**own_environment(), "KUBECONFIG": str(cluster.kubeconfig)}, input=packed.getvalue(), check=True,
    )  # fmt: skip
    until("the hub", lambda: status().get("ready"))
    return f"http://{cluster.kube.get('Pod', namespace, 'hub')['status']['podIP']}:8000"


@pytest.fixture(scope="module")
def disk(cluster, module_namespace, tmp_path_factory) -> Iterator[Path]:
    """Overlay `nvme`: claim llama-models on a folder of the node, which is this machine."""
    assert cluster.kit is not None, "the image fixture skips elsewhere"
    folder = tmp_path_factory.mktemp("nvme")
    os.chown(folder, 10001, 10001)  # as the overlay wants it of whoever installs
    (node,) = cluster.kube.list("Node", None)
    said = {"/mnt/nvme/llama-models": str(folder), "gpu-node": node["metadata"]["labels"]["kubernetes.io/hostname"]}
    found = [
        thing
        for thing in volumes("nvme", module_namespace, **said)
        if thing["kind"] != "PersistentVolumeClaim" or thing["metadata"]["name"] == "llama-models"
    ]
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(found))
    yield folder
    for thing in found:
        if thing["kind"] != "PersistentVolumeClaim":
            cluster.kubectl("delete", thing["kind"], thing["metadata"]["name"], "--wait=false")


@pytest.fixture(scope="module")
def laptop(cluster, image, module_namespace, disk, tmp_path_factory) -> Laptop:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Mi"}}}
    body = {"metadata": {"name": "llama-results"}, "spec": spec}
    cluster.kube.create("PersistentVolumeClaim", module_namespace, body)
    hub = hub_in_a_pod(cluster, module_namespace, image, tmp_path_factory.mktemp("models"))
    folder = working_folder(tmp_path_factory.mktemp("laptop"))
    (folder / ".dagster").mkdir(exist_ok=True)
    environment = {
        **own_environment(),
        "KUBECONFIG": str(cluster.kubeconfig),
        "DAGSTER_HOME": str(folder),
        "LLAMA_ASSETS_PLATFORM": "kubernetes",
        "LLAMA_ASSETS_NAMESPACE": module_namespace,
        "LLAMA_ASSETS_IMAGE": image,
        "HF_ENDPOINT": hub,
        "HF_TOKEN": "hf_of_a_person",
    }
    return Laptop(cluster, module_namespace, folder, environment)


def test_a_command_that_is_interrupted_takes_its_job_with_it(laptop):
    running = laptop.started(f"gguf/{MODEL.id}")
    until("the Job", laptop.jobs)
    os.killpg(running.pid, signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode != 0, output[-3000:]
    assert laptop.jobs() == []


def test_a_command_that_is_killed_leaves_a_job_that_ends_well(laptop):
    running = laptop.started(f"gguf/{MODEL.id}")
    until("the Job", laptop.jobs)
    running.kill()
    running.communicate(timeout=20)

    def ended() -> list[str]:
        return [condition["type"] for job in laptop.jobs() for condition in job["status"].get("conditions") or []]

    assert "Complete" in until("the Job's end", lambda: set(ended()) & {"Complete", "Failed"})


def test_the_next_command_finds_what_that_job_fetched_and_verifies_it(laptop):
    status, output = laptop.materialize(f"gguf/{MODEL.id}")
    assert status == 0, output[-4000:]
    assert "sha256, header and projector are good" in output
    assert "is here already, nothing was downloaded" in output
    jobs = laptop.jobs()
    kinds = sorted(job["metadata"]["labels"]["llama-assets/task"] for job in jobs)
    assert kinds == ["download", "download", "store"], "the killed one's, the asset, and its checks in one step"
    assert {job["metadata"]["labels"].get("llama-assets/model") for job in jobs} == {MODEL.id, None}
    assert "hf_of_a_person" not in json.dumps(jobs), "a token stays on the laptop"


def test_what_the_jobs_wrote_and_read_lies_on_the_local_disk_of_overlay_nvme(laptop, disk):
    volume = laptop.cluster.kube.get("PersistentVolumeClaim", laptop.namespace, "llama-models")["spec"]["volumeName"]
    assert laptop.cluster.kube.get("PersistentVolume", None, volume)["spec"]["local"] == {"path": str(disk)}
    fetched = disk / "models" / MODEL.id / "current" / "model.gguf"
    assert fetched.resolve().parent == disk / "blobs" and fetched.stat().st_size > 100_000
    assert fetched.stat().st_uid == 10001


def test_the_engine_is_applied_for_what_is_verified_and_rests_until_somebody_has_the_card(laptop):
    status, output = laptop.materialize("llama_swap")
    assert status == 0, output[-4000:]
    assert "applied, not started: on an exclusive card it starts with the lease" in output
    data = laptop.cluster.kube.get("ConfigMap", laptop.namespace, "llama-swap-config")["data"]
    assert list(json.loads(data["served.json"])) == [MODEL.id]
    assert laptop.cluster.kube.get("Deployment", laptop.namespace, "llama-swap")["spec"]["replicas"] == 0


def test_the_stores_commands_are_jobs_where_the_volume_is_not_here(laptop):
    """What is in use is asked of the engine's ConfigMap here, and handed to the task, which may not ask the API."""
    before = {job["metadata"]["name"] for job in laptop.jobs()}
    listed = laptop.command("store", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    (found,) = json.loads(listed.stdout)["models"][MODEL.id]["sets"]
    assert found["stays"] == ["current", f"in use by the engine's configuration, as {MODEL.id}"]
    collected = laptop.command("gc", "--dry-run", "--json")
    assert collected.returncode == 0, collected.stderr
    plan = json.loads(collected.stdout)
    assert plan["removed"] == [] and {one["kind"] for one in plan["kept"]} == {"set", "blob"}
    back = laptop.command("rollback", MODEL.id)
    assert back.returncode == 1 and f"{MODEL.id}: nothing to go back to from" in back.stderr, back.stderr
    assert "Traceback" not in back.stderr
    jobs = [job for job in laptop.jobs() if job["metadata"]["name"] not in before]
    assert [job["metadata"]["labels"]["llama-assets/task"] for job in jobs] == ["store"] * 3
    applied = laptop.command("engine", "apply", "--json")
    assert applied.returncode == 0 and json.loads(applied.stdout)["changed"] == [], applied.stderr


def test_a_rollback_from_outside_is_one_job_and_the_engine_is_told(laptop, disk, tmp_path):
    store = Store(disk)  # the node's disk is this machine's: a second generation that no Hub has
    good = store.current(MODEL.id).fingerprint
    bad = published(store, tmp_path, MODEL.id, seed=2)
    store.promote(MODEL.id, bad)
    subprocess.run(["chown", "-R", "10001:10001", str(disk)], check=True)
    assert laptop.command("engine", "apply").returncode == 0

    def served() -> dict[str, str]:
        data = laptop.cluster.kube.get("ConfigMap", laptop.namespace, "llama-swap-config")["data"]
        return json.loads(data["served.json"])

    assert served() == {MODEL.id: bad}
    before = {job["metadata"]["name"] for job in laptop.jobs()}
    began = time.monotonic()
    done = laptop.command("rollback", MODEL.id, "--json")
    print(f"rollback: {time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["served"] == served() == {MODEL.id: good}
    assert store.refused(MODEL.id) == {bad: "rolled back"}
    assert len({job["metadata"]["name"] for job in laptop.jobs()} - before) == 1


def test_the_volume_is_not_looked_for_outside_a_pod(tmp_path):
    platform = open_platform(Settings(platform="kubernetes"))
    with pytest.raises(PlatformError, match="only a task's pod opens the model volume"):
        platform.store()
    mounted = open_platform(Settings(platform="kubernetes", store=tmp_path))
    assert mounted.store().published() == {}


def test_the_graph_loads_without_a_cluster_and_without_its_library(tmp_path):
    code = (
        "import sys, llama_assets.definitions as d; d.defs; from llama_assets.platforms import open_platform\n"
        "from llama_assets.settings import Settings; open_platform(Settings.read())\n"
        "assert 'kubernetes' not in sys.modules"
    )
    environment = {**own_environment(), "LLAMA_ASSETS_PLATFORM": "kubernetes", "KUBECONFIG": str(tmp_path / "absent")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.fixture
def doctor(cluster, tmp_path):
    """Asks the doctor as a person does, about a catalog whose one tenant is `tenant` of the namespace."""

    def ask(namespace: str, kubeconfig: str | None = None, **environment: str) -> dict[str, list[tuple[str, str]]]:
        shutil.copytree(PACKAGED.parent / "questions", tmp_path / "questions", dirs_exist_ok=True)
        catalog = yaml.safe_load(PACKAGED.read_text()) | {"tenants": [f"{namespace}/tenant"]}
        (tmp_path / "models.yaml").write_text(yaml.safe_dump(catalog))
        told = {
            **own_environment(), **environment, "KUBECONFIG": kubeconfig or str(cluster.kubeconfig),
            "LLAMA_ASSETS_PLATFORM": "kubernetes", "LLAMA_ASSETS_NAMESPACE": namespace,
            "LLAMA_ASSETS_CATALOG": str(tmp_path / "models.yaml"),
        }  # fmt: skip
        done = subprocess.run(
            [BIN / "llama-assets", "doctor", "--offline", "--json"],
            env=told,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.stderr == "" and done.returncode in (0, 1), done.stderr
        findings: dict[str, list[tuple[str, str]]] = {}
        for found in json.loads(done.stdout)["findings"]:
            mark = "bad" if not found["good"] else "ok" if found["known"] else "unknown"
            findings.setdefault(found["about"], []).append((mark, found["says"]))
        return findings

    return ask


def test_doctor_says_what_an_empty_namespace_lacks_and_how_to_make_it(doctor, namespace):
    found = doctor(namespace)
    assert found["api"][0][0] == "ok" and "Kubernetes v1." in found["api"][0][1]
    assert found["space"] == [("ok", f"namespace {namespace}")]
    assert [mark for mark, _ in found["claim"]] == ["bad"] * 3
    assert all("kubectl apply -k manifests" in says for _, says in found["claim"] + found["accnt"] + found["reaper"])
    assert [mark for mark, _ in found["accnt"] + found["reaper"]] == ["bad"] * 3
    assert found["secret"][0][0] == "ok" and "for gated repos only" in found["secret"][0][1]
    assert [mark for mark, _ in found["rights"]] == ["ok"] * 3
    assert found["tenant"] == [("bad", f"Deployment {namespace}/tenant is not there. Correct `tenants` in the catalog")]
    assert found["lease"][0][0] == "ok" and found["lease"][0][1].startswith("free; ")
    assert "photos" not in found and "store" not in found, "they lie on claims: nothing here to look at"


def test_doctor_says_what_a_furnished_namespace_has_and_what_is_risky_in_it(doctor, cluster, namespace):
    kube, place = cluster.kube, Place(cluster.kube, str(cluster.kubeconfig), namespace)
    for claim in ("llama-models", "llama-results"):
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
        kube.create("PersistentVolumeClaim", namespace, {"metadata": {"name": claim}, "spec": spec})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    absent = {"metadata": {"name": "pictures"}, "spec": {**spec, "storageClassName": "absent"}}
    kube.create("PersistentVolumeClaim", namespace, absent)
    for name in ("llama-assets-lease", "llama-assets-reaper"):
        kube.create("ServiceAccount", namespace, {"metadata": {"name": name}})
    place.workload("tenant")
    place.workload("llama-swap", asleep=True)
    stop, observer = threading.Event(), Observer(kube, namespace, "llama-assets-gpu")
    observer.beat_heart("test")

    def beat() -> None:
        while not stop.wait(0.5):
            observer.beat_heart("test")

    beating = threading.Thread(target=beat)
    beating.start()
    try:

        def bound() -> bool:
            mine = (kube.get("PersistentVolumeClaim", namespace, name) for name in ("llama-models", "llama-results"))
            return all(claim["status"]["phase"] == "Bound" for claim in mine)

        until("the claims", bound)
        found = doctor(namespace, LLAMA_ASSETS_PHOTOS_CLAIM="pictures", LLAMA_ASSETS_ENGINE_SECRET="key")
    finally:
        stop.set()
        beating.join()
    (models, results, photos) = found["claim"]
    assert models[0] == results[0] == "ok" and "llama-models: bound, 10Mi" in models[1]
    assert photos[0] == "bad" and "pictures is Pending, not bound" in photos[1] and "describe pvc" in photos[1]
    assert [mark for mark, _ in found["accnt"] + found["reaper"]] == ["ok"] * 3
    assert "a reaper beats" in found["reaper"][0][1]
    assert found["secret"][1][0] == "bad" and "create secret generic" in found["secret"][1][1]
    assert found["tenant"][0][0] == "ok" and "of 1 ready" in found["tenant"][0][1]
    mark, says = found["engine"][-1]
    assert mark == "bad" and "takes the card whenever a tenant restarts" in says and "--replicas=0" in says


def test_doctor_tells_what_an_account_may_not_do_from_what_it_may_not_see(doctor, cluster, namespace, tmp_path):
    place = Place(cluster.kube, str(cluster.kubeconfig), namespace)
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    found = doctor(namespace, account(place, "small", rules, tmp_path))
    (tasks, engine, card) = found["rights"]
    assert tasks[0] == "bad" and "it lacks delete Job; also without watch Pod (following a task costs" in tasks[1]
    assert "Bind Role llama-assets-run" in tasks[1]
    assert engine[0] == "bad" and "get, create, patch Deployment llama-swap" in engine[1]
    assert card[0] == "bad" and "get Lease llama-assets-gpu" in card[1]
    unseen = ("space", "claim", "image", "secret", "accnt", "tenant", "lease", "reaper")
    assert {mark for about in unseen for mark, _ in found[about]} == {"unknown"}


def test_doctor_stops_at_a_cluster_that_does_not_answer(doctor, wire, namespace):
    wire.cut()
    found = doctor(namespace, str(wire.kubeconfig))
    assert list(found)[-1] == "api" and found["api"][0][0] == "bad"
    assert "does not answer" in found["api"][0][1] and "kubectl get --raw /readyz" in found["api"][0][1]
