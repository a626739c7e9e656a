"""llama-server's arguments on xllamacpp: honoured, or refused by name."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import httpx
import pytest

from llama_assets.engine import Processes, Served, command
from llama_assets.engine.process import WORKER, free_ports

from .conftest import ENGINE, Question


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WORKER, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "m.gguf", "--lora", "x"], "cannot be told '--lora'"),
        (["--model", "m.gguf", "--ctx-size"], "--ctx-size needs a value"),
        (["--model", "m.gguf", "--ctx-size", "many"], "'many' is no whole number"),
        (["--model", "m.gguf", "-fa", "maybe"], "'maybe' is not allowed for flash_attn_type; allowed: on, off, auto"),
        (["--ctx-size", "512"], "--model is missing"),
        (["--exec", "/nowhere/program"], "cannot run /nowhere/program"),
    ],
)
def test_what_cannot_be_honoured_is_exit_status_2_and_a_sentence(words: list[str], said: str):
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_missing_file_is_exit_status_1_and_named():
    done = run("--model", "/nowhere/m.gguf", "--port", str(free_ports(1)))
    assert done.returncode == 1 and "/nowhere/m.gguf" in done.stderr


def test_it_is_the_module_too(models: dict[str, Served]):
    module = [sys.executable, "-m", "llama_assets.engine.worker", "--what"]
    assert subprocess.run(module, capture_output=True, timeout=60).returncode == 2


def test_health_is_503_until_it_is_200_and_sigterm_ends_it(models: dict[str, Served]):
    port = free_ports(1)
    words = command(models["one"], ENGINE, str(port), WORKER)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        statuses: set[int] = set()
        while 200 not in statuses:
            assert process.poll() is None
            try:
                statuses.add(httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code)
            except httpx.ConnectError:
                assert not statuses, "once it listens, it listens"
        assert statuses <= {503, 200}
        assert "llamacpp:tokens_predicted_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_a_worker_whose_parent_is_already_gone_does_not_start():
    done = run("--with-parent", "1" if subprocess.os.getppid() != 1 else "2", "--model", "m.gguf")
    assert done.returncode == -signal.SIGKILL


def test_the_last_answer_before_a_model_is_stopped_is_in_its_log(models, tmp_path):
    """llama.cpp writes its log in another thread: a server that ends at once loses what was just said."""
    one = models["one"]
    with Processes([one], ENGINE, tmp_path, WORKER) as engine:
        for _ in range(4):
            engine.load("one")
            assert engine.ask("one", Question()).status == "ok"
            engine.unload()
    log = (tmp_path / "one.log").read_text(errors="replace").replace("prompt eval", "")
    assert len(re.findall(r"\beval time = .*? / +\d+ tokens", log)) == 4
