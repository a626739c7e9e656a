"""The image, built from this checkout and run as the cluster runs it: another user, a read-only root, no token."""

from __future__ import annotations

import json
import re
import textwrap

import pytest

from llama_assets import catalog as catalogs
from llama_assets.kube import Kube
from llama_assets.launch import JobLauncher, JobTimes, Task, TaskFailed, TaskPods
from llama_assets.tasks.messages import Judge
from tests.cluster import PYTHON, Cluster, until
from tests.conftest import ROOT

TIMES = JobTimes(start_s=60, hopeless_s=5, deadline_s=120, poll_s=0.5)


def run_in(cluster: Cluster, namespace: str, image: str, step: str, *command: str) -> list[str]:
    pods = TaskPods(image, command=command)
    lines: list[str] = []
    launcher = JobLauncher(lambda: Kube.open(cluster.kubeconfig), namespace, pods, TIMES)
    launcher.run(Task("verdict", "run-1", step, {}), {}, lines.append)
    return lines


def test_it_stays_small(cluster, image):
    def size() -> int | None:
        for node in cluster.kube.list("Node", None):
            for held in node["status"]["images"]:
                if any(name.endswith(image) for name in held.get("names") or ()):  # one just removed has none
                    return int(held["sizeBytes"])
        return None

    assert until("the node to report its images", size, 330) < 1_300_000_000


def test_everything_in_it_works_for_another_user_on_a_read_only_root(cluster, image, module_namespace):
    program = """
        import json, os, pathlib, importlib.metadata as metadata
        import pandas, pyarrow.parquet, scipy.stats, matplotlib.pyplot, kubernetes.client, huggingface_hub, psycopg2
        import dagster_k8s, dagster_postgres, dagster_webserver
        import llama_assets.cli, llama_assets.tasks.work
        import llama_assets.definitions
        try: pathlib.Path("/opt/llama-assets/x").write_text(""); writable = True
        except OSError: writable = False
        print(json.dumps({
            "uid": os.getuid(), "writable": writable,
            "compiled": pathlib.Path(llama_assets.cli.__cached__).exists() and pathlib.Path(pandas.__cached__).exists(),
            "packages": {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()},
        }))
    """
    (said,) = run_in(cluster, module_namespace, image, "imports", "python", "-c", textwrap.dedent(program))[-1:]
    found = json.loads(said)
    assert found["uid"] == 10001 and not found["writable"] and found["compiled"]
    pinned = dict(
        line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    packages = found["packages"]
    differing = {name: version for name, version in packages.items() if pinned.get(name, version) != version}
    assert not differing, "what it holds is what was tested"
    assert not {"pytest", "ruff", "playwright", "xllamacpp"} & set(packages)


@pytest.mark.parametrize(
    ("step", "command", "says"),
    [
        ("cli", ("llama-assets", "--help"), "Usage: llama-assets"),
        (
            "dagster",
            ("dagster", "definitions", "validate", "-m", "llama_assets.definitions"),
            "All code locations passed",
        ),
    ],
)
def test_its_commands_run(cluster, image, module_namespace, step, command, says):
    assert says in "\n".join(run_in(cluster, module_namespace, image, step, *command))


def test_a_task_starts_in_it_and_answers_what_it_was_asked(cluster, image, module_namespace):
    lines: list[str] = []
    launcher = JobLauncher(lambda: Kube.open(cluster.kubeconfig), module_namespace, TaskPods(image), TIMES)
    with pytest.raises(TaskFailed, match="exit status 1"):
        launcher.run(
            Task("verdict", "run-1", "task", Judge(catalog=catalogs.load()).model_dump(mode="json")), {}, lines.append
        )
    assert json.loads(lines[-1])["failed"], "a task kind that finds nothing to judge says so in a sentence"


def test_from_inside_the_cluster_a_task_is_launched_with_these_rights_and_no_more(cluster, image, module_namespace):
    """What the account of a Dagster run needs to follow Jobs; manifests give it this."""
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},  # why there is no pod
    ]
    kube, name = cluster.kube, {"metadata": {"name": "runner"}}
    kube.create("ServiceAccount", module_namespace, name)
    kube.create("Role", module_namespace, {**name, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "runner", "namespace": module_namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "runner"}
    kube.create("RoleBinding", module_namespace, {**name, "subjects": [subject], "roleRef": role})
    program = f"""
        from llama_assets.kube import Kube
        from llama_assets.launch import JobLauncher, Task, TaskPods
        inner = TaskPods("{PYTHON}", command=("python", "-uc", "print('hello')"), accounts={{}})
        launcher = JobLauncher(Kube.open, "{module_namespace}", inner)
        launcher.run(Task("hold", "inner", "good", {{}}), {{}}, print)
        def interrupt(text): raise KeyboardInterrupt
        try: launcher.run(Task("hold", "inner", "stopped", {{}}), {{}}, interrupt)
        except KeyboardInterrupt as error: print("stopped", getattr(error, "__notes__", []))
    """
    pods = TaskPods(image, command=("python", "-uc", textwrap.dedent(program)), accounts={"hold": "runner"})
    lines: list[str] = []
    launcher = JobLauncher(lambda: Kube.open(cluster.kubeconfig), module_namespace, pods, TIMES)
    launcher.run(Task("hold", "run-1", "outer", {}), {}, lines.append)
    assert lines == ["hello", "stopped []"]
    left = [job["metadata"]["name"] for job in kube.list("Job", module_namespace, labels="dagster/run-id=inner")]
    assert len(left) == 1, "the interrupted one is deleted"


def test_no_index_address_is_in_what_it_is_made_from():
    for name in ("Dockerfile", "constraints.txt", ".dockerignore"):
        assert not re.search(r"index-url|trusted-host|find-links|https?://", (ROOT / name).read_text()), name
