"""What a task's Job looks like: names, labels, the pod and what it may use.

Pure: a task and how pods look in this cluster come in, the body of a batch/v1 Job goes out. It keeps Pod Security
`restricted`, on a read-only root with `/tmp` as its only folder of its own. Not here: starting it (`job.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_assets.launch.task import Task, TaskKind

CONTAINER = "task"
CARD_KINDS: frozenset[TaskKind] = frozenset({"benchmark", "hold"})  # what they took they must give back
TASK_LABEL = "llama-assets/task"
MODEL_LABEL = "llama-assets/model"
RUN_LABEL = "dagster/run-id"
STEP_NOTE = "llama-assets/step"


@dataclass(frozen=True)
class SecretKey:
    """A value that only the pod sees: one key of a Secret in the tasks' namespace; None of `tasks` is every task."""

    secret: str
    key: str
    optional: bool = False
    tasks: frozenset[TaskKind] | None = None


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim, where it is mounted, and the tasks that see it."""

    name: str
    path: str
    kinds: frozenset[TaskKind]
    read_only: bool = False


@dataclass(frozen=True)
class Size:
    """What a pod asks for, and the memory at which it is killed. No limit of CPU: throttling would be measured."""

    cpu: str
    memory: str
    memory_limit: str


SIZES: Mapping[TaskKind, Size] = {
    "download": Size("100m", "128Mi", "512Mi"),  # 64 MiB for blocks, the rest is Python and the page cache
    "store": Size("100m", "128Mi", "512Mi"),
    "benchmark": Size("200m", "512Mi", "2Gi"),  # holds the encoded photos of a session
    "verdict": Size("200m", "512Mi", "2Gi"),  # pandas, scipy and a plot
    "hold": Size("50m", "128Mi", "256Mi"),
}


@dataclass(frozen=True)
class TaskPods:
    """How the pods of tasks look in this cluster."""

    image: str
    command: tuple[str, ...] = ("python", "-m", "llama_assets.tasks")
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretKey] = field(default_factory=dict)
    """Variable -> where its value is."""
    claims: tuple[Claim, ...] = ()
    accounts: Mapping[TaskKind, str] = field(
        default_factory=lambda: {"benchmark": "llama-assets-lease", "hold": "llama-assets-lease"}
    )
    """Tasks that speak to Kubernetes, and as whom; all others get no token."""
    sizes: Mapping[TaskKind, Size] = field(default_factory=lambda: SIZES)
    scratch: str = "1Gi"
    """Size of `/tmp`; a pod that writes more is evicted."""
    user: int = 10001
    """The same for every pod that writes a claim: NFS and hostPath know no fsGroup."""


@dataclass(frozen=True)
class JobTimes:
    """How long things may take around one Job."""

    start_s: float = 600.0
    """From creation to a running container: pulling the image and waiting for a place count."""
    hopeless_s: float = 60.0
    """How long a start must have failed in the same way (no such image, refused by admission) to be given up."""
    deadline_s: float = 6 * 3600.0
    """The Job of a task that names no deadline is ended after this, whoever started it and whether they live."""
    grace_s: float = 60.0
    """From SIGTERM to SIGKILL."""
    card_grace_s: float = 540.0
    """The same for a task that has the card: the engine's pods may take 180 s to go (`LeaseTimes.gone_s`), and tenants
    300 s to be ready again (`ready_s`). Killed earlier, the reaper gives the card back, a lifetime later."""
    kept_s: float = 3600.0
    """How long a finished Job and its log stay to be looked at."""
    patience_s: float = 600.0
    """How long the API server may be away while a Job is followed."""
    stop_patience_s: float = 30.0
    """The same while a caller is being interrupted."""
    poll_s: float = 2.0
    """How long a line of a running task may wait to be read; what its pod does is seen at once."""
    unwatched_poll_s: float = 1.0
    """The same, for both, where this account may not watch pods."""
    ending_poll_s: float = 0.2
    """While its pod terminates or its Job goes."""
    last_words_s: float = 2.0
    """How long a terminating pod's log is held open at a time."""
    vanished_s: float = 60.0
    """How long controllers may sleep before a pod that is gone without a reason is called deleted."""

    def deadline_of(self, task: Task) -> float:
        """From the Job's start to its end by force."""
        return self.deadline_s if task.deadline_s is None else task.deadline_s

    def grace_of(self, task: Task) -> float:
        """From SIGTERM to SIGKILL."""
        return self.card_grace_s if task.kind in CARD_KINDS else self.grace_s


