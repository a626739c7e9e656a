"""A child process as the place where a task runs; the tasks here are tiny programs put in place of the real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from llama_assets.launch import ProcessLauncher, ProcessTimes, Task, TaskFailed, asked

TASK = Task("download", "run-1", "gguf.0", {"model": {"id": "tiny"}}, model="tiny")


@pytest.fixture
def program(tmp_path: Path):
    """Writes a program and gives the launcher that runs it as its task."""

    def place(text: str) -> ProcessLauncher:
        path = tmp_path / "task.py"
        path.write_text(textwrap.dedent(text))
        return ProcessLauncher((sys.executable, str(path)), ProcessTimes(grace_s=2))

    return place


def test_the_task_arrives_whole_and_its_lines_come_back_in_order_as_they_are_written(program):
    launcher = program("""
        import os, sys
        from llama_assets.launch import asked
        task = asked()
        print(task.kind, task.model, task.request["model"]["id"], os.environ["SAID"])
        print("on stderr", file=sys.stderr)
        print("last")
    """)
    lines: list[str] = []
    launcher.run(TASK, {"SAID": "hello"}, lines.append)
    assert lines == ["download tiny tiny hello", "on stderr", "last"]


def test_a_task_that_ends_badly_says_how_and_its_last_lines_but_not_its_messages(program):
    launcher = program("""
        import sys
        print("x")
        print('{"__dagster_pipes_version": 1}')
        print("the disk is on fire", file=sys.stderr)
        sys.exit(3)
    """)
    with pytest.raises(TaskFailed) as caught:
        launcher.run(TASK, {}, lambda _: None)
    assert str(caught.value) == "task download of tiny: exit status 3\n  x\n  the disk is on fire"


def test_a_task_killed_by_a_signal_says_which(program):
    launcher = program("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(TaskFailed, match="killed by SIGKILL"):
        launcher.run(TASK, {}, lambda _: None)


WAITS = """
    import signal, sys, time
    from llama_assets.launch import die_with_parent
    def end(*_):
        print("gave the card back"); sys.exit(143)
    signal.signal(signal.SIGTERM, end)
    die_with_parent()
    import os
    print("pid", os.getpid())
    time.sleep(60)
"""


def test_an_interrupt_in_the_caller_ends_the_task_gently_and_its_last_words_are_heard(program):
    launcher = program(WAITS)
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        if line.startswith("pid"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launcher.run(TASK, {}, interrupt)
    assert lines[1:] == ["gave the card back"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(lines[0].split()[1]), 0)


def test_a_task_that_does_not_end_is_killed_after_the_grace(program):
    launcher = program("""
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("pid", os.getpid())
        time.sleep(60)
    """)
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line.split()[1]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launcher.run(TASK, {}, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_when_the_caller_is_killed_the_task_hears_sigterm(program, tmp_path):
    program(WAITS.replace('print("gave the card back")', f'open({str(tmp_path / "given")!r}, "w")'))
    caller = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from llama_assets.launch import *\n"
            "import sys\n"
            f"ProcessLauncher((sys.executable, {str(tmp_path / 'task.py')!r}))"
            ".run(Task('hold', 'r', 's', {}), {}, lambda line: print(line, flush=True))",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert caller.stdout is not None
    task = int(caller.stdout.readline().split()[1])
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    until = time.monotonic() + 20
    while Path(f"/proc/{task}").exists() and "State:\tZ" not in Path(f"/proc/{task}/status").read_text():
        assert time.monotonic() < until, "the task outlived its caller"
        threading.Event().wait(0.02)
    assert (tmp_path / "given").exists()


def test_a_process_that_nobody_launched_was_asked_nothing():
    assert asked({}) is None
