"""Why a Job's pod does not start, and how it ended: what Kubernetes shows, said so that a person knows what to do.

Pure: a Job, its pod and events as the API gives them come in, a sentence goes out. The Job itself says little
(`BackoffLimitExceeded`); the reason is in the pod's status and conditions, its container's state, or an event. Source:
what each case looked like on Kubernetes 1.34, `tests/launch/test_job.py` makes them all happen. Not here: reading them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from llama_assets.launch.job_body import CONTAINER

Object = dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    """What keeps a pod from starting. `hope`: whether time alone may cure it (`some`: of a hiccup only)."""

    kind: str
    sentence: str
    hope: Literal["none", "some", "good"]


def state(pod: Object | None) -> Object:
    """The task's container: `{"running": ..}`, `{"terminated": ..}`, `{"waiting": ..}`, or nothing yet."""
    for status in (pod or {}).get("status", {}).get("containerStatuses") or []:
        if status["name"] == CONTAINER:
            found: Object = status["state"]
            return found
    return {}


def leaving(thing: Object | None) -> bool:
    """It is being deleted."""
    return bool(thing and thing["metadata"].get("deletionTimestamp"))


def condition(thing: Object | None, kind: str) -> Object | None:
    """The condition of this type, if it is true."""
    for found in (thing or {}).get("status", {}).get("conditions") or []:
        if found["type"] == kind and found["status"] == "True":
            said: Object = found
            return said
    return None


def suspended(job: Object | None) -> bool:
    """It has no pod, or loses it now, until somebody resumes it."""
    return bool(job and job["spec"].get("suspend"))


def refused_by_node(pod: Object | None) -> bool:
    """The kubelet ended the pod without starting a container."""
    status = (pod or {}).get("status", {})
    return status.get("phase") == "Failed" and not status.get("containerStatuses") and bool(status.get("reason"))


# What the kubelet says of a container that it cannot start: which trouble it is, and whether waiting can help.
STARTING: dict[str, tuple[str, Literal["none", "some", "good"]]] = {
    "InvalidImageName": ("image", "none"),
    "ErrImageNeverPull": ("image", "none"),
    "ErrImagePull": ("image", "some"),  # alternates with the next, for ever; a registry may come back
    "ImagePullBackOff": ("image", "some"),
    "RegistryUnavailable": ("image", "some"),
    "CreateContainerConfigError": ("config", "some"),  # a Secret or ConfigMap that may yet be made
    "CreateContainerError": ("config", "some"),
    "RunContainerError": ("config", "some"),
}
# A kubelet, or what lets it read, that has not seen a new pod yet: it looks again by itself, and no volume is at fault.
CATCHING_UP = re.compile("cache: timed out waiting for the condition|no relationship found between node")
IMAGE_TODO = "Set LLAMA_ASSETS_IMAGE to an image that the node can pull, or load it there (`make image`)"


def waiting(job: Object | None, pod: Object | None, image: str, events: Sequence[Object]) -> Waiting | None:
    """What keeps the pod from starting; None when nothing is known to. `events` are the pod's, else the Job's."""
    if pod is None and suspended(job):
        todo = "Whatever queues Jobs here resumes it, or `kubectl patch job` with spec.suspend false"
        return Waiting("suspended", f"its Job is suspended. {todo}", "good")
    if pod is None:
        return _not_made([event for event in events if event.get("reason") == "FailedCreate"])
    for found in pod["status"].get("conditions") or []:
        if found["type"] == "PodScheduled" and found["status"] == "False":
            return _no_place(found.get("reason", ""), found.get("message", ""))
    said = state(pod).get("waiting") or {}
    kind, hope = STARTING.get(said.get("reason", ""), ("", "good"))
    message = said.get("message") or said.get("reason", "")
    if kind == "image":
        return Waiting("image", f"image {image} cannot be had: {message}. {IMAGE_TODO}", hope)
    if kind:
        todo = "Make what is missing in the namespace, or correct its name"
        return Waiting("config", f"the container cannot be made: {message}. {todo}", hope)
    mounts = [event for event in events if event.get("reason") in {"FailedMount", "FailedAttachVolume"}]
    mounts = [event for event in mounts if not CATCHING_UP.search(str(event["message"]))]
    if mounts:
        said = str(mounts[-1]["message"]).strip(" .")
        kind, todo = "volume", "Look at the volume and its server: `kubectl describe pvc`"
        if re.search(r'(secret|configmap|persistentvolumeclaim) "\S+" not found', said):
            kind, todo = "missing", "Make what is missing in the namespace (manifests/), or correct its name"
        return Waiting(kind, f"a volume cannot be mounted: {said}. {todo}", "good")
    return None


