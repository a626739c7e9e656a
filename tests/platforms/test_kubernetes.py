"""The graph's first stage on a real cluster: from a laptop's kubeconfig to verified files in the model volume.

The Hub is the loopback hub in a pod, the models are generated, the image is built from this checkout; `dagster asset
materialize` is run as a person runs it.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from llama_assets.catalog import load
from llama_assets.demo.models import repo_files
from llama_assets.platforms import PlatformError, open_platform
from llama_assets.settings import Settings
from tests.cluster import Cluster, until
from tests.demo_run import BIN, own_environment, working_folder
from tests.kube.test_cluster import RESTRICTED

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
def laptop(cluster, image, module_namespace, tmp_path_factory) -> Laptop:
    for claim in ("llama-models", "llama-results"):
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Mi"}}}
        body = {"metadata": {"name": claim}, "spec": spec}
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


def test_what_a_cluster_cannot_do_yet_is_said_plainly(laptop):
    status, output = laptop.materialize("llama_swap")
    assert status == 1
    assert "llama_swap, gpu_lease and benchmark/* run with LLAMA_ASSETS_PLATFORM='local'" in output


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
