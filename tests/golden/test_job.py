"""The Job of a task, as text: what policies, quotas and people's eyes rely on."""

from __future__ import annotations

import yaml

from llama_assets.launch import Claim, JobTimes, SecretKey, Task, TaskPods
from llama_assets.launch.job_body import job_body


def test_the_job_of_a_download(golden):
    task = Task(
        "download", "0c5d5ef8-0000-4000-8000-000000000000", "gguf__qwen3vl_8b.0", {"model": "..."}, "qwen3vl-8b"
    )
    secrets = {"HF_TOKEN": SecretKey("hugging-face", "token", optional=True)}
    claims = (
        Claim("llama-models", "/models", frozenset({"download", "store"})),
        Claim("llama-photos", "/photos", frozenset({"benchmark"}), read_only=True),
    )
    environment = {"LLAMA_ASSETS_STORE": "/models"}
    pods = TaskPods("llama-assets:1", environment=environment, secrets=secrets, claims=claims)
    golden("job.yaml", yaml.safe_dump(job_body(task, {"OF_THE_RUN": "$(kept)"}, pods, JobTimes()), sort_keys=False))
