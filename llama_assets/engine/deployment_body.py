"""What llama-swap looks like in a cluster: ConfigMap, Deployment and Service, for either kind of engine.

Pure: what is served, the catalog and an image come in, bodies for a server-side apply go out. They keep Pod Security
`restricted`, on a read-only root. `spec.replicas` is in none of them: the lease owns it. Not here: applying and
watching them (`deployment.py`), the texts themselves (`config.py`, `presets.py`, `litellm.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_assets import catalog
from llama_assets.catalog import EngineImage
from llama_assets.engine.config import Served, config_hash, render
from llama_assets.engine.litellm import render_litellm
from llama_assets.engine.presets import render_presets

Object = dict[str, Any]

NAME, PORT, CONTAINER = "llama-swap", 8080, "engine"
CONFIG_NOTE = "llama-assets.io/config"  # what the pod was told to serve: another word is another pod
TEMPLATE_NOTE = "llama-assets.io/template"  # of the whole pod as we wrote it: a new pod is told from an old one by it
FINGERPRINTS = "served.json"
GATEWAY = "litellm.yaml"
KEY_VARIABLE = {"llama-swap": "ENGINE_API_KEY", "llama-server": "LLAMA_API_KEY"}  # the first named in its config.yaml
GATEWAY_KEY_VARIABLE = "LLAMA_SWAP_API_KEY"
SECRET_KEY = "api-key"
# Both official images have their programs in /app or /usr/local/bin, not all of them on their own PATH.
PATH = "/app:/usr/local/nvidia/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A CUDA failure may dump some hundred MB each time it is tried again. Nothing of a pod's spec sets this limit.
WITHOUT_CORES = ("sh", "-c", 'ulimit -c 0; exec "$@"', "sh")
USER = 10001


@dataclass(frozen=True)
class EngineConfig:
    """What is served, as files. `text` is the one the engine reads; equal `hash`es need no restart."""

    file: str
    text: str
    gateway: str
    fingerprints: Mapping[str, str]

    @property
    def hash(self) -> str:
        """sha256 of `text`, in hex."""
        return config_hash(self.text)

    @property
    def files(self) -> dict[str, str]:
        """Name -> text, as the ConfigMap holds them."""
        served = json.dumps(dict(self.fingerprints), indent=1)
        return {self.file: self.text, FINGERPRINTS: served + "\n", GATEWAY: self.gateway}


def engine_config(served: Sequence[Served], engine: catalog.Engine, address: str, secret: bool = False) -> EngineConfig:
    """The configuration of the catalog's kind of engine. `secret`: it demands a key of its clients.

    Raises:
        NotServable: a model's arguments cannot be given to it.
    """
    gateway = render_litellm(served, address, GATEWAY_KEY_VARIABLE if secret else None)
    fingerprints = {one.model.id: one.fingerprint for one in served}
    if engine.kind == "llama-server":
        return EngineConfig("presets.ini", render_presets(served, engine), gateway, fingerprints)
    key = KEY_VARIABLE["llama-swap"] if secret else None
    return EngineConfig("config.yaml", render(served, engine, key_variable=key), gateway, fingerprints)


@dataclass(frozen=True)
class EnginePod:
    """How the engine's pod looks in this cluster."""

    namespace: str
    image: EngineImage
    kind: str = "llama-swap"
    name: str = NAME
    claim: str = "llama-models"
    claim_path: str = "/models"
    resource: str | None = "nvidia.com/gpu"
    runtime_class: str | None = None
    secret: str | None = None
    """Secret whose key `api-key` the engine demands; None demands nothing."""
    exclusive: bool = True
    """The card is taken whole, so nothing is started by applying it."""
    scratch: str = "1Gi"
    grace_s: int = 30
    """llama-swap and the router give a model's server some 10 s to stop."""

    @property
    def config_name(self) -> str:
        """The ConfigMap's name."""
        return f"{self.name}-config"

    @property
    def address(self) -> str:
        """The Service, from inside the cluster."""
        return f"http://{self.name}.{self.namespace}.svc:{PORT}"

    @property
    def labels(self) -> dict[str, str]:
        """What selects its pods."""
        return {"app.kubernetes.io/name": self.name, "app.kubernetes.io/part-of": "llama-assets"}


