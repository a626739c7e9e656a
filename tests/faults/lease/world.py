"""A world: tenants, an engine, a card of their own, two reapers; and the eye that watches every pod of all worlds.

The card is an extended resource of the world's own name on the node, so worlds run side by side. On a *tight* card
(one piece) the scheduler helps to keep its users apart; on a *roomy* one (enough pieces for all) only the lease does,
and whoever breaks it is seen. Who stands where is fixed by `SHAPES`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from llama_assets.gpu.note import LABEL
from llama_assets.gpu.objects import Card, Ref
from llama_assets.gpu.record import LeaseTimes
from llama_assets.kube import Conflict, Kube, NotFound
from tests.cluster import PYTHON, Cluster, Wire, made_namespace, opened_wire
from tests.faults.lease.actors import Actor, Setting, holder, reaper
from tests.faults.lease.door import Point

LEASE, ENGINE = "gpu", "llama-swap"
REAP_EVERY_S = 2.0
TIMES = LeaseTimes.of_lifetime(4)
OURS = "llama-assets-faults"
POD = "trap 'sleep %g; exit 0' TERM; sleep 1000000 & wait"
LINGERS_S = 1.5  # on a roomy card a pod takes its time to end, so that who does not wait for it is seen


@dataclass(frozen=True)
class Shape:
    """Tenants as (kind, replicas found); pieces of the card; whether the tenants live in a namespace of their own."""

    tenants: tuple[tuple[str, int], ...]
    pieces: int
    apart: bool = False

    @property
    def tight(self) -> bool:
        return self.pieces == 1


SHAPES = (
    Shape((("Deployment", 1), ("StatefulSet", 1)), 9),
    Shape((("Deployment", 1), ("StatefulSet", 0)), 1),
    Shape((("StatefulSet", 2), ("Deployment", 0)), 9, apart=True),
    Shape((("StatefulSet", 1), ("Deployment", 0)), 1, apart=True),
    Shape((("Deployment", 1), ("Deployment", 0)), 9),
    Shape((("Deployment", 3),), 9),
)


@dataclass
class Eye:
    """Watches the pods of all worlds, in the order in which the API server changed them."""

    kube: Kube
    run: str
    blind: int = 0
    overlaps: list[tuple[str, float, str]] = field(default_factory=list)  # world, when, what
    _pods: dict[str, tuple[str, str, str, bool, bool]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _stands: dict[str, tuple[str, float]] = field(default_factory=dict)  # a pod the node has to start or stop, since
    _slow: list[tuple[str, float, float]] = field(default_factory=list)
    _changes: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def pending(self, world: str, role: str) -> bool:
        """Is there a pod that wants the card and has no place?"""
        pods = list(self._pods.values())
        return any((place, kind) == (world, role) and pending for place, kind, _, _, pending in pods)

    def node_took(self, world: str, since: float) -> float:
        """The longest that the node took since then to start or stop a pod of this world, in seconds."""
        now = time.monotonic()
        waiting = [now - began for place, began in list(self._stands.values()) if place == world]
        return max([*waiting, *(took for place, at, took in self._slow if place == world and at >= since)], default=0.0)

    def wait_for_a_change(self, world: str, limit_s: float) -> None:
        """Until a pod of this world changes: asking the API server all the time would slow down what is looked at."""
        end = time.monotonic() + limit_s
        seen = self._changes.get(world, 0)
        while self._changes.get(world, 0) == seen and time.monotonic() < end:
            time.sleep(0.05)

    def _watch(self) -> None:
        began = True
        while not self._over.is_set():
            with contextlib.suppress(Exception):  # an API server that restarts: look again from a list
                self.blind += not began
                began = False
                self._once()
            self._over.wait(0.5)

    def _once(self) -> None:
        from urllib3 import Timeout

        found = self.kube._json("GET", "list pods", "/api/v1/pods", {"labelSelector": f"{OURS}={self.run}"})
        self._pods.clear()
        for pod in found["items"]:
            self._see("ADDED", pod)
        query = {
            "labelSelector": f"{OURS}={self.run}", "watch": "1", "timeoutSeconds": "7200",
            "resourceVersion": found["metadata"]["resourceVersion"],
        }  # fmt: skip
        headers: dict[str, str] = {}
        self.kube._client.update_params_for_auth(headers, [], ["BearerToken"])
        answer = self.kube._client.rest_client.pool_manager.request(
            "GET", f"{self.kube.host}/api/v1/pods?{urlencode(query)}", headers=headers, preload_content=False,
            timeout=Timeout(connect=3, read=7300),
        )  # fmt: skip
        rest = b""
        for block in answer.stream():
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._see(event["type"], event["object"])

    def _see(self, kind: str, pod: dict[str, Any]) -> None:
        labels, uid = pod["metadata"]["labels"], pod["metadata"]["uid"]
        self._changes[labels["world"]] = self._changes.get(labels["world"], 0) + 1
        placed = bool(pod["spec"].get("nodeName"))
        going = "deletionTimestamp" in pod["metadata"]
        running = pod["status"].get("phase") == "Running"
        self._time(labels["world"], uid, kind != "DELETED" and placed and (going or not running))
        if kind == "DELETED":
            self._pods.pop(uid, None)
            return
        ended = pod["status"].get("phase") in ("Succeeded", "Failed")
        before = self._pods.get(uid)
        self._pods[uid] = (labels["world"], labels["role"], pod["metadata"]["name"], placed and not ended, not placed)
        if placed and not ended and (before is None or not before[3]):
            self._judge(labels["world"], labels["role"], pod["metadata"]["name"])

    def _time(self, world: str, uid: str, stands: bool) -> None:
        now = time.monotonic()
        if stands:
            self._stands.setdefault(uid, (world, now))
        elif began := self._stands.pop(uid, None):
            self._slow.append((world, now, now - began[1]))

    def _judge(self, world: str, role: str, name: str) -> None:
        for place, other, neighbour, uses, _ in self._pods.values():
            if place == world and uses and other != role:
                self.overlaps.append((world, time.monotonic(), f"{name} was placed while {neighbour} had the card"))


class Disturbed(Exception):
    """The cluster itself was away, or slow beyond reason: the injection tells nothing, and is repeated."""


class Overdue(Exception):
    """Something that must come did not come in time."""


@dataclass
class World:
    """One card and its users. `variant`: which safeguard its holders and reapers lack."""

    cluster: Cluster
    eye: Eye
    number: int
    shape: Shape
    folder: Path
    variant: str | None = None
    times: LeaseTimes = TIMES

    def __post_init__(self) -> None:
        self.kube = self.cluster.kube
        self.resource = f"example.com/card-{self.eye.run}-{self.number}"
        self.name = f"w{self.number}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.reapers: list[Actor] = []
        self.wires: tuple[Wire, ...] = ()
        self.holders = 0
        self.namespace = self.tenants_in = ""
        self._revision = 0

    # -- making and removing ------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Everything at rest, tenants ready, reapers beating."""
        self.namespace = made_namespace(self.kube)
        self.tenants_in = made_namespace(self.kube) if self.shape.apart else self.namespace
        names = ("ml", "other")
        tenants = tuple(
            Ref(kind, self.tenants_in, name)  # type: ignore[arg-type]
            for (kind, _), name in zip(self.shape.tenants, names, strict=False)
        )
        self.card = Card(tenants, Ref("Deployment", self.namespace, ENGINE))
        self.found = {ref: replicas for ref, (_, replicas) in zip(tenants, self.shape.tenants, strict=True)}
        self.cards(self.shape.pieces)
        for ref in self.card.tenants:
            self.create(ref)
        self.create(self.engine)
        self.wires = self.holder_wire, self.reaper_wire = self._wire("holder"), self._wire("reaper")
        self.wait_for("the world to begin", lambda: self.trouble(dict(self.found)) is None, 120)
        self.keep_reapers()

    def remove(self) -> None:
        for each in self.reapers:
            each.send(9)
        for wire in self.wires:
            wire.cut()
        for namespace in {self.namespace, self.tenants_in} - {""}:
            self.kube.delete("Namespace", None, namespace, propagation="Background")
        if self.resource in self.kube.list("Node", None)[0]["status"]["capacity"]:
            self.cards(None)

    @property
    def engine(self) -> Ref:
        assert self.card.engine is not None
        return self.card.engine

    def _wire(self, name: str) -> Wire:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return opened_wire(self.cluster, folder)

    def create(self, ref: Ref) -> None:
        """As its owner's manifest has it."""
        role = "engine" if ref == self.engine else "tenant"
        program = POD % (0 if self.shape.tight else LINGERS_S)
        labels = {"app": ref.name, "world": self.name, "role": role, OURS: self.eye.run}
        needs = {"cpu": "1m", "memory": "4Mi", self.resource: "1"}
        container = {
            "name": "main", "image": PYTHON, "command": ["sh", "-c", program], "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": needs, "limits": {self.resource: "1"}},
            "securityContext": {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
                "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
            },
        }  # fmt: skip
        pod = {
            "containers": [container], "terminationGracePeriodSeconds": 5, "automountServiceAccountToken": False,
            "enableServiceLinks": False,
        }  # fmt: skip
        spec: dict[str, Any] = {
            "replicas": self.found.get(ref, 0),
            "selector": {"matchLabels": {"app": ref.name}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
        if ref.kind == "StatefulSet":
            spec |= {"serviceName": ref.name, "podManagementPolicy": "Parallel"}
        else:
            spec |= {"strategy": {"type": "Recreate"}}
        self.kube.create(ref.kind, ref.namespace, {"metadata": {"name": ref.name}, "spec": spec})

    # -- actors -------------------------------------------------------------------------------------------------------

    def setting(self, wire: Wire) -> Setting:
        return Setting(str(wire.kubeconfig), self.namespace, LEASE, self.card, self.times, self.variant)

    def keep_reapers(self) -> None:
        """Two of them, as the Deployment keeps them."""
        for at, each in enumerate(self.reapers):
            if not each.alive:
                self.reapers[at] = Actor(f"reaper {at}", reaper, self.setting(self.reaper_wire), REAP_EVERY_S)
        while len(self.reapers) < 2:
            name = f"reaper {len(self.reapers)}"
            self.reapers.append(Actor(name, reaper, self.setting(self.reaper_wire), REAP_EVERY_S))

    def holder(self, point: Point | None, name: str = "first") -> Actor:
        """The first one lacks the safeguard; a second one is sound, so that its loss is the first one's doing."""
        self.holders += 1
        rows = self.folder / f"rows-{self.holders}-{name}.jsonl"
        setting = self.setting(self.holder_wire)
        if name != "first":
            setting = replace(setting, variant=None)
        return Actor(name, holder, setting, point, str(rows), name, rows=rows)

    # -- looking ------------------------------------------------------------------------------------------------------

    def at(self, ref: Ref) -> dict[str, Any] | None:
        try:
            return self.kube.get(ref.kind, ref.namespace, ref.name)
        except NotFound:
            return None

    def lease(self) -> dict[str, Any] | None:
        try:
            return self.kube.get("Lease", self.namespace, LEASE)
        except NotFound:
            return None

    def lease_holder(self) -> str | None:
        lease = self.lease()
        return (lease["spec"].get("holderIdentity") or None) if lease else None

    def trouble(self, want: dict[Ref, int | None]) -> str | None:
        """What is not as wanted (None: not there), in words; None when all is: replicas, ready, no note, Lease free."""
        for ref, replicas in want.items():
            found = self.at(ref)
            if replicas is None or found is None:
                if replicas is not None or found is not None:
                    return f"{ref.name} is {'not ' if found is None else ''}there"
                continue
            spec, status = found["spec"].get("replicas", 1), found.get("status") or {}
            if note := (found["metadata"].get("labels") or {}).get(LABEL):
                return f"{ref.name} at {spec} keeps the note {note}"
            if spec != replicas:
                return f"{ref.name} is left at {spec}, {replicas} is wanted"
            seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
            ready = (status.get("readyReplicas") or 0) if seen else -1
            if ref != self.engine and (ready != replicas or (status.get("replicas") or 0) != replicas):
                return f"{ref.name} has {ready} of {replicas} ready"
        if name := self.lease_holder():
            return f"the Lease is still {name}'s"
        return None

    def wait_for(self, what: str, ready: Callable[[], object], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not ready():
            if time.monotonic() > end:
                raise Overdue(f"not in {limit_s:.0f} s: {what}")
            self.eye.wait_for_a_change(self.name, 0.7)

    def beats(self, count: int) -> None:
        """Wait until the reapers have beaten so often: a pass of theirs lies between two beats of one."""
        seen: set[str] = set()
        self.wait_for("reapers to beat", lambda: seen.add(self._beat()) or len(seen) > count, 40)

    def _beat(self) -> str:
        try:
            return str(self.kube.get("Lease", self.namespace, "llama-assets-reaper")["spec"].get("renewTime"))
        except NotFound:
            return ""

    # -- what humans do -----------------------------------------------------------------------------------------------

    def cards(self, pieces: int | None) -> None:
        """How many pieces of the card the node has; None takes the resource off it."""
        pointer = self.resource.replace("/", "~1")
        node = self.kube.list("Node", None)[0]["metadata"]["name"]
        operation = "remove" if pieces is None else "add"
        changes = [
            {
                "op": operation,
                "path": f"/status/{where}/{pointer}",
                **({} if pieces is None else {"value": str(pieces)}),
            }
            for where in ("capacity", "allocatable")
        ]
        self.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(changes))

    def kubectl(self, *arguments: str) -> None:
        """As a human does it; again, if the API server did not know yet what it was asked about."""
        said = ""

        def done() -> bool:
            nonlocal said
            try:
                self.cluster.kubectl(*arguments)
            except pytest.fail.Exception as error:
                said = str(error)
                return False
            return True

        try:
            self.wait_for("", done, 20)
        except Overdue:
            raise Overdue(said) from None

    def scale(self, ref: Ref, choose: Callable[[int, bool], int | None]) -> tuple[int, bool]:
        """`choose(replicas, noted)` on what is there at this very moment; (what it is now, whether it bore a note)."""
        while True:
            found = self.kube.get(ref.kind, ref.namespace, ref.name)
            noted = LABEL in (found["metadata"].get("labels") or {})
            replicas = choose(found["spec"].get("replicas", 1), noted)
            if replicas is None:
                return found["spec"].get("replicas", 1), noted
            body = {
                "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
                "spec": {"replicas": replicas},
            }
            with contextlib.suppress(Conflict):
                self.kube.patch(ref.kind, ref.namespace, ref.name, body, manager="human")
                return replicas, noted

    def delete(self, ref: Ref) -> None:
        with contextlib.suppress(NotFound):
            self.kube.delete(ref.kind, ref.namespace, ref.name, propagation="Background")

    def roll_out(self, ref: Ref) -> None:
        """A new revision of the pod's template."""
        self._revision += 1
        template = {"metadata": {"annotations": {"revision": str(self._revision)}}}
        self.kube.patch(ref.kind, ref.namespace, ref.name, {"spec": {"template": template}}, manager="human")

    def roll_back(self, ref: Ref) -> None:
        """`kubectl rollout undo`, the real one."""
        kind = ref.kind.lower()
        self.kubectl("-n", ref.namespace, "rollout", "undo", f"{kind}/{ref.name}")

    def delete_lease(self) -> None:
        with contextlib.suppress(NotFound):
            self.kube.delete("Lease", self.namespace, LEASE)

    # -- between two injections ---------------------------------------------------------------------------------------

    def become(self, variant: str | None) -> None:
        """Holders and reapers lack this safeguard from now on."""
        for each in self.reapers:
            each.send(9)
        self.variant = variant

    def reset(self, engine: int = 0, forget_lease: bool = False) -> dict[Ref, int | None]:
        """Everything at rest again; returns what is there to be restored. Raises Disturbed."""
        try:
            return self._reset(engine, forget_lease)
        except Overdue as error:
            raise Disturbed(str(error)) from error

    def _reset(self, engine: int, forget_lease: bool) -> dict[Ref, int | None]:
        want: dict[Ref, int | None] = {self.engine: engine, **self.found}
        for wire in self.wires:
            if wire._listener is None:
                wire.mend()
        self.keep_reapers()
        for each in self.reapers:
            each.said.clear()
        if forget_lease:
            self.delete_lease()
        for ref in (*self.card.tenants, self.engine):
            if self.at(ref) is None:
                self.create(ref)
            body = {"metadata": {"labels": {LABEL: None}}, "spec": {"replicas": want[ref] if ref != self.engine else 0}}
            self.kube.patch(ref.kind, ref.namespace, ref.name, body, manager="human")
        self.wait_for("the world at rest", lambda: self.trouble({**want, self.engine: 0}) is None, 60)
        if engine:
            self.kube.patch("Deployment", self.namespace, ENGINE, {"spec": {"replicas": engine}}, manager="human")
            self.wait_for("the engine's pod to wait for the card", lambda: self.eye.pending(self.name, "engine"), 60)
        return want


@contextlib.contextmanager
def eye_on(cluster: Cluster, run: str) -> Iterator[Eye]:
    """The one watcher of a run."""
    with Kube.open(cluster.kubeconfig) as kube:
        eye = Eye(kube, run)
        eye.start()
        yield eye
        eye.stop()
