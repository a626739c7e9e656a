"""llama-swap in a cluster: apply it, wait for its pod with the reason, prove what the pod runs, name who else wrote.

Steps of an apply: ask the API server what would change (a refusal leaves all three objects as they are); write what
does, ConfigMap and Service first, so that a new pod finds its configuration. `spec.replicas` is never ours: where the
card is exclusive the Deployment is made with 0, and that field handed to the lease's manager, since a field that its
only owner stops sending goes back to its default, 1. Not here: the bodies (`deployment_body.py`), why a pod is not
ready (`pods.py`), when it may be done (`gpu`), asking models (`client.py`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_assets.catalog import EngineImage
from llama_assets.engine import deployment_body as body
from llama_assets.engine.deployment_body import EngineConfig, EnginePod
from llama_assets.engine.drift import LEASE_MANAGER, MANAGER, Drift, drift, owns
from llama_assets.engine.errors import FieldsTaken, NotReplaceable, NotRolledOut, OtherConfig, OtherImage
from llama_assets.engine.pods import Hindrance, hindrance, image_that_runs, newest, ready
from llama_assets.kube import Conflict, Forbidden, Invalid, Kube, NotFound, Refused, Trouble
from llama_assets.store import short

Object = dict[str, Any]
LAST_LINES = 8


@dataclass(frozen=True)
class EngineTimes:
    """How long things may take around the engine's pod. Tests shorten them."""

    start_s: float = 900.0
    """Until it is ready: a first pull of a CUDA image counts."""
    hopeless_s: float = 60.0
    """How long a start must have failed in the same way to be given up."""
    poll_s: float = 0.5
    api_away_s: float = 120.0


@dataclass(frozen=True)
class Written:
    """What an apply came to: the objects that were written, and how many pods the Deployment is to have."""

    changed: tuple[str, ...]
    replicas: int


@dataclass(frozen=True)
class RunningEngine:
    """A ready pod that serves what is to be asked. `image` holds its digest after an `@` where the node knows it."""

    pod: str
    image: str

    @property
    def digest(self) -> str | None:
        """`sha256:...`, or None: the node knows the image by its name only, and nothing can be proven."""
        return self.image.partition("@")[2] or None


@dataclass(frozen=True)
class EngineStatus:
    """One look. `replicas` is None where there is no Deployment; `hindrance` where a pod is wanted and not ready."""

    what: str
    wanted: EngineImage
    replicas: int | None
    running: RunningEngine | None
    hindrance: str | None
    served: Mapping[str, str]
    drift: tuple[Drift, ...]

    @property
    def good(self) -> bool:
        """It is there, nobody else set anything, and what runs, if it is to run, is ready and not another image."""
        digests = {self.running.digest, self.wanted.digest} - {None} if self.running else set()
        return self.replicas is not None and not self.drift and not self.hindrance and len(digests) <= 1

    def lines(self) -> list[str]:
        """For people."""
        if self.replicas is None:
            first = f"{self.what}: not there; `llama-assets engine apply` makes it"
        elif self.running:
            first = f"{self.what}: pod {self.running.pod} runs {self.running.image}"
        else:
            first = f"{self.what}: {self.hindrance or 'at 0 replicas, so nothing runs'}"
        served = ", ".join(f"{model} {short(fingerprint)}" for model, fingerprint in self.served.items())
        drifted = [f"drift: {one}" for one in self.drift] or ["drift: none"]
        return [first, f"image: {self.wanted}", f"serves: {served or 'no model'}", *drifted]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        running = {"pod": self.running.pod, "image": self.running.image} if self.running else None
        return {
            "good": self.good,
            "image": self.wanted.reference,
            "chosen_by": self.wanted.chosen_by,
            "pinned": self.wanted.digest is not None,
            "replicas": self.replicas,
            "running": running,
            "hindrance": self.hindrance,
            "served": dict(self.served),
            "drift": [str(one) for one in self.drift],
        }


