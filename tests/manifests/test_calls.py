"""The comparison of calls with Roles: what is missing and what is spare; and the log it reads."""

from __future__ import annotations

import pytest

from llama_assets.kube import Forbidden
from tests.manifests.calls import Call, against_roles, recorded, rights
from tests.manifests.installation import MANIFESTS, Installed, rendered

LEASE = "leases.coordination.k8s.io"


def test_a_call_without_a_right_is_missing_and_a_right_without_a_call_is_spare():
    manifests = rendered(MANIFESTS / "tenants" / "immich")
    account = "llama-cpp:llama-assets-reaper"
    calls = [
        Call(account, "get", "deployments.apps", "immich", "immich-machine-learning"),
        Call(account, "patch", "deployments.apps", "immich", "immich-machine-learning"),
        Call(account, "list", "deployments.apps", "immich", ""),
        Call(account, "get", "deployments.apps", "immich", "immich-server"),
        Call(account, "create", "selfsubjectaccessreviews.authorization.k8s.io", "", ""),
    ]
    missing, spare = against_roles(calls, manifests, {f"{account}: list statefulsets.apps immich/*": "no such tenant"})
    assert missing == [f"{account}: get deployments.apps immich/immich-server"]
    assert {line.partition(":")[2].partition(":")[0] for line in spare} == {
        "llama-assets-lease",
        "llama-assets-code",
    }
    everything = rights(manifests)
    assert against_roles(everything, manifests) == ([], [])


def test_an_object_that_an_apply_or_a_put_made_uses_the_right_to_create_it_by_name():
    manifests = rendered(MANIFESTS / "base")
    account = "llama-cpp:llama-assets-reaper"
    _, before = against_roles([], manifests)
    _, after = against_roles([Call(account, "update", LEASE, "llama-cpp", "llama-assets-reaper")], manifests)
    used = f"{account}: {{}} {LEASE} llama-cpp/llama-assets-reaper"
    assert set(before) - set(after) == {used.format("update"), used.format("create")}


@pytest.mark.long
@pytest.mark.alone  # the API server is started again twice, to keep an audit log and not to
def test_the_api_servers_log_tells_every_call_of_an_account_and_what_was_refused(granted: Installed):
    with recorded(granted.cluster, granted.namespace) as seen, granted.kube("llama-assets-code") as kube:
        with pytest.raises(Forbidden):
            kube.list("Secret", granted.namespace)
        kube.allowed("get", "Lease", granted.namespace)
    ours = {call for call in seen.calls if call.account == f"{granted.namespace}:llama-assets-code"}
    refused = Call(f"{granted.namespace}:llama-assets-code", "list", "secrets", granted.namespace, "")
    assert refused in ours and refused in seen.forbidden
    missing, _ = against_roles(ours, granted.objects)
    assert missing == [str(refused)]