def told(files: Mapping[str, str]) -> str:
    """One word for what a ConfigMap tells an engine; the gateway's file is not among it."""
    read = {name: text for name, text in files.items() if name != GATEWAY}
    # Letters in front: no YAML reader may take it for a number.
    return f"sha256-{hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()}"


def config_map(pod: EnginePod, config: EngineConfig) -> Object:
    """The ConfigMap."""
    return {"metadata": _metadata(pod, pod.config_name), "data": config.files}


def service(pod: EnginePod) -> Object:
    """The Service."""
    ports = [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}]
    return {"metadata": _metadata(pod, pod.name), "spec": {"selector": pod.labels, "ports": ports}}


def deployment(pod: EnginePod, config: EngineConfig) -> Object:
    """The Deployment, without replicas."""
    spec = _pod_spec(pod, config)
    says = told(config.files)
    written = hashlib.sha256(json.dumps([spec, says], sort_keys=True).encode()).hexdigest()
    notes = {CONFIG_NOTE: says, TEMPLATE_NOTE: f"sha256-{written}"}
    return {
        "metadata": _metadata(pod, pod.name),
        "spec": {
            "selector": {"matchLabels": pod.labels},
            "strategy": {"type": "Recreate"},  # two pods cannot have one card
            "revisionHistoryLimit": 3,
            "template": {"metadata": {"labels": pod.labels, "annotations": notes}, "spec": spec},
        },
    }


def _metadata(pod: EnginePod, name: str) -> Object:
    return {"name": name, "namespace": pod.namespace, "labels": pod.labels}


def _pod_spec(pod: EnginePod, config: EngineConfig) -> Object:
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(pod, config)],
        "volumes": [
            {"name": "models", "persistentVolumeClaim": {"claimName": pod.claim, "readOnly": True}},
            {"name": "config", "configMap": {"name": pod.config_name}},
            {"name": "tmp", "emptyDir": {"sizeLimit": pod.scratch}},
        ],
    }
    if pod.resource:  # the usual taint of nodes with such a card
        spec["tolerations"] = [{"key": pod.resource, "operator": "Exists", "effect": "NoSchedule"}]
    if pod.runtime_class:
        spec["runtimeClassName"] = pod.runtime_class
    return spec


def _container(pod: EnginePod, config: EngineConfig) -> Object:
    card = {pod.resource: "1"} if pod.resource else {}
    environment: list[Object] = [{"name": "HOME", "value": "/tmp"}, {"name": "PATH", "value": PATH}]
    if pod.secret:
        where = {"name": pod.secret, "key": SECRET_KEY}
        environment.append({"name": KEY_VARIABLE[pod.kind], "valueFrom": {"secretKeyRef": where}})
    alive = {"httpGet": {"path": "/health", "port": "http"}}  # of the engine, loaded model or not
    return {
        "name": CONTAINER,
        "image": pod.image.reference,
        "imagePullPolicy": "IfNotPresent",
        "command": [*WITHOUT_CORES, *_program(pod.kind, config.file)],
        "workingDir": "/",  # read-only: where a core would fall
        "env": environment,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": {**alive, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 120},
        "readinessProbe": {**alive, "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 3},
        # Slow: a busy machine must not cost a model that is loaded.
        "livenessProbe": {**alive, "periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 6},
        "resources": {
            # No limit of memory or CPU: how much a model takes is its own, and throttling would be measured.
            "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "64Mi", **card},
            "limits": {"ephemeral-storage": "2Gi", **card},
        },
        "volumeMounts": [
            {"name": "models", "mountPath": pod.claim_path, "readOnly": True},
            {"name": "config", "mountPath": "/config", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _program(kind: str, file: str) -> list[str]:
    if kind == "llama-server":
        words = ["llama-server", "--models-preset", f"/config/{file}", "--models-max", "1", "--offline"]
        return [*words, "--host", "0.0.0.0", "--port", str(PORT)]
    return ["llama-swap", "--config", f"/config/{file}", "--listen", f"0.0.0.0:{PORT}"]
