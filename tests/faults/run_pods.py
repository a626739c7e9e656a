"""A run pod of Dagster's, killed while the Job it follows takes the card, uses it and gives it back.

Who has the card is the Job's pod, a benchmark or a hold; the run pod only listens to it. A kill is fired by what is
seen of the Lease, the tenant and the engine in that moment. Its first process killed on the node, the Job goes on to
its own end. A pod deleted without grace has two seconds between SIGTERM and SIGKILL all the same: in those it may have
deleted its Job, whose pod then gives the card back. Either way the tenant comes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from llama_assets.gpu.note import LABEL
from llama_assets.gpu.objects import Ref
from llama_assets.kube import Kube, NotFound
from tests.cluster import until
from tests.faults.node import process_in

# Of a task's Job, in their order: not begun, taking, using, giving, given.
STEPS = ("starting", "lease taken", "pods going", "engine up", "work", "engine down", "tenant up", "freed")
WITHOUT_ENGINE = tuple(step for step in STEPS if "engine" not in step)
GRACE_S = 60.0
ENDED = "its Job ended by itself"


class Missed(Exception):
    """The step was over before it was seen: nothing was killed."""


@dataclass(frozen=True)
class Sight:
    """Who has the card, and what uses it, in one moment."""

    holder: str | None
    noted: bool
    tenant_pods: int
    ready: int
    replicas: int
    engine_at: int = 0
    engine_ready: int = 0

    def step(self, before: str, engine: bool) -> str:
        """The step, when `before` was the one seen last."""
        if not self.holder:
            return before if before in ("starting", "freed") else "freed"
        over = STEPS.index(before) >= STEPS.index("engine up")  # from here on only work, and the way back
        if self.engine_at:
            return "work" if self.engine_ready else "engine up"
        if engine and over:
            return "engine down" if self.noted else "tenant up"
        if self.noted:
            return "pods going" if engine or (self.tenant_pods and not over) else "work"
        return "tenant up" if over else "lease taken"


@dataclass(frozen=True)
class Site:
    """An installation: where its Jobs are, what uses the card, and which kind of task is to hold it."""

    kube: Kube
    namespace: str
    tenant: Ref
    task: str
    engine: Ref | None = None
    words: Callable[[str], str] = str
    """What a run has said, for who reads why a test failed."""

    def sight(self) -> Sight:
        tenant = self._get(self.tenant)
        pods = self.kube.list("Pod", self.tenant.namespace, labels=_selector(tenant))
        lease = self._get(Ref("Lease", self.namespace, "llama-assets-gpu"))  # type: ignore[arg-type]
        engine = self._get(self.engine) if self.engine else {}
        return Sight(
            (lease.get("spec") or {}).get("holderIdentity") or None,
            LABEL in (tenant["metadata"].get("labels") or {}),
            sum(pod["status"].get("phase") not in ("Succeeded", "Failed") for pod in pods),
            tenant["status"].get("readyReplicas", 0),
            tenant["spec"]["replicas"],
            (engine.get("spec") or {}).get("replicas", 0),
            (engine.get("status") or {}).get("readyReplicas", 0),
        )

    def struck(
        self, launched: Callable[[], str], step: str, way: str, replicas: int, limit_s: float
    ) -> tuple[str, float, str]:
        """Launch a run and kill its pod in this step, once more where it was missed; the run, and how it came back."""
        for _ in range(3):
            run = launched()
            try:
                return run, *self.back_after(run, self.killed_at(run, step, way), replicas, limit_s)
            except Missed as missed:
                print(f"run pod, {way}: missed {missed}", flush=True)
                until("the missed run's end", lambda run=run: not self.at_work(run), 240)
        return pytest.fail(f"{step} is always over before it is seen")

    def at_work(self, run: str) -> bool:
        """Is a Job of the run, or its own, still active?"""
        found = self.kube.list("Job", self.namespace, labels=f"dagster/run-id={run}")
        return any(job["status"].get("active") for job in found) or bool(self.sight().holder)

    def killed_at(self, run: str, step: str, way: str) -> float:
        """Kill the run's pod in this step; when that was, by the monotonic clock. Raises Missed."""
        began = time.monotonic()
        while not self.jobs(run):
            if self._over(run) or time.monotonic() - began > 180:
                pytest.fail(f"run {run} has no {self.task} Job: {self.words(run)[-4000:]}")
            time.sleep(0.1)
        before, end = "starting", time.monotonic() + 240
        while (now := self.sight().step(before, self.engine is not None)) != step:
            if STEPS.index(now) > STEPS.index(step) or time.monotonic() > end:
                raise Missed(f"{step}, it is at {now}")
            before = now
            time.sleep(0.02)
        WAYS[way](self.kube, self.run_pod(run))
        return time.monotonic()

    def back_after(self, run: str, killed: float, replicas: int, limit_s: float) -> tuple[float, str]:
        """Seconds from the kill to everything as found: tenant ready, no note, Lease free, no Job at work.

        And what became of the Job.
        """

        def trouble() -> str | None:
            seen = self.sight()
            if (seen.replicas, seen.ready, seen.noted, seen.holder) != (replicas, replicas, False, None):
                return str(seen)
            return next((str(job["status"]) for job in self.jobs(run) if job["status"].get("succeeded") != 1), None)

        end = time.monotonic() + limit_s
        while said := trouble():
            assert time.monotonic() < end, f"not as found {limit_s:.0f} s after the run pod was killed: {said}"
            time.sleep(0.1)
        seconds = time.monotonic() - killed
        return seconds, ENDED if self.jobs(run) else "its Job was deleted"

    def jobs(self, run: str) -> list[dict[str, Any]]:
        """The task's Job of this run; there is one."""
        return list(self.kube.list("Job", self.namespace, labels=f"llama-assets/task={self.task},dagster/run-id={run}"))

    def run_pod(self, run: str) -> dict[str, Any]:
        (pod,) = self.kube.list("Pod", self.namespace, labels=f"job-name=dagster-run-{run}")
        return pod

    def run_is_dead(self, run: str) -> bool:
        """Has the run's own Job failed, with no second pod?"""
        status = self.kube.get("Job", self.namespace, f"dagster-run-{run}")["status"]
        return bool(status.get("failed") == 1 and not status.get("active"))

    def _over(self, run: str) -> bool:
        try:
            status = self.kube.get("Job", self.namespace, f"dagster-run-{run}")["status"]
        except NotFound:  # it is queued
            return False
        return bool(status.get("succeeded") or status.get("failed"))

    def _get(self, ref: Ref) -> dict[str, Any]:
        try:
            return self.kube.get(ref.kind, ref.namespace, ref.name)
        except NotFound:
            return {}


def _selector(found: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in found["spec"]["selector"]["matchLabels"].items())


def _deleted(kube: Kube, pod: dict[str, Any]) -> None:
    kube.delete("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"], grace_s=0)


def _killed(_: Kube, pod: dict[str, Any]) -> None:
    process_in(pod, "dagster").kill()


WAYS: dict[str, Callable[[Kube, dict[str, Any]], None]] = {"pod deleted": _deleted, "kill -9": _killed}
