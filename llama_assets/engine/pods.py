"""What keeps the engine's pod from being ready, and what a ready one runs, as the API shows it.

Pure: a Deployment and its pods come in, a sentence with a way out goes out. What each case looks like was seen on
Kubernetes 1.34; `tests/engine/test_deployment.py` makes them happen. Not here: reading and waiting (`deployment.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llama_assets.engine.deployment_body import CONTAINER, TEMPLATE_NOTE

Object = dict[str, Any]
Hope = Literal["none", "some", "good"]


@dataclass(frozen=True)
class Hindrance:
    """What a pod waits for. `hope`: whether time alone may cure it (`some`: of a hiccup only)."""

    sentence: str
    hope: Hope
    pod: str | None = None
    crashed: bool = False


IMAGE_TODO = "Set LLAMA_ASSETS_ENGINE_IMAGE (or engine.image in the catalog) to one that the node can pull"
CONFIG_TODO = "Make what is missing in the namespace, or correct its name"
# What the kubelet says of a container that it cannot start, whether waiting can help, and what a person can do.
STARTING: dict[str, tuple[Hope, str]] = {
    "InvalidImageName": ("none", IMAGE_TODO),
    "ErrImageNeverPull": ("none", IMAGE_TODO),
    "ErrImagePull": ("some", IMAGE_TODO),  # alternates with the next, for ever; a registry may come back
    "ImagePullBackOff": ("some", IMAGE_TODO),
    "RegistryUnavailable": ("some", IMAGE_TODO),
    "CreateContainerConfigError": ("some", CONFIG_TODO),  # a Secret or ConfigMap that may yet be made
    "CreateContainerError": ("some", "The image must have `sh`, and the engine on its PATH or in /app"),
    "RunContainerError": ("some", "The image must have `sh`, and the engine on its PATH or in /app"),
}


def newest(deployment: Object, pods: Sequence[Object]) -> list[Object]:
    """Pods of the Deployment as it is written now, without those that go, youngest first."""
    wanted = (deployment["spec"]["template"]["metadata"].get("annotations") or {}).get(TEMPLATE_NOTE)
    stay = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    ours = [pod for pod in stay if (pod["metadata"].get("annotations") or {}).get(TEMPLATE_NOTE) == wanted]
    return sorted(ours, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)


def ready(pod: Object) -> bool:
    """Whether it answers its probes."""
    found = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in found)


def container(pod: Object) -> Object:
    """The engine's container as the kubelet reports it; empty before it does."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        if status["name"] == CONTAINER:
            found: Object = status
            return found
    return {}


def image_that_runs(pod: Object) -> str:
    """`repository@sha256:...` where the node knows it; else the name alone, which proves nothing."""
    status = container(pod)
    image = str(status.get("imageID") or "")
    return image if "@" in image else str(status.get("image") or "").partition("@")[0]


def hindrance(deployment: Object, pods: Sequence[Object]) -> Hindrance:
    """Why the Deployment's pod is not ready."""
    for pod in newest(deployment, pods):
        return _of_pod(pod)
    for condition in deployment.get("status", {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            todo = "The namespace's policies, quotas and accounts must allow this pod"
            return Hindrance(f"no pod: {condition.get('message', '')}. {todo}", "some")
    if any(pod["metadata"].get("deletionTimestamp") for pod in pods):
        return Hindrance("the pod before it is still going", "good")
    return Hindrance("it has no pod yet", "good")


def _of_pod(pod: Object) -> Hindrance:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):  # OutOf..., Evicted: it is made again elsewhere
        return Hindrance(
            f"pod {name} was refused by its node: {status['reason']}: {status.get('message')}", "some", name
        )
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Hindrance(
                f"pod {name} {_no_place(condition.get('message') or condition.get('reason') or '')}", "good"
            )
    box = container(pod)
    state, last = box.get("state") or {}, box.get("lastState") or {}
    said = state.get("waiting") or {}
    reason, message = said.get("reason", ""), said.get("message") or said.get("reason", "")
    if reason in STARTING:
        hope, todo = STARTING[reason]
        return Hindrance(f"pod {name}: {reason}: {message}. {todo}", hope, name)
    ended = state.get("terminated") or last.get("terminated")
    if ended:
        why = f"{ended.get('reason', 'Error')}, exit status {ended.get('exitCode')}"
        return Hindrance(
            f"pod {name} ends again and again ({reason or 'restarting'}): {why}", "some", name, crashed=True
        )
    if "running" in state:
        return Hindrance(f"pod {name} runs, and its /health does not answer yet", "good", name)
    return Hindrance(f"pod {name} is being started ({reason or status.get('phase')})", "good", name)


def _no_place(message: str) -> str:
    message = message.strip(" .")
    short = list(dict.fromkeys(re.findall(r"Insufficient ([\w./-]*\w)", message)))
    if short:
        todo = "See who has it: `kubectl get pods -A -o wide`; gpu.resource in the catalog names what is asked for"
        return f"is Pending, no node has {' and '.join(short)} free: {message}. {todo}"
    if "persistentvolumeclaim" in message.lower():
        return f"is Pending, for its volume: {message}. Make the claim (manifests/), or see `kubectl get pvc`"
    return f"is Pending: {message}. `kubectl describe nodes` shows taints, labels and what is free"