def slow(pod: Object | None) -> str:
    """Where a start is stuck that nothing is known to be wrong with."""
    if pod is None:
        return "its Job has no pod, and no event says why. `kubectl describe job` may, while it is kept"
    said = (state(pod).get("waiting") or {}).get("reason") or pod["status"].get("phase")
    todo = "A slow pull or a busy node: `kubectl describe node`, then materialize again"
    return f"its pod is at {said} on node {_node(pod)}, and no event says why. {todo}"


def _not_made(events: Sequence[Object]) -> Waiting | None:
    if not events:
        return None
    no = refusal(str(events[-1]["message"]).removeprefix("Error creating: "))
    return replace(no, sentence=f"no pod, {no.sentence}")


# What the API server said no to a Job or its pod with: which trouble, the cause in words, what to do, whether to wait.
REFUSALS: tuple[tuple[str, str, str, str, Literal["none", "some", "good"]], ...] = (
    (
        "exceeded quota", "quota", "a quota is used up",
        "Free some of the quota, or raise it: `kubectl describe resourcequota`", "good",
    ),
    (
        "service account", "account", "its service account is missing",
        "Make the account; manifests/ holds it with its Role", "some",
    ),
    (
        "violates PodSecurity", "admission", "admission refused it",
        "The namespace's level must allow this pod: `kubectl get ns -L pod-security.kubernetes.io/enforce`", "some",
    ),
    (
        "ValidatingAdmissionPolicy|admission webhook", "policy", "a policy of this cluster refused it",
        "Meet what it demands, or leave the namespace out of it: "
        "`kubectl get validatingadmissionpolicies,validatingwebhookconfigurations`", "some",
    ),
    (
        "cannot create resource", "rights", "this account may not make it",
        "`llama-assets doctor` lists what the account lacks; manifests/ holds the Roles", "none",
    ),
    (
        'namespaces "[^"]*" not found', "namespace", "its namespace is not there",
        "Make it (`kubectl apply -k manifests/...`), or set LLAMA_ASSETS_NAMESPACE to the one there is", "none",
    ),
    (
        "being terminated", "namespace", "its namespace is being deleted",
        "Wait until it is gone, then make it again (`kubectl apply -k manifests/...`)", "some",
    ),
)  # fmt: skip


def refusal(said: str) -> Waiting:
    """Why the API server made no Job, or the Job's controller no pod, from its own words."""
    said = said.strip(" .")
    for words, kind, cause, todo, hope in REFUSALS:
        if re.search(words, said):
            return Waiting(kind, f"{cause}: {said}. {todo}", hope)
    todo = "Correct what it names: a rule of the namespace (`kubectl describe limitrange`), or the task's own size"
    return Waiting("admission", f"admission refused it: {said}. {todo}", "some")


def _no_place(reason: str, message: str) -> Waiting:
    message = message.strip(" .")
    if reason == "SchedulingGated":
        return Waiting("gate", f"held back by a scheduling gate: {message}", "good")
    short = list(dict.fromkeys(re.findall(r"Insufficient ([\w./-]*\w)", message)))
    if short:
        todo = f"Free {' and '.join(short)} on a node, or lower what the task requests"
        return Waiting("place", f"unschedulable, not enough {' and '.join(short)}: {message}. {todo}", "good")
    if "persistentvolumeclaim" in message.lower():
        todo = "Make the claim (manifests/), or look why it is not bound: `kubectl get pvc`"
        return Waiting("claim", f"unschedulable, for its volume: {message}. {todo}", "good")
    todo = "`kubectl describe nodes` shows taints, labels and what is free"
    return Waiting("place", f"unschedulable: {message or reason}. {todo}", "good")


