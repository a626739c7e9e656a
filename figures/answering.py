"""An engine whose delays are known, in a process of its own: it streams a ready answer as llama-server does.

It keeps a clock: when each request was wholly received, and when the last byte of its answer was written. What lies
between is the engine's time; all the rest is the client's. Not here: models, and anything that computes.
Protocol: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any, ClassVar

from figures.company import company
from llama_assets.bench.canary import PROBE_WORD, probe

MODEL = "known-delays"
ANSWER = {
    "aesthetic_score": 7, "instagram_fit_score": 6, "primary_subject": "a harbour at dusk",
    "scene_tags": ["sea", "boats", "evening", "town"], "suggested_caption": "The last light stays with the boats.",
    "reasoning": "Calm water, a clear subject and a warm sky; the horizon leans a little and the quay is empty.",
}  # fmt: skip


@dataclass(frozen=True)
class Pace:
    """The known delays: before the first token, and before each one after it."""

    prompt_s: float
    token_s: float


@dataclass(frozen=True)
class Turn:
    """One answered request, on this machine's monotonic clock."""

    received: float
    done: float


class EngineProcess:
    """The engine over there: its address (that of a llama-server; llama-swap's ends in /swap), and what it answered."""

    def __init__(self, address: str, line: Connection) -> None:
        self.address, self._line = address, line

    def turns(self) -> list[Turn]:
        """What was answered since this was asked last."""
        self._line.send("turns")
        turns: list[Turn] = self._line.recv()
        return turns


@contextmanager
def engine_process(pace: Pace) -> Iterator[EngineProcess]:
    """An engine that listens until the block ends."""
    with company(_serve, pace) as (address, line):
        yield EngineProcess(address, line)


def _serve(line: Connection, pace: Pace) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        _Handler.pace = pace
        threading.Thread(target=server.serve_forever, daemon=True).start()
        line.send(f"http://127.0.0.1:{server.server_port}")
        while True:
            try:
                line.recv()
            except EOFError:  # the block has ended
                return
            with _Handler.idle:
                _Handler.idle.wait_for(lambda: not _Handler.answering)
                told, _Handler.turns = _Handler.turns, []
            line.send(told)


class _Handler(BaseHTTPRequestHandler):
    """One model that is always loaded: a plain llama-server at `/`, and below `/swap` llama-swap in front of it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    pace: ClassVar[Pace]
    turns: ClassVar[list[Turn]] = []
    answering: ClassVar[int] = 0
    idle: ClassVar[threading.Condition] = threading.Condition()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        props = {"default_generation_settings": {"n_ctx": 4096}, "modalities": {"vision": True}, "build_info": "b0"}
        answers: dict[str, Any] = {
            "/health": {"status": "ok"},
            "/v1/models": {"data": [{"id": MODEL}]},
            "/props": props,
            "/swap/running": {"running": [{"model": MODEL, "state": "ready"}]},
            "/swap/api/version": {"version": "known delays"},
            "/swap/v1/models": {"data": [{"id": MODEL}]},
            f"/swap/upstream/{MODEL}/health": {"status": "ok"},
            f"/swap/upstream/{MODEL}/props": props,
        }
        found = answers.get(self.path)
        body = json.dumps(found or {"error": {"message": "File Not Found", "code": 404}}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        with self.idle:
            _Handler.answering += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        received = time.monotonic()
        self._answer(probed=json.dumps(probe().prompt).encode() in body)
        done = time.monotonic()
        with self.idle:
            self.turns.append(Turn(received, done))
            _Handler.answering -= 1
            self.idle.notify()

    def _answer(self, probed: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        text = json.dumps({"word": PROBE_WORD, "number": 83} if probed else ANSWER)
        pieces = [text[at : at + 4] for at in range(0, len(text), 4)]  # a token is about four letters
        time.sleep(self.pace.prompt_s)
        for piece in pieces:
            self._event({"choices": [{"finish_reason": None, "index": 0, "delta": {"content": piece}}]})
            time.sleep(self.pace.token_s)
        self._event({"choices": [{"finish_reason": "stop", "index": 0, "delta": {}}], "timings": self._timings(pieces)})
        usage = {"completion_tokens": len(pieces), "prompt_tokens": 900, "total_tokens": 900 + len(pieces)}
        self._event({"choices": [], "usage": usage, "timings": self._timings(pieces)})
        self._send(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _timings(self, pieces: list[str]) -> dict[str, float]:
        prompt_ms, token_ms = 1000 * self.pace.prompt_s, 1000 * self.pace.token_s
        return {
            "cache_n": 0, "prompt_n": 900, "prompt_ms": prompt_ms,
            "predicted_n": len(pieces), "predicted_ms": token_ms * len(pieces),
        }  # fmt: skip

    def _event(self, event: dict[str, Any]) -> None:
        named = {**event, "created": 0, "id": "chatcmpl-0", "model": MODEL, "object": "chat.completion.chunk"}
        self._send(b"data: " + json.dumps(named).encode() + b"\n\n")

    def _send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
