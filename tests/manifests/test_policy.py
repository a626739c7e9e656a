"""What the lease's accounts may change of a workload that they may patch: replicas and the note, together."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import product

import pytest

from llama_assets.gpu.note import LABEL
from llama_assets.kube import Forbidden, Invalid, Kube
from tests.cluster import PYTHON, until
from tests.manifests.conftest import TENANT, workload
from tests.manifests.installation import Installed

ACCOUNTS = ("llama-assets-lease", "llama-assets-reaper")
NOTE = "r1.s0.t7.3fa9c2d1"
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}
BOTH = {
    "image": {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": f"{PYTHON}-other"}]}}}},
    "pod label": {"spec": {"template": {"metadata": {"labels": {"app": TENANT, "x": "y"}}}}},
    "environment": {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": PYTHON, "env": []}]}}}},
    "revision history": {"spec": {"revisionHistoryLimit": 1}},
    "ready seconds": {"spec": {"minReadySeconds": 5}},
    "another label": {"metadata": {"labels": {"x": "y"}}},
    "a label of its owner": {"metadata": {"labels": {"of": "us"}}},
    "a label taken away": {"metadata": {"labels": {"of": None}}},
    "an annotation": {"metadata": {"annotations": {"x": "y"}}},
    "an annotation taken away": {"metadata": {"annotations": {"note": None}}},
    "an owner": {"metadata": {"ownerReferences": [OWNER]}},
    "a finalizer": {"metadata": {"finalizers": ["example.org/x"]}},
    "replicas without a note": {"spec": {"replicas": 3}},
    "a note of another form": {"metadata": {"labels": {LABEL: "everything"}}},
    "a template beside replicas and note": {
        "metadata": {"labels": {LABEL: NOTE}},
        "spec": {"replicas": 0, "template": {"metadata": {"labels": {"app": TENANT, "x": "y"}}}},
    },
}
FORBIDDEN = {
    "Deployment": {
        **BOTH,
        "paused": {"spec": {"paused": True}},
        "strategy": {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}},
        "progress deadline": {"spec": {"progressDeadlineSeconds": 1}},
    },
    "StatefulSet": {
        **BOTH,
        "update strategy": {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}},
        "first ordinal": {"spec": {"ordinals": {"start": 5}}},
        "what becomes of its claims": {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}},
    },
}
CHANGES = [
    pytest.param(kind, change, id=f"{kind}-{name}") for kind, all_ in FORBIDDEN.items() for name, change in all_.items()
]


@pytest.fixture(scope="module")
def kubes(granted: Installed) -> Iterator[dict[str, Kube]]:
    """The cluster as each account sees it, with a StatefulSet beside the Deployment, both within their rights."""
    admin = granted.cluster.kube
    rule = {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["get", "patch"]}
    admin.create("Role", granted.tenants, {"metadata": {"name": "wider"}, "rules": [rule]})
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": granted.namespace} for name in ACCOUNTS]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "wider"}
    body = {"metadata": {"name": "wider"}, "subjects": subjects, "roleRef": reference}
    admin.create("RoleBinding", granted.tenants, body)
    for kind in FORBIDDEN:
        made = deepcopy(workload(kind, 0))
        made["metadata"]["name"] = "other"
        admin.create(kind, granted.tenants, made)
    opened = {account: granted.kube(account) for account in ACCOUNTS}

    def guarded() -> bool:  # Roles and policies work some moments after they were made
        for account, kind in product(ACCOUNTS, FORBIDDEN):
            try:
                opened[account].patch(kind, granted.tenants, "other", BOTH["ready seconds"], dry_run=True)
                return False
            except Forbidden:
                return False
            except Invalid:
                pass
        return True

    until("the policy", guarded)
    yield opened
    for kube in opened.values():
        kube.__exit__()
    for kind in FORBIDDEN:
        admin.delete(kind, granted.tenants, "other", propagation="Background")
    for kind in ("RoleBinding", "Role"):
        admin.delete(kind, granted.tenants, "wider")


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize(("kind", "change"), CHANGES)
def test_refused(granted, kubes, account, kind, change):
    with pytest.raises(Invalid, match=r"ValidatingAdmissionPolicy '.*' with binding .* denied request"):
        kubes[account].patch(kind, granted.tenants, "other", change, dry_run=True)


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_replicas_with_the_note_pass_and_so_does_their_undoing(granted, kubes, kind):
    take = {"metadata": {"labels": {LABEL: NOTE}}, "spec": {"replicas": 2}}
    give = {"metadata": {"labels": {LABEL: None}}, "spec": {"replicas": 0}}
    taken = kubes[ACCOUNTS[0]].patch(kind, granted.tenants, "other", take)
    assert taken["metadata"]["labels"] == {"of": "its-owner", LABEL: NOTE}
    given = kubes[ACCOUNTS[1]].patch(kind, granted.tenants, "other", give)
    assert given["spec"]["replicas"] == 0 and given["metadata"]["labels"] == {"of": "its-owner"}


def test_a_note_that_is_there_may_stay_whatever_it_says(granted, kubes):
    """A foreign note is reported and left; it must not make every later write of that workload impossible."""
    foreign = {"metadata": {"labels": {LABEL: "what-is-this"}}}
    granted.cluster.kube.patch("Deployment", granted.tenants, "other", foreign)
    kubes[ACCOUNTS[0]].patch("Deployment", granted.tenants, "other", {"spec": {"replicas": 0}})
    granted.cluster.kube.patch("Deployment", granted.tenants, "other", {"metadata": {"labels": {LABEL: None}}})


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_others_are_not_affected(granted, kubes, kind):
    change = FORBIDDEN[kind]["image"]
    granted.cluster.kube.patch(kind, granted.tenants, "other", change, dry_run=True)
