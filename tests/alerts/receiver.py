"""A receiver of messages on loopback: keeps what it is sent, refuses as it is told."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class LoopbackReceiver:
    """`got` is what it took, `heard` counts every request. `answers` are given first to last, then 200 for ever."""

    answers: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    down: bool = False
    got: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"receiver": self}))
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/services/T0/s3cret"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def heard(self) -> int:
        return len(self.paths)

    @property
    def texts(self) -> list[str]:
        return [one["text"] for one in self.got]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    receiver: LoopbackReceiver

    def do_POST(self) -> None:
        receiver = self.receiver
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        receiver.paths.append(self.path)
        receiver.headers.append(dict(self.headers))
        if receiver.down:
            status, words, headers = 503, "down", {}
        else:
            status, words, headers = receiver.answers.pop(0) if receiver.answers else (200, "ok", {})
        if status == 200:
            receiver.got.append(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(words.encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def receiver():
    """A receiver of this test's own."""
    found = LoopbackReceiver()
    yield found
    found.close()
