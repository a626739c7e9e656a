"""A task as a Job on a real cluster: every way it can go, made to happen.

A pod takes seconds to come and go, so all cases start together, each in a thread of its own, and each test waits for
its case. Faults fall on an event: a line the task wrote, a state the API shows. The programs are small; what they print
is what a task's messages would be.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from llama_assets.kube import Kube, NotFound
from llama_assets.launch import Claim, JobLauncher, JobTimes, SecretKey, Size, Task, TaskFailed, TaskPods
from llama_assets.launch.job import Ended, FollowedJob
from llama_assets.launch.job_body import job_body, job_name
from tests.cluster import PYTHON, Cluster, Wire, made_namespace, opened_wire, until
from tests.conftest import ROOT

TIMES = JobTimes(
    start_s=40, hopeless_s=4, deadline_s=120, grace_s=20, kept_s=300, patience_s=60, poll_s=0.5, stop_patience_s=20
)
SMALL = dict.fromkeys(("download", "store", "benchmark", "verdict", "hold"), Size("10m", "32Mi", "128Mi"))

CLAIMS = tuple(Claim(f"llama-{name}", f"/{name}", frozenset(SMALL)) for name in ("models", "results"))

PATIENT = """
import signal, sys, time
def told(*_):
    print("last words", flush=True)
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

    case.on["line 0"] = seen
    program = """
        import time
        print("line 0"); time.sleep(3)
        for n in range(1, 2000): print("line", n)
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


def quota(case: Case) -> Case:
    kube = case.cluster.kube
    case.namespace = made_namespace(kube)
    kube.create("ResourceQuota", case.namespace, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    try:
        return case.run("", replace(TIMES, start_s=8))
    finally:
        kube.delete("Namespace", None, case.namespace, propagation="Background")


def no_account(case: Case) -> Case:
    return case.run("", accounts={"download": "absent-account"})


def no_secret(case: Case) -> Case:
    return case.run("", secrets={"HF_TOKEN": SecretKey("absent-secret", "token")})


def exits(case: Case) -> Case:
    return case.run("import sys\nprint('it went wrong'); print('{\"a\": \"message\"}'); sys.exit(3)")


def no_program(case: Case) -> Case:
    return case.run("", command=("absent-program",))


def deadline(case: Case) -> Case:
    return case.run(PATIENT, replace(TIMES, deadline_s=4))


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
    program = "import time\nopen('/tmp/much', 'wb').write(bytes(20_000_000)); print('wrote'); time.sleep(100)"
    return case.run(program, replace(TIMES, grace_s=2), scratch="1Mi")


def deleted_job(case: Case) -> Case:
    case.on["ready"] = lambda: case.cluster.kube.delete("Job", case.namespace, case.job, propagation="Background")
    return case.run(PATIENT)


def node_refuses(case: Case) -> Case:
    """A pod put on a node by hand, as when the scheduler's view was old."""
    node = case.cluster.kube.list("Node", None)[0]["metadata"]["name"]
    shape = TaskPods(PYTHON, sizes=dict.fromkeys(SMALL, Size("900", "32Mi", "64Mi")))
    body = job_body(case.task, {}, shape, TIMES)
    body["spec"]["template"]["spec"]["nodeName"] = node
    with Kube.open(case.cluster.kubeconfig) as kube:
        followed = FollowedJob(kube, case.namespace, case.task, PYTHON, TIMES, case.line)
        followed.create(body)
        try:
            followed.to_its_end()
        except Ended as error:
            case.failed = TaskFailed(case.task, str(error))
    return case


def rotated(case: Case) -> Case:
    program = """
        import time
        for n in range(110): print("x" * 100_000)   # 11 MB: over the kubelet's 10 MiB
        print("before")
        for n in range(28): time.sleep(1); print("tick", n)
        print("after")
    """
    return case.run(textwrap.dedent(program))


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
    return case.run(PATIENT, replace(TIMES, patience_s=2), kubeconfig=wire.kubeconfig)


def interrupted(case: Case) -> Case:
    def interrupt() -> None:
        raise KeyboardInterrupt

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
    whole, inside, oom, no_image, bad_image_name, no_place, no_claim, refused, quota, no_account, no_secret, exits,
    no_program, deadline, deleted_pod, forced_pod, evicted, full_disk, deleted_job, node_refuses, rotated, outage,
    lost_sight, interrupted, interrupted_then_again, followed_by_two, taken_name,
]  # fmt: skip
LONG_FIRST = [rotated, full_disk, outage, lost_sight, interrupted_then_again]


