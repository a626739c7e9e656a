"""A small stand-in for llama-swap: reads the same config.yaml, starts the same commands, answers the same way.

    python -m llama_assets.demo.llama_swap --config config.yaml --listen 127.0.0.1:8080

It exists because llama-swap cannot be had everywhere: tests and the demo's image in a cluster use it in its place.
`tests/engine/test_swap_contract.py` asks it and the real binary the same questions (commit 0bdb3720 of
github.com/mostlygeek/llama-swap was read and run for it). What a user of it should know:

- one model runs at a time (the default group); a request for another waits until nobody is answered any more, then the
  running one is stopped and the asked one started. `/upstream/<id>/<anything>` loads a model too.
- `/running` lists what is not stopped: starting, ready, stopping. `/health` is 200 whatever happens.
- ten requests a model at most, the eleventh is 429 with Retry-After 1. `ttl` seconds after the last one, it is stopped.
- a server that dies in the middle of a stream ends the stream cleanly: there is no error, only no end of the answer.
- `/api/performance` says what the cards held, measured every 5 s; `?after=` leaves out what is not newer.
Alike in what it answers; quicker in one thing: a starting model is looked at every 0.1 s, not every second. It has no
card: with `--cards FILE` it plays one (`Cards`), measured every `--measure` seconds, so that a test can have somebody
else come and go.
Not here: groups, matrix, peers, profiles, selectors, filters, hooks, the UI.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import yaml

FIRST_LOOK_S, LOOK_S, STOP_S = 0.25, 0.1, 10.0
MOST_AT_ONCE = 10
# Children are started from this thread only: those that asked the kernel to end with their parent end with the thread
# that started them, and a thread that handles a request is soon gone.
NURSERY = ThreadPoolExecutor(max_workers=1)
MODEL_ROUTES = {
    "/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/messages", "/v1/messages/count_tokens",
    "/v1/embeddings", "/rerank", "/v1/rerank", "/infill", "/completion",
}  # fmt: skip
IGNORED_WHILE_UNLOADED = re.compile(r".*\.(js|json|css|png|gif|jpg|jpeg|ico|txt)$")


class Refusal(Exception):
    """An answer that llama-swap gives itself."""

    def __init__(self, status: int, message: str, code: str, kind: str = "invalid_request_error") -> None:
        self.status, self.message, self.code, self.kind = status, message, code, kind
        super().__init__(message)


def failed(why: str) -> Refusal:
    """What llama-swap says when a model's server cannot be had."""
    return Refusal(500, f"unspecific error: {why}", "internal_error", "server_error")


