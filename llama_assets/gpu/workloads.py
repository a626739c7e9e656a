"""The lease's plans on a real API server: each action of `actions.py` is one request.

Here: how a Deployment, a StatefulSet, their pods and the Lease look as JSON, which answers of the API server are a
refusal and which a no, how long each wait may be, and what happens while it does not answer. Not here: what is done in
which order (`lease.py`), threads and signals (`cluster_lease.py`, `reaper.py`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llama_assets.catalog import Catalog
from llama_assets.gpu.actions import (
    Action,
    CountPods,
    Denied,
    PatchWorkload,
    Plan,
    ReadHeart,
    ReadHolders,
    ReadLease,
    ReadWorkload,
    Refused,
    Result,
    Wait,
    WriteLease,
    perform,
)
from llama_assets.gpu.note import LABEL, Note, holder_id
from llama_assets.gpu.objects import Card, LeaseObject, Ref, Standing, Workload
from llama_assets.gpu.record import LeaseTimes, micro_time
from llama_assets.kube import Conflict, Forbidden, Invalid, Kube, NotFound, Object, Trouble
from llama_assets.kube import Refused as Malformed

T = TypeVar("T")
MANAGER = "llama-assets-lease"  # owns spec.replicas while a note stands: a GitOps apply gets a conflict
HEART = "llama-assets-reaper"
PURPOSE = "llama-assets.io/purpose"
RELEASE = "llama-assets.io/release"  # the token whose release somebody asks for


def card_of(catalog: Catalog, engine: Ref | None) -> Card:
    """Who uses the catalog's card: its tenants, and the engine, where it is ours to scale."""
    tenants = tuple(Ref(tenant.kind, tenant.namespace, tenant.name) for tenant in catalog.tenants)
    return Card(tenants, engine, catalog.gpu.sharing == "exclusive")


