"""What a Role, an admission policy or another Lease forbids is told by name, and everything stays as it was found."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from llama_assets.gpu.cluster_lease import ClusterLease
from llama_assets.gpu.errors import AnotherLease, NotAllowed
from llama_assets.gpu.objects import Ref
from llama_assets.gpu.vigil import look
from llama_assets.gpu.workloads import HEART
from llama_assets.gpu.workloads import Cluster as Observer
from llama_assets.kube import Forbidden, Kube
from tests.cluster import Cluster, until
from tests.gpu.place import TIMES, Place, account

LEASE_RULES = [
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "list", "create", "update", "patch"],
    },
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
    {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["list"]},
]


def as_account(place: Place, kubeconfig: str, *tenants: Ref, name: str) -> ClusterLease:
    mine = place.lease(*tenants, name=name)
    return ClusterLease(Kube.open(kubeconfig), place.namespace, name, mine.card, TIMES, without_reaper=True)


def test_an_account_with_the_rights_of_the_lease_takes_and_gives(place, tmp_path):
    tenant = place.workload("allowed")
    lease = as_account(place, account(place, "allowed", LEASE_RULES, tmp_path), tenant, name="allowed")
    found = lease.preview()
    assert found.obstacles == () and not any("may not be" in line for line in found.lines)
    assert f"{tenant}: at 1; set to 0; restored to 1" in found.lines
    less = account(place, "less", [{**LEASE_RULES[0], "verbs": ["get"]}, *LEASE_RULES[1:]], tmp_path)
    obstacles = as_account(place, less, tenant, name="allowed").preview().obstacles
    assert [text.split("may not ")[1].split()[0] for text in obstacles] == ["create", "update", "patch"]
    assert place.at(tenant) == (1, None) and lease.overview().record.token == 0, "a preview writes nothing"
    with lease.take("test", "a test") as held:
        seen = lease.overview()
        assert seen.held and dict(seen.record.tenants) == {f"{place.namespace}/allowed": 1}
        assert any("will be restored to 1" in line for line in seen.lines)
        assert held.still_held()
    assert place.at(tenant) == (1, None) and held.left == (f"{tenant}: restored, at 1 replicas",)


class Counted(Kube):
    """A connection that remembers what it was refused, and how often it asked."""

    asked = 0
    refused: tuple[str, ...] = ()

    def _call(self, *arguments: Any, **more: Any) -> bytes:
        self.asked += 1
        try:
            return super()._call(*arguments, **more)
        except Forbidden as error:
            self.refused += (error.message,)
            raise


def by_name(group: str, resource: str, *names: str) -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": [resource], "resourceNames": list(names), "verbs": ["get"]}


def test_who_waits_for_the_card_or_looks_at_it_asks_for_nothing_beyond_its_role(place, tmp_path):
    """As `llama-assets-run` and `llama-assets-code` may: the Lease; the heart and the card's workloads, all by name."""
    tenant = place.workload("looked-at")
    rules = [by_name("coordination.k8s.io", "leases", "looked-at")]
    with place.lease(tenant, name="looked-at").take("test", "a look"):
        with Counted.open(account(place, "run", rules, tmp_path)) as kube:
            mine = ClusterLease(kube, place.namespace, "looked-at", place.lease(tenant).card, TIMES)
            record, held = mine.status()
            assert (held, record.purpose, kube.asked, kube.refused) == (True, "a look", 1, ())
        rules = [
            by_name("coordination.k8s.io", "leases", "looked-at", HEART),
            by_name("apps", "deployments", tenant.name),
        ]
        with Counted.open(account(place, "code", rules, tmp_path)) as kube:
            seen = look(Observer(kube, place.namespace, "looked-at", TIMES), mine.card)
            assert seen.down and str(tenant) in seen.down[0] and seen.holder == record.holder
            assert (kube.asked, kube.refused) == (3, ())


def test_an_account_that_may_not_patch_the_tenant_is_told_and_nothing_is_scaled(place, tmp_path):
    tenant, other = place.workload("forbidden"), place.workload("permitted")
    rules = [
        LEASE_RULES[0],
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["permitted"], "verbs": ["patch"]},
        LEASE_RULES[2],
    ]
    lease = as_account(place, account(place, "forbidden", rules, tmp_path), other, tenant, name="forbidden")
    found = lease.preview()
    (obstacle,) = found.obstacles
    assert obstacle.startswith(f"{tenant}: the API server would refuse the write: ") and "cannot patch" in obstacle
    assert any("may not be listed by this account" in line for line in found.lines), "HPAs, ScaledObjects: unknown"
    with pytest.raises(NotAllowed, match=rf"{tenant}: 403 .*cannot patch.* All else is as found"):
        lease.take("test", "a test").__enter__()
    assert place.at(tenant) == (1, None) and place.at(other) == (1, None)
    assert place.holder_of("forbidden") is None


@pytest.fixture
def policy(cluster: Cluster, place: Place):
    """An admission policy that keeps replicas of whatever is labelled app=policed."""
    name = f"{place.namespace}-policed"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
                "objectSelector": {"matchExpressions": [{"key": "policed", "operator": "Exists"}]},
                "resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"],
                                   "resources": ["deployments"]}],
            },
            "validations": [{"expression": "object.spec.replicas == oldObject.spec.replicas",
                             "message": "this one stays up"}],
        },
    }  # fmt: skip
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
    }  # fmt: skip
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([policy, binding]))
    yield
    cluster.kubectl("delete", f"validatingadmissionpolicy/{name}", f"validatingadmissionpolicybinding/{name}")


@pytest.mark.usefixtures("policy")
def test_a_policy_that_says_no_is_told_by_its_words_and_who_was_scaled_before_it_is_put_back(place):
    first, policed = place.workload("before-policed"), place.workload("policed")
    place.kube.patch("Deployment", place.namespace, "policed", {"metadata": {"labels": {"policed": "true"}}})
    lease = place.lease(first, policed, name="policed")
    until("the policy is in force", lambda: lease.preview().obstacles, 30)
    (obstacle,) = lease.preview().obstacles
    assert obstacle.startswith(f"{policed}: ") and "this one stays up" in obstacle
    with pytest.raises(NotAllowed, match="this one stays up") as refused:
        lease.take("test", "a test").__enter__()
    assert refused.value.status == 422 and str(policed) in str(refused.value)
    assert place.at(first) == (1, None) and place.at(policed) == (1, None)


def test_a_tenant_that_is_down_under_another_lease_is_left_to_it(place):
    tenant = place.workload("shared-tenant")
    right = place.lease(tenant, name="right")
    wrong = place.lease(tenant, name="wrong")
    with right.take("test", "a test") as held:
        (report,) = place.reaper(wrong).once()
        assert report.became == "held under another lease" and not report.good
        with pytest.raises(AnotherLease, match=r"same `gpu\.lease`"):
            wrong.take("other", "a test").__enter__()
        assert place.at(tenant)[0] == 0 and held.still_held()
    assert place.at(tenant) == (1, None)
    assert place.reaper(wrong).once() == ()
