"""A benchmark that is killed, interrupted or robbed of its engine.

Rows stay whole, the card is free, no process is left, and the next run asks nothing twice. Faults fire on an event: a
row that has just reached the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from llama_assets.gpu import FileLease
from tests.demo_run import DemoRun

SELECT = 'key:"benchmark/qwen3vl-4b" or key:"benchmark/qwen3vl-8b"'
MATERIALIZE = ("dagster", "asset", "materialize", "--select", SELECT, "-m", "llama_assets.definitions")


@pytest.fixture
def bench(demo_run: DemoRun, tmp_path: Path) -> DemoRun:
    """The demo's store and photos in a folder of their own, without sessions."""
    copied = demo_run.copy(tmp_path / "copy")
    shutil.rmtree(copied.home / "results")
    return copied


def rows(bench: DemoRun) -> list[dict[str, object]]:
    """Every whole row on disk; a torn line would fail here."""
    files = (bench.home / "results" / "sessions").glob("*/rows-*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


class Started:
    """A benchmark on its way, by the command line; its output goes to a file, so that nobody has to read along."""

    def __init__(self, bench: DemoRun) -> None:
        self.bench, self.log = bench, bench.folder / "fault.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                MATERIALIZE, cwd=bench.folder, env=bench.environment, stdout=log, stderr=log, start_new_session=True
            )

    def when_asked(self, count: int, fault: Callable[[psutil.Process], object]) -> list[int]:
        """Plays the fault once `count` rows are on disk; returns the pids below the process at that moment."""
        until = time.monotonic() + 300
        while sum(1 for _ in _lines(self.bench)) < count:
            assert time.monotonic() < until and self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.005)
        caller = psutil.Process(self.process.pid)
        below = [child.pid for child in caller.children(recursive=True)]
        fault(caller)
        return below

    def ended(self) -> str:
        """Waits for the end; everything it said.

        A Ctrl-C also reaches the `tail` with which Dagster shows a run's log, so the last words are read from the log.
        """
        self.process.wait(300)
        kept = sorted(self.bench.folder.glob(".dagster/compute_logs/**/*.err"), key=lambda path: path.stat().st_mtime)
        return self.log.read_text() + kept[-1].read_text()


def _lines(bench: DemoRun):
    for file in (bench.home / "results" / "sessions").glob("*/rows-*.jsonl"):
        yield from file.read_bytes().split(b"\n")[:-1]


def gone(pids: list[int]) -> None:
    """Wait until none of them is left; what outlives its caller for a minute is an orphan."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=60)
    assert not alive, f"orphans: {alive}"


def card_is_free(bench: DemoRun) -> bool:
    return not FileLease(bench.home / "results" / "llama-assets-gpu.json").status()[1]


def finishes(bench: DemoRun, before: int) -> str:
    """The next run of the same benchmark goes on and asks every photo of every arm once."""
    done = bench.run(*MATERIALIZE)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert len(list((bench.home / "results" / "sessions").iterdir())) == 1, "the same session"
    asked = Counter((row["model"], row["photo"]) for row in rows(bench))
    assert set(asked.values()) == {1} and len(asked) == 80
    assert f"{before} answers are there" in said
    return said


def benchmark_process(caller: psutil.Process) -> psutil.Process:
    return next(child for child in caller.children(recursive=True) if "llama_assets.tasks" in child.cmdline())


@pytest.mark.parametrize("victim", ["command line", "task", pytest.param("engine", marks=pytest.mark.long)])
def test_kill_9_leaves_whole_rows_no_orphan_and_a_free_card_and_the_next_run_goes_on(bench, victim):
    def kill(caller: psutil.Process) -> None:
        task = benchmark_process(caller)
        {"command line": caller, "task": task, "engine": _engine(task)}[victim].send_signal(signal.SIGKILL)

    run = Started(bench)
    below = run.when_asked(15, kill)
    said = run.ended()
    if victim == "engine":
        assert run.process.returncode == 0, said[-3000:]
        crashed = [row for row in rows(bench) if row["error"]]
        assert len(crashed) <= 1, "one row at most, and not a crash of ours"
        assert len(rows(bench)) == 80
        return
    assert run.process.returncode != 0
    gone(below)
    assert card_is_free(bench)
    finishes(bench, before=len(rows(bench)))


def _engine(task: psutil.Process) -> psutil.Process:
    return next(
        child for child in task.children(recursive=True) if any("worker.py" in word for word in child.cmdline())
    )


def test_ctrl_c_once_stops_cleanly_between_two_requests(bench):
    run = Started(bench)
    below = run.when_asked(10, lambda caller: os.killpg(caller.pid, signal.SIGINT))
    said = run.ended()
    assert run.process.returncode != 0
    gone(below)
    before = len(rows(bench))
    assert 10 <= before < 80, said[-2000:]
    assert card_is_free(bench)
    assert "gpu lease: given back" in said, said[-6000:]
    finishes(bench, before)


@pytest.mark.long
def test_ctrl_c_twice_still_leaves_whole_rows(bench):
    run = Started(bench)

    def twice(caller: psutil.Process) -> None:
        os.killpg(caller.pid, signal.SIGINT)
        os.killpg(caller.pid, signal.SIGINT)

    below = run.when_asked(10, twice)
    run.ended()
    gone(below)
    assert card_is_free(bench)
    finishes(bench, before=len(rows(bench)))


@pytest.mark.long
def test_asking_for_the_card_stops_the_benchmark_at_the_next_request_and_says_how_to_go_on(bench):
    run = Started(bench)
    run.when_asked(10, lambda _: bench.run("llama-assets", "lease", "release"))
    said = run.ended()
    assert run.process.returncode != 0
    before = len(rows(bench))
    assert f"lease lost with {80 - before} questions left" in said, said[-2000:]
    assert card_is_free(bench)
    finishes(bench, before)
