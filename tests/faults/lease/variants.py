"""Builds of the lease with one safeguard removed. The suite must find each of them out.

Most are the ones that the model in memory finds (`tests/gpu/test_model.py`); here they drive a real cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from llama_assets.gpu import lease as protocol
from llama_assets.gpu import workloads
from llama_assets.gpu.actions import PatchWorkload, perform
from tests.gpu import test_model as model

PROGRAMS = {"reap": "reaper", "renew": "heart"}
PLANS = {
    name: getattr(model, name)
    for name in (
        "note_in_another_write", "no_lease_read_after_the_workload", "lease_read_before_the_workload",
        "no_swap_to_nobody", "unconditional_patch", "unconditional_renewal",
    )
}  # fmt: skip


def not_waiting_for_pods(ref: Any, mine: Any) -> Generator[Any, Any, None]:
    """The engine starts while the tenant's pods may still have the card."""
    return
    yield


PARTS = {
    "only_the_token": ("ours", model.only_the_token),
    "an_older_note_always_wins": ("as_found", model.an_older_note_always_wins),
    "always_as_found": ("as_left", model.always_as_found),
    "not_waiting_for_the_engine": ("_engine_down", model.not_waiting_for_the_engine),
    "not_waiting_for_pods": ("_gone", not_waiting_for_pods),
}


def remove(variant: str) -> None:
    """Take this safeguard out of the running program."""
    if variant in PARTS:
        setattr(protocol, *PARTS[variant])
        return
    change: Callable[..., Any] = PLANS[variant]
    workloads.perform = lambda plan, answer: perform(change(plan, PROGRAMS.get(plan.__name__, "holder")), answer)
    _make_unconditional()


def _make_unconditional() -> None:
    """A version `any` is no condition: the request is sent without one."""
    patch_workload, patch_lease = workloads.Cluster._patch_workload, workloads.Cluster._patch_lease

    def workload(self: Any, action: PatchWorkload) -> Any:
        if action.seen.version != "any":
            return patch_workload(self, action)
        body = {
            "metadata": {"labels": {workloads.LABEL: None if action.note is None else str(action.note)}},
            "spec": {"replicas": action.replicas},
        }
        ref = action.seen.ref
        return workloads.workload(ref, self.kube.patch(ref.kind, ref.namespace, ref.name, body))

    def lease(self: Any, seen: Any, body: Any) -> Any:
        if seen.version != "any":
            return patch_lease(self, seen, body)
        return self.kube.patch("Lease", self.namespace, self.lease, body)

    workloads.Cluster._patch_workload = workload  # type: ignore[method-assign]
    workloads.Cluster._patch_lease = lease  # type: ignore[method-assign]
