"""The place of the lease's tests, and an account in it that may only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu.conftest import place
from tests.gpu.place import Place, account

__all__ = ["place"]


@pytest.fixture
def reader(place: Place, tmp_path: Path) -> str:
    """The kubeconfig of an account with the rights that the code location's Role has."""
    rules = [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["list"]},
    ]
    return account(place, "reader", rules, tmp_path)
