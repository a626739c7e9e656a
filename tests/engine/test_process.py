"""Model servers as children: swapped, watched, stopped, never left behind. Every fault is caused on an event."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import psutil
import pytest

from llama_assets import catalog
from llama_assets.engine import EngineLimits, LoadFailed, NotLoaded, Processes, Running, Served, UnknownModel
from llama_assets.engine.process import WORKER

from .conftest import ENGINE, REAL_SERVER, Question, photo

# What is no worker is started by way of `--exec`; a worker under another name is the nearest to a llama-server.
AS_PROGRAM = [sys.executable, "-m", "llama_assets.engine.worker"]
PROGRAMS = [AS_PROGRAM, [REAL_SERVER]] if REAL_SERVER else [AS_PROGRAM]
BUSY = Question(grammar="root ::= [a-z]{1900}", max_tokens=2000)  # keeps a tiny model busy for a second or so


@pytest.fixture
def processes(models: dict[str, Served], tmp_path: Path) -> Iterator[Processes]:
    with Processes(list(models.values()), ENGINE, tmp_path / "logs", WORKER) as engine:
        yield engine


def until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def servers() -> list[psutil.Process]:
    """Model servers among our children; a worker of the suite may have others, of tests before."""
    return [each for each in psutil.Process().children(recursive=True) if "--model" in each.cmdline()]


def server_of(engine: Processes) -> psutil.Process:
    """The child that listens where the engine asks."""
    (child,) = servers()
    return child


def test_a_load_is_cold_once_and_the_next_model_replaces_it(processes: Processes):
    assert processes.load("one").cold
    first = server_of(processes)
    assert not processes.load("one").cold
    assert processes.load("two").cold
    assert not first.is_running()
    assert processes.running() == [Running("two", "ready")]
    processes.unload()
    assert processes.running() == [] and servers() == []


@pytest.mark.parametrize("server", PROGRAMS)
def test_any_llama_server_answers_about_photos(server: list[str], models: dict[str, Served], tmp_path: Path):
    with Processes([models["one"]], ENGINE, tmp_path, server) as engine:
        engine.load("one")
        reply = engine.ask("one", Question(image_jpeg=photo()))
        about = engine.about("one")
    assert (reply.status, reply.finish_reason) == ("ok", "stop")
    assert (about.kind, about.version) == ("llama-server", server[0])


def test_what_answers_is_described_and_counted(processes: Processes, models: dict[str, Served]):
    processes.load("one")
    replies = [processes.ask("one", Question(image_jpeg=photo(colour))) for colour in ("red", "blue")]
    about = processes.about("one")
    assert (about.kind, about.n_ctx, about.fingerprint) == ("xllamacpp", 3072, models["one"].fingerprint)
    assert processes.metrics("one")["tokens_predicted_total"] == sum(r.completion_tokens or 0 for r in replies)
    with pytest.raises(NotLoaded):
        processes.about("two")


def test_a_model_that_is_not_loaded_is_a_reply_and_not_an_exception(processes: Processes):
    assert processes.ask("one", Question()).error_class == "not_ready"


def test_an_unknown_model_is_named_with_those_there_are(processes: Processes):
    with pytest.raises(UnknownModel, match="'nope'; it has one, two, broken"):
        processes.load("nope")


def test_a_server_that_ends_says_why_and_the_next_load_works(processes: Processes, tmp_path: Path):
    with pytest.raises(LoadFailed) as caught:
        processes.load("broken")
    assert caught.value.why == "its server ended with exit status 1"
    assert "failed to load model" in caught.value.last_words
    assert str(tmp_path / "logs" / "broken.log") in str(caught.value)
    assert processes.running() == [] and processes.load("one").cold


def test_only_the_last_attempts_words_are_quoted(processes: Processes, tmp_path: Path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "broken.log").write_text("from another day\n")
    with pytest.raises(LoadFailed) as caught:
        processes.load("broken")
    assert "another day" not in caught.value.last_words


def test_an_argument_that_the_worker_cannot_honour_fails_the_load_by_name(models: dict[str, Served], tmp_path: Path):
    engine = ENGINE.model_copy(update={"arguments": ("--threads", "1", "--spec-draft-n-max", "3")})
    with Processes([models["one"]], engine, tmp_path, WORKER) as processes, pytest.raises(LoadFailed) as caught:
        processes.load("one")
    assert "exit status 2" in caught.value.why and "'--spec-draft-n-max'" in caught.value.last_words


def test_a_server_that_never_answers_is_given_up_and_killed(models: dict[str, Served], tmp_path: Path):
    deaf = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
    engine = catalog.Engine(load_timeout_seconds=1)
    limits = EngineLimits(stop_s=0.1)
    with Processes([models["one"]], engine, tmp_path, deaf, limits) as processes:
        with pytest.raises(LoadFailed, match="did not answer within 1 s"):
            processes.load("one")
        assert servers() == []


def test_a_program_that_is_not_there_is_named(models: dict[str, Served], tmp_path: Path):
    with Processes([models["one"]], ENGINE, tmp_path, ["/nowhere/llama-server"]) as processes:
        with pytest.raises(LoadFailed) as caught:
            processes.load("one")
        assert "cannot run /nowhere/llama-server" in caught.value.last_words


def test_a_server_killed_while_it_answers_is_a_crashed_reply_and_is_started_anew(processes: Processes):
    processes.load("one")
    child = server_of(processes)

    def kill() -> None:
        until(lambda: processes.metrics("one")["requests_processing"] == 1)
        child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    reply = processes.ask("one", BUSY)
    killer.join()
    assert (reply.status, reply.error_class) == ("error", "engine_crashed")
    assert reply.error is not None and "ended by SIGKILL" in reply.error and "listening on" in reply.error
    assert processes.running() == []
    assert processes.load("one").cold
    assert processes.ask("one", Question(image_jpeg=photo())).status == "ok"


def test_a_server_that_died_between_questions_is_seen(processes: Processes):
    processes.load("one")
    child = server_of(processes)
    child.kill()
    child.wait()
    assert processes.running() == []
    assert processes.load("one").cold


def test_a_time_out_frees_the_server_for_the_next_question(processes: Processes):
    processes.load("one")
    assert processes.ask("one", replace(BUSY, timeout_s=0.1)).status == "timeout"
    until(lambda: processes.metrics("one")["requests_processing"] == 0)
    assert processes.ask("one", Question(image_jpeg=photo())).status == "ok"


def test_a_server_loaded_by_a_thread_outlives_the_thread(processes: Processes):
    """The kernel's "end with your parent" means the thread that started the process."""
    thread = threading.Thread(target=processes.load, args=("one",))
    thread.start()
    thread.join()
    until(lambda: not any(t.id == thread.native_id for t in psutil.Process().threads()))
    assert processes.ask("one", Question(image_jpeg=photo())).status == "ok"