AGAIN = "What it had done is kept: materialize again to go on"
# Who took a pod's place, by the reason of its DisruptionTarget condition: how to say it, and what to do about it.
MOVED = {
    "EvictionByEvictionAPI": ("evicted from", "Somebody drains the node"),
    "PreemptionByScheduler": (
        "preempted on",
        "A pod of higher priority needed the place: give the namespace's pods a higher PriorityClass, or add room",
    ),
    "DeletionByTaintManager": (
        "driven from",
        "The node was tainted, or is not ready: `kubectl describe node` says with what",
    ),
    "DeletionByPodGC": ("lost with", "The node is not there any more: `kubectl get nodes`"),
    "TerminationByKubelet": ("evicted from", "The node shuts down, or has too little memory or disk left"),
}


def failure(job: Object | None, pod: Object | None) -> str:
    """How it ended badly, from the last that was seen of both. `job` None: it is gone."""
    return next(
        _failures(job, pod), "its Job failed and nothing says why; `kubectl describe job` may, while it is kept"
    )


def _failures(job: Object | None, pod: Object | None) -> Iterator[str]:
    """Most telling first: an outer cause explains the exit status that it led to."""
    box = state(pod).get("terminated") or {}
    status = (pod or {}).get("status", {})
    name = pod["metadata"]["name"] if pod else ""
    if box.get("reason") == "OOMKilled":
        limit = _memory_limit(pod)
        yield f"OOMKilled: it used more memory than its limit of {limit}. Raise the limit, or ask of it less at once"
    late = condition(job, "Failed") or condition(job, "FailureTarget")
    if late and late.get("reason") == "DeadlineExceeded" and job:
        allowed = job["spec"].get("activeDeadlineSeconds")
        yield f"DeadlineExceeded: it ran longer than the {allowed} s allowed and was stopped. {AGAIN}"
    if moved := condition(pod, "DisruptionTarget"):
        reason, said = str(moved.get("reason")), str(moved.get("message")).strip(" .")
        word, todo = MOVED.get(reason, ("evicted from", "A drain or a full node"))
        yield f"{word} node {_node(pod)}: {reason}: {said}. {todo}. {AGAIN}"
    if status.get("reason") == "Evicted":
        said = str(status.get("message")).strip(" .")
        yield f"evicted from node {_node(pod)}: {said}. Free what it names. {AGAIN}"
    if refused_by_node(pod):
        said = f"{status['reason']}: {status.get('message')}"
        yield (
            f"node {_node(pod)} refused pod {name}: {said.strip(' .')}. "
            f"Something took what the scheduler had counted as free. {AGAIN}"
        )
    if box and not leaving(pod):
        yield exit_reason(box["exitCode"], box.get("reason", ""), box.get("message", ""))
    if suspended(job):
        yield f"its Job was suspended while it ran, which ends its pod; the Job is deleted now. {AGAIN}"
    if job is None or leaving(job):
        yield f"its Job was deleted while it ran, not by us. {AGAIN}"
    if pod is not None:
        ended = f" (exit status {box['exitCode']})" if box else ""
        yield f"pod {name} was deleted while it ran, not by us{ended}. {AGAIN}"
    if late:
        yield f"{late.get('reason')}: {late.get('message')}; its pod was gone before it could be seen. {AGAIN}"


def exit_reason(code: int, reason: str = "", message: str = "") -> str:
    """A container's exit status in words."""
    if code == 143:
        return f"stopped by SIGTERM. {AGAIN}"
    if code == 137:
        return f"killed by SIGKILL: out of memory on the node, or not ended in time after SIGTERM. {AGAIN}"
    said = f": {message.strip()}" if message.strip() else ""
    if reason in {"StartError", "ContainerCannotRun"}:
        return f"its program could not be started ({reason}{said}). {IMAGE_TODO}"
    why = f" ({reason}{said})" if reason not in {"", "Error"} else said
    return f"exit status {code}{why}; its last lines say why"


def _memory_limit(pod: Object | None) -> str:
    boxes = (pod or {}).get("spec", {}).get("containers") or [{}]
    return str(boxes[0].get("resources", {}).get("limits", {}).get("memory", "(none)"))


def _node(pod: Object | None) -> str:
    return str((pod or {}).get("spec", {}).get("nodeName", "?"))
