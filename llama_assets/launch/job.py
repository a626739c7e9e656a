"""A task as a batch/v1 Job: the `kubernetes` platform's launcher.

1. Create the Job under the task's own name; taken already: it is followed, if it is this task's.
2. Each turn: hand on the new lines of the pod's log, see whether it ended, and watch the pod until it changes or the
   next lines are due. Two requests a turn: one a second while a task runs.
3. It has ended when its container has. The Job's condition lags 2 s behind, and 40 s when the API server was away.
4. A terminating pod takes its log with it, so its last words are waited for with the log held open.
5. An interrupted caller deletes the Job (Foreground, by uid) and hands on its last words before the interrupt goes up.

A caller that is killed does none of this: the Job ends by itself, at its deadline at the latest. Not here: what the Job
looks like (`job_body.py`), what an end means (`job_end.py`), how one call to the API is made (`kube`).
"""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import tenacity

from llama_assets.kube import Change, Conflict, Forbidden, Invalid, Kube, KubeError, NotFound, Object, Refused, Trouble
from llama_assets.launch import job_end
from llama_assets.launch.job_body import CONTAINER, JobTimes, TaskPods, is_of, job_body, job_name
from llama_assets.launch.task import Task, TaskFailed

T = TypeVar("T")
TIMES = JobTimes()


class JobLauncher:
    """Runs each task as a Job of `namespace`. `connect` is called once a task, not before: a graph loads without it."""

    def __init__(
        self,
        connect: Callable[[], Kube],
        namespace: str,
        pods: TaskPods,
        times: JobTimes = TIMES,
        last_lines: int = 20,
    ) -> None:
        self._connect = connect
        self._namespace = namespace
        self._pods = pods
        self._times = times
        self._last_lines = last_lines

    def run(self, task: Task, environment: Mapping[str, str], line: Callable[[str], None]) -> None:
        """See `Launcher.run`."""
        tail: collections.deque[str] = collections.deque(maxlen=self._last_lines)

        def heard(text: str) -> None:
            line(text)
            if not text.startswith("{"):  # a Pipes message is not for people
                tail.append(text)

        try:
            with self._connect() as kube:
                followed = FollowedJob(kube, self._namespace, task, self._pods.image, self._times, heard)
                try:
                    followed.create(job_body(task, environment, self._pods, self._times))
                    followed.to_its_end()
                except (KubeError, Ended):  # the API server's no, or the task's end: nothing to stop, or no way to
                    raise
                except BaseException as interrupt:
                    followed.stop(interrupt)
                    raise
        except (KubeError, Ended) as error:
            raise TaskFailed(task, str(error), list(tail)) from None


class Ended(Exception):
    """The Job ended badly, or cannot be followed further; says how. `TaskFailed` adds the task and its last lines."""


