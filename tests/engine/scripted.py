"""A server on loopback that plays one answer after another, byte for byte: the ways an engine can misbehave."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**fields: object) -> bytes:
    return chunk(b"data: " + json.dumps(fields).encode() + b"\n\n")


def piece(text: str | None = None, finish: str | None = None, **delta: object) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish}])


def stream(*chunks: bytes, end: bytes = chunk(b"data: [DONE]\n\n") + END) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(chunks) + end


def answer(status: int, body: object, headers: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data


class Script:
    """Answers in order; the last one again and again. `requests` are the bodies that came; `stalled` holds bytes back.

    An answer is bytes, or a list of bytes, where None is "say nothing more and keep the connection" and "reset" a
    connection reset.
    """

    def __init__(self, answers: list[bytes | list[bytes | str | None]]) -> None:
        self.answers, self.requests, self.connections = answers, [], 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            while (length := _head(file)) is not None:
                self.requests.append(json.loads(file.read(length) or b"null"))
                said = self.answers[min(len(self.requests), len(self.answers)) - 1]
                for part in said if isinstance(said, list) else [said]:
                    if part is None:
                        self.over.wait()
                        return
                    if part == "reset":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    connection.sendall(part)


def _head(file) -> int | None:
    """The length of the next request's body; None at the end of the connection."""
    length, line = 0, file.readline()
    if not line:
        return None
    while line not in (b"", b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        line = file.readline()
    return length


@contextmanager
def playing(*answers: bytes | list[bytes | str | None]) -> Iterator[Script]:
    script = Script(list(answers))
    try:
        yield script
    finally:
        script.close()
