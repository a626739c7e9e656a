"""Engines that this process starts: one model server at a time as a child, or a whole llama-swap.

Here: which server this machine has, starting, waiting until it is ready or dead, stopping, and no orphans: a child ends
with us however we end (`worker.py` says how). Not here: requests (`chat.py`), command lines (`config.py`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import httpx

from llama_assets import catalog
from llama_assets.engine.chat import Ask, EngineLimits, Reply, chat, connection
from llama_assets.engine.client import About, Load, Running, SwapClient, described, parsed_metrics, unreachable
from llama_assets.engine.config import Served, command, render
from llama_assets.engine.errors import EngineError, LoadFailed, NoServer, NotLoaded, UnknownModel

# By its path, and without that path's folder in sys.path: a load does not wait for this package's imports.
WORKER = (sys.executable, "-P", str(Path(__file__).with_name("worker.py")))
LAST_BYTES = 1 << 16
FIRST_BYTES = 1 << 20


def local_server() -> list[str]:
    """The command that serves a model on this machine: a llama-server on PATH, else the xllamacpp worker.

    Raises:
        NoServer: there is neither.
    """
    if found := shutil.which("llama-server"):
        return [found]
    if importlib.util.find_spec("xllamacpp"):
        return list(WORKER)
    raise NoServer


class Processes:
    """Model servers as children of this process, one at a time; `load` swaps. Close it, or use it as a context.

    `logs` is a folder; each model's server writes to `<model>.log` there. `server` is the command to use instead of
    `local_server()`.
    """

    def __init__(
        self,
        served: Sequence[Served],
        engine: catalog.Engine,
        logs: Path,
        server: Sequence[str] | None = None,
        limits: EngineLimits | None = None,
    ) -> None:
        self.limits = limits or EngineLimits()
        self.server = list(server) if server is not None else local_server()
        self._served = {one.model.id: one for one in served}
        self._engine, self._logs = engine, logs
        self._nursery = _Nursery(self.limits)
        self._http = connection(self.limits)
        self._child: _Child | None = None
        self._model = ""

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def load(self, model: str) -> Load:
        """Stop what runs, start `model`'s server and wait until it answers.

        Raises:
            UnknownModel: it is not among what is served.
            LoadFailed: its server ended, or did not answer in the catalog's time; carries the server's last lines.
            NotServable: its arguments cannot be given to llama-server.
        """
        started = time.monotonic()
        if model not in self._served:
            raise UnknownModel(model, list(self._served))
        if self._alive(model):
            return Load(time.monotonic() - started, cold=False)
        self.unload()
        served, port = self._served[model], free_ports(1)
        words = command(_with_threads(served, self._engine), self._engine, str(port), self.server)
        self._child = self._nursery.start(words, self._logs / f"{model}.log", f"http://127.0.0.1:{port}")
        self._model = model
        try:
            self._wait_until_ready(served, self._child)
        except BaseException:
            self.unload()
            raise
        return Load(time.monotonic() - started, cold=True)

    def ask(self, model: str, ask: Ask) -> Reply:
        """Ask `model`, which must be loaded; trouble, also the server's death, is in the reply."""
        child = self._child
        if child is None or self._model != model:
            return Reply("error", 0.0, error=f"not_ready: model {model} is not loaded")
        reply = chat(self._http, child.address, model, ask, self.limits)
        if reply.error_class in ("cut", "unreachable") and child.ended_within(self.limits.death_s):
            sentence = f"engine_crashed: {child.obituary()}; it said last:\n{child.last_words()}"
            self.unload()
            return replace(reply, error=sentence)
        return reply

    def unload(self) -> None:
        """Stop the server that runs, if one does. It is gone when this returns."""
        child, self._child, self._model = self._child, None, ""
        if child is not None:
            child.stop()

    def running(self) -> list[Running]:
        """The model that is loaded, if its server lives."""
        return [Running(self._model, "ready")] if self._alive(self._model) else []

    def about(self, model: str) -> About:
        """What is known about `model`'s server.

        Raises:
            NotLoaded: it is not loaded.
        """
        props = self._get(model, "/props").json()
        fingerprint = self._served[model].fingerprint
        if self.server[: len(WORKER)] == list(WORKER):
            return described("xllamacpp", importlib.metadata.version("xllamacpp"), props, fingerprint)
        return described("llama-server", self.server[0], props, fingerprint)

    def log(self, model: str) -> str:
        """What `model`'s server wrote since it was started, its first mebibyte; empty where it does not run."""
        return self._child.first_words() if self._child is not None and self._model == model else ""

    def metrics(self, model: str) -> dict[str, float]:
        """What `model`'s server has counted since it was started; see `SwapClient.metrics`."""
        return parsed_metrics(self._get(model, "/metrics"))

    def close(self) -> None:
        """Stop everything."""
        self.unload()
        self._nursery.close()
        self._http.close()

    def _alive(self, model: str) -> bool:
        return self._child is not None and self._model == model and not self._child.ended_within(0)

    def _get(self, model: str, path: str) -> httpx.Response:
        if not self._alive(model) or self._child is None:
            raise NotLoaded(model)
        with unreachable(self._child.address):
            return self._http.get(self._child.address + path)

    def _wait_until_ready(self, served: Served, child: _Child) -> None:
        model, seconds = served.model.id, self._engine.load_timeout_seconds
        deadline = time.monotonic() + seconds
        while not (ended := child.ended_within(self.limits.poll_s)) and time.monotonic() < deadline:
            try:
                answer = self._http.get(f"{child.address}/health")
                if answer.is_success:
                    break
            except httpx.HTTPError:
                continue  # it does not listen yet
        else:
            why = child.obituary() if ended else f"it did not answer within {seconds} s"
            raise LoadFailed(model, why, child.last_words(), child.log)
        # The port was free a moment ago; a stranger may have been quicker than our child.
        answers_for = self._http.get(f"{child.address}/props").json().get("model_path")
        if answers_for != str(served.model_file):
            raise LoadFailed(model, f"something else answers at {child.address}, for {answers_for}", child.last_words())


