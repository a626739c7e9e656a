"""The API server of the kit, really stopped for a minute: a Job is followed, and a card is held, through it.

It runs alone (`alone`): whoever else uses the cluster meets the outage too. Only where the cluster is the kit's.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from llama_assets.kube import Kube, KubeError
from llama_assets.launch import JobLauncher, JobTimes, Task, TaskPods
from tests.cluster import PYTHON, Cluster, until
from tests.gpu.place import TIMES, Place, line
from tests.launch.test_job import SMALL

pytestmark = [pytest.mark.alone, pytest.mark.long, pytest.mark.timeout(600)]
AWAY_S = 60
LINES = 100  # one a second: some before the outage, most in it, some after


@pytest.fixture
def kit(cluster: Cluster) -> Iterator[Path]:
    """The kit's program; the API server answers afterwards, whatever became of the test."""
    if cluster.kit is None:
        pytest.skip("only the kit can stop its API server, and this cluster is not the kit's")
    yield cluster.kit
    subprocess.run([str(cluster.kit), "start", "kube-apiserver"], check=True, timeout=120)
    until("the API server", lambda: answers(cluster.kube), 120)


def answers(kube: Kube) -> bool:
    try:
        return bool(kube.version())
    except KubeError:
        return False


@contextmanager
def stopped(kit: Path, kube: Kube) -> Iterator[None]:
    subprocess.run([str(kit), "stop", "kube-apiserver"], check=True, timeout=120)
    assert not answers(kube)
    began = time.monotonic()
    yield
    time.sleep(max(0.0, AWAY_S - (time.monotonic() - began)))
    subprocess.run([str(kit), "start", "kube-apiserver"], check=True, timeout=120)
    until("the API server", lambda: answers(kube), 120)


def test_an_api_server_stopped_for_a_minute_costs_no_line_no_task_and_no_tenant(cluster, kit, module_namespace):
    place = Place(cluster.kube, str(cluster.kubeconfig), module_namespace)
    tenant = place.workload("tenant")
    until("the tenant", lambda: place.ready(tenant) == 1, 120)
    times = replace(TIMES, lifetime_s=6, api_away_s=240, ready_s=180)
    lease = replace(place.lease(tenant), times=times)
    holder = place.process(lease)
    line(holder, "held")
    assert place.at(tenant)[0] == 0

    lines: list[str] = []
    begun = threading.Event()

    def heard(text: str) -> None:
        lines.append(text)
        if text == "line 3":
            begun.set()

    program = f"import time\nfor n in range({LINES}): print('line', n); time.sleep(1)"
    pods = TaskPods(PYTHON, command=("python", "-uc", program), sizes=SMALL)
    task = Task("download", "run-1", "outage.0", {}, "tiny")
    launcher = JobLauncher(lambda: Kube.open(cluster.kubeconfig), module_namespace, pods, JobTimes())
    failed: list[BaseException] = []

    def follow() -> None:
        try:
            launcher.run(task, {}, heard)
        except BaseException as error:
            failed.append(error)

    following = threading.Thread(target=follow)
    following.start()
    assert begun.wait(120)
    with stopped(kit, cluster.kube):
        heard_before = len(lines)
        assert "we did not renew for a lifetime" in line(holder, "gpu lease: we did not")

    following.join(300)
    assert not following.is_alive() and failed == []
    ours = [text for text in lines if not text.startswith("line")]
    assert [text for text in lines if text.startswith("line")] == [f"line {number}" for number in range(LINES)]
    assert len(lines) - heard_before > AWAY_S / 2, "the outage fell into the task's work"
    assert any("waiting for the API server" in text for text in ours), ours

    line(holder, "given")
    assert holder.wait(60) == 0
    assert place.at(tenant) == (1, None)
    until("the tenant is back", lambda: place.ready(tenant) == 1, 180)
    assert place.holder_of() is None