@pytest.fixture(scope="module")
def cases(cluster: Cluster, module_namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """Every case, started: name -> its future."""
    wires = {case: opened_wire(cluster, tmp_path_factory.mktemp("wire")) for case in (outage, lost_sight)}
    order = [*LONG_FIRST, *(case for case in CASES if case not in LONG_FIRST)]
    with ThreadPoolExecutor(max_workers=10) as pool:
        started: dict[str, Future[Case]] = {}
        for case in order:
            made = Case(cluster, module_namespace, case.__name__.replace("_", "-"))
            wire = [wires[case]] if case in wires else []
            started[case.__name__] = pool.submit(case, made, *wire)
        yield started
    for wire in wires.values():
        wire.cut()


@pytest.fixture
def case(request: pytest.FixtureRequest, cases: dict) -> Case:
    """The case that the test's `case` mark names, at its end."""
    (name,) = request.node.get_closest_marker("case").args
    return cases[name].result(timeout=150)


def of(case: Callable[..., Case]) -> pytest.MarkDecorator:
    return pytest.mark.case(case.__name__)


@of(whole)
def test_every_line_arrives_once_in_order_while_the_task_runs(case):
    assert case.failed is None
    assert case.lines == [*(f"line {number}" for number in range(2000)), '{"a": "message"}']
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


@of(quota)
def test_a_quota_is_told(case):
    assert "no pod, a quota is used up" in case.reason and "exceeded quota: none" in case.reason


@of(no_account)
def test_a_missing_service_account_is_named(case):
    assert "its service account is missing" in case.reason and "absent-account" in case.reason


@of(no_secret)
def test_a_missing_secret_is_named(case):
    assert "the container cannot be made" in case.reason and "absent-secret" in case.reason


@of(exits)
def test_a_bad_end_bears_its_status_and_last_lines_without_messages(case):
    assert case.reason == "exit status 3"
    assert case.failed.lines == ["it went wrong"]
    assert "it went wrong" in str(case.failed)


@of(no_program)
def test_a_program_that_is_not_in_the_image_is_named(case):
    assert "absent-program" in case.reason


@of(deadline)
def test_a_deadline_is_told_and_last_words_are_heard(case):
    assert "DeadlineExceeded: it ran longer than the 4 s allowed" in case.reason
    assert case.lines[-2:] == ["ready", "last words"]


@of(deleted_pod)
def test_a_pod_deleted_under_it_is_told_and_last_words_are_heard(case):
    assert "was deleted while it ran, not by us (exit status 143)" in case.reason
    assert case.lines == ["ready", "last words"]


@of(forced_pod)
def test_a_pod_torn_away_is_told(case):
    assert "was deleted while it ran, not by us" in case.reason


@of(evicted)
def test_an_eviction_is_told_and_last_words_are_heard(case):
    assert "evicted from node" in case.reason and "EvictionByEvictionAPI" in case.reason
    assert case.lines == ["ready", "last words"]


@of(full_disk)
def test_an_eviction_by_the_node_says_what_was_full(case):
    assert "evicted from node" in case.reason and "exceeds the limit" in case.reason


@of(deleted_job)
def test_a_job_deleted_under_it_is_told(case):
    assert "its Job was deleted while it ran, not by us" in case.reason
    assert case.lines == ["ready", "last words"]


@of(node_refuses)
def test_a_node_that_refuses_the_pod_is_told(case):
    assert "refused pod" in case.reason and "OutOfcpu" in case.reason


@of(rotated)
def test_a_rotated_log_is_told_and_the_rest_arrives(case):
    assert case.failed is None
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
    assert case.job_is_there()
    assert "running" in case.pod()["status"]["containerStatuses"][0]["state"]


@of(interrupted)
def test_an_interrupt_ends_the_task_hears_its_last_words_and_leaves_no_job(case):
    assert isinstance(case.noted["interrupt"], KeyboardInterrupt)
    assert case.lines == ["ready", "last words"]
    assert not case.noted["job left"]
    assert not getattr(case.noted["interrupt"], "__notes__", [])


@of(interrupted_then_again)
def test_a_job_that_is_still_going_is_waited_for_and_not_followed(case):
    assert case.failed is None and case.noted["another"]
    assert case.lines[-1] == "the second"


@of(followed_by_two)
def test_a_second_caller_follows_the_same_job_and_a_late_one_its_end(case):
    expected = [f"line {number}" for number in range(30)]
    assert case.lines == expected
    assert case.noted["second"].lines == expected
    assert case.noted["third"].lines == expected
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