class Model:
    """One entry of the config and its process. `state` is stopped, starting, ready or stopping."""

    def __init__(self, name: str, entry: dict[str, Any], health_timeout_s: float) -> None:
        self.name, self.entry, self.health_timeout_s = name, entry, health_timeout_s
        self.state = "stopped"
        self.log: deque[bytes] = deque(maxlen=2000)
        self.last_use = 0.0
        self.admitted = self.answering = 0
        self._process: Any = None

    def alive(self) -> bool:
        """Whether its process runs; one that died by itself is stopped from then on."""
        if self.state == "ready" and self._process is not None and self._process.poll() is not None:
            self.state = "stopped"
        return self.state == "ready"

    def start(self) -> None:
        """Start and wait until the health check passes. Raises Refusal."""
        words = shlex.split(self.entry["cmd"])
        try:
            self._process = NURSERY.submit(
                subprocess.Popen, words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
            ).result()
        except OSError as error:
            raise failed(f"failed to start command '{' '.join(words)}': {error}") from None
        threading.Thread(target=self._keep_log, args=(self._process,), daemon=True).start()
        path = self.entry.get("checkEndpoint", "/health")
        deadline = time.monotonic() + self.health_timeout_s
        time.sleep(FIRST_LOOK_S)
        while path != "none":
            if self._process.poll() is not None:
                raise failed("upstream command exited prematurely")
            if time.monotonic() > deadline:
                self.stop()
                raise failed(f"health check timed out after {self.health_timeout_s:g}s")
            try:
                if httpx.get(self.entry["proxy"] + path, trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(LOOK_S)
        self.last_use = time.monotonic()

    def stop(self) -> None:
        """SIGTERM to its whole group, SIGKILL after a while; gone when this returns."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, number)
            try:
                process.wait(STOP_S)
                break
            except subprocess.TimeoutExpired:
                continue

    def _keep_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.log.append(line)


class Cards:
    """Cards as a file says them, measured again and again; the file may be replaced at any time.

        [{"id": 0, "uuid": "GPU-0", "name": "Drawn", "total_mb": 16384, "idle_mb": 400, "models": {"a": 5000},
          "foreign_mb": 0}]

    What a card holds is what is idle, the models that are loaded, and what others have. An hour of it is kept.
    """

    def __init__(self, file: Path, every_s: float, swap: Swap) -> None:
        self.file, self.swap = file, swap
        self.stats: deque[dict[str, Any]] = deque(maxlen=max(1, int(3600 / every_s)))
        threading.Thread(target=self._measure, args=(every_s,), daemon=True).start()

    def _measure(self, every_s: float) -> None:
        while True:
            time.sleep(every_s)  # the first measurement comes after the first interval, as in llama-swap
            at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            loaded = [model.name for model in self.swap.models.values() if model.state != "stopped"]
            for card in json.loads(self.file.read_text()):
                used = card.get("idle_mb", 0) + card.get("foreign_mb", 0)
                used += sum(mb for name, mb in card.get("models", {}).items() if name in loaded)
                self.stats.append({
                    "timestamp": at, "id": card.get("id", 0), "name": card.get("name", "Drawn"),
                    "uuid": card.get("uuid", ""), "temp_c": 40, "vram_temp_c": 0, "gpu_util_pct": 0.0,
                    "mem_util_pct": 0.0, "mem_used_mb": used, "mem_total_mb": card.get("total_mb", 0),
                    "fan_speed_pct": 0.0, "power_draw_w": 0.0,
                })  # fmt: skip

    def after(self, moment: str | None) -> list[dict[str, Any]]:
        """What was measured later than `moment`, an RFC 3339 time; raises ValueError where it is none."""
        limit = datetime.fromisoformat(moment) if moment else None
        return [one for one in list(self.stats) if limit is None or datetime.fromisoformat(one["timestamp"]) > limit]


class Swap:
    """Who runs and who waits. One condition guards all states; starting and stopping happen outside of it."""

    def __init__(self, config: dict[str, Any]) -> None:
        timeout = max(config.get("healthCheckTimeout", 120), 15)
        self.models = {name: Model(name, entry, timeout) for name, entry in config["models"].items()}
        self.aliases = {alias: name for name, m in self.models.items() for alias in m.entry.get("aliases", ())}
        self.changed = threading.Condition()
        self.swapping: str | None = None
        self.swap_error: dict[str, tuple[int, Refusal]] = {}
        self.swaps = 0
        threading.Thread(target=self._expire, daemon=True).start()

    def find(self, name: str) -> Model | None:
        """A model by its id or an alias."""
        return self.models.get(self.aliases.get(name, name))

    def enter(self, model: Model) -> None:
        """Returns when `model` is ready and this request counts as one it answers. Raises Refusal."""
        with self.changed:
            if model.admitted >= model.entry.get("concurrencyLimit", MOST_AT_ONCE):
                raise Refusal(429, "Too many requests", "concurrency_limit", "rate_limit_error")
            model.admitted += 1
        try:
            while True:
                with self.changed:
                    if model.alive() and self.swapping is None:
                        model.answering += 1
                        return
                    if self.swapping is not None:
                        waited_for = self.swaps
                        joined = self.swapping == model.name
                        self._wait_for_swap(waited_for)
                        error = self.swap_error.get(model.name)
                        if joined and error and error[0] == waited_for:
                            raise error[1]
                        continue
                    if any(other.answering for other in self.models.values() if other is not model):
                        self.changed.wait(0.05)
                        continue
                    self.swapping = model.name
                self._swap_to(model)
        except Refusal:
            with self.changed:
                model.admitted -= 1
            raise

    def _wait_for_swap(self, number: int) -> None:
        self.changed.wait_for(lambda: self.swaps != number)

    def leave(self, model: Model) -> None:
        """A request that `enter` let in has been answered."""
        with self.changed:
            model.answering -= 1
            model.admitted -= 1
            model.last_use = time.monotonic()
            self.changed.notify_all()

    def unload(self, models: list[Model]) -> None:
        """Stop these, whatever they answer."""
        for model in models:
            if model.state != "stopped":
                model.state = "stopping"
                model.stop()
                model.state = "stopped"

    def _swap_to(self, model: Model) -> None:
        refusal = None
        try:
            self.unload([other for other in self.models.values() if other is not model])
            model.state = "starting"
            model.start()
            model.state = "ready"
        except Refusal as caught:
            model.state = "stopped"
            refusal = caught
        finally:
            with self.changed:
                if refusal:
                    self.swap_error[model.name] = (self.swaps, refusal)
                self.swapping = None
                self.swaps += 1
                self.changed.notify_all()
        if refusal:
            raise refusal

    def _expire(self) -> None:
        while True:
            time.sleep(1)
            for model in self.models.values():
                ttl = model.entry.get("ttl", 0)
                idle = model.answering == 0 and time.monotonic() - model.last_use > ttl
                if ttl > 0 and model.state == "ready" and idle:
                    self.unload([model])


class Handler(BaseHTTPRequestHandler):
    """The routes; `swap` is set before the server starts."""

    protocol_version = "HTTP/1.1"
    swap: Swap
    cards: Cards | None = None

    def log_message(self, format: str, *args: Any) -> None:
        """One line a request."""
        print(f"{self.address_string()} {format % args}", flush=True)

    def do_GET(self) -> None:
        """Whatever is asked without a body."""
        self._route(b"")

    def do_POST(self) -> None:
        """Whatever is asked with one."""
        self._route(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _route(self, body: bytes) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        try:
            if path in MODEL_ROUTES and self.command == "POST":
                return self._proxy(self._model_in(body), self.path, body)
            if path == "/props" and self.command == "GET":
                return self._proxy(self._known(query.get("model", [""])[0]), self.path, body)
            if path.startswith("/upstream/"):
                return self._upstream(path, body)
            if path.startswith("/logs/stream/"):
                return self._log_stream(path.removeprefix("/logs/stream/"))
            if path.startswith("/api/models/unload") and self.command == "POST":
                return self._unload_one(path.removeprefix("/api/models/unload").strip("/"))
            if path == "/api/performance" and self.command == "GET":
                return self._performance(query.get("after", [None])[0])
            answer = self._own(path) if self.command == "GET" else None
            if answer is None:
                return self._send(404, b"404 page not found\n", "text/plain")
            return self._send(200, *answer)
        except Refusal as refusal:
            said = {"message": refusal.message, "type": refusal.kind, "param": None, "code": refusal.code}
            retry = {"Retry-After": "1"} if refusal.status == 429 else {}
            text = json.dumps({"src": "llama-swap", "error": said}).encode()
            return self._send(refusal.status, text, "application/json", retry)

    def _own(self, path: str) -> tuple[bytes, str] | None:
        models = self.swap.models.values()
        if path in ("/health", "/wol-health"):
            return b"OK", "text/plain"
        if path == "/unload":
            self.swap.unload(list(models))
            return b"OK", "text/plain"
        if path == "/metrics":
            return b"llamaswap_cpu_util_percent 0\n", "text/plain"
        found: dict[str, Any]
        if path == "/running":
            running = [_running(m) for m in sorted(models, key=lambda m: m.name) if m.alive() or m.state != "stopped"]
            found = {"running": running}
        elif path in ("/v1/models", "/models"):
            listed = [_listed(m) for m in sorted(models, key=lambda m: m.name) if not m.entry.get("unlisted")]
            found = {"object": "list", "data": listed}
        elif path == "/api/version":
            found = {"version": "standin", "commit": "0bdb3720", "build_date": "unknown"}
        else:
            return None
        return json.dumps(found).encode(), "application/json"

    def _performance(self, after: str | None) -> None:
        try:
            stats = self.cards.after(after) if self.cards else []
        except ValueError:
            raise Refusal(400, "invalid 'after' timestamp, use RFC3339 format", "bad_request") from None
        found = {"enabled": True, "gpu_stats": stats if stats or after else None, "sys_stats": []}
        self._send(200, json.dumps(found).encode(), "application/json")

    def _unload_one(self, name: str) -> None:
        if not name:
            self.swap.unload(list(self.swap.models.values()))
            return self._send(200, b'{"msg":"ok"}\n', "application/json")
        model = self.swap.find(name)
        if model is None:
            raise Refusal(404, "model not found", "not_found")
        self.swap.unload([model])
        return self._send(200, b"OK", "text/plain")

    def _upstream(self, path: str, body: bytes) -> None:
        name, slash, rest = path.removeprefix("/upstream/").partition("/")
        model = self.swap.find(name)
        if model is None:
            raise Refusal(404, "model not found", "not_found")
        if not slash:
            return self._send(301, b"", "text/html", {"Location": f"/upstream/{name}/"})
        if IGNORED_WHILE_UNLOADED.match(rest) and not model.alive():
            raise Refusal(409, f"model {name} is not loaded; path matches upstream.ignorePaths", "conflict")
        query = urlsplit(self.path).query
        return self._proxy(model, f"/{rest}" + (f"?{query}" if query else ""), body)

    def _model_in(self, body: bytes) -> Model:
        name = ""
        if "application/json" in self.headers.get("Content-Type", ""):
            try:
                name = str(json.loads(body).get("model", ""))
            except (ValueError, AttributeError):
                name = ""
        if not name:
            raise Refusal(404, "no model id could be identified", "not_found")
        return self._known(name)

    def _known(self, name: str) -> Model:
        model = self.swap.find(name)
        if model is None:
            raise Refusal(404, "no router for requested model", "not_found")
        return model

    def _proxy(self, model: Model, path: str, body: bytes) -> None:
        self.swap.enter(model)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            url = model.entry["proxy"] + path
            with (
                httpx.Client(timeout=None, trust_env=False) as http,
                http.stream(self.command, url, content=body, headers=kept) as answer,
            ):
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in _until_cut(answer):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
        except httpx.TransportError:
            self._send(502, b"", "text/plain")
        except OSError:
            self.close_connection = True  # the client left; the server behind is told by its connection's end
        finally:
            self.swap.leave(model)

    def _log_stream(self, name: str) -> None:
        model = self.swap.find(name)
        if model is None:
            raise Refusal(400, "invalid logger. Use 'proxy', 'upstream' or a model's ID", "bad_request")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        text = b"".join(model.log)
        if text:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        self.rfile.read(1)  # it goes on until the client leaves
        self.close_connection = True

    def _send(self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _until_cut(answer: httpx.Response) -> Iterator[bytes]:
    """What comes from a model's server; its death ends the stream as if it had been whole, as in llama-swap."""
    try:
        yield from (piece for piece in answer.iter_raw() if piece)
    except httpx.TransportError:
        return


def _running(model: Model) -> dict[str, Any]:
    entry = model.entry
    return {
        "model": model.name, "state": model.state, "cmd": entry["cmd"], "proxy": entry["proxy"],
        "ttl": entry.get("ttl", 0), "name": entry.get("name", ""), "description": entry.get("description", ""),
    }  # fmt: skip


def _listed(model: Model) -> dict[str, Any]:
    entry, capabilities = model.entry, model.entry.get("capabilities") or {}
    aliases = {"aliases": entry["aliases"]} if entry.get("aliases") else {}
    meta: dict[str, Any] = {"llamaswap": {"type": "model", **entry.get("metadata", {}), **aliases}}
    row: dict[str, Any] = {"id": model.name, "object": "model", "created": int(time.time()), "owned_by": "llama-swap"}
    row |= {key: entry[key] for key in ("name", "description") if entry.get(key)}
    if capabilities.get("in"):
        row["architecture"] = {"input_modalities": capabilities["in"], "output_modalities": capabilities.get("out")}
    if capabilities.get("context"):
        row["context_length"] = meta["n_ctx"] = capabilities["context"]
    loaded = model.alive() or model.state != "stopped"
    return row | {"meta": meta, "status": {"value": "loaded" if loaded else "unloaded"}}


def read_config(path: Path) -> dict[str, Any]:
    """The config with macros expanded. Raises ValueError for what llama-swap refuses to start with."""
    config = yaml.safe_load(path.read_text())
    ports = iter(range(config.get("startPort", 5800), 65_536))
    seen: set[str] = set()
    for name, entry in sorted(config["models"].items()):
        entry.setdefault("proxy", "http://localhost:${PORT}")
        macros = {"MODEL_ID": name}
        if "${PORT}" in entry["cmd"]:
            macros["PORT"] = str(next(ports))
        lines = [line for line in entry["cmd"].split("\n") if not line.strip().startswith("#")]
        entry["cmd"] = "\n".join(lines)
        for key in ("cmd", "proxy"):
            for macro, value in macros.items():
                entry[key] = entry[key].replace(f"${{{macro}}}", value)
            if unknown := re.search(r"\$\{([\w-]+)\}", entry[key]):
                raise ValueError(f"unknown macro '${{{unknown[1]}}}' found in {name}.{key}")
        for alias in entry.get("aliases", ()):
            if alias in seen:
                raise ValueError(f"duplicate alias {alias} found in model: {name}")
            seen.add(alias)
    return dict(config)


def main() -> int:
    """Serve until SIGTERM; then every model's server has been stopped too."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--config", "-config", type=Path, required=True)
    arguments.add_argument("--listen", "-listen", default=":8080")
    arguments.add_argument("--cards", type=Path, help="JSON file of cards to play")
    arguments.add_argument("--measure", type=float, default=5.0, help="seconds between two measurements of them")
    options = arguments.parse_args()
    try:
        config = read_config(options.config)
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        print(f"failed to load config: {error}", file=sys.stderr)
        return 1
    host, _, port = options.listen.rpartition(":")
    Handler.swap = Swap(config)
    if options.cards:
        Handler.cards = Cards(options.cards, options.measure, Handler.swap)
    ThreadingHTTPServer.request_queue_size = 64
    server = ThreadingHTTPServer((host, int(port)), Handler)

    def stop(*_: object) -> None:
        Handler.swap.unload(list(Handler.swap.models.values()))
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
