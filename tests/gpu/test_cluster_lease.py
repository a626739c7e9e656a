"""The lease on a real cluster: tenants come back as found, whoever dies, and a human wins."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from llama_assets.gpu.cluster_lease import ClusterLease
from llama_assets.gpu.errors import NoReaper, NotAllowed
from llama_assets.gpu.objects import Ref
from llama_assets.gpu.record import HeldByOther, LeaseTimes
from llama_assets.gpu.workloads import Cluster as Observer
from tests.cluster import until
from tests.gpu.place import TIMES


def test_tenants_at_three_one_and_zero_go_and_come_back_as_found(place):
    tenants = (
        place.workload("three", 3),
        place.workload("one", 1, "StatefulSet"),
        place.workload("zero", 0),
    )
    engine = place.workload("engine", 0)
    for ref, replicas in zip(tenants, (3, 1, 0), strict=True):
        until(f"{ref} ready", lambda ref=ref, replicas=replicas: place.ready(ref) == replicas)
    lease = place.lease(*tenants, name="first", engine=engine)
    with lease.take("test", "a test") as held:
        assert held.token == 1 and held.still_held()
        assert [place.at(ref)[0] for ref in tenants] == [0, 0, 0]
        assert [place.pods(ref) for ref in tenants] == [0, 0, 0]
        assert place.at(engine)[0] == 1
        record, living = lease.status()
        assert living and record.purpose == "a test"
        found = dict(lease.overview().record.tenants)
        assert [found[f"{ref.namespace}/{ref.name}"] for ref in (*tenants, engine)] == [3, 1, 0, 0]
    assert [place.at(ref) for ref in (*tenants, engine)] == [(3, None), (1, None), (0, None), (0, None)]
    assert [place.ready(ref) for ref in tenants] == [3, 1, 0]
    assert place.holder_of("first") is None
    told = {str(ref): [] for ref in tenants}
    for change in held.changes:
        for ref in tenants:
            if change.workload == f"{ref.namespace}/{ref.name}":
                told[str(ref)].append((change.became, change.replicas))
    for ref, replicas in zip(tenants, (3, 1, 0), strict=True):
        whole = [("set", 0), ("gone", 0), ("set", replicas), ("ready", replicas)]
        assert told[str(ref)] == (whole if replicas else []), "the times that the report tells"
    assert [change.at for change in held.changes] == sorted(change.at for change in held.changes)


def test_what_a_human_scales_ends_the_work_and_stays(place):
    tenant = place.workload("scaled")
    with place.lease(tenant, name="scaled").take("test", "a test") as held:
        place.scale(tenant, 2)
        assert held.wait(10)
        assert held.ended.how == "changed" and "changed by hand, at 2 replicas" in held.ended.says
        assert held.disturbed.why == held.ended.says
    assert place.at(tenant) == (2, None)
    assert [(report.became, report.replicas) for report in held.reports] == [("changed by hand", 2)]


def test_a_lease_deleted_by_hand_is_a_lost_lease_and_the_tenant_comes_back(place):
    tenant = place.workload("deleted")
    with place.lease(tenant, name="deleted").take("test", "a test") as held:
        place.kube.delete("Lease", place.namespace, "deleted")
        assert held.wait(10)
        assert held.ended.how == "lost" and "was lost to nobody" in held.ended.says
    assert place.at(tenant) == (1, None)


def test_of_two_holders_one_waits_for_the_other(place):
    tenant = place.workload("two")
    lease = place.lease(tenant, name="two")
    tokens, together, most = [], 0, 0
    lock = threading.Lock()

    def work(name: str) -> None:
        nonlocal together, most
        with lease.take(name, "a test") as held:
            with lock:
                together += 1
                most = max(most, together)
                tokens.append(held.token)
            assert place.pods(tenant) == 0
            with lock:
                together -= 1

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(work, ("a", "b"))) == [None, None]
    assert most == 1 and sorted(tokens) == [1, 2]
    assert place.at(tenant) == (1, None)


def test_a_second_holder_is_told_who_has_the_card(place):
    lease = place.lease(name="told")
    with lease.take("first", "a long benchmark"):
        impatient = ClusterLease(
            place.kube,
            place.namespace,
            "told",
            lease.card,
            LeaseTimes(lifetime_s=3, wait_s=0.5, look_again_s=0.1),
            True,
        )
        with pytest.raises(HeldByOther, match=r"first/.* \(a long benchmark\)"), impatient.take("second", "a test"):
            pass


def test_a_release_that_is_asked_for_ends_the_work(place):
    lease = place.lease(name="asked")
    with lease.take("test", "a test") as held:
        assert not held.wait(1)
        assert lease.release().token == 1
        assert held.wait(10)
        assert held.ended.how == "release"
    assert place.holder_of("asked") is None


def test_a_tenant_that_is_not_there_leaves_the_others_as_found(place):
    tenant = place.workload("there")
    missing = Ref("Deployment", place.namespace, "not-there")
    with pytest.raises(NotAllowed, match=f"Deployment {place.namespace}/not-there: 404"):
        place.lease(tenant, missing, name="missing").take("test", "a test").__enter__()
    assert place.at(tenant) == (1, None)
    assert place.holder_of("missing") is None


def test_a_stateful_set_whose_volumes_would_be_deleted_is_refused(place):
    tenant = place.workload(
        "claims",
        1,
        "StatefulSet",
        persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete", "whenDeleted": "Retain"},
    )
    with pytest.raises(NotAllowed, match="deletes its volumes"):
        place.lease(tenant, name="claims").take("test", "a test").__enter__()
    assert place.at(tenant) == (1, None)


def test_taking_is_refused_while_no_reaper_beats(place):
    lease = place.lease(name="heart", without_reaper=False)
    observer = Observer(place.kube, place.namespace, "heart", TIMES)
    observer.beat_heart("a reaper that died since")
    with pytest.raises(NoReaper, match="does not change"):
        lease.take("test", "a test").__enter__()
    beating = threading.Event()

    def beat() -> None:
        while not beating.wait(0.2):
            observer.beat_heart("a reaper")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with lease.take("test", "a test") as held:
            assert held.token == 1
    finally:
        beating.set()
        thread.join()


def test_the_reapers_figures_say_who_has_the_card(place):
    import urllib.request

    lease = place.lease(name="figures")
    reaper = place.reaper(lease)
    done = threading.Event()
    port = 18_000 + os.getpid() % 10_000
    thread = threading.Thread(target=reaper.every, args=(1.0, port, done.is_set))
    thread.start()

    def figures() -> str:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=2).read().decode()
        except OSError:
            return ""

    try:
        with lease.take("test", "a test"):
            until("held", lambda: "llama_assets_lease_held 1.0" in figures())
        until("free", lambda: "llama_assets_lease_held 0.0" in figures())
        assert "llama_assets_reaper_beats_total" in figures()
    finally:
        done.set()
        thread.join()
