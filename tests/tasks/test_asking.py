"""A command asks the store: here where the volume is, else a task, whose lines and own sentence come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from llama_assets.catalog import Model
from llama_assets.launch import ProcessLauncher, Task, TaskFailed
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.store import NotPublished, Store
from llama_assets.tasks.asking import TaskSaid, ask
from llama_assets.tasks.keeping import ListStore, RollBack, RolledBack, Stored
from llama_assets.tasks.messages import Inspect
from tests.store.pairs import published


class Elsewhere(Platform):
    """Where the volume is not in this process, as on a laptop with a cluster."""

    has_store = False


class Volume(ProcessLauncher):
    """Tasks are processes that are told where the volume is."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.told = {"LLAMA_ASSETS_STORE": str(folder / "store"), "LLAMA_ASSETS_RESULTS": str(folder / "results")}

    def run(self, task: Task, environment: Mapping[str, str], line: Callable[[str], None]) -> None:
        super().run(task, {**environment, **self.told}, line)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Platform:
    return Elsewhere("kubernetes", Settings(store=tmp_path / "nowhere"), Volume(tmp_path))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_the_answer_is_the_same_here_and_elsewhere(elsewhere: Platform, store: Store, tmp_path: Path) -> None:
    for seed in (1, 2):
        store.promote("m", published(store, tmp_path, seed=seed))
    here = Platform("local", Settings(store=store.root, results=tmp_path / "results"), ProcessLauncher())
    found = ask(elsewhere, ListStore(in_use={"f" * 64: "an engine"}), Stored, pytest.fail)
    again = ask(here, ListStore(in_use={"f" * 64: "an engine"}), Stored, pytest.fail)
    assert found.model_copy(update={"free_bytes": 0}) == again.model_copy(update={"free_bytes": 0})
    assert [one.stays for one in found.models["m"].sets] == [("current",), ("previous",)]
    model = Model(id="m", repo="org/m", quant="Q4_K_M", mmproj="F16")
    done = ask(elsewhere, RollBack(model="m", inspect=Inspect(models=(model,))), RolledBack, pytest.fail)
    assert done.moved and (now := store.current("m")) is not None and now.fingerprint == done.now.fingerprint
    assert done.inspected is not None, "one task says what the engine is to be told, too"
    assert done.inspected.current["m"].fingerprint == now.fingerprint
    assert not (tmp_path / "nowhere").exists()


def test_a_failed_task_is_its_own_sentence(elsewhere: Platform, store: Store) -> None:
    with pytest.raises(TaskSaid, match=r"^no verified file of m is here; materialize gguf/m$"):
        ask(elsewhere, RollBack(model="m"), RolledBack, pytest.fail)
    here = Platform("local", Settings(store=store.root), ProcessLauncher())
    with pytest.raises(NotPublished):
        ask(here, RollBack(model="m"), RolledBack, pytest.fail)


def program(folder: Path, text: str) -> Platform:
    path = folder / "task.py"
    path.write_text(text)
    return Elsewhere("kubernetes", Settings(store=folder / "nowhere"), ProcessLauncher((sys.executable, str(path))))


def test_lines_are_handed_on_and_only_the_message_is_not(tmp_path: Path) -> None:
    task = """
print("waiting")
print('{"a": "line of JSON that is no message"}')
print('{half a line')
print('{"answer": {"models": {}, "bytes": 0, "partial_bytes": 0, "free_bytes": 7}}')
"""
    lines: list[str] = []
    assert ask(program(tmp_path, task), ListStore(), Stored, lines.append).free_bytes == 7
    assert lines == ["waiting", '{"a": "line of JSON that is no message"}', "{half a line"]


def test_a_task_that_dies_without_a_word_says_how(tmp_path: Path) -> None:
    dies = "import os; print('so far', flush=True); os.kill(os.getpid(), 9)"
    with pytest.raises(TaskFailed, match="killed by SIGKILL"):
        ask(program(tmp_path, dies), ListStore(), Stored, lambda _: None)
    with pytest.raises(TaskFailed, match="without an answer"):
        ask(program(tmp_path, "print('all is well')"), ListStore(), Stored, lambda _: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended_ends_its_task(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "task.py").write_text(
        "import pathlib, signal, sys, time\n"
        "def end(*_): pathlib.Path('ended').write_text('well'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end); print('begun', flush=True); time.sleep(600)\n"
    )
    command = f"""
import sys
from pathlib import Path
from llama_assets.launch import ProcessLauncher
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.tasks.asking import ask
from llama_assets.tasks.keeping import ListStore, Stored
class Elsewhere(Platform):
    has_store = False
launcher = ProcessLauncher((sys.executable, {str(tmp_path / "task.py")!r}))
ask(Elsewhere("kubernetes", Settings(), launcher), ListStore(), Stored, lambda line: print(line, flush=True))
"""
    running = subprocess.Popen(
        [sys.executable, "-c", command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=dict(os.environ),
    )  # fmt: skip
    assert running.stdout is not None and running.stdout.readline() == "begun\n"
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode != 0 and (tmp_path / "ended").read_text() == "well"
