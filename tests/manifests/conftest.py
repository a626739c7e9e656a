"""Installations of the manifests: a whole one, and one of accounts and policies only."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import PYTHON, Cluster
from tests.manifests.installation import PASSWORD, POLICIES, Installed, overlay, renamed, rendered

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


RIGHTS = ("Namespace", "ServiceAccount", "Role", "RoleBinding", *POLICIES)


@contextlib.contextmanager
def installation(cluster: Cluster, image: str, folder: Path, kinds: tuple[str, ...] = ()) -> Iterator[Installed]:
    """What overlays/default gives beside a tenant, or these kinds of it; applied, not yet waited for."""
    ours, tenants = (f"llama-test-{secrets.token_hex(4)}{suffix}" for suffix in ("", "-tenants"))
    # An engine of somebody else's, so that no card is needed: the lease then swaps the tenant with nothing.
    settings = {"LLAMA_ASSETS_ENGINE_URL": "http://elsewhere.invalid:8080", "LLAMA_ASSETS_LEASE_LIFETIME_SECONDS": "10"}
    whole = renamed(rendered(overlay(folder / "overlay", image, settings, tenants=tenants)), ours, tenants)
    made = Installed(cluster, [thing for thing in whole if not kinds or thing["kind"] in kinds], ours, tenants, folder)
    try:
        cluster.kube.create("Namespace", None, {"metadata": {"name": tenants}})
        made.apply()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def installed(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Everything, beside a tenant that runs."""
    with installation(cluster, image, tmp_path_factory.mktemp("installation")) as made:
        cluster.kube.create("Deployment", made.tenants, workload("Deployment", 1))
        secret = {"metadata": {"name": "dagster-postgresql"}, "stringData": {"postgresql-password": PASSWORD}}
        cluster.kube.create("Secret", made.namespace, secret)
        yield made


@pytest.fixture(scope="module")
def granted(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Accounts, Roles and policies only: no pod of ours, and so no image."""
    with installation(cluster, "none:1", tmp_path_factory.mktemp("rights"), RIGHTS) as made:
        yield made
