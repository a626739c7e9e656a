"""The demo's installation on a cluster: written, refused, applied, waited for, explained, and removed without a trace.

    InstallError
    |- NotOurs           a namespace or policy of that name is somebody's; nothing was touched
    `- NotReady          something did not come up in time; says which pod, why, and its last words

What is applied lies as a kustomization in the demo's folder, to be read. Not here: images (`cluster_site`), the run
(`cluster`), the manifests themselves (`manifests/overlays/demo`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llama_assets.demo.cluster_site import CommandFailed, Say, Site
from llama_assets.kube import Kube, NotFound

NAMESPACE, TENANT_NAMESPACE = "llama-cpp", "immich"
NAMESPACES = (NAMESPACE, TENANT_NAMESPACE)
TENANT = "immich-machine-learning"
LABEL, MADE_BY = "llama-assets.io/demo", "cluster-demo"
WORLD = "llama-assets.io/demo-part=world"
CLUSTER_WIDE = ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
POLICIES = ("llama-assets-deployments", "llama-assets-statefulsets")
SECRET, SECRET_KEY = "dagster-postgresql", "postgresql-password"
ONE_SHOT = ("llama-swap-setup", "demo-photos")  # a Job cannot be changed, so it is made again
CATALOG_MOUNT = "/etc/llama-assets"
LAST_LINES = 15


class InstallError(Exception):
    """The root."""

    exit_status = 1


class NotOurs(InstallError):
    """Something of that name is there, and the demo did not make it."""

    exit_status = 2


class NotReady(InstallError):
    """Something did not come up."""


@dataclass(frozen=True)
class Patience:
    """How long things may take."""

    ready_s: float = 300.0
    """From applying to everything running; pulling images counts."""
    hopeless_s: float = 45.0
    """How long a pod may fail to start in the same way (no such image, a refused configuration)."""
    gone_s: float = 180.0
    """For namespaces to be deleted."""
    look_s: float = 1.0


@dataclass(frozen=True)
class Chosen:
    """What differs between installations."""

    image: str
    world: str
    """Image of hub, tenant and stand-in engine."""
    settings: Mapping[str, str]
    """LLAMA_ASSETS_* for all our pods, beside what the base says."""
    catalog: Path | None
    """A folder with models.yaml and the files of its question, if not the packaged catalog."""
    cards: bool
    """Whether the tenant asks for `nvidia.com/gpu`."""


@dataclass(frozen=True)
class Installation:
    """The demo on one cluster. `home` is its folder on this machine, `root` the checkout."""

    site: Site
    kube: Kube
    home: Path
    root: Path
    say: Say
    patience: Patience = Patience()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl's output. Raises CommandFailed."""
        return self.site.run([*self.site.kubectl, *arguments], stdin)

    # -- before

    def refuse_strangers(self) -> None:
        """Go no further over what the demo did not make, and wait for the last removal's end.

        Raises:
            NotOurs: names it, and what to do.
        """
        for name in NAMESPACES:
            found = self._namespace(name)
            if found is None:
                continue
            if found["metadata"].get("labels", {}).get(LABEL) != MADE_BY:
                raise NotOurs(
                    f"namespace {name} exists on {self.site.context} and was not made by this demo (it has no label "
                    f"{LABEL}={MADE_BY}); the demo touches nothing of it. Use another cluster, for example the test kit"
                )
            if found["metadata"].get("deletionTimestamp"):
                self.say(f"waiting  for namespace {name} of the last demo to be gone")
                self._until_gone([name])
        for kind in CLUSTER_WIDE:
            for name in POLICIES:
                with contextlib.suppress(CommandFailed):
                    made = json.loads(self.kubectl("get", kind, name, "-o", "json"))
                    if made["metadata"].get("labels", {}).get(LABEL) != MADE_BY:
                        raise NotOurs(f"{kind}/{name} exists on {self.site.context}: llama-assets is installed there")

    # -- applying

    def write(self, chosen: Chosen) -> None:
        """The kustomization of this installation, in the demo's folder."""
        self.home.mkdir(parents=True, exist_ok=True)
        settings = {"LLAMA_ASSETS_IMAGE": chosen.image, **chosen.settings}
        generators: list[dict[str, Any]] = []
        if chosen.catalog is not None:
            settings["LLAMA_ASSETS_CATALOG"] = f"{CATALOG_MOUNT}/models.yaml"
            files = [os.path.relpath(path, self.home) for path in sorted(chosen.catalog.iterdir())]
            generators.append({"name": "llama-assets-catalog", "namespace": NAMESPACE, "files": files})
        literals = [f"{name}={value}" for name, value in settings.items()]
        merged = {"name": "llama-assets-settings", "namespace": NAMESPACE, "behavior": "merge", "literals": literals}
        without_card = {
            "target": {"kind": "Deployment", "name": TENANT},
            "patch": "- {op: remove, path: /spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu}",
        }
        images = {"llama-assets": chosen.image, "llama-assets-demo-world": chosen.world}
        said = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(self.root / "manifests/overlays/demo", self.home)],
            "images": [_renamed(name, image) for name, image in images.items()],
            "configMapGenerator": [merged, *generators],
            "generatorOptions": {"disableNameSuffixHash": True, "labels": {LABEL: MADE_BY}},
            "patches": [] if chosen.cards else [without_card],
        }
        head = "# Made by `make cluster-demo`, which applies it: kubectl apply -k of this folder.\n"
        (self.home / "kustomization.yaml").write_text(head + yaml.safe_dump(said, sort_keys=False))

    def apply_world(self) -> None:
        """The namespaces, the tenant and the hub: what is there before we come."""
        self.kubectl("apply", "-k", str(self.home), "-l", WORLD)

    def apply(self) -> None:
        """Everything else, with a password that is made up once and lies in the cluster only."""
        self.password()
        for job in ONE_SHOT:
            self.kubectl("delete", "job", job, "-n", NAMESPACE, "--ignore-not-found", "--cascade=foreground")
        self.kubectl("apply", "-k", str(self.home))

    def password(self) -> str:
        """Of Dagster's database; made up when it is asked for the first time."""
        try:
            found = self.kube.get("Secret", NAMESPACE, SECRET)
        except NotFound:
            body = {
                "metadata": {"name": SECRET, "labels": {LABEL: MADE_BY}},
                "stringData": {SECRET_KEY: secrets.token_urlsafe(24)},
            }
            found = self.kube.create("Secret", NAMESPACE, body)
        return b64decode(found["data"][SECRET_KEY]).decode()

    # -- waiting

    def await_world(self) -> None:
        """Until the tenant and the hub run. Raises NotReady."""
        self._until("tenant and hub", lambda: self._not_available(NAMESPACE, ["demo-hub"]) + self._not_available(
            TENANT_NAMESPACE, [TENANT]))  # fmt: skip

    def await_ready(self) -> None:
        """Until Dagster and the reaper run, llama-swap is applied and the photos are drawn. Raises NotReady."""

        def missing() -> list[str]:
            made = {found["metadata"]["name"] for found in self.kube.list("Deployment", NAMESPACE)}
            left = self._not_available(NAMESPACE, sorted(made - {"llama-swap"}))  # it rests at 0 on an exclusive card
            left += [] if "llama-swap" in made else ["llama-swap (by Job llama-swap-setup)"]
            return left + [f"Job {job}" for job in ("demo-photos",) if not self._complete(job)]

        self._until("everything", missing)

    def engine_digest(self) -> str | None:
        """The world's image as the cluster knows it by digest, if it does; the hub runs it."""
        for pod in self.kube.list("Pod", NAMESPACE, labels="app.kubernetes.io/name=demo-hub"):
            for status in pod["status"].get("containerStatuses") or []:
                name, at, digest = str(status.get("imageID", "")).rpartition("@")
                if at and name:
                    return f"{name}@{digest}"
        return None

    def replicas(self) -> int:
        """What the tenant is told to have."""
        deployment = self.kube.get("Deployment", TENANT_NAMESPACE, TENANT)
        return int(deployment["spec"].get("replicas", 1))

    def last_words(self) -> list[str]:
        """Pods that are not well: why, and the last lines of their logs; newest first, three at most."""
        said: list[str] = []
        pods = [pod for name in NAMESPACES for pod in self._listed("Pod", name)]
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True):
            if (why := trouble(pod)) and len(said) < 3:
                space, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
                said.append(f"pod {space}/{name}: {why}\n{self._log(space, name)}".rstrip())
        return said

    @contextlib.contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[int]:
        """A port of this machine that leads to a Service of ours. Raises NotReady."""
        command = [*self.site.kubectl, "port-forward", "-n", NAMESPACE, f"service/{service}", f":{port}"]
        process = subprocess.Popen(
            command, env=self.site.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", said)
            if not found:
                raise NotReady(f"`{' '.join(command)}`: {said.strip()}")
            yield int(found[1])
        finally:
            process.terminate()
            process.wait()

    # -- removing

    def remove(self) -> bool:
        """Delete what the demo made: namespaces with all in them, policies, volumes. Whether there was anything.

        Raises:
            NotReady: a namespace does not go; says what keeps it.
        """
        ours = [name for name in NAMESPACES if self._is_ours(name)]
        for name in NAMESPACES:
            if name not in ours and self._namespace(name) is not None:
                self.say(f"left     namespace {name}: the demo did not make it")
        volumes = [v for v in self.kube.list("PersistentVolume", None) if _claimed_in(v) in ours]
        wide = ",".join(CLUSTER_WIDE)
        said = self.kubectl("delete", wide, "-l", f"{LABEL}={MADE_BY}", "--ignore-not-found", "-o", "name")
        gone = [line for line in said.split() if "/" in line]  # `No resources found` is no name
        for name in gone:
            kind, _, of = name.partition("/")
            self.say(f"removed  {kind.partition('.')[0]} {of}")
        for name in ours:
            self.kube.delete("Namespace", None, name)
        self._until_gone(ours)
        for name in ours:
            self.say(f"removed  namespace {name} and everything in it")
        for volume in volumes:
            self._remove_volume(volume)
        if self.home.exists():
            shutil.rmtree(self.home)
            self.say(f"removed  {self.home}")
        return bool(ours or gone)

    def _remove_volume(self, volume: dict[str, Any]) -> None:
        name = volume["metadata"]["name"]
        if volume["spec"].get("persistentVolumeReclaimPolicy") == "Retain":
            with contextlib.suppress(NotFound):
                self.kube.delete("PersistentVolume", None, name)
            self.say(f"removed  PersistentVolume {name}; its class says Retain, so its files are still on the disk")
            return
        end = time.monotonic() + self.patience.gone_s
        while time.monotonic() < end:
            try:
                self.kube.get("PersistentVolume", None, name)
            except NotFound:
                self.say(f"removed  PersistentVolume {name}")
                return
            time.sleep(self.patience.look_s)
        self.say(f"left     PersistentVolume {name}: its provisioner has not removed it yet")

    def _until_gone(self, names: Sequence[str]) -> None:
        end = time.monotonic() + self.patience.gone_s
        while left := [name for name in names if self._namespace(name) is not None]:
            if time.monotonic() > end:
                conditions = (self._namespace(left[0]) or {}).get("status", {}).get("conditions", [])
                why = "; ".join(c["message"] for c in conditions if c["status"] == "True")
                raise NotReady(f"namespace {left[0]} is not gone after {self.patience.gone_s:.0f} s: {why}")
            time.sleep(self.patience.look_s)

    # -- looking

    def _namespace(self, name: str) -> dict[str, Any] | None:
        try:
            return self.kube.get("Namespace", None, name)
        except NotFound:
            return None

    def _is_ours(self, name: str) -> bool:
        found = self._namespace(name)
        return found is not None and found["metadata"].get("labels", {}).get(LABEL) == MADE_BY

    def _listed(self, kind: str, namespace: str) -> tuple[dict[str, Any], ...]:
        try:
            return self.kube.list(kind, namespace)
        except NotFound:
            return ()

    def _not_available(self, namespace: str, names: Sequence[str]) -> list[str]:
        found = {one["metadata"]["name"]: one for one in self._listed("Deployment", namespace)}
        return [name for name in names if name not in found or not _available(found[name])]

    def _complete(self, job: str) -> bool:
        found = {one["metadata"]["name"]: one for one in self._listed("Job", NAMESPACE)}
        return job in found and bool(found[job]["status"].get("succeeded"))

    def _until(self, what: str, missing: Callable[[], list[str]]) -> None:
        began = time.monotonic()
        shown: list[str] = []
        hopeless_since: dict[str, float] = {}
        while left := missing():
            now = time.monotonic()
            if left != shown:
                self.say(f"waiting  for {', '.join(left)}")
                shown = left
            hopeless_since = {name: hopeless_since.get(name, now) for name in self._hopeless()}
            too_long = [name for name, since in hopeless_since.items() if now - since > self.patience.hopeless_s]
            if too_long or now - began > self.patience.ready_s:
                words = "\n".join(self.last_words()) or "no pod says why"
                raise NotReady(f"{what} did not come up in {now - began:.0f} s; missing: {', '.join(left)}\n{words}")
            time.sleep(self.patience.look_s)

    def _hopeless(self) -> list[str]:
        pods = [pod for name in NAMESPACES for pod in self._listed("Pod", name)]
        found = {f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": trouble(pod) for pod in pods}
        return [name for name, why in found.items() if why and re.search("Image|Config|CrashLoop", why)]

    def _log(self, namespace: str, pod: str) -> str:
        for more in ([], ["--previous"]):
            with contextlib.suppress(CommandFailed):
                text = self.kubectl("logs", "-n", namespace, pod, "--all-containers", f"--tail={LAST_LINES}", *more)
                if text.strip():
                    return "\n".join(f"    {line}" for line in map(worded, text.rstrip().splitlines()) if line)
        return ""


def worded(line: str) -> str:
    """A line of a pod's log for people: of a task's messages only what they say; nothing of those that say nothing."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    if not isinstance(said, dict) or "__dagster_pipes_version" not in said:
        return line
    params: dict[str, Any] = said.get("params") or {}
    return str(params.get("message") or (params.get("payload") or {}).get("failed") or "")


def trouble(pod: Mapping[str, Any]) -> str | None:
    """What is wrong with a pod, in Kubernetes' words; None when nothing is."""
    status = pod["status"]
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason')}: {condition.get('message')}"
    for one in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        waiting, ended = one["state"].get("waiting"), one["state"].get("terminated")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            return f"{waiting.get('reason')}: {waiting.get('message', '')}".rstrip(": ")
        if ended and ended["exitCode"]:
            return f"{ended.get('reason')}, exit status {ended['exitCode']}"
    return f"{status['reason']}: {status.get('message')}" if status.get("reason") else None


def _available(deployment: Mapping[str, Any]) -> bool:
    """Rolled out to the last pod, as `kubectl rollout status` sees it."""
    wanted, status = deployment["spec"].get("replicas", 1), deployment["status"]
    counts = (status.get(f"{kind}Replicas", 0) for kind in ("updated", "available"))
    seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return seen and all(count == wanted for count in counts) and status.get("replicas", 0) == wanted


def _claimed_in(volume: Mapping[str, Any]) -> str:
    return str((volume["spec"].get("claimRef") or {}).get("namespace"))


def _renamed(name: str, image: str) -> dict[str, str]:
    if "@" in image:
        new, _, digest = image.partition("@")
        return {"name": name, "newName": new, "digest": digest}
    new, colon, tag = image.rpartition(":")
    return (
        {"name": name, "newName": new, "newTag": tag} if colon and "/" not in tag else {"name": name, "newName": image}
    )
