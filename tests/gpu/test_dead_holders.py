"""Holders that die or are paused on a real cluster: who comes after puts back what they took, once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.conftest import ROOT
from tests.gpu.place import TIMES, line


def test_a_killed_holder_is_reaped(place):
    tenant = place.workload("killed")
    lease = place.lease(tenant, name="killed")
    process = place.process(lease)
    line(process, "held")
    assert place.at(tenant)[0] == 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    place.silent("killed")
    (report,) = place.reaper(lease).once()
    assert report.became == "restored" and report.replicas == 1
    assert place.at(tenant) == (1, None) and place.ready(tenant) == 1
    assert place.holder_of("killed") is None
    assert place.reaper(lease).once() == ()


def test_a_holder_paused_past_its_lifetime_finds_its_lease_lost_and_touches_nothing(place):
    tenant = place.workload("paused")
    lease = place.lease(tenant, name="paused")
    process = place.process(lease)
    line(process, "held")
    process.send_signal(signal.SIGSTOP)
    place.silent("paused")
    place.reaper(lease).once()
    assert place.at(tenant) == (1, None)
    version = place.kube.get("Lease", place.namespace, "paused")["metadata"]["resourceVersion"]
    process.send_signal(signal.SIGCONT)
    line(process, "ended by")
    line(process, "given")
    process.wait()
    assert place.at(tenant) == (1, None)
    assert place.kube.get("Lease", place.namespace, "paused")["metadata"]["resourceVersion"] == version


def test_two_reapers_put_a_dead_holders_tenants_back_once(place):
    tenant = place.workload("reaped", 2)
    lease = place.lease(tenant, name="reaped")
    process = place.process(lease)
    line(process, "held")
    process.send_signal(signal.SIGKILL)
    process.wait()
    place.silent("reaped")
    with ThreadPoolExecutor() as pool:
        reports = [report for each in pool.map(lambda _: place.reaper(lease).once(), range(2)) for report in each]
    assert reports and all(report.became == "restored" for report in reports)
    assert place.at(tenant) == (2, None)


def test_a_tenant_taken_by_a_dead_holder_keeps_what_was_found_through_the_next_one(place):
    tenant = place.workload("adopted", 2)
    lease = place.lease(tenant, name="adopted")
    process = place.process(lease)
    line(process, "held")
    process.send_signal(signal.SIGKILL)
    process.wait()
    began = time.monotonic()
    with lease.take("next", "a test") as held:
        assert time.monotonic() - began >= TIMES.lifetime_s, "a named holder is dead only after a lifetime"
        assert held.token == 2
        assert dict(held.record.tenants) == {f"{place.namespace}/adopted": 2}
    assert place.at(tenant) == (2, None)


def test_the_command_reaps_what_a_killed_holder_left_and_ends_well_on_sigterm(place, tmp_path):
    tenant = place.workload("command")
    lease = place.lease(tenant, name="command")
    environment = place.environment(tmp_path, "command")
    process = place.process(lease)
    line(process, "held")
    process.send_signal(signal.SIGKILL)
    process.wait()
    program = [sys.executable, "-m", "llama_assets.cli", "reap", "--every", "1"]
    reaper = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    assert "restored, at 1 replicas" in line(reaper, f"reaper: Deployment {place.namespace}/command")
    reaper.send_signal(signal.SIGTERM)
    assert reaper.wait(10) == 0
    assert place.at(tenant) == (1, None)
    assert place.holder_of("command") is None