class FollowedJob:
    """One Job on its way to its end, as seen from here."""

    def __init__(
        self, kube: Kube, namespace: str, task: Task, image: str, times: JobTimes, line: Callable[[str], None]
    ) -> None:
        self._kube, self._namespace, self._task, self._image = kube, namespace, task, image
        self._times, self._line = times, line
        self._name = job_name(task)
        self._uid = ""
        self._stamp = ""  # of the last line handed on
        self._pod: Object | None = None  # as last seen; it goes before its Job says that it failed
        self._pod_seen_at = 0.0
        self._started = False
        self._now: Object | None = None  # the pod as of `_version`; None: to be listed
        self._version: str | None = None
        self._may_watch = self._may_read_events = True

    def create(self, body: Object) -> None:
        """Make the Job, or find it made.

        Raises:
            Ended: the API server refuses it, or the name belongs to another Job.
            KubeError: there is no API server, or no account for us.
        """
        end = time.monotonic() + self._times.grace_of(self._task) + self._times.patience_s
        while True:
            made: Object | None
            try:
                made = self._patiently(lambda: self._kube.create("Job", self._namespace, body))
            except Conflict:
                made = self._patiently(self._found)
            except (Forbidden, Invalid, NotFound, Refused) as error:
                raise Ended(f"Job {self._where} was refused: {job_end.refusal(error.message).sentence}") from None
            if made is None or job_end.leaving(made):  # an interrupted run before us is still ending
                if time.monotonic() > end:
                    raise Ended(
                        f"Job {self._where} is being deleted and does not go: `kubectl describe job {self._name}`"
                    )
                time.sleep(self._times.ending_poll_s)
                continue
            if not is_of(self._task, made):
                raise Ended(f"Job {self._where} is there and not this task's: look at it, then delete it")
            self._uid = made["metadata"]["uid"]
            return

    def to_its_end(self) -> None:
        """Hand on every line once and in order; return when the task has ended well.

        Raises:
            Ended: it did not start or ended badly. One that did not start is deleted, so that it never will. Or the API
                server was away for too long, or lets us see no more.
        """
        try:
            self._follow()
        except KubeError as error:
            deadline = f"{self._times.deadline_of(self._task):.0f} s"
            raise Ended(
                f"lost sight of Job {self._where}, which ends by itself in {deadline} at the latest: {error}. "
                f"`kubectl logs -n {self._namespace} job/{self._name} -f` follows it; its next run finds what it did"
            ) from None

    def _follow(self) -> None:
        began = self._pod_seen_at = time.monotonic()
        waits = _Waits(self._times, began, lambda text: self._line(f"{self._name}: {text}"))
        while True:
            pod = self._look()
            box = job_end.state(pod).get("terminated")
            if box and box["exitCode"] == 0:
                return
            if box and not job_end.leaving(pod):
                raise Ended(job_end.failure(self._patiently(self._found), pod))
            job: Object | None = None
            if not self._started or pod is None or job_end.leaving(pod):
                job = self._patiently(self._found)
                if job_end.condition(job, "Complete"):  # its pod, and what it said, went before we came
                    return
                self._raise_if_over(job, pod)
            if not self._started and not job_end.leaving(pod) and (pod is not None or self._pod is None):
                self._give_up_if_hopeless(waits, job, pod)
            self._rest(job_end.leaving(pod) or job_end.leaving(job) or bool(job_end.condition(job, "FailureTarget")))

    def stop(self, interrupt: BaseException) -> None:
        """Delete the Job and hand on what its task still says. What prevents that is noted on the interrupt."""
        end = time.monotonic() + self._times.grace_of(self._task) + self._times.stop_patience_s
        try:
            found = self._patiently(self._found, self._times.stop_patience_s)
            if found is None or not is_of(self._task, found):
                return
            self._uid = found["metadata"]["uid"]
            self._delete(self._times.stop_patience_s)
            while time.monotonic() < end:
                self._version = None
                self._look()
                if self._patiently(self._found, self._times.stop_patience_s) is None:
                    return
                time.sleep(self._times.ending_poll_s)
            interrupt.add_note(f"Job {self._where} is deleted, and its pod does not end")
        except KubeError as error:
            interrupt.add_note(f"Job {self._where} may still run: {error}. Delete it: {self._delete_command}")

    @property
    def _where(self) -> str:
        return f"{self._namespace}/{self._name}"

    @property
    def _delete_command(self) -> str:
        return f"`kubectl delete job -n {self._namespace} {self._name}`"

    @property
    def _chosen(self) -> str:
        return f"batch.kubernetes.io/controller-uid={self._uid}"

    def _found(self) -> Object | None:
        """The Job, and not another that has taken its name since."""
        try:
            job = self._kube.get("Job", self._namespace, self._name)
        except NotFound:
            return None
        return None if self._uid and job["metadata"]["uid"] != self._uid else job

    def _delete(self, patience_s: float | None = None) -> None:
        with contextlib.suppress(NotFound, Conflict):
            self._patiently(
                lambda: self._kube.delete("Job", self._namespace, self._name, uid=self._uid),
                patience_s,
            )

    def _look(self) -> Object | None:
        """The Job's pod, if there is one, after its new lines were handed on."""
        if self._version is None:
            seen = self._patiently(lambda: self._kube.look("Pod", self._namespace, labels=self._chosen))
            self._now = max(seen.objects, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
            self._version = seen.version
        if self._now is not None:
            self._read_log(self._now)
            self._pod, self._pod_seen_at = self._now, time.monotonic()
        return self._now

    def _rest(self, ending: bool) -> None:
        """Until the pod changes, or the next lines are due."""
        version = self._version
        if self._may_watch and version is not None and not (ending and self._now is None):
            wait_s = self._times.ending_poll_s if ending else self._times.poll_s
            try:
                self._take_in(
                    self._patiently(lambda: self._kube.change("Pod", self._namespace, self._chosen, version, wait_s))
                )
                return
            except Forbidden:
                self._may_watch = False
            except Refused:  # too long ago: somebody slept, or the API server is another
                pass
        else:
            time.sleep(self._times.ending_poll_s if ending else self._times.unwatched_poll_s)
        self._version = None

    def _take_in(self, change: Change | None) -> None:
        if change is None:
            return
        pod = change.object
        self._version = pod["metadata"]["resourceVersion"]
        if self._now and self._now["metadata"]["uid"] != pod["metadata"]["uid"]:
            self._version = None  # two of them: a Job that was suspended and resumed
        elif change.gone:  # with its container's last state, which nobody else may have seen
            self._now, self._pod, self._pod_seen_at = None, pod, time.monotonic()
        else:
            self._now = pod

    def _read_log(self, pod: Object) -> None:
        box = job_end.state(pod)
        if "running" in box or "terminated" in box:
            self._started = True
        elif not job_end.leaving(pod):  # a pod deleted early may have run before its kubelet could say so
            return
        name, ended = pod["metadata"]["name"], "terminated" in box
        # A pod that goes takes its log with it: the last words are waited for, not come back for.
        follow_s = self._times.last_words_s if job_end.leaving(pod) and not ended else None
        try:
            log = self._patiently(
                lambda: self._kube.log(self._namespace, name, CONTAINER, self._stamp, ended, follow_s)
            )
        except (NotFound, Refused):  # the pod went, or its container was removed, since we looked
            return
        if log.gap:
            self._line(f"{self._name}: its log was rotated; lines after {self._stamp} may be missing here")
        for line in log.lines:
            self._started = True
            self._stamp = line.stamp
            self._line(line.text)

    def _raise_if_over(self, job: Object | None, pod: Object | None) -> None:
        """Over without a container's word: the pod was refused or deleted, or the Job was."""
        told = job is None or job_end.condition(job, "Failed")
        if pod is None and self._pod and job_end.suspended(job):
            self._delete()  # resumed, it would start again with nobody to follow it
            raise Ended(job_end.failure(job, self._pod))
        if pod is None and (told or (self._pod and time.monotonic() - self._pod_seen_at > self._times.vanished_s)):
            raise Ended(job_end.failure(job, self._pod))
        if job_end.refused_by_node(pod):
            raise Ended(job_end.failure(job, pod))
        if "terminated" in job_end.state(pod) and (told or job_end.condition(job, "FailureTarget")):
            raise Ended(job_end.failure(job, pod))

    def _give_up_if_hopeless(self, waits: _Waits, job: Object | None, pod: Object | None) -> None:
        events = self._events(self._uid if pod is None else pod["metadata"]["uid"])
        if reason := waits.hopeless(job_end.waiting(job, pod, self._image, events), job_end.slow(pod)):
            self._delete()
            raise Ended(reason)

    def _events(self, about: str) -> tuple[Object, ...]:
        if not self._may_read_events:
            return ()
        try:
            return self._patiently(lambda: self._kube.events(self._namespace, about))
        except Forbidden as error:  # they only explain
            self._may_read_events = False
            self._line(f"{self._name}: why it does not start cannot be told: {error}")
            return ()

    def _patiently(self, call: Callable[[], T], patience_s: float | None = None) -> T:
        """One call; an API server that is away is waited for: the Job does not notice such an outage."""
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Trouble),
            wait=tenacity.wait_fixed(min(self._times.poll_s, 2.0)),
            stop=tenacity.stop_after_delay(self._times.patience_s if patience_s is None else patience_s),
            before_sleep=self._tell_once,
            reraise=True,
        ):
            with attempt:
                return call()
        raise AssertionError("tenacity returns or raises")

    def _tell_once(self, tried: tenacity.RetryCallState) -> None:
        if tried.attempt_number == 1 and tried.outcome is not None:
            self._line(f"{self._name}: waiting for the API server; {tried.outcome.exception()}")


class _Waits:
    """How long a start has been failing in the same way, and what was said of it."""

    def __init__(self, times: JobTimes, began: float, say: Callable[[str], None]) -> None:
        self._times, self._began, self._say = times, began, say
        self._kind = ""
        self._since = began

    def hopeless(self, waiting: job_end.Waiting | None, slow: str) -> str | None:
        """Why to give up, or None to wait on. `slow` is said where no trouble is known."""
        now = time.monotonic()
        if (waiting.kind if waiting else "") != self._kind:
            self._kind, self._since = waiting.kind if waiting else "", now
            if waiting:
                self._say(f"does not start yet: {waiting.sentence}")
        if waiting and waiting.hope == "none":
            return f"did not start: {waiting.sentence}"
        if waiting and waiting.hope == "some" and now - self._since > self._times.hopeless_s:
            return f"did not start in {now - self._began:.0f} s: {waiting.sentence}"
        if now - self._began > self._times.start_s:
            return f"did not start in {now - self._began:.0f} s: {waiting.sentence if waiting else slow}"
        return None
