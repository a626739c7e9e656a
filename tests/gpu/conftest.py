"""A place of its own for the files of this folder that want a real cluster."""

from __future__ import annotations

import pytest

from tests.gpu.place import Place


@pytest.fixture
def place(cluster, module_namespace) -> Place:
    return Place(cluster.kube, str(cluster.kubeconfig), module_namespace)
