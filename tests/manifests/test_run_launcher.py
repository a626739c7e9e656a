"""Run monitoring's question to the launcher, on a real API server that goes away."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster_k8s import K8sRunLauncher
from dagster_shared.record import copy

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
