"""Run monitoring's question to the launcher, on a real API server that goes away."""

from __future__ import annotations

import time

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster_k8s import K8sRunLauncher
from dagster_shared.record import copy

from llama_assets.launch.job_body import RUN_LABEL
from llama_assets.run_launcher import PatientK8sRunLauncher


@pytest.mark.parametrize(
    ("kind", "without_an_answer"), [(PatientK8sRunLauncher, "RUNNING"), (K8sRunLauncher, "UNKNOWN")]
)
def test_an_api_server_that_is_away_does_not_make_a_run_dead_and_a_missing_job_does(
    cluster, namespace, wire, kind, without_an_answer
):
    launcher = kind(
        service_account_name="default", instance_config_map="none", dagster_home="/none", job_image="none",
        load_incluster_config=False, kubeconfig_file=str(wire.kubeconfig), job_namespace=namespace,
    )  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        launcher.register_instance(instance)
        of_a_command = instance.create_run_for_job(
            dg.job(name="empty")(lambda: None), status=dg.DagsterRunStatus.STARTED
        )
        location = GrpcServerCodeLocationOrigin(host="llama-assets-code", port=4000, location_name="llama_assets")
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "empty")
        run = copy(of_a_command, remote_job_origin=origin)
        if kind is PatientK8sRunLauncher:
            assert launcher.check_run_worker_health(of_a_command).status == WorkerStatus.RUNNING, (
                "it has no Job to miss"
            )
        missing = launcher.check_run_worker_health(run)
        assert missing.status == WorkerStatus.UNKNOWN and "could not be found" in missing.msg
        wire.cut()
        away = launcher.check_run_worker_health(run)
        assert away.status == WorkerStatus[without_an_answer] and "refused" in away.msg


@pytest.fixture
def launcher(cluster, namespace):
    made = PatientK8sRunLauncher(
        service_account_name="default", instance_config_map="none", dagster_home="/none", job_image="none",
        load_incluster_config=False, kubeconfig_file=str(cluster.kubeconfig), job_namespace=namespace,
    )  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        made.register_instance(instance)
        yield made


def test_a_run_whose_command_was_killed_is_dead_once_it_is_silent_and_has_no_task_at_work(launcher, cluster, namespace):
    instance = launcher._instance
    result = dg.job(name="empty")(lambda: None).execute_in_process(instance=instance)
    run = copy(instance.get_run_by_id(result.run_id), status=dg.DagsterRunStatus.STARTED)
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING, "it has just spoken"
    launcher.silent_s = 0.0
    harmless = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "task", "image": "registry.invalid/none:1", "securityContext": harmless}],
    }
    cluster.kube.create(
        "Job", namespace,
        {
            "metadata": {"name": "task", "labels": {RUN_LABEL: run.run_id}},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        },
    )  # fmt: skip
    while not (cluster.kube.get("Job", namespace, "task").get("status") or {}).get("active"):
        time.sleep(0.1)
    assert launcher.check_run_worker_health(run).msg == "its task is at work"
    cluster.kube.delete("Job", namespace, "task")
    while launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING:
        time.sleep(0.1)
    dead = launcher.check_run_worker_health(run)
    assert dead.status == WorkerStatus.FAILED and "it was killed" in dead.msg
