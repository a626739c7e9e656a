"""One installation for all files here that want one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster import PYTHON, Cluster
from tests.manifests.installation import PASSWORD, Installed, overlay, renamed, rendered

TENANT = "immich-machine-learning"
SLEEPS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(1e6)"


def workload(kind: str, replicas: int) -> dict:
    """A stand-in for the tenant that the manifests name."""
    container = {
        "name": "main", "image": PYTHON, "command": ["python", "-c", SLEEPS], "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
            "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
        },
    }  # fmt: skip
    pod = {"containers": [container], "terminationGracePeriodSeconds": 5}
    return {
        "metadata": {"name": TENANT, "labels": {"of": "its-owner"}, "annotations": {"note": "its-owner's"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": TENANT}},
            "template": {"metadata": {"labels": {"app": TENANT}}, "spec": pod},
            **({"serviceName": TENANT} if kind == "StatefulSet" else {}),
        },
    }


@pytest.fixture(scope="package")
def installed(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Everything of overlays/default beside a tenant, applied once; not yet waited for."""
    folder = tmp_path_factory.mktemp("installation")
    ours, tenants = (f"llama-test-{secrets.token_hex(4)}{suffix}" for suffix in ("", "-tenants"))
    # An engine of somebody else's, so that no card is needed: the lease then swaps the tenant with nothing.
    settings = {"LLAMA_ASSETS_ENGINE_URL": "http://elsewhere.invalid:8080", "LLAMA_ASSETS_LEASE_LIFETIME_SECONDS": "10"}
    objects = renamed(rendered(overlay(folder / "overlay", image, settings, tenants=tenants)), ours, tenants)
    for found in objects:  # the demo's password stands where docs/cluster.md has a person make one
        found["metadata"].setdefault("labels", {})["llama-assets/test"] = "true"
    made = Installed(cluster, objects, ours, tenants, folder)
    try:
        cluster.kube.create("Namespace", None, {"metadata": {"name": tenants}})
        cluster.kube.create("Deployment", tenants, workload("Deployment", 1))
        made.apply()
        secret = {"metadata": {"name": "dagster-postgresql"}, "stringData": {"postgresql-password": PASSWORD}}
        cluster.kube.create("Secret", ours, secret)
        yield made
    finally:
        made.remove()
