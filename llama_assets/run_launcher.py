"""Where the cluster's Dagster starts its runs: dagster-k8s' launcher, patient with an API server that does not answer.

The stock one takes "no answer" for "no such worker", so run monitoring marks a healthy run as failed at its next look;
the run then ends well and turns green, after every failure sensor has fired. Named in `manifests/base/instance.yaml`.
Not here: what a run's pod looks like (that file), what a run's tasks are (`launch/`).
"""

from __future__ import annotations

import time

from dagster import DagsterRun
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus  # what a launcher answers; no public name
from dagster_k8s import K8sRunLauncher

from llama_assets.launch.job_body import RUN_LABEL

SILENT_S = 900.0  # a command that lives says something while it waits, and follows a Job while it works


class PatientK8sRunLauncher(K8sRunLauncher):
    """A run whose Job cannot be looked at is a run that goes on; one whose Job is not there is dead, as it was.

    A run of `dagster asset materialize` outside the cluster, recorded in the same database, never had a Job: it is its
    command's to end. Only a run that was launched has a remote origin. A command that was killed says nothing more and
    has no task at work: its run is dead, or it would keep the pool `gpu` from everybody in the UI.
    """

    silent_s = SILENT_S

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Asked of every started run at each poll of run monitoring."""
        if run.remote_job_origin is None:
            return self._of_a_command(run)
        found: CheckRunHealthResult = super().check_run_worker_health(run)
        if found.status == WorkerStatus.UNKNOWN and "could not be found" not in (found.msg or ""):
            return CheckRunHealthResult(WorkerStatus.RUNNING, found.msg)  # the next poll asks again
        return found

    def _of_a_command(self, run: DagsterRun) -> CheckRunHealthResult:
        last = self._instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        silent_s = time.time() - last[0].timestamp if last else 0.0
        if silent_s < self.silent_s:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "a command runs it, not a Job of ours")
        try:
            tasks = self._api_client.batch_api.list_namespaced_job(
                self.job_namespace, label_selector=f"{RUN_LABEL}={run.run_id}"
            ).items
        except Exception as error:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"its tasks cannot be looked at: {error}")
        if any(task.status.active for task in tasks):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its task is at work")
        return CheckRunHealthResult(
            WorkerStatus.FAILED,
            f"its command has said nothing for {silent_s / 60:.0f} minutes and has no task at work: it was killed, or "
            "its machine sleeps. What it measured is kept; the next run goes on there",
        )
