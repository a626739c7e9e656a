"""Starting work elsewhere and following it to its end: a child process here, a Job in a cluster.

Comes in: a `Task` (what is asked) and the environment of a run. Goes out: the task's lines, one by one, and
`TaskFailed` with the reason. Not here: what a task does (`tasks`), what its lines mean to Dagster (`pipes`).
"""

from llama_assets.launch.job import JobLauncher
from llama_assets.launch.job_body import Claim, JobTimes, SecretKey, Size, TaskPods
from llama_assets.launch.process import ProcessLauncher, ProcessTimes, die_with_parent
from llama_assets.launch.task import Launcher, Task, TaskFailed, TaskKind, asked

__all__ = [
    "Claim",
    "JobLauncher",
    "JobTimes",
    "Launcher",
    "ProcessLauncher",
    "ProcessTimes",
    "SecretKey",
    "Size",
    "Task",
    "TaskFailed",
    "TaskKind",
    "TaskPods",
    "asked",
    "die_with_parent",
]
