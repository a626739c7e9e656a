"""Runs launched from the UI: the queue, the daemon and a run's own process between a click and the task."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llama_assets.gpu import FileLease
from tests.demo_run import DemoRun

LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on InvalidSubsetError { message } ... on RunConfigValidationInvalid { errors { message } } } }
"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"


class Ui:
    """`dagster dev` on a copy of the demo, without sessions."""

    def __init__(self, bench: DemoRun) -> None:
        self.bench = bench
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}/graphql"
        self.log = bench.folder / "dev.log"
        port = self.address.split(":")[2].split("/")[0]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["dagster", "dev", "-w", "workspace.yaml", "--port", port],
                cwd=bench.folder, env=bench.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Ui:
        try:
            self.ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """As a person does; and the whole group, daemon and runs with it, where that does not end it."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(40)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(self.address, json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def ready(self) -> None:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                if self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")[
                    "repositoriesOrError"
                ].get("nodes"):
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.3)
        raise AssertionError(self.log.read_text()[-3000:])

    def launch(self, *keys: str) -> str:
        selector = {
            "repositoryName": "__repository__", "repositoryLocationName": "llama_assets", "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": key.split("/")} for key in keys], "assetCheckSelection": [],
        }  # fmt: skip
        found = self.ask(LAUNCH, params={"selector": selector, "mode": "default", "runConfigData": {}})["launchRun"]
        assert found["__typename"] == "LaunchRunSuccess", found
        return found["run"]["runId"]

    def status(self, run: str) -> str:
        return self.ask(STATUS, id=run)["runOrError"]["status"]

    def wait(self, run: str, *wanted: str) -> str:
        until = time.monotonic() + 300
        while (status := self.status(run)) not in wanted:
            assert time.monotonic() < until, f"{status}\n{self.log.read_text()[-4000:]}"
            time.sleep(0.2)
        return status


@pytest.fixture
def ui(demo_run: DemoRun, tmp_path: Path) -> Iterator[Ui]:
    copied = demo_run.copy(tmp_path / "copy")
    shutil.rmtree(copied.home / "results")
    with Ui(copied) as started:
        yield started


def rows(ui: Ui) -> int:
    files = (ui.bench.home / "results" / "sessions").glob("*/rows-*.jsonl")
    return sum(len(file.read_bytes().split(b"\n")) - 1 for file in files)


def test_a_launched_run_goes_through_the_queue_and_a_terminated_one_gives_the_card_back_and_is_continued(ui):
    first = ui.launch("benchmark/qwen3vl-4b", "benchmark/qwen3vl-8b")
    until = time.monotonic() + 300
    while rows(ui) < 10:
        assert time.monotonic() < until, ui.log.read_text()[-4000:]
        time.sleep(0.01)
    second = ui.launch("benchmark/qwen3vl-4b", "benchmark/qwen3vl-8b")
    assert ui.status(second) in ("QUEUED", "NOT_STARTED"), "one run at a time has pool gpu"
    ui.ask(TERMINATE, id=first)
    assert ui.wait(first, "CANCELED", "FAILURE", "SUCCESS") == "CANCELED"
    kept = rows(ui)
    assert kept < 80
    assert ui.wait(second, "SUCCESS", "FAILURE") == "SUCCESS"
    (session,) = (ui.bench.home / "results" / "sessions").iterdir()
    assert rows(ui) == 80, "continued, and nothing asked twice"
    assert len(json.loads((session / "session.json").read_text())["leases"]) == 2
    assert not FileLease(ui.bench.home / "results" / "llama-assets-gpu.json").status()[1]
