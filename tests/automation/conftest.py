"""The place of the lease's tests, and an account in it that may only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_assets.gpu.workloads import HEART
from tests.gpu.conftest import place
from tests.gpu.place import Place, account

__all__ = ["place"]


@pytest.fixture
def reader(place: Place, tmp_path: Path) -> str:
    """The kubeconfig of an account with the code location's rights on a Lease and a Deployment called `seen`."""
    rules = [
        {"apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": ["get"]}
        for group, resource, names in (
            ("coordination.k8s.io", "leases", ["seen", HEART]),
            ("apps", "deployments", ["seen"]),
        )
    ]
    return account(place, "reader", rules, tmp_path)