def job_name(task: Task) -> str:
    """The same for the same task, so that whoever comes second follows the first one's Job."""
    asked = f"{task.run_id}/{task.step}"
    return f"task-{task.kind}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"


def job_labels(task: Task) -> dict[str, str]:
    """What `kubectl get jobs -l` and clean-ups go by."""
    labels = {TASK_LABEL: task.kind, RUN_LABEL: task.run_id, "app.kubernetes.io/part-of": "llama-assets"}
    return {**labels, MODEL_LABEL: task.model} if task.model else labels


def is_of(task: Task, job: Mapping[str, Any]) -> bool:
    """Whether this Job was made for this very task."""
    labels, notes = (job["metadata"].get(key) or {} for key in ("labels", "annotations"))
    wanted = {TASK_LABEL: task.kind, RUN_LABEL: task.run_id}
    return all(labels.get(key) == value for key, value in wanted.items()) and notes.get(STEP_NOTE) == task.step


def job_body(task: Task, environment: Mapping[str, str], pods: TaskPods, times: JobTimes) -> dict[str, Any]:
    """The Job of a task. `environment` is the run's; it wins over the pods' own."""
    labels, notes = job_labels(task), {STEP_NOTE: task.step}
    return {
        "metadata": {"name": job_name(task), "labels": labels, "annotations": notes},
        "spec": {
            "backoffLimit": 0,  # trying again is Dagster's decision
            "activeDeadlineSeconds": round(times.deadline_of(task)),
            "ttlSecondsAfterFinished": round(times.kept_s),
            "template": {
                "metadata": {"labels": labels, "annotations": notes},
                "spec": _pod(task, environment, pods, times),
            },
        },
    }


def _pod(task: Task, environment: Mapping[str, str], pods: TaskPods, times: JobTimes) -> dict[str, Any]:
    account = pods.accounts.get(task.kind)
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": pods.scratch}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    for claim in (claim for claim in pods.claims if task.kind in claim.kinds):
        only: dict[str, Any] = {"readOnly": True} if claim.read_only else {}
        volumes.append({"name": claim.name, "persistentVolumeClaim": {"claimName": claim.name, **only}})
        mounts.append({"name": claim.name, "mountPath": claim.path, **only})
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": round(times.grace_of(task)),
        "automountServiceAccountToken": account is not None,
        **({"serviceAccountName": account} if account else {}),
        "enableServiceLinks": False,  # a namespace with many Services would fill the environment
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": pods.user,
            "runAsGroup": pods.user,
            "fsGroup": pods.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": pods.image,
                "imagePullPolicy": "IfNotPresent",
                "command": list(pods.command),
                "env": _variables(task, environment, pods),
                "resources": _resources(pods.sizes[task.kind]),
                "volumeMounts": mounts,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        "volumes": volumes,
    }


def _variables(task: Task, environment: Mapping[str, str], pods: TaskPods) -> list[dict[str, Any]]:
    plain = {"PYTHONUNBUFFERED": "1", "HOME": "/tmp", **pods.environment, **environment, **task.environment()}
    secret = [
        {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": where.secret, "key": where.key, "optional": where.optional}},
        }
        for name, where in pods.secrets.items()
        if name not in plain and (where.tasks is None or task.kind in where.tasks)
    ]
    # Kubernetes expands $(NAME) in a value; a doubled dollar is a dollar.
    return [{"name": name, "value": value.replace("$(", "$$(")} for name, value in plain.items()] + secret


def _resources(size: Size) -> dict[str, Any]:
    return {
        "requests": {"cpu": size.cpu, "memory": size.memory, "ephemeral-storage": "64Mi"},
        "limits": {"memory": size.memory_limit, "ephemeral-storage": "2Gi"},
    }