HOLDER = """
import sys
from pathlib import Path
from llama_assets import catalog
from llama_assets.engine import Processes, Served
from llama_assets.engine.process import WORKER

model, mmproj, logs, *server = sys.argv[1:]
one = catalog.Model(id="one", repo="demo/one-GGUF", quant="Q4_K_M", mmproj="F16", context=3072)
engine = catalog.Engine(arguments=("--threads", "1"))
processes = Processes([Served(one, "0" * 64, Path(model), Path(mmproj))], engine, Path(logs), server or WORKER)
processes.load("one")
print("loaded", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("server", [WORKER, *PROGRAMS])
def test_no_server_outlives_a_holder_that_was_killed(server: list[str], models: dict[str, Served], tmp_path: Path):
    one = models["one"]
    words = [sys.executable, "-c", HOLDER, str(one.model_file), str(one.mmproj_file), str(tmp_path), *server]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"loaded\n"
        children = psutil.Process(holder.pid).children(recursive=True)
        assert any("--model" in child.cmdline() for child in children)
        holder.kill()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert gone and not alive


def test_a_stranger_on_the_port_is_not_taken_for_the_model(models: dict[str, Served], tmp_path: Path):
    """The server answers, but for another file than the one asked for."""
    other = models["two"]
    liar = ["/bin/sh", "-c", f'exec {" ".join(WORKER)} "$@" --model {other.model_file}', "sh"]
    with Processes([models["one"]], ENGINE, tmp_path, liar) as processes:
        with pytest.raises(LoadFailed, match="something else answers"):
            processes.load("one")
        assert servers() == []


def test_paths_of_a_cluster_cannot_be_mistaken_for_files_here(tmp_path: Path, models: dict[str, Served]):
    far = replace(models["one"], model_file=PurePosixPath("/models/nowhere/model.gguf"))
    with Processes([far], ENGINE, tmp_path, WORKER) as processes, pytest.raises(LoadFailed) as caught:
        processes.load("one")
    assert "No such file" in caught.value.last_words
