"""Where the cluster's Dagster starts its runs: dagster-k8s' launcher, patient with an API server that does not answer.

The stock one takes "no answer" for "no such worker", so run monitoring marks a healthy run as failed at its next look;
the run then ends well and turns green, after every failure sensor has fired. Named in `manifests/base/instance.yaml`.
Not here: what a run's pod looks like (that file), what a run's tasks are (`launch/`).
"""

from __future__ import annotations

from dagster import DagsterRun
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus  # what a launcher answers; no public name
from dagster_k8s import K8sRunLauncher


class PatientK8sRunLauncher(K8sRunLauncher):
    """A run whose Job cannot be looked at is a run that goes on; one whose Job is not there is dead, as it was.

    A run of `dagster asset materialize` outside the cluster, recorded in the same database, never had a Job: it is its
    command's to end. Only a run that was launched has a remote origin.
    """

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Asked of every started run at each poll of run monitoring."""
        if run.remote_job_origin is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "a command runs it, not a Job of ours")
        found: CheckRunHealthResult = super().check_run_worker_health(run)
        if found.status == WorkerStatus.UNKNOWN and "could not be found" not in (found.msg or ""):
            return CheckRunHealthResult(WorkerStatus.RUNNING, found.msg)  # the next poll asks again
        return found
