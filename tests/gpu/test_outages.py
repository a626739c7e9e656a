"""The API server goes away while the card is held, and a Deployment is rolled back under a lease."""

from __future__ import annotations

import threading

from llama_assets.gpu.cluster_lease import ClusterLease
from llama_assets.gpu.objects import Ref
from llama_assets.kube import Kube, KubeLimits
from tests.cluster import Cluster, Wire, until
from tests.gpu.place import TIMES, Place


def through(wire: Wire, place: Place, tenant: Ref) -> ClusterLease:
    kube = Kube.open(wire.kubeconfig, KubeLimits(1.0, 5.0))
    return ClusterLease(kube, place.namespace, tenant.name, place.lease(tenant).card, TIMES, without_reaper=True)


def test_an_outage_shorter_than_the_lifetime_is_not_noticed_by_the_work(place, wire):
    tenant = place.workload("short-outage")
    failed = threading.Event()

    def say(line: str) -> None:
        if "reading again" in line:
            failed.set()

    with through(wire, place, tenant).take("test", "a test", say) as held:
        before = place.kube.get("Lease", place.namespace, tenant.name)["spec"]["renewTime"]
        wire.cut()
        until("the cut is noticed", lambda: failed.is_set() or not held.still_held(), 60)
        wire.mend()

        def renewed() -> bool:
            return place.kube.get("Lease", place.namespace, tenant.name)["spec"]["renewTime"] != before

        until("it renews again", lambda: renewed() or not held.still_held(), 60)
        assert place.at(tenant)[0] == 0 or not held.still_held()
        still = held.still_held()
    # On a machine that stood still for a lifetime it rightly ended; the tenant is back in both cases.
    assert still or held.ended.how == "lost"
    assert place.at(tenant) == (1, None) and place.holder_of(tenant.name) is None


def test_an_outage_longer_than_the_lifetime_ends_the_work_and_the_reaper_has_put_back(place, wire):
    tenant = place.workload("long-outage")
    with through(wire, place, tenant).take("test", "a test") as held:
        wire.cut()
        (report,) = place.reaper(place.lease(tenant, name=tenant.name)).once()
        assert report.became == "restored" and place.at(tenant) == (1, None)
        assert held.wait(30) and held.ended.how == "lost"
        wire.mend()
    assert held.reports == (), "what the reaper has put back is not touched again"
    assert place.at(tenant) == (1, None) and place.holder_of(tenant.name) is None


def test_rollout_undo_during_and_after_a_lease_brings_no_note_and_no_replicas_back(cluster: Cluster, place):
    tenant = place.workload("rolled")
    here = ("-n", place.namespace)
    cluster.kubectl(*here, "set", "env", "deployment/rolled", "REVISION=2")
    cluster.kubectl(*here, "rollout", "status", "deployment/rolled", "--timeout=90s")
    with place.lease(tenant, name="rolled").take("test", "a test") as held:
        cluster.kubectl(*here, "rollout", "undo", "deployment/rolled")
        assert not held.wait(1.5), "the template is not ours to mind"
        assert place.at(tenant)[0] == 0
    assert place.at(tenant) == (1, None) and [report.became for report in held.reports] == ["restored"]
    place.scale(tenant, 0)
    cluster.kubectl(*here, "rollout", "undo", "deployment/rolled")
    assert place.reaper(place.lease(tenant, name="rolled")).once() == ()
    assert place.at(tenant) == (0, None), "parked by a human, and it stays parked"
