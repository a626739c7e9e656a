"""A task as a Job on a real cluster: every way it can go, made to happen.

A pod takes seconds to come and go, so all cases start together, each in a thread of its own, and each test waits for
its case. Faults fall on an event: a line the task wrote, a state the API shows. The programs are small; what they print
is what a task's messages would be.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from llama_assets.kube import Kube, KubeError, NotFound
from llama_assets.launch import Claim, JobLauncher, JobTimes, SecretKey, Size, Task, TaskFailed, TaskPods
from llama_assets.launch.job import Ended, FollowedJob
from llama_assets.launch.job_body import job_body, job_name
from tests.cluster import PYTHON, Cluster, Wire, made_namespace, opened_wire, until
from tests.conftest import ROOT

TIMES = JobTimes(
    start_s=150, hopeless_s=4, deadline_s=120, grace_s=20, kept_s=300, patience_s=60, poll_s=1, stop_patience_s=20
)
SMALL = dict.fromkeys(("download", "store", "benchmark", "verdict", "hold"), Size("10m", "32Mi", "128Mi"))

CLAIMS = tuple(Claim(f"llama-{name}", f"/{name}", frozenset(SMALL)) for name in ("models", "results"))

PATIENT = """
import signal, sys, time
def told(*_):
    print("last words", flush=True)
    time.sleep(2)  # its pod takes its log with it, and whoever follows may be busy
    sys.exit(143)
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
time.sleep(100)
"""


@dataclass
class Case:
    """One task on its way; `line` is the caller's callback."""

    cluster: Cluster
    namespace: str
    name: str
    lines: list[str] = field(default_factory=list)
    failed: TaskFailed | None = None
    noted: dict[str, object] = field(default_factory=dict)
    on: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What to do when this line arrives, once."""

    @property
    def task(self) -> Task:
        return Task("download", "run-1", f"{self.name}.0", {"asked": self.name}, "tiny")

    @property
    def job(self) -> str:
        return job_name(self.task)

    def line(self, text: str) -> None:
        self.lines.append(text)
        if act := self.on.pop(text, None):
            act()

    def launcher(self, program: str, times: JobTimes = TIMES, kubeconfig: Path | None = None, **pods: object):
        shape = TaskPods(PYTHON, command=("python", "-uc", program), sizes=SMALL)
        connect = lambda: Kube.open(kubeconfig or self.cluster.kubeconfig)  # noqa: E731
        return JobLauncher(connect, self.namespace, replace(shape, **pods), times)

    def run(self, program: str, times: JobTimes = TIMES, kubeconfig: Path | None = None, **pods: object) -> Case:
        try:
            self.launcher(program, times, kubeconfig, **pods).run(self.task, {"GREETING": "$(HOME) hello"}, self.line)
        except TaskFailed as error:
            self.failed = error
        return self

    def follow(self, shape: TaskPods, times: JobTimes = TIMES, **spec: object) -> Case:
        """A Job whose pod differs in `spec` from what we make."""
        body = job_body(self.task, {}, replace(shape, sizes={**SMALL, **shape.sizes}), times)
        body["spec"] |= spec.pop("job", {})
        body["spec"]["template"]["spec"] |= spec
        with Kube.open(self.cluster.kubeconfig) as kube:
            followed = FollowedJob(kube, self.namespace, self.task, PYTHON, times, self.line)
            try:
                followed.create(body)
                followed.to_its_end()
            except Ended as error:
                self.failed = TaskFailed(self.task, str(error))
        return self

    @property
    def said(self) -> list[str]:
        """What the task said; on a busy node there may be our own words about its start."""
        return [line for line in self.lines if not line.startswith(f"{self.job}: does not start yet")]

    @property
    def reason(self) -> str:
        assert self.failed is not None, f"{self.name} ended well: {self.lines}"
        return self.failed.reason

    def pod(self) -> dict[str, object]:
        (pod,) = self.cluster.kube.list("Pod", self.namespace, labels=f"job-name={self.job}")
        return pod

    def job_is_there(self) -> bool:
        try:
            return bool(self.cluster.kube.get("Job", self.namespace, self.job))
        except NotFound:
            return False


def whole(case: Case) -> Case:
    def seen() -> None:
        case.noted["while running"] = "running" in case.pod()["status"]["containerStatuses"][0]["state"]
        sign(case)

    case.on["line 0"] = seen
    program = """
        import os, time
        print("line 0")
        while not os.path.exists("/tmp/go"): time.sleep(0.1)
        for n in range(1, 2000): print("line", n)
        print("x" * 1_000_000)
        print('{"a": "message"}', end="")
    """
    return case.run(textwrap.dedent(program))


def inside(case: Case) -> Case:
    kube = case.cluster.kube
    kube.create("Secret", case.namespace, {"metadata": {"name": "hub"}, "stringData": {"token": "hf_secret"}})
    for claim in ("llama-models", "llama-results"):
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Mi"}}}
        kube.create("PersistentVolumeClaim", case.namespace, {"metadata": {"name": claim}, "spec": spec})
    program = """
        import json, os, pathlib
        def writes(folder):
            try: pathlib.Path(folder, "x").write_text("x"); return True
            except OSError: return False
        print(json.dumps({
            "uid": os.getuid(),
            "writes": [folder for folder in ("/", "/usr", "/tmp", "/models", "/results") if writes(folder)],
            "token": os.environ.get("HF_TOKEN"), "greeting": os.environ["GREETING"], "optional": "NONE" in os.environ,
            "account": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"),
            "task": json.loads(os.environ["LLAMA_ASSETS_TASK"]),
        }))
    """
    secrets = {"HF_TOKEN": SecretKey("hub", "token"), "NONE": SecretKey("none", "none", optional=True)}
    case.run(textwrap.dedent(program), secrets=secrets, claims=CLAIMS)
    case.noted["job"] = kube.get("Job", case.namespace, case.job)
    return case


def oom(case: Case) -> Case:
    small = dict.fromkeys(SMALL, Size("10m", "32Mi", "32Mi"))
    return case.run(
        "print('begins'); x = bytearray(200_000_000)\nfor n in range(0, len(x), 4096): x[n] = 1", sizes=small
    )


def no_image(case: Case) -> Case:
    return case.run("", image="llama-assets-absent.invalid/none:1")


def bad_image_name(case: Case) -> Case:
    return case.run("", image="NOT an image")


def no_place(case: Case) -> Case:
    return case.run("", replace(TIMES, start_s=5), sizes=dict.fromkeys(SMALL, Size("900", "32Mi", "64Mi")))


def no_claim(case: Case) -> Case:
    return case.run("", replace(TIMES, start_s=5), claims=(Claim("absent-claim", "/models", frozenset(SMALL)),))


def refused(case: Case) -> Case:
    return case.run("", user=0)


@contextlib.contextmanager
def own_namespace(case: Case) -> Iterator[Kube]:
    kube = case.cluster.kube
    case.namespace = made_namespace(kube)
    try:
        yield kube
    finally:
        kube.delete("Namespace", None, case.namespace, propagation="Background")


def quota(case: Case) -> Case:
    with own_namespace(case) as kube:
        kube.create("ResourceQuota", case.namespace, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
        return case.run("", replace(TIMES, start_s=8))


def quota_of_jobs(case: Case) -> Case:
    with own_namespace(case) as kube:
        hard = {"count/jobs.batch": "0"}
        kube.create("ResourceQuota", case.namespace, {"metadata": {"name": "none"}, "spec": {"hard": hard}})
        counted = lambda: kube.get("ResourceQuota", case.namespace, "none").get("status")  # noqa: E731
        until("the quota is counted", counted)
        return case.run("")


def size_limit(case: Case) -> Case:
    """A LimitRange lower than what the task asks for."""
    with own_namespace(case):
        limits = [{"type": "Container", "max": {"memory": "16Mi"}}]
        body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": limits}}
        case.cluster.kubectl("create", "-n", case.namespace, "-f", "-", stdin=json.dumps(body))
        return case.run("")


def policy(case: Case) -> Case:
    with own_namespace(case), forbidden(case, "", "pods"):
        return case.run("")


def policy_of_jobs(case: Case) -> Case:
    with own_namespace(case), forbidden(case, "batch", "jobs"):
        return case.run("")


@contextlib.contextmanager
def forbidden(case: Case, group: str, resource: str) -> Iterator[None]:
    """A ValidatingAdmissionPolicy that forbids these in the case's namespace, once it is in force."""
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": case.namespace}}}
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}
    made = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": case.namespace}}
    rules = {"matchConstraints": {"resourceRules": [rule], **here}}
    says = {"validations": [{"expression": "false", "message": "tasks are not wanted here"}]}
    bound = {"policyName": case.namespace, "validationActions": ["Deny"], "matchResources": here}
    both = [
        {**made, "kind": "ValidatingAdmissionPolicy", "spec": {**rules, **says}},
        {**made, "kind": "ValidatingAdmissionPolicyBinding", "spec": bound},
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": both})
    tried = job_body(case.task, {}, TaskPods(PYTHON, sizes=SMALL), TIMES)
    if resource == "pods":
        tried = {"metadata": {"name": "tried"}, "spec": tried["spec"]["template"]["spec"]}
    kind = {"pods": {"apiVersion": "v1", "kind": "Pod"}, "jobs": {"apiVersion": "batch/v1", "kind": "Job"}}[resource]
    dry_run = ["kubectl", "create", "-n", case.namespace, "--dry-run=server", "-f", "-"]
    environment = {**os.environ, "KUBECONFIG": str(case.cluster.kubeconfig)}

    def in_force() -> bool:
        done = subprocess.run(
            dry_run, env=environment, input=json.dumps({**kind, **tried}), capture_output=True, text=True
        )
        return "not wanted" in done.stderr

    case.cluster.kubectl("create", "-f", "-", stdin=listed)
    try:
        until("the policy", in_force)
        yield
    finally:
        case.cluster.kubectl("delete", "--wait=false", "-f", "-", stdin=listed)


def no_namespace(case: Case) -> Case:
    case.namespace = "llama-test-absent"
    return case.run("")


def few_rights(case: Case, folder: Path) -> Case:
    """An account that may neither watch pods nor read events; the pod is refused, and only an event says so."""
    kubeconfig = account(case, folder, [("batch", "jobs", "create get delete"), ("", "pods", "list")])
    return case.run("", replace(TIMES, start_s=5), kubeconfig=kubeconfig, user=0)


def no_watch(case: Case, folder: Path) -> Case:
    rules = [("batch", "jobs", "create get delete"), ("", "pods", "list"), ("", "pods/log", "get")]
    return case.run("print('hello')", kubeconfig=account(case, folder, [*rules, ("", "events", "list")]))


def no_rights(case: Case, folder: Path) -> Case:
    return case.run("", kubeconfig=account(case, folder, []))


def account(case: Case, folder: Path, rules: list[tuple[str, str, str]]) -> Path:
    """The kubeconfig of a new account that may do just this in the case's namespace."""
    kube, named, place = case.cluster.kube, {"metadata": {"name": case.name}}, case.namespace
    kube.create("ServiceAccount", place, named)
    may = [{"apiGroups": [group], "resources": [what], "verbs": verbs.split()} for group, what, verbs in rules]
    kube.create("Role", place, {**named, "rules": may})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": case.name}
    subject = {"kind": "ServiceAccount", "name": case.name, "namespace": place}
    kube.create("RoleBinding", place, {**named, "subjects": [subject], "roleRef": role})
    token = case.cluster.kubectl("create", "token", case.name, "-n", place).strip()
    said = yaml.safe_load(case.cluster.kubeconfig.read_text())
    for entry in said["users"]:
        entry["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(said))
    return path


def no_account(case: Case) -> Case:
    return case.run("", accounts={"download": "absent-account"})


def no_secret(case: Case) -> Case:
    return case.run("", secrets={"HF_TOKEN": SecretKey("absent-secret", "token")})


def exits(case: Case) -> Case:
    return case.run("import sys\nprint('it went wrong'); print('{\"a\": \"message\"}'); sys.exit(3)")


def no_program(case: Case) -> Case:
    return case.run("", command=("absent-program",))


def deadline(case: Case) -> Case:
    over = {"spec": {"activeDeadlineSeconds": 1}}  # what is left when the task is up
    case.on["ready"] = lambda: case.cluster.kube.patch("Job", case.namespace, case.job, over) and None
    return case.run(PATIENT)


def deleted_pod(case: Case) -> Case:
    case.on["ready"] = lambda: case.cluster.kube.delete("Pod", case.namespace, case.pod()["metadata"]["name"])
    return case.run(PATIENT)


def forced_pod(case: Case) -> Case:
    def delete() -> None:
        case.cluster.kube.delete("Pod", case.namespace, case.pod()["metadata"]["name"], grace_s=0)

    case.on["ready"] = delete
    return case.run(PATIENT)


def evicted(case: Case) -> Case:
    def evict() -> None:
        name = case.pod()["metadata"]["name"]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": case.namespace}}
        path = f"/api/v1/namespaces/{case.namespace}/pods/{name}/eviction"
        case.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    case.on["ready"] = evict
    return case.run(PATIENT)


def full_disk(case: Case) -> Case:
    program = "import time\nopen('/tmp/much', 'wb').write(bytes(20_000_000)); print('wrote'); time.sleep(250)"
    return case.run(program, replace(TIMES, grace_s=2), scratch="1Mi")


def deleted_job(case: Case) -> Case:
    case.on["ready"] = lambda: case.cluster.kube.delete("Job", case.namespace, case.job, propagation="Background")
    return case.run(PATIENT)


def node_refuses(case: Case) -> Case:
    """A pod put on a node by hand, as when the scheduler's view was old."""
    large = TaskPods(PYTHON, sizes={"download": Size("900", "32Mi", "64Mi")})
    return case.follow(large, nodeName=node_of(case.cluster))


def node_of(cluster: Cluster) -> str:
    return str(cluster.kube.list("Node", None)[0]["metadata"]["name"])


def preempted(case: Case) -> Case:
    """A pod of higher priority wants the one thing of its kind that our pod has."""
    cluster, thing = case.cluster, f"example.com/{case.namespace}"
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    listed = json.dumps({**priority, "metadata": {"name": case.namespace}})
    one = {"limits": {thing: "1", "memory": "64Mi"}, "requests": {thing: "1"}}
    shape = TaskPods(PYTHON, command=("python", "-uc", PATIENT), sizes=SMALL)
    pod = job_body(case.task, {}, shape, TIMES)["spec"]["template"]["spec"]
    (box,) = pod["containers"]
    higher = {**pod, "containers": [{**box, "resources": one}], "priorityClassName": case.namespace}
    body = {"metadata": {"name": "higher"}, "spec": {**higher, "terminationGracePeriodSeconds": 1}}
    case.on["ready"] = lambda: cluster.kube.create("Pod", case.namespace, body) and None

    def node(does: str) -> None:
        path = f"{thing.replace('/', '~1')}"
        steps = [{"op": does, "path": f"/status/{where}/{path}", "value": "1"} for where in ("capacity", "allocatable")]
        words = ["patch", "node", node_of(cluster), "--subresource=status", "--type=json", "-p", json.dumps(steps)]
        cluster.kubectl(*words)

    cluster.kubectl("create", "-f", "-", stdin=listed)
    try:
        node("add")
        return case.follow(shape, containers=[{**box, "resources": one}])
    finally:
        cluster.kubectl("delete", "--wait=false", "-f", "-", stdin=listed)
        node("remove")


def no_folder(case: Case) -> Case:
    """A claim that is bound to a volume whose folder is not there, as when a server of files is down."""
    kube, name = case.cluster.kube, f"{case.namespace}-{case.name}"
    modes = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    claim = {"claimRef": {"namespace": case.namespace, "name": case.name}, "capacity": {"storage": "1Mi"}}
    folder = {"hostPath": {"path": f"/absent/{case.namespace}", "type": "Directory"}}
    wanted = {"volumeName": name, "resources": {"requests": {"storage": "1Mi"}}}
    kube.create("PersistentVolume", None, {"metadata": {"name": name}, "spec": {**modes, **claim, **folder}})
    kube.create("PersistentVolumeClaim", case.namespace, {"metadata": {"name": case.name}, "spec": {**modes, **wanted}})
    until(
        "the claim", lambda: kube.get("PersistentVolumeClaim", case.namespace, case.name)["status"]["phase"] == "Bound"
    )
    try:
        told(case, "is not a directory", interrupt)  # a busy node says first that it waits for a cache
        with contextlib.suppress(KeyboardInterrupt):
            case.run("", claims=(Claim(case.name, "/models", frozenset(SMALL)),))
        return case
    finally:
        kube.delete("PersistentVolume", None, name, propagation="Background")


def no_mounted_secret(case: Case) -> Case:
    """As when an overlay mounts a certificate that nobody made: the pod hangs in ContainerCreating."""
    shape = TaskPods(PYTHON, sizes=SMALL)
    pod = job_body(case.task, {}, shape, TIMES)["spec"]["template"]["spec"]
    volumes = [*pod["volumes"], {"name": "absent", "secret": {"secretName": "absent-secret"}}]
    (box,) = pod["containers"]
    box["volumeMounts"] += [{"name": "absent", "mountPath": "/certificates"}]
    told(case, 'secret "absent-secret" not found', interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        case.follow(shape, volumes=volumes, containers=[box])
    return case


def told(case: Case, words: str, act: Callable[[], object]) -> None:
    """Do this when a line with these words arrives."""

    def line(text: str) -> None:
        case.lines.append(text)
        if words in text:
            act()

    case.line = line  # type: ignore[method-assign]


def suspended(case: Case) -> Case:
    suspend = {"spec": {"suspend": True}}
    case.on["ready"] = lambda: case.cluster.kube.patch("Job", case.namespace, case.job, suspend) and None
    return case.run(PATIENT)


def queued(case: Case) -> Case:
    """A Job that a queue suspends as it is made, and lets go when it was waited for."""
    resumed = {"spec": {"suspend": False}}
    told(case, "its Job is suspended", lambda: case.cluster.kube.patch("Job", case.namespace, case.job, resumed))
    return case.follow(TaskPods(PYTHON, command=("python", "-uc", "print('ran')")), job={"suspend": True})


def orphaned(case: Case) -> Case:
    """Its Job goes and leaves the pod running: the task is not over."""

    def orphan() -> None:
        case.cluster.kube.delete("Job", case.namespace, case.job, propagation="Orphan")
        until("the Job's end", lambda: not case.job_is_there())
        sign(case)

    case.on["ready"] = orphan
    return case.run(waits_for_a_sign("print('done')"))


def sign(case: Case) -> None:
    case.cluster.kubectl("exec", "-n", case.namespace, case.pod()["metadata"]["name"], "--", "touch", "/tmp/go")


def waits_for_a_sign(then: str) -> str:
    return f"import os, time\nprint('ready')\nwhile not os.path.exists('/tmp/go'): time.sleep(0.1)\n{then}"


def kept(case: Case) -> Case:
    return case.run("print('done')", replace(TIMES, kept_s=2))


def deaf(case: Case) -> Case:
    """A task that does not hear SIGTERM."""
    try:
        case.on["ready"] = interrupt
        case.run("import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('ready')\ntime.sleep(100)", SHORT)
    except KeyboardInterrupt as error:
        case.noted["interrupt"] = error
    case.noted["job left"] = case.job_is_there()
    return case


SHORT = replace(TIMES, grace_s=2)


def interrupt() -> None:
    raise KeyboardInterrupt


def watched(case: Case) -> Case:
    """The next look at its log is far away when the pod is deleted."""

    def delete() -> None:
        kube = case.cluster.kube

        def is_ready() -> bool:
            with contextlib.suppress(KubeError, ValueError):  # there is no pod yet, or no container in it
                return bool(kube.log(case.namespace, case.pod()["metadata"]["name"], "task").lines)
            return False

        until("ready", is_ready)
        kube.delete("Pod", case.namespace, case.pod()["metadata"]["name"])

    threading.Thread(target=delete).start()
    return case.run(PATIENT, replace(TIMES, poll_s=25))


def counted(case: Case) -> Case:
    """What following costs the API server, with the times that are not of a test."""
    asked: list[str] = []
    with Kube.open(case.cluster.kubeconfig) as kube:
        pool = kube._client.rest_client.pool_manager
        plain = pool.request
        pool.request = lambda method, address, **more: asked.append(method) or plain(method, address, **more)
        seen: list[tuple[int, float]] = []

        def line(text: str) -> None:
            case.lines.append(text)
            seen.append((len(asked), time.monotonic()))

        shape = TaskPods(PYTHON, command=("python", "-uc", COUNTED), sizes=SMALL)
        JobLauncher(lambda: kube, case.namespace, shape).run(case.task, {}, line)
    (first, began), (last, ended) = seen[0], seen[-1]
    return replace(case, noted={"requests": last - first, "seconds": ended - began})


COUNTED = "import time\nfor n in range(3): print('line', n); time.sleep(5)"


def rotated(case: Case) -> Case:
    program = """
        import os, time
        for n in range(110): print("x" * 100_000)   # 11 MB: over the kubelet's 10 MiB
        print("before")
        while not os.path.exists("/tmp/go"): print("tick"); time.sleep(0.5)
        print("after")
    """
    told(case, "was rotated", lambda: sign(case))
    return case.run(textwrap.dedent(program), replace(TIMES, deadline_s=500))  # a busy node rotates late


def outage(case: Case, wire: Wire) -> Case:
    """The API server goes away while lines are written, and comes back when the task has long ended."""

    def until_it_ended() -> None:
        wire.cut()

        def mend() -> None:
            ended = lambda: "terminated" in case.pod()["status"]["containerStatuses"][0]["state"]  # noqa: E731
            case.noted["ended unseen"] = until("the task's end", ended)
            wire.mend()

        threading.Thread(target=mend).start()

    case.on["line 3"] = until_it_ended
    return case.run("import time\nfor n in range(60): print('line', n); time.sleep(0.1)", kubeconfig=wire.kubeconfig)


def lost_sight(case: Case, wire: Wire) -> Case:
    case.on["ready"] = wire.cut
    case.run(PATIENT, replace(TIMES, patience_s=2), kubeconfig=wire.kubeconfig)
    case.noted["still runs"] = "running" in case.pod()["status"]["containerStatuses"][0]["state"]
    return case


def interrupted(case: Case) -> Case:
    case.on["ready"] = interrupt
    try:
        case.run(PATIENT)
    except KeyboardInterrupt as error:
        case.noted["interrupt"] = error
    case.noted["job left"] = case.job_is_there()
    return case


def interrupted_then_again(case: Case) -> Case:
    """The first caller's Job is still terminating when the same task is asked for again."""
    kube = case.cluster.kube
    shape = TaskPods(PYTHON, command=("python", "-uc", PATIENT.replace("sys.exit", "time.sleep(3); sys.exit")))
    kube.create("Job", case.namespace, job_body(case.task, {}, replace(shape, sizes=SMALL), TIMES))
    first = kube.get("Job", case.namespace, case.job)["metadata"]["uid"]
    until("its pod", lambda: "running" in str(kube.list("Pod", case.namespace, labels=f"job-name={case.job}")))
    kube.delete("Job", case.namespace, case.job)
    case.run("print('the second')")
    case.noted["another"] = kube.get("Job", case.namespace, case.job)["metadata"]["uid"] != first
    return case


def followed_by_two(case: Case) -> Case:
    """The second comes when the first has seen the first line; a third when all is over."""
    second, third = (Case(case.cluster, case.namespace, case.name) for _ in range(2))
    program = "import time\nfor n in range(30): print('line', n); time.sleep(0.1)"
    other = threading.Thread(target=lambda: second.run(program))
    case.on["line 0"] = other.start
    case.run(program)
    other.join()
    third.run(program)
    case.noted |= {"second": second, "third": third}
    return case


def taken_name(case: Case) -> Case:
    """Somebody's Job bears the name."""
    body = job_body(case.task, {}, TaskPods(PYTHON, command=("true",), sizes=SMALL), TIMES)
    body["metadata"]["annotations"] = {}
    case.cluster.kube.create("Job", case.namespace, body)
    return case.run("")


CASES = [
    whole, inside, oom, no_image, bad_image_name, no_place, no_claim, no_folder, no_mounted_secret, refused, quota,
    quota_of_jobs, size_limit, policy, policy_of_jobs, no_account, no_namespace, no_rights, few_rights, no_watch,
    no_secret, exits, no_program, deadline, deleted_pod, forced_pod, watched, evicted, preempted, full_disk,
    deleted_job, orphaned, suspended, queued, kept, deaf, node_refuses, rotated, outage, lost_sight, interrupted,
    interrupted_then_again, followed_by_two, taken_name, counted,
]  # fmt: skip
LONG_FIRST = [rotated, full_disk, counted, quota, policy, outage, lost_sight, interrupted_then_again]


@pytest.fixture(scope="module")
def cases(cluster: Cluster, module_namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """Every case, started: name -> its future."""
    wires = {case: opened_wire(cluster, tmp_path_factory.mktemp("wire")) for case in (outage, lost_sight)}
    order = [*LONG_FIRST, *(case for case in CASES if case not in LONG_FIRST)]
    with ThreadPoolExecutor(max_workers=14) as pool:
        started: dict[str, Future[Case]] = {}
        for case in order:
            made = Case(cluster, module_namespace, case.__name__.replace("_", "-"))
            more = [wires[case]] if case in wires else []
            if "folder" in inspect.signature(case).parameters:
                more = [tmp_path_factory.mktemp(case.__name__)]
            started[case.__name__] = pool.submit(case, made, *more)
        yield started
    for wire in wires.values():
        wire.cut()


@pytest.fixture
def case(request: pytest.FixtureRequest, cases: dict) -> Case:
    """The case that the test's `case` mark names, at its end."""
    (name,) = request.node.get_closest_marker("case").args
    return cases[name].result(timeout=280)


def of(case: Callable[..., Case]) -> pytest.MarkDecorator:
    return pytest.mark.case(case.__name__)


@of(whole)
def test_every_line_arrives_once_in_order_while_the_task_runs(case):
    assert case.failed is None
    assert case.said == [*(f"line {number}" for number in range(2000)), "x" * 1_000_000, '{"a": "message"}']
    assert case.noted["while running"]


@of(inside)
def test_a_pod_has_its_claims_its_secrets_and_nothing_it_does_not_need(case):
    assert case.failed is None, case.failed
    (said,) = map(json.loads, case.lines[-1:])
    assert said["uid"] == 10001
    assert said["writes"] == ["/tmp", "/models", "/results"], "on a read-only root"
    assert said["token"] == "hf_secret"
    assert "hf_secret" not in json.dumps(case.noted["job"]), "a secret is only referred to"
    assert not said["optional"] and not said["account"]
    assert said["greeting"] == "$(HOME) hello", "the run's environment arrives letter for letter"
    assert said["task"]["request"] == {"asked": "inside"}
    labels = case.noted["job"]["metadata"]["labels"]
    assert labels["llama-assets/task"] == "download"
    assert labels["llama-assets/model"] == "tiny"
    assert labels["dagster/run-id"] == "run-1"


@of(oom)
def test_out_of_memory_names_the_limit(case):
    assert "OOMKilled: it used more memory than its limit of 32Mi. Raise the limit" in case.reason
    assert case.failed.lines == ["begins"]


@of(no_image)
def test_an_image_that_is_not_there_is_named_and_its_job_goes(case):
    assert "did not start in" in case.reason
    assert "image llama-assets-absent.invalid/none:1 cannot be had" in case.reason
    assert "LLAMA_ASSETS_IMAGE" in case.reason
    until("the Job is deleted", lambda: not case.job_is_there())


@of(bad_image_name)
def test_an_impossible_image_name_is_not_waited_for(case):
    assert case.reason.startswith("did not start: image NOT an image cannot be had")


@of(no_place)
def test_unschedulable_names_the_resource(case):
    assert "unschedulable, not enough cpu: 0/1 nodes are available" in case.reason
    assert "Free cpu on a node, or lower what the task requests" in case.reason
    assert any("does not start yet: unschedulable" in line for line in case.lines), "and says so while it waits"


@of(no_claim)
def test_a_missing_claim_is_named(case):
    assert "unschedulable, for its volume" in case.reason and "absent-claim" in case.reason


@of(refused)
def test_a_refusal_by_admission_is_told_with_the_events_text(case):
    assert "no pod, admission refused it" in case.reason
    assert 'violates PodSecurity "restricted' in case.reason
    assert "The namespace's level must allow this pod" in case.reason


@of(size_limit)
def test_a_limit_of_the_namespace_is_told(case):
    assert "no pod, admission refused it" in case.reason and "maximum memory usage per Container is 16Mi" in case.reason
    assert "kubectl describe limitrange" in case.reason


@of(policy)
def test_a_policy_against_the_pod_is_told_with_its_name_and_message(case):
    assert f'no pod, a policy of this cluster refused it: pods "{case.job}' in case.reason
    assert f"ValidatingAdmissionPolicy '{case.namespace}'" in case.reason
    assert "tasks are not wanted here. Meet what it demands" in case.reason


@of(policy_of_jobs)
def test_a_policy_against_the_job_is_told_at_once(case):
    assert case.reason.startswith(f"Job {case.namespace}/{case.job} was refused: a policy of this cluster refused it")
    assert "tasks are not wanted here. Meet what it demands" in case.reason


@of(quota_of_jobs)
def test_a_quota_of_jobs_is_told_at_once(case):
    assert "was refused: a quota is used up" in case.reason and "raise it" in case.reason


@of(no_namespace)
def test_a_missing_namespace_is_named(case):
    assert "was refused: its namespace is not there" in case.reason and "LLAMA_ASSETS_NAMESPACE" in case.reason


@of(no_rights)
def test_an_account_that_may_not_make_jobs_is_told_where_its_rights_are_listed(case):
    assert "was refused: this account may not make it" in case.reason and "llama-assets doctor" in case.reason


@of(few_rights)
def test_without_the_right_to_read_events_it_is_said_that_they_would_have_told(case):
    assert "its Job has no pod, and no event says why" in case.reason
    (told,) = case.lines
    assert "why it does not start cannot be told" in told and "list Event" in told


@of(no_watch)
def test_without_the_right_to_watch_a_task_is_followed_all_the_same(case):
    assert case.failed is None and case.lines == ["hello"]


@of(quota)
def test_a_quota_is_told(case):
    assert "no pod, a quota is used up" in case.reason and "exceeded quota: none" in case.reason


@of(no_folder)
def test_a_volume_that_cannot_be_mounted_is_told_with_the_events_text(case):
    (said,) = (line for line in case.lines if "a volume cannot be mounted: MountVolume.SetUp failed" in line)
    assert "is not a directory. Look at the volume and its server" in said


@of(no_mounted_secret)
def test_a_missing_secret_that_is_mounted_is_named(case):
    assert "a volume cannot be mounted" in case.lines[-1]
    assert 'secret "absent-secret" not found. Make what is missing' in case.lines[-1]


@of(no_account)
def test_a_missing_service_account_is_named(case):
    assert "its service account is missing" in case.reason and "absent-account" in case.reason


@of(no_secret)
def test_a_missing_secret_is_named(case):
    assert "the container cannot be made" in case.reason and "absent-secret" in case.reason


@of(exits)
def test_a_bad_end_bears_its_status_and_last_lines_without_messages(case):
    assert case.reason == "exit status 3; its last lines say why"
    assert case.failed.lines == ["it went wrong"]
    assert "it went wrong" in str(case.failed)


@of(no_program)
def test_a_program_that_is_not_in_the_image_is_named(case):
    assert case.reason.startswith("its program could not be started") and "absent-program" in case.reason
    assert "Set LLAMA_ASSETS_IMAGE" in case.reason


@of(deadline)
def test_a_deadline_is_told_and_last_words_are_heard(case):
    assert "DeadlineExceeded: it ran longer than the 1 s allowed and was stopped" in case.reason
    assert "materialize again to go on" in case.reason
    assert case.lines[-2:] == ["ready", "last words"]


@of(deleted_pod)
def test_a_pod_deleted_under_it_is_told_and_last_words_are_heard(case):
    assert "was deleted while it ran, not by us (exit status 143)" in case.reason
    assert case.said == ["ready", "last words"]


@of(forced_pod)
def test_a_pod_torn_away_is_told(case):
    assert "was deleted while it ran, not by us" in case.reason


@of(watched)
def test_a_pod_that_goes_is_seen_though_its_next_lines_are_not_due(case):
    assert "was deleted while it ran, not by us (exit status 143)" in case.reason
    assert case.said == ["ready", "last words"]


@of(counted)
def test_following_a_running_task_costs_a_request_a_second(case):
    asked, seconds = case.noted["requests"], case.noted["seconds"]
    assert case.said == ["line 0", "line 1", "line 2"]
    assert asked <= seconds + 4, f"{asked} requests in {seconds:.0f} s; four more for a change of the pod"


@of(preempted)
def test_a_preemption_is_told_and_last_words_are_heard(case):
    assert "preempted on node" in case.reason and "PreemptionByScheduler" in case.reason
    assert "higher PriorityClass" in case.reason
    assert case.said == ["ready", "last words"]


@of(suspended)
def test_a_job_suspended_while_it_ran_is_told_and_does_not_start_again_unseen(case):
    assert "its Job was suspended while it ran" in case.reason
    assert case.said == ["ready", "last words"]
    until("the Job is deleted", lambda: not case.job_is_there())


@of(queued)
def test_a_job_that_a_queue_holds_back_is_waited_for_and_says_so(case):
    assert case.failed is None
    assert "its Job is suspended. Whatever queues Jobs here resumes it" in case.lines[0]
    assert case.lines[-1] == "ran"


@of(orphaned)
def test_a_pod_that_outlives_its_job_is_followed_to_its_end(case):
    assert case.failed is None
    assert case.said == ["ready", "done"]


@of(kept)
def test_a_job_that_is_done_goes_by_itself(case):
    assert case.failed is None
    until("the Job and its pod are gone", lambda: not case.job_is_there())


@of(deaf)
def test_a_task_that_does_not_hear_an_interrupt_is_killed_after_its_grace(case):
    assert isinstance(case.noted["interrupt"], KeyboardInterrupt)
    assert not case.noted["job left"]
    assert not getattr(case.noted["interrupt"], "__notes__", [])


@of(evicted)
def test_an_eviction_is_told_and_last_words_are_heard(case):
    assert "evicted from node" in case.reason and "EvictionByEvictionAPI" in case.reason
    assert case.said == ["ready", "last words"]


@of(full_disk)
def test_an_eviction_by_the_node_says_what_was_full(case):
    assert "evicted from node" in case.reason and "exceeds the limit" in case.reason


@of(deleted_job)
def test_a_job_deleted_under_it_is_told(case):
    assert "its Job was deleted while it ran, not by us" in case.reason
    assert case.said == ["ready", "last words"]


@of(node_refuses)
def test_a_node_that_refuses_the_pod_is_told(case):
    assert "refused pod" in case.reason and "OutOfcpu" in case.reason and "materialize again" in case.reason


@of(rotated)
def test_a_rotated_log_is_told_and_the_rest_arrives(case):
    assert case.failed is None, f"after {len(case.lines)} lines: {str(case.failed)[-300:]}"
    assert case.lines.count("x" * 100_000) == 110
    assert case.lines[-1] == "after"
    (told,) = (line for line in case.lines if "rotated" in line)
    assert "may be missing" in told


@of(outage)
def test_an_api_server_that_is_away_costs_no_line_and_no_task(case):
    assert case.failed is None
    assert case.noted["ended unseen"]
    told = [line for line in case.lines if not line.startswith("line")]
    assert [line for line in case.lines if line.startswith("line")] == [f"line {number}" for number in range(60)]
    assert len(told) == 1 and "waiting for the API server" in told[0]


@of(lost_sight)
def test_an_api_server_that_stays_away_ends_the_caller_and_not_the_task(case):
    assert "lost sight of Job" in case.reason and "ends by itself in 120 s at the latest" in case.reason
    assert case.noted["still runs"]


@of(interrupted)
def test_an_interrupt_ends_the_task_hears_its_last_words_and_leaves_no_job(case):
    assert isinstance(case.noted["interrupt"], KeyboardInterrupt)
    assert case.said == ["ready", "last words"]
    assert not case.noted["job left"]
    assert not getattr(case.noted["interrupt"], "__notes__", [])


@of(interrupted_then_again)
def test_a_job_that_is_still_going_is_waited_for_and_not_followed(case):
    assert case.failed is None and case.noted["another"]
    assert case.lines[-1] == "the second"


@of(followed_by_two)
def test_a_second_caller_follows_the_same_job_and_a_late_one_its_end(case):
    expected = [f"line {number}" for number in range(30)]
    assert case.said == expected
    assert case.noted["second"].said == expected
    assert case.noted["third"].said == expected
    assert len(case.cluster.kube.list("Pod", case.namespace, labels=f"job-name={case.job}")) == 1


@of(taken_name)
def test_a_job_of_somebody_else_is_left_alone(case):
    assert "is there and not this task's" in case.reason
    assert case.job_is_there()


CALLER = """
import sys
from llama_assets.kube import Kube
from llama_assets.launch import JobLauncher, Task, TaskPods
from tests.launch.test_job import PATIENT, SMALL, TIMES
namespace, kubeconfig, name, program = sys.argv[1:]
pods = TaskPods("python:3.13-slim", command=("python", "-uc", program), sizes=SMALL)
task = Task("download", "run-1", f"{name}.0", {"asked": name}, "tiny")
JobLauncher(lambda: Kube.open(kubeconfig), namespace, pods, TIMES).run(task, {}, lambda text: print(text, flush=True))
"""


def caller(case: Case, program: str) -> subprocess.Popen[str]:
    """A process that follows the task, as the command line does."""
    arguments = [case.namespace, str(case.cluster.kubeconfig), case.name, program]
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, *arguments], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    for line in process.stdout:
        if line.strip() == "ready":
            return process
    raise AssertionError(process.stderr.read())


def test_ctrl_c_deletes_the_job_and_a_killed_caller_leaves_one_that_the_next_follows(cluster, module_namespace):
    stopped, killed = (Case(cluster, module_namespace, name) for name in ("ctrl-c", "kill-9"))
    ends = "import time\nprint('ready')\nfor n in range(40): print('line', n); time.sleep(0.1)"
    first, second = caller(stopped, PATIENT), caller(killed, ends)
    first.send_signal(signal.SIGINT)
    second.kill()
    said, complained = first.communicate(timeout=60)
    assert said.split("\n")[-2] == "last words"
    assert "KeyboardInterrupt" in complained
    assert not stopped.job_is_there()
    second.communicate(timeout=10)
    killed.run(ends)
    assert killed.failed is None
    assert killed.lines == ["ready", *(f"line {number}" for number in range(40))]