class EngineDeployment:
    """The three objects of one engine."""

    def __init__(
        self,
        kube: Kube,
        pod: EnginePod,
        times: EngineTimes = EngineTimes(),
        say: Callable[[str], None] = print,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.kube, self.pod, self.times, self.say, self.pause = kube, pod, times, say, pause

    def __str__(self) -> str:
        return f"Deployment {self.pod.namespace}/{self.pod.name}"

    # Applying

    def plan(self, config: EngineConfig, take_over: bool = False) -> tuple[str, ...]:
        """The objects that an apply would write now; nothing is.

        Raises:
            FieldsTaken, NotReplaceable: and an apply would be refused.
            KubeError: the API server says no, or does not answer.
        """
        return tuple(self._named(kind) for kind, wanted in self._bodies(config) if self._would(kind, wanted, take_over))

    def apply(self, config: EngineConfig, take_over: bool = False) -> Written:
        """Write what differs. `take_over`: also where others set fields of ours.

        Raises:
            FieldsTaken, NotReplaceable: nothing was written.
            KubeError: some of it may have been; the same call completes it.
        """
        changed = self.plan(config, take_over)
        replicas = self._replicas()
        for kind, wanted in self._bodies(config):
            if self._named(kind) not in changed:
                continue
            if kind == "Deployment":
                replicas = self._apply_deployment(wanted, replicas, take_over)
            else:
                self._refusable(kind, functools.partial(self._apply, kind, wanted, take_over))
        return Written(changed, 1 if replicas is None else replicas)

    def _apply_deployment(self, wanted: Object, replicas: int | None, take_over: bool) -> int:
        kind = "Deployment"
        if replicas is None and self.pod.exclusive:
            at_rest = {**wanted, "spec": {**wanted["spec"], "replicas": 0}}
            self._refusable(kind, lambda: self._apply(kind, at_rest, take_over))
        self._give_up_replicas()
        applied = self._refusable(kind, lambda: self._apply(kind, wanted, take_over))
        return int(applied["spec"].get("replicas", 1))

    def _give_up_replicas(self) -> None:
        """Hand the replicas that we made it with to the lease's manager: else our next apply makes them 1."""
        with contextlib.suppress(NotFound):
            found = self.kube.get("Deployment", self.pod.namespace, self.pod.name)
            if owns(found, MANAGER, "spec.replicas"):
                kept = {"metadata": {"name": self.pod.name}, "spec": {"replicas": found["spec"]["replicas"]}}
                self.kube.apply("Deployment", self.pod.namespace, kept, manager=LEASE_MANAGER)

    def _bodies(self, config: EngineConfig) -> tuple[tuple[str, Object], ...]:
        return (
            ("ConfigMap", body.config_map(self.pod, config)),
            ("Service", body.service(self.pod)),
            ("Deployment", body.deployment(self.pod, config)),
        )

    def _would(self, kind: str, wanted: Object, take_over: bool) -> bool:
        name = wanted["metadata"]["name"]
        try:
            before = self.kube.get(kind, self.pod.namespace, name)
        except NotFound:
            before = {}
        if kind == "Deployment" and before and owns(before, MANAGER, "spec.replicas"):
            return True  # an apply was cut off in the middle; a dry run would say 1
        after = self._refusable(kind, lambda: self._apply(kind, wanted, take_over, dry_run=True))
        return not before or _meant(before) != _meant(after)

    def _apply(self, kind: str, wanted: Object, take_over: bool, dry_run: bool = False) -> Object:
        applied = self.kube.apply(kind, self.pod.namespace, wanted, MANAGER, force=take_over, dry_run=dry_run)
        return applied.object

    def _refusable(self, kind: str, write: Callable[[], Object]) -> Object:
        try:
            return write()
        except Conflict as error:
            if not error.owners:
                raise
            raise FieldsTaken(self._named(kind), error.owners) from None
        except Invalid as error:
            if "immutable" not in error.message:
                raise
            raise NotReplaceable(self._named(kind), error.message) from None

    def _named(self, kind: str) -> str:
        name = self.pod.config_name if kind == "ConfigMap" else self.pod.name
        return f"{kind} {self.pod.namespace}/{name}"

    def _replicas(self) -> int | None:
        """As the Deployment says; None when there is none."""
        try:
            found = self.kube.get("Deployment", self.pod.namespace, self.pod.name)
        except NotFound:
            return None
        return int(found["spec"].get("replicas", 1))

    # Waiting and proving

    def wait_until_ready(self, still_wanted: Callable[[], bool] = lambda: True) -> Object:
        """The pod of the Deployment as it is written now, ready.

        Raises:
            NotRolledOut: not in time, given up as hopeless, or not wanted any more; says why it is not ready.
            KubeError: the API server stays away.
        """
        began = away = time.monotonic()
        failing: tuple[str, float] | None = None
        told = ""
        while True:
            now = time.monotonic()
            why = Hindrance("the API server does not answer", "good")
            try:
                deployment, pods = self._look()
                away = now
                if found := [pod for pod in newest(deployment, pods) if ready(pod)]:
                    return found[0]
                why = hindrance(deployment, pods)
            except Trouble:
                if now - away >= self.times.api_away_s:
                    raise
            if why.sentence != told and now - began > 1:  # a second of the usual needs no line
                told = why.sentence
                self.say(f"{self}: {told}")
            kind = why.pod or "no pod" if why.hope == "some" else ""  # not the text: trying and backing off alternate
            failing = (failing if failing and failing[0] == kind else (kind, now)) if kind else None
            hopeless = why.hope == "none" or (failing is not None and now - failing[1] >= self.times.hopeless_s)
            if hopeless or now - began >= self.times.start_s or not still_wanted():
                lost = "" if still_wanted() else "; it is not waited for any longer, because the GPU lease is lost"
                raise NotRolledOut(str(self), now - began, why.sentence + self._last_words(why) + lost)
            self.pause(self.times.poll_s)

    def prove(self, fingerprints: Mapping[str, str], still_wanted: Callable[[], bool] = lambda: True) -> RunningEngine:
        """Wait for the pod, and have it proven that it serves these fingerprints from the pinned image.

        Raises:
            NotRolledOut: as `wait_until_ready`.
            OtherConfig: it serves other files, or was started with another configuration than the one there is.
            OtherImage: its digest is not the pinned one. A node that does not tell the digest is no failure.
        """
        found = self.wait_until_ready(still_wanted)
        name, notes = found["metadata"]["name"], found["metadata"].get("annotations") or {}
        data = self.kube.get("ConfigMap", self.pod.namespace, self.pod.config_name).get("data") or {}
        if notes.get(body.CONFIG_NOTE) != body.told(data):
            raise OtherConfig(name, f"was started with another configuration than {self._named('ConfigMap')} holds")
        serves = json.loads(data.get(body.FINGERPRINTS) or "{}")
        for model, wanted in fingerprints.items():
            if serves.get(model) != wanted:
                there = f"{short(serves[model])} of {model}" if model in serves else f"no {model}"
                raise OtherConfig(name, f"serves {there}, and {short(wanted)} is to be asked")
        runs, pinned = RunningEngine(name, image_that_runs(found)), self.pod.image.digest
        if pinned and runs.digest and runs.digest != pinned:
            raise OtherImage(name, runs.digest, pinned)
        self.say(f"{self}: pod {name} runs {runs.image}, {_proof(runs.digest, pinned)}")
        return runs

    # Looking

    def drift(self) -> tuple[Drift, ...]:
        """What others set in our objects, and objects that are gone."""
        found: list[Drift] = []
        for kind, name in (
            ("ConfigMap", self.pod.config_name),
            ("Service", self.pod.name),
            ("Deployment", self.pod.name),
        ):
            try:
                found += drift(self._named(kind), self.kube.get(kind, self.pod.namespace, name))
            except NotFound:
                found.append(Drift(self._named(kind), "", ()))
        return tuple(found)

    def status(self) -> EngineStatus:
        """What is wanted, what runs, what is served. Raises KubeError."""
        wanted, drifted = self.pod.image, self.drift()
        try:
            deployment, pods = self._look()
            served = self._configured()
        except NotFound:
            return EngineStatus(str(self), wanted, None, None, None, {}, drifted)
        replicas = int(deployment["spec"].get("replicas", 1))
        up = [pod for pod in newest(deployment, pods) if ready(pod)]
        running = RunningEngine(up[0]["metadata"]["name"], image_that_runs(up[0])) if up else None
        why = hindrance(deployment, pods).sentence if replicas and not up else None
        return EngineStatus(str(self), wanted, replicas, running, why, served, drifted)

    def applied_image(self) -> str | None:
        """The image that its pods are made from; None where there is no Deployment. Raises KubeError."""
        try:
            found = self.kube.get("Deployment", self.pod.namespace, self.pod.name)
        except NotFound:
            return None
        boxes = found["spec"]["template"]["spec"]["containers"]
        return next((str(box["image"]) for box in boxes if box["name"] == body.CONTAINER), None)

    def served(self) -> Mapping[str, str]:
        """Which fingerprint is served under which name; nothing before the first apply. Raises KubeError."""
        try:
            return self._configured()
        except NotFound:
            return {}

    def _configured(self) -> dict[str, str]:
        data = self.kube.get("ConfigMap", self.pod.namespace, self.pod.config_name).get("data") or {}
        found: dict[str, str] = json.loads(data.get(body.FINGERPRINTS) or "{}")
        return found

    def _look(self) -> tuple[Object, Sequence[Object]]:
        deployment = self.kube.get("Deployment", self.pod.namespace, self.pod.name)
        labels = ",".join(f"{key}={value}" for key, value in self.pod.labels.items())
        return deployment, self.kube.list("Pod", self.pod.namespace, labels=labels)

    def _last_words(self, why: Hindrance) -> str:
        """The end of what a crashed engine wrote, where this account may read it."""
        if not (why.crashed and why.pod):
            return ""
        try:
            log = self.kube.log(self.pod.namespace, why.pod, body.CONTAINER, ended=True)
        except (NotFound, Forbidden, Refused, Trouble):
            return f"; see `kubectl -n {self.pod.namespace} logs {why.pod} --previous`"
        said = "\n".join(line.text for line in log.lines[-LAST_LINES:])
        return f"; it said last:\n{said}" if said else ""


def _proof(digest: str | None, pinned: str | None) -> str:
    if pinned is None:
        return "which nobody pinned"
    return "the pinned digest" if digest else "whose digest the node does not tell: the pin cannot be proven"


def _meant(found: Object) -> Object:
    """What an apply is about: neither status nor bookkeeping, which move by themselves."""
    metadata = found["metadata"]
    kept = {key: metadata.get(key) for key in ("labels", "annotations")}
    return {**{key: value for key, value in found.items() if key not in ("metadata", "status")}, "metadata": kept}
