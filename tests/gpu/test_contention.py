"""Tenant and engine ask for a real resource of the node: who gets the card is the scheduler's word."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator

import pytest

from llama_assets.gpu.cluster_lease import ClusterLease
from llama_assets.gpu.objects import Card, Ref
from tests.cluster import Cluster, until
from tests.gpu.place import TIMES, Place


@pytest.fixture
def card(cluster: Cluster) -> Iterator[Callable[[int], str]]:
    """A resource of this test's own on a node, as many as are asked for."""
    node = cluster.kube.list("Node", None)[0]["metadata"]["name"]
    resource = f"example.com/card-{secrets.token_hex(3)}"

    def patch(op: str, **value: str) -> None:
        where = resource.replace("/", "~1")
        steps = [{"op": op, "path": f"/status/{part}/{where}", **value} for part in ("capacity", "allocatable")]
        cluster.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(steps))

    def make(places: int) -> str:
        patch("add", value=str(places))
        return resource

    yield make
    patch("remove")


def lease(place: Place, name: str, tenant: Ref, engine: Ref, exclusive: bool) -> ClusterLease:
    return ClusterLease(place.kube, place.namespace, name, Card((tenant,), engine, exclusive), TIMES, True)


def test_on_a_shared_card_the_engine_stays_up_and_the_tenant_makes_room(place, card):
    resource = card(2)
    tenant, engine = place.workload("sharer", resource=resource), place.workload("shared-engine", resource=resource)
    until("both have their part of the card", lambda: place.ready(tenant) and place.ready(engine))
    (pod,) = place.kube.list("Pod", place.namespace, labels="app=shared-engine")
    with lease(place, "shared", tenant, engine, exclusive=False).take("test", "a test"):
        assert place.pods(tenant) == 0 and place.at(engine)[0] == 1
    assert place.at(tenant) == (1, None) and place.at(engine) == (1, None)
    assert place.ready(tenant) == 1
    (after,) = place.kube.list("Pod", place.namespace, labels="app=shared-engine")
    assert after["metadata"]["uid"] == pod["metadata"]["uid"], "it was never taken down"


def test_an_engine_found_up_on_an_exclusive_card_swaps_places_with_the_tenant_and_back(place, card):
    resource = card(1)
    tenant = place.workload("owner", resource=resource)
    until("the tenant has the card", lambda: place.ready(tenant))
    engine = place.workload("pending-engine", resource=resource)
    until("the engine waits for it", lambda: place.pods(engine))
    assert place.ready(engine) == 0
    with lease(place, "exclusive", tenant, engine, exclusive=True).take("test", "a test") as held:
        assert place.pods(tenant) == 0 and place.at(engine)[0] == 1
        until("the engine has the card", lambda: place.ready(engine))
        assert held.still_held()
    assert place.at(tenant) == (1, None) and place.at(engine) == (1, None)
    assert place.ready(tenant) == 1 and place.ready(engine) == 0, "the tenant first; the engine waits as before"