@dataclass
class Cluster:
    """One observer of one lease. `pause` is called between two looks, with the seconds it may take."""

    kube: Kube
    namespace: str
    lease: str
    times: LeaseTimes = field(default_factory=LeaseTimes)
    purpose: str = ""
    say: Callable[[str], None] = print
    pause: Callable[[float], object] = time.sleep
    standing: Standing = field(default_factory=Standing)

    def perform(self, plan: Plan[Result]) -> Result:
        """Carry a plan out. Waits are counted from here.

        Raises:
            GpuError: what the plan raises.
            KubeError: the API server did not answer for `times.api_away_s`, or says no to a read of the Lease.
        """
        waits: dict[Wait, float] = {}

        def answer(action: Action) -> Any:
            if isinstance(action, Wait):
                return self._wait(action, waits)
            return self._answered(action)

        return perform(plan, answer)

    def read_lease(self) -> LeaseObject | None:
        """The Lease as it is now."""
        try:
            return lease_object(self.kube.get("Lease", self.namespace, self.lease))
        except NotFound:
            return None

    def noted(self, namespaces: set[str]) -> tuple[Workload, ...]:
        """Every workload with a note in these namespaces, in the catalog or not."""
        return tuple(
            workload(Ref(kind, namespace, found["metadata"]["name"]), found)
            for kind in ("Deployment", "StatefulSet")
            for namespace in sorted(namespaces)
            for found in self.kube.list(kind, namespace, labels=LABEL)
        )

    def ask_release(self, lease: LeaseObject) -> None:
        """Ask the holder to give back; it hears it at its next beat. Raises Conflict when the Lease moved meanwhile."""
        self._patch_lease(lease, {"metadata": {"annotations": {RELEASE: str(lease.token)}}})

    def beat_heart(self, name: str) -> None:
        """The reaper lives. Several may beat the same heart."""
        body = {"spec": {"holderIdentity": name, "renewTime": micro_time(), "leaseDurationSeconds": 15}}
        try:
            self.kube.patch("Lease", self.namespace, HEART, body, manager=HEART)
        except NotFound:
            named = {**body, "metadata": {"name": HEART, "namespace": self.namespace}}
            with contextlib.suppress(Conflict, Invalid):  # another reaper made it meanwhile: that was a beat
                self.kube.replace("Lease", self.namespace, HEART, named, manager=HEART)

    def _wait(self, wait: Wait, waits: dict[Wait, float]) -> bool:
        limit_s = {
            "held": self.times.wait_s,
            "heart": self.times.heart_s,
            "gone": self.times.gone_s,
            "ready": self.times.ready_s,
        }[wait.why]
        now = time.monotonic()
        if wait not in waits:
            waits[wait] = now
            self.say(self._sentence(wait, limit_s))
        if now - waits[wait] >= limit_s:
            return False
        self.pause(self.times.look_again_s)
        return True

    def _sentence(self, wait: Wait, limit_s: float) -> str:
        return (
            "gpu lease: "
            + {
                "held": "somebody has the card; a holder that does not renew is dead after one lifetime; waiting",
                "heart": "waiting for a beat of the reaper",
                "gone": f"waiting for the pods of {wait.ref} to go",
                "ready": f"waiting for {wait.ref} to be ready",
            }[wait.why]
            + f", {limit_s:.0f} s at most"
        )

    def _answered(self, action: Action) -> Any:
        """A read is repeated while the API server is away; a write is not, for it may have landed: the plan reads."""
        if not isinstance(action, PatchWorkload | WriteLease):
            return self.patiently(lambda: self._request(action))
        try:
            return self._request(action)
        except Trouble as error:
            self.say(f"gpu lease: {error}; reading again")
            return Refused()

    def patiently(self, read: Callable[[], T]) -> T:
        """What `read` returns once the API server answers. Raises Trouble when it is away for `times.api_away_s`."""
        began = time.monotonic()
        while True:
            try:
                return read()
            except Trouble:
                if time.monotonic() - began >= self.times.api_away_s:
                    raise
                self.pause(self.times.look_again_s)

    def heart(self) -> str | None:
        """When a reaper beat last, by its own clock; None when none ever did."""
        try:
            heart = self.kube.get("Lease", self.namespace, HEART)
        except NotFound:
            return None
        return (heart.get("spec") or {}).get("renewTime")

    def refused(self, seen: Workload, replicas: int, note: Note) -> str | None:
        """Why the API server would refuse this write, by a dry run of it; None when it would not. Writes nothing.

        Its version is left out: that it moves meanwhile is no obstacle.
        """
        body = {"metadata": {"uid": seen.uid, "labels": {LABEL: str(note)}}, "spec": {"replicas": replicas}}
        ref = seen.ref
        try:
            self.kube.patch(ref.kind, ref.namespace, ref.name, body, manager=MANAGER, dry_run=True)
        except (NotFound, Forbidden, Invalid, Malformed) as error:
            return error.message
        return None

    def _request(self, action: Action) -> Any:
        match action:
            case ReadLease():
                return self.standing.see(self.read_lease(), time.monotonic())
            case ReadHeart():
                return self.heart()
            case ReadHolders():
                return self._other_holders()
            case ReadWorkload(ref):
                try:
                    return workload(ref, self.kube.get(ref.kind, ref.namespace, ref.name))
                except (NotFound, Forbidden) as error:
                    return Denied(error.status or 0, error.message)
            case CountPods(ref):
                return self._pods(ref)
            case PatchWorkload():
                return self._patch_workload(action)
            case WriteLease():
                return self._write_lease(action)
            case _:
                raise AssertionError(action)

    def _other_holders(self) -> frozenset[str]:
        try:
            leases = self.kube.list("Lease", self.namespace)
        except Forbidden as error:  # an older Role: what is ours is put back all the same
            self.say(f"gpu lease: whether a note is another Lease's is not known: {error.message}")
            return frozenset()
        named = {
            holder_id(found["spec"]["holderIdentity"])
            for found in leases
            if found["metadata"]["name"] != self.lease and (found.get("spec") or {}).get("holderIdentity")
        }
        return frozenset(named)

    def _pods(self, ref: Ref) -> int:
        """Pods that may hold the card: there, deleted or not, and not ended. A workload's own status does not tell.

        At least one while its controller has not seen the newest replicas: it may still start a pod for the older.
        """
        try:
            found = self.kube.get(ref.kind, ref.namespace, ref.name)
        except NotFound:
            return 0
        wanted = found["spec"]["selector"].get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
        pods = self.kube.list("Pod", ref.namespace, labels=selector)
        left = sum(pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") for pod in pods)
        return left or int(not _observed(found["metadata"], found.get("status") or {}))

    def _patch_workload(self, action: PatchWorkload) -> Workload | Refused | Denied:
        seen = action.seen
        conditions = {"uid": seen.uid, "resourceVersion": seen.version}
        label = {LABEL: None if action.note is None else str(action.note)}
        body = {"metadata": {**conditions, "labels": label}, "spec": {"replicas": action.replicas}}
        try:
            ref = seen.ref
            found = self.kube.patch(ref.kind, ref.namespace, ref.name, body, manager=MANAGER)
        except Conflict:
            return Refused()
        except Invalid as error:
            # Another uid: it was deleted and made again. Any other 422 is a policy's no.
            return Refused() if "metadata.uid" in error.message else Denied(422, error.message)
        except (NotFound, Forbidden, Malformed) as error:
            return Denied(error.status or 0, error.message)
        self.say(f"gpu lease: {action}")
        return workload(seen.ref, found)

    def _write_lease(self, action: WriteLease) -> LeaseObject | Refused | Denied:
        now, new = micro_time(), action.seen is None or action.holder != action.seen.holder
        spec: Object = {"holderIdentity": action.holder, "leaseTransitions": action.token, "renewTime": now}
        annotations: dict[str, str | None] = {}
        if new and action.holder:
            # The API server counts in whole seconds, and wants at least one.
            spec |= {"acquireTime": now, "leaseDurationSeconds": max(1, round(self.times.lifetime_s))}
            annotations = {PURPOSE: self.purpose, RELEASE: None}
        elif new:
            annotations = {RELEASE: None}
        body: Object = {"metadata": {"annotations": annotations}, "spec": spec}
        try:
            if action.seen is None:
                # PUT: RBAC can grant the making of a Lease by name only so. If somebody made it meanwhile it is a 409
                # or 422 for want of a version.
                kept = {key: value for key, value in annotations.items() if value is not None}
                metadata = {"name": self.lease, "namespace": self.namespace, "annotations": kept}
                found = self.kube.replace(
                    "Lease", self.namespace, self.lease, {"metadata": metadata, "spec": spec}, manager=MANAGER
                )
            else:
                found = self._patch_lease(action.seen, body)
        except (Conflict, NotFound):  # moved, or deleted: a merge patch makes nothing
            return Refused()
        except Invalid as error:
            unversioned = action.seen is None and "resourceVersion" in error.message
            return Refused() if unversioned or "metadata.uid" in error.message else Denied(422, error.message)
        except Forbidden as error:
            return Denied(403, error.message)
        if new:
            self.say(f"gpu lease: {action}")
        return lease_object(found)

    def _patch_lease(self, seen: LeaseObject, body: Object) -> Object:
        conditions = {"uid": seen.uid, "resourceVersion": seen.version}
        whole = {**body, "metadata": {**body.get("metadata", {}), **conditions}}
        return self.kube.patch("Lease", self.namespace, self.lease, whole, manager=MANAGER)


def workload(ref: Ref, found: Object) -> Workload:
    """What a Deployment or StatefulSet says of itself."""
    metadata, spec, status = found["metadata"], found["spec"], found.get("status") or {}
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    return Workload(
        ref,
        metadata["uid"],
        metadata["resourceVersion"],
        spec.get("replicas", 1),
        (metadata.get("labels") or {}).get(LABEL),
        _ready(metadata, status),
        ref.kind == "StatefulSet" and retention.get("whenScaled") == "Delete",
    )


def _ready(metadata: Object, status: Object) -> int:
    """Ready replicas, once the controller has seen the newest spec; 0 before."""
    return int(status.get("readyReplicas") or 0) if _observed(metadata, status) else 0


def _observed(metadata: Object, status: Object) -> bool:
    """Has the controller seen the newest spec?"""
    return bool(status.get("observedGeneration", 0) >= metadata.get("generation", 0))


def lease_object(found: Object) -> LeaseObject:
    """What a Lease says."""
    metadata, spec = found["metadata"], found.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    release = annotations.get(RELEASE, "")
    return LeaseObject(
        metadata["uid"],
        metadata["resourceVersion"],
        spec.get("leaseTransitions") or 0,
        spec.get("holderIdentity") or None,
        annotations.get(PURPOSE, ""),
        spec.get("acquireTime"),
        spec.get("renewTime"),
        float(spec.get("leaseDurationSeconds") or 0),
        int(release) if release.isdigit() else None,
    )