@contextmanager
def local_swap(
    binary: Sequence[str],
    served: Sequence[Served],
    engine: catalog.Engine,
    folder: Path,
    server: Sequence[str] | None = None,
    limits: EngineLimits | None = None,
) -> Iterator[SwapClient]:
    """Run the llama-swap that the command `binary` starts for as long as the context lasts, and hand out its client.

    `folder` gets `config.yaml` and `llama-swap.log`; the models' servers are `server`, by default `local_server()`.

    Raises:
        LoadFailed: llama-swap did not start; carries its last lines.
    """
    limits = limits or EngineLimits()
    server = list(server) if server is not None else local_server()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    served = [_with_threads(one, engine) for one in served]
    # llama-swap puts its children into groups of their own; killed, it would leave them behind.
    attached = _attached(server, "now")
    config.write_text(render(served, engine, attached, start_port=free_ports(max(len(served), 1))))
    port = free_ports(1)
    nursery = _Nursery(limits)
    words = [*binary, "--config", str(config), "--listen", f"127.0.0.1:{port}"]
    client = SwapClient(f"http://127.0.0.1:{port}", limits=limits)
    child = nursery.start(words, folder / "llama-swap.log", client.address)
    try:
        _wait_for_swap(child, limits)
        yield client
    finally:
        client.close()
        child.stop()
        nursery.close()


def free_ports(count: int) -> int:
    """The first of `count` neighbouring TCP ports on 127.0.0.1 that nothing listens on at this moment."""
    for _ in range(100):
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        if port + count < 65_536 and all(_is_free(port + step) for step in range(1, count)):
            return port
    raise EngineError(f"no {count} neighbouring free ports on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _with_threads(served: Served, engine: catalog.Engine) -> Served:
    """Leave a core to the client, unless the catalog says how many to use: with all of them, answers stall at times."""
    said = (*engine.arguments, *served.model.arguments)
    if "--threads" in said or "-t" in said:
        return served
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = ("--threads", str(max(cores - 1, 1)))
    return replace(served, model=served.model.model_copy(update={"arguments": (*served.model.arguments, *threads)}))


def _attached(words: Sequence[str], parent: str) -> list[str]:
    """The command so that what it runs ends with its parent."""
    if list(words[: len(WORKER)]) == list(WORKER):
        return [*WORKER, "--with-parent", parent, *words[len(WORKER) :]]
    return [*WORKER, "--with-parent", parent, "--exec", *words]


def _wait_for_swap(child: _Child, limits: EngineLimits) -> None:
    deadline = time.monotonic() + limits.quick_s
    with connection(limits) as http:
        while not (ended := child.ended_within(limits.poll_s)) and time.monotonic() < deadline:
            try:
                if http.get(f"{child.address}/health").is_success:
                    return
            except httpx.HTTPError:
                continue  # it does not listen yet
    why = child.obituary() if ended else f"it did not answer within {limits.quick_s:g} s"
    raise LoadFailed("(llama-swap itself)", why, child.last_words(), child.log)


class _Nursery:
    """Where children are started: a thread that lives as long as they may, for the kernel takes its end for ours."""

    def __init__(self, limits: EngineLimits) -> None:
        self.limits = limits
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine-nursery")

    def start(self, words: Sequence[str], log: Path, address: str) -> _Child:
        log.parent.mkdir(parents=True, exist_ok=True)
        return self._thread.submit(_Child, words, log, address, self.limits).result()

    def close(self) -> None:
        self._thread.shutdown()


class _Child:
    """One server process, its address and its log."""

    def __init__(self, words: Sequence[str], log: Path, address: str, limits: EngineLimits) -> None:
        self.log, self.address, self.limits = log, address, limits
        with log.open("ab") as out:
            self._log_start = out.seek(0, os.SEEK_END)
            # A session of its own: Ctrl-C reaches us alone, and we stop it when what it answers is written down.
            self._process = subprocess.Popen(
                _attached(words, str(os.getpid())),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended_within(self, seconds: float) -> bool:
        """Whether it is dead by then; returns at once when it dies."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def obituary(self) -> str:
        """How it ended."""
        status = self._process.returncode
        if status < 0:
            return f"its server was ended by {signal.Signals(-status).name}"
        return f"its server ended with exit status {status}"

    def last_words(self) -> str:
        """The last lines of what this process wrote."""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-self.limits.last_lines :])

    def first_words(self) -> str:
        """What this process wrote first: what it found on this machine."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read(FIRST_BYTES).decode(errors="replace")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; gone when this returns."""
        self._process.terminate()
        if not self.ended_within(self.limits.stop_s):
            self._process.kill()
            self._process.wait()
