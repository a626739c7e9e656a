"""A namespace with workloads that stand in for tenants, and holders and reapers of a Lease of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import yaml

from llama_assets.gpu.cluster_lease import ClusterLease
from llama_assets.gpu.note import LABEL
from llama_assets.gpu.objects import Card, Ref
from llama_assets.gpu.reaper import Reaper
from llama_assets.gpu.record import LeaseTimes
from llama_assets.kube import Kube
from tests.cluster import PYTHON, until
from tests.conftest import ROOT

TIMES = LeaseTimes(
    lifetime_s=3, beat_s=0.5, wait_s=20, look_again_s=0.1, heart_s=3, gone_s=60, ready_s=90, api_away_s=30
)
POD = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(1e6)"


@dataclass
class Place:
    """A namespace with workloads, and its own Lease."""

    kube: Kube
    kubeconfig: str
    namespace: str

    def workload(
        self, name: str, replicas: int = 1, kind: str = "Deployment", asleep: bool = False,
        resource: str | None = None, **spec: object,
    ) -> Ref:  # fmt: skip
        """`asleep`: its pods are made and start nowhere. `resource`: each asks one of it, as a user of a card does."""
        container = {
            "name": "main", "image": PYTHON, "command": ["python", "-c", POD], "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
                "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
            },
        }  # fmt: skip
        if resource:
            container["resources"] |= {"limits": {resource: "1"}}  # type: ignore[operator]
        pod: dict[str, object] = {"containers": [container], "terminationGracePeriodSeconds": 5}
        if asleep:
            pod["schedulingGates"] = [{"name": "llama-assets/asleep"}]
        body = {
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
                **({"serviceName": name} if kind == "StatefulSet" else {}),
                **spec,
            },
        }
        self.kube.create(kind, self.namespace, body)
        return Ref(kind, self.namespace, name)  # type: ignore[arg-type]

    def lease(self, *tenants: Ref, name: str = "gpu", engine: Ref | None = None, **more: object) -> ClusterLease:
        card = Card(tenants, engine)
        return ClusterLease(self.kube, self.namespace, name, card, TIMES, **{"without_reaper": True, **more})

    def reaper(self, lease: ClusterLease) -> Reaper:
        return Reaper(self.kube, self.namespace, lease.name, lease.card, TIMES)

    def silent(self, name: str) -> None:
        """Return when that Lease is renewed no more: a renewal may have been under way when its holder was struck."""

        def version() -> str:
            return str(self.kube.get("Lease", self.namespace, name)["metadata"]["resourceVersion"])

        def unchanged() -> bool:
            before = version()
            time.sleep(1)
            return version() == before

        until("the last renewal of a holder that was struck", unchanged)

    def at(self, ref: Ref) -> tuple[int, str | None]:
        found = self.kube.get(ref.kind, ref.namespace, ref.name)
        return found["spec"]["replicas"], (found["metadata"].get("labels") or {}).get(LABEL)

    def ready(self, ref: Ref) -> int:
        return self.kube.get(ref.kind, ref.namespace, ref.name)["status"].get("readyReplicas", 0)

    def pods(self, ref: Ref) -> int:
        """Pods whose processes may still run."""
        found = self.kube.list("Pod", ref.namespace, labels=f"app={ref.name}")
        return sum(pod["status"]["phase"] not in ("Succeeded", "Failed") for pod in found)

    def scale(self, ref: Ref, replicas: int) -> None:
        self.kube.patch(ref.kind, ref.namespace, ref.name, {"spec": {"replicas": replicas}}, manager="human")

    def holder_of(self, name: str = "gpu") -> str | None:
        return self.kube.get("Lease", self.namespace, name)["spec"].get("holderIdentity")

    def environment(self, folder: Path, name: str) -> dict[str, str]:
        """Of a command on this cluster, with a catalog whose one tenant is Deployment `name`, under a Lease `name`."""
        catalog = (ROOT / "llama_assets" / "models.yaml").read_text()
        for old, new in {
            "immich/immich-machine-learning": f"{self.namespace}/{name}",
            "llama-assets-gpu": name,
        }.items():
            assert old in catalog
            catalog = catalog.replace(old, new)
        (folder / "models.yaml").write_text(catalog)
        (folder / "questions").symlink_to(ROOT / "llama_assets" / "questions")
        return {
            **os.environ, "KUBECONFIG": self.kubeconfig, "LLAMA_ASSETS_NAMESPACE": self.namespace,
            "LLAMA_ASSETS_CATALOG": str(folder / "models.yaml"), "PYTHONUNBUFFERED": "1",
        }  # fmt: skip

    def process(self, lease: ClusterLease) -> subprocess.Popen[str]:
        """A holder in a process of its own; it prints a line once it has the card, and holds it until it is ended."""
        asked = {
            "namespace": self.namespace, "name": lease.name, "times": asdict(lease.times),
            "card": [asdict(ref) for ref in lease.card.tenants],
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-c", HOLDER, json.dumps(asked), self.kubeconfig],
            stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip


HOLDER = """
import json, sys
from llama_assets.gpu.cluster_lease import ClusterLease
from llama_assets.gpu.objects import Card, Ref
from llama_assets.gpu.record import LeaseTimes
from llama_assets.kube import Kube
asked = json.loads(sys.argv[1])
times = LeaseTimes(**asked["times"])
card = Card(tuple(Ref(**ref) for ref in asked["card"]))
lease = ClusterLease(Kube.open(sys.argv[2]), asked["namespace"], asked["name"], card, times, True)
with lease.take("test", "a test", print) as held:
    print("held", flush=True)
    held.wait(600)
    print("ended by", held.ended, flush=True)
print("given", flush=True)
"""


def line(process: subprocess.Popen[str], start: str) -> str:
    assert process.stdout is not None
    for said in process.stdout:
        if said.startswith(start):
            return said
    return pytest.fail(f"the holder ended with {process.wait()} and never said {start!r}")


def account(place: Place, name: str, rules: list[dict[str, list[str]]], folder: Path) -> str:
    """A kubeconfig for a new ServiceAccount of the place that may do what `rules` say and nothing else."""
    where = {"name": name, "namespace": place.namespace}
    place.kube.create("ServiceAccount", place.namespace, {"metadata": {"name": name}})
    place.kube.create("Role", place.namespace, {"metadata": {"name": name}, "rules": rules})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", **where}],
    }
    place.kube.create("RoleBinding", place.namespace, binding)
    said = yaml.safe_load(Path(place.kubeconfig).read_text())
    asked = ["kubectl", "-n", place.namespace, "create", "token", name]
    environment = {**os.environ, "KUBECONFIG": place.kubeconfig}
    token = subprocess.run(asked, env=environment, check=True, capture_output=True, text=True).stdout.strip()
    for user in said["users"]:
        user["user"] = {"token": token}
    path = folder / f"{name}.kubeconfig"
    path.write_text(yaml.safe_dump(said))
    return str(path)
