"""The loopback hub's two sites on the wire: the hub (API and /resolve) and, on another port, the CDN.

Here: routes, Range, signed addresses, and faults as they are played into an answer. Not here: what is stored
(`hub_repos.py`) and the sentences by which faults are asked for (`hub.py`). Headers and statuses are those that
huggingface_hub 2.4 reads: X-Repo-Commit, X-Linked-Etag, X-Linked-Size, Location, X-Error-Code, X-Error-Message.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any, Literal, Protocol
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from llama_assets.demo.hub_repos import BLOCK, Commit, Content, Held, OnDisk, Repo, Zeros

Side = Literal["api", "resolve", "cdn"]
SEND_BYTES = 8 << 20  # one sendfile call: large, so that Python is not in the way
PIECE_BYTES = 64 << 10  # one write while a fault or a rate limit watches
ZEROS_BYTES = 4 << 20
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
API = re.compile(
    r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|paths-info|commits|refs|auth-check))?(?:/([^/]+))?(?:/(.*))?"
)


@dataclass
class Fault:
    """One thing that goes wrong. `times` None means from now on; otherwise it plays that many times and is over.

    `of` is a part of the repo's or the file's name, "" for any. Offsets count bytes of the file, not of the answer.
    """

    on: Side
    of: str = ""
    times: int | None = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0
    before: Callable[[], object] | None = None
    cut_at: int | None = None
    cut_by: Literal["fin", "reset"] = "fin"
    stall_at: int | None = None
    stall_s: float = 0.0
    flip_at: int | None = None
    call_at: int | None = None
    call: Callable[[], object] | None = None
    bytes_per_s: float | None = None
    ignore_range: bool = False
    size: int | None = None
    played: int = 0

    @property
    def watches_body(self) -> bool:
        """Whether the body must be sent piece by piece."""
        marks = (self.cut_at, self.stall_at, self.flip_at, self.call_at, self.bytes_per_s)
        return any(mark is not None for mark in marks)


@dataclass
class Request:
    """One request as it was answered. `sent` is bytes of body written to the socket; `over` when it grows no more."""

    side: Side
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    status: int = 0
    sent: int = 0
    over: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def __str__(self) -> str:
        span = f" {self.headers['range']}" if "range" in self.headers else ""
        token = " with a token" if "authorization" in self.headers else ""
        return f"{self.side} {self.method} {self.path}{span}{token} -> {self.status}, {self.sent} bytes"


@dataclass
class Link:
    """A signed address of one file on the CDN. `uses` None is any number; `expires` is a time.monotonic()."""

    path: str
    content: Content
    expires: float
    uses: int | None


class Refusal(Exception):
    """An answer other than 200, as the Hub words it: `code` is X-Error-Code."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Sites(Protocol):
    """What the handlers need of the hub behind them."""

    page_rows: int

    def log(self, request: Request) -> None:
        """Remember a request."""

    def faults_for(self, side: Side, name: str) -> list[Fault]:
        """What goes wrong with this request."""

    def repo(self, name: str, token: str | None, files: bool) -> Repo:
        """A repo this token may see. Raises Refusal."""

    def new_name(self, name: str) -> str | None:
        """Where a renamed repo is now."""

    def sign(self, path: str, content: Content) -> str:
        """The key of a new signed address."""

    def link(self, key: str) -> Link | None:
        """The signed address with this key, None if it is not good (any more)."""

    def cdn_url(self, host: str) -> str:
        """Address of the CDN for a client that reached the hub under this host."""


class Server(ThreadingHTTPServer):
    """One site. Closes what is still open when it stops, as a host that goes down does."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], sites: Sites, handler: type[Handler]) -> None:
        self.sites = sites
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection."""
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection whose thread is done."""
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every connection there is."""
        with self._guard:
            still = list(self._open)
        for connection in still:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # its client was quicker
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not news; anything else is a fault of ours and is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """What both sites share: logging, faults before the answer, sending."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: requests are in the hub's log."""

    def side_and_name(self) -> tuple[Side, str]:
        """Which side a request is for, and the names a fault may ask for."""
        raise NotImplementedError

    def answer(self) -> None:
        """Answer as the site does when nothing goes wrong."""
        raise NotImplementedError

    def _do(self) -> None:
        self.url = urlsplit(self.path)
        self.query = parse_qs(self.url.query)
        headers = {key.lower(): value for key, value in self.headers.items()}
        length = int(headers.get("content-length", "0"))
        self.form = parse_qs(self.rfile.read(length).decode()) if length else {}
        side, name = self.side_and_name()
        self.request_log = Request(side, self.command, self.url.path, self.query, headers)
        self.server.sites.log(self.request_log)
        try:
            self._play_and_answer(side, name)
        finally:
            self.request_log.over.set()

    do_GET = do_HEAD = do_POST = _do  # noqa: N815  # the names that http.server looks for

    def _play_and_answer(self, side: Side, name: str) -> None:
        self.faults = self.server.sites.faults_for(side, name)
        for fault in self.faults:
            if fault.before:
                fault.before()
            time.sleep(fault.delay_s)
        for fault in self.faults:
            if fault.status is not None:
                return self.send(fault.status, fault.headers, fault.body, "text/html; charset=utf-8")
        try:
            self.answer()
        except Refusal as no:
            headers = {"X-Error-Message": no.message} | ({"X-Error-Code": no.code} if no.code else {})
            self.send(no.status, headers, json.dumps({"error": no.message}).encode(), "application/json")

    def send_headers(self, status: int, headers: dict[str, str], length: int) -> None:
        """Status line and headers."""
        self.request_log.status = status
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()

    def send(self, status: int, headers: dict[str, str], body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        """A whole answer; HEAD gets its headers."""
        self.send_headers(status, {"Content-Type": kind, **headers}, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)
            self.request_log.sent = len(body)

    def send_json(self, value: object, headers: dict[str, str] | None = None) -> None:
        """A JSON answer."""
        self.send(200, headers or {}, json.dumps(value).encode(), "application/json; charset=utf-8")

    def send_content(self, content: Content, headers: dict[str, str]) -> None:
        """200, 206 or 416 for a content, by the request's Range, with the faults that are to be played."""
        for fault in self.faults:
            if fault.size is not None:
                content = Held(b"x" * fault.size)
        start, end, status = 0, content.size, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and not any(fault.ignore_range for fault in self.faults):
            start = int(asked[1])
            end = min(int(asked[2]) + 1, content.size) if asked[2] else content.size
            if start >= content.size:
                return self.send(416, {"Content-Range": f"bytes */{content.size}"}, b"")
            status = 206
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{content.size}"}
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        self.send_headers(status, headers, end - start)
        if self.command == "HEAD":
            return None
        if any(fault.watches_body for fault in self.faults):
            return self._send_watched(content, start, end)
        return self._send_fast(content, start, end)

    def _send_fast(self, content: Content, start: int, end: int) -> None:
        """The bytes by sendfile where that is possible: Python must not be what limits a download."""
        if isinstance(content, OnDisk):
            with content.path.open("rb") as file:
                self._sendfile(file.fileno(), start, end, repeats=False)
            return
        if isinstance(content, Zeros):
            for block in content.blocks(start, min(end, len(content.first))):
                self.wfile.write(block)
                self.request_log.sent += len(block)
            self._sendfile(_zeros().fileno(), max(start, len(content.first)), end, repeats=True)
            return
        for block in content.blocks(start, end):
            self.wfile.write(block)
            self.request_log.sent += len(block)

    def _sendfile(self, source: int, start: int, end: int, repeats: bool) -> None:
        while start < end:
            most = min(ZEROS_BYTES if repeats else SEND_BYTES, end - start)
            sent = os.sendfile(self.connection.fileno(), source, 0 if repeats else start, most)
            start += sent
            self.request_log.sent += sent

    def _send_watched(self, content: Content, start: int, end: int) -> None:
        """The bytes in small pieces that end at every offset where a fault has something to do."""
        marks = {m for f in self.faults for m in (f.cut_at, f.stall_at, f.flip_at, f.call_at) if m is not None}
        rates = [fault.bytes_per_s for fault in self.faults if fault.bytes_per_s]
        began, at = time.monotonic(), start
        while True:
            for fault in self.faults:
                if fault.call_at == at and fault.call:
                    fault.call()
                if fault.stall_at == at:
                    select.select([self.connection], [], [], fault.stall_s)  # over at once if the client hangs up
                if fault.cut_at is not None and (fault.cut_at == at or start > fault.cut_at):
                    return self._cut(fault.cut_by)
            if at >= end:
                return None
            until = min([end, at + PIECE_BYTES, *(mark for mark in marks if mark > at)])
            piece = b"".join(content.blocks(at, until))
            if any(fault.flip_at == at for fault in self.faults):
                piece = bytes([piece[0] ^ 0xFF]) + piece[1:]
            self.wfile.write(piece)
            self.request_log.sent += len(piece)
            at = until
            for rate in rates:
                time.sleep(max(0.0, began + (at - start) / rate - time.monotonic()))

    def _cut(self, by: Literal["fin", "reset"]) -> None:
        self.close_connection = True
        if by == "reset":
            # A reset throws away what is not yet sent: wait until the peer has taken all of it (SIOCOUTQ is 0).
            patience = time.monotonic() + 2.0
            while _unsent(self.connection) and time.monotonic() < patience:
                time.sleep(0.001)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def _unsent(connection: socket.socket) -> int:
    import fcntl
    import termios

    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])


@cache
def _zeros() -> IO[bytes]:
    """A small file of zeros; sent again and again, it is a file of any size."""
    source = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
    source.write(bytes(ZEROS_BYTES))
    source.flush()
    return source


class CdnHandler(Handler):
    """Files by signed address: /<sha256>?key=...&response-content-disposition=..."""

    def side_and_name(self) -> tuple[Side, str]:
        """The CDN; a fault may ask for the file's name, which the address carries."""
        return "cdn", unquote(self.url.query)

    def answer(self) -> None:
        """The bytes, or 403 as an object store says it when the address has expired."""
        link = self.server.sites.link(self.query.get("key", [""])[0])
        if link is None:
            body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            return self.send(403, {}, body, "application/xml")
        disposition = self.query.get("response-content-disposition", ["inline"])[0]
        return self.send_content(link.content, {"ETag": f'"{link.content.sha256}"', "Content-Disposition": disposition})


class HubHandler(Handler):
    """The API and /resolve."""

    def side_and_name(self) -> tuple[Side, str]:
        """`resolve` for files, `api` for the rest; a fault may ask for any part of the path."""
        path = unquote(self.url.path)
        return ("resolve" if RESOLVE.fullmatch(path) else "api"), path

    @property
    def token(self) -> str | None:
        """The token a request carries."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" else None

    def answer(self) -> None:
        """Route the request."""
        if found := RESOLVE.fullmatch(self.url.path):
            return self._resolve(unquote(found[1]), unquote(found[2]), unquote(found[3]))
        if found := API.fullmatch(self.url.path):
            return self._api(unquote(found[1]), found[2], unquote(found[3] or "main"), unquote(found[4] or ""))
        raise Refusal(404, None, "Sorry, we can't find the page you are looking for.")

    def _moved(self, name: str) -> bool:
        new = self.server.sites.new_name(name)
        if new is not None:
            location = self.path.replace(f"/{name}", f"/{new}", 1)
            self.send(307, {"Location": location}, b"Temporary Redirect")
        return new is not None

    def _resolve(self, name: str, revision: str, path: str) -> None:
        if self._moved(name):
            return None
        repo = self.server.sites.repo(name, self.token, files=True)
        commit = _commit(repo, revision)
        headers = {"X-Repo-Commit": commit.sha}
        file = commit.files.get(path)
        if file is None:
            headers |= {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            return self.send(404, headers, b"Entry not found")
        if not file.lfs:
            return self.send_content(file.content, {**headers, "ETag": f'"{file.blob_id}"'})
        disposition = (
            f"inline; filename*=UTF-8''{quote(path.rsplit('/', 1)[-1])}; filename=\"{path.rsplit('/', 1)[-1]}\";"
        )
        query = urlencode(
            {"key": self.server.sites.sign(path, file.content), "response-content-disposition": disposition}
        )
        cdn = self.server.sites.cdn_url(self.headers.get("Host", "127.0.0.1"))
        headers |= {
            "Location": f"{cdn}/{file.content.sha256}?{query}",
            "X-Linked-Size": str(file.content.size),
            "X-Linked-Etag": f'"{file.content.sha256}"',
            "ETag": f'"{file.blob_id}"',
            "Accept-Ranges": "bytes",
        }
        return self.send(302, headers, b"Found. Redirecting")

    def _api(self, name: str, what: str | None, revision: str, rest: str) -> None:
        if self._moved(name):
            return None
        repo = self.server.sites.repo(name, self.token, files=what == "auth-check")
        if what == "auth-check":
            return self.send(200, {}, b"")
        if what == "refs":
            return self.send_json(_refs(repo))
        commit = _commit(repo, revision)
        headers = {"X-Repo-Commit": commit.sha}
        if what == "tree":
            return self._tree(repo, commit, rest, headers)
        if what == "paths-info":
            asked = self.form.get("paths", [])
            return self.send_json([commit.files[path].entry() for path in asked if path in commit.files], headers)
        if what == "commits":
            rows = repo.history(commit)
            return self.send_json(rows, {**headers, "X-Total-Count": str(len(rows))})
        only = self.query.get("expand", []) + self.query.get("expand[]", [])
        return self.send_json(repo.info(commit, _yes(self.query, "blobs"), only), headers)

    def _tree(self, repo: Repo, commit: Commit, folder: str, headers: dict[str, str]) -> None:
        """A page of rows; where there are more, `Link: <...>; rel="next"` says where."""
        rows = repo.tree(commit, folder, _yes(self.query, "recursive"))
        if folder and not rows:
            raise Refusal(404, "EntryNotFound", f'{folder} does not exist on "{commit.sha}"')
        first = int(self.query.get("cursor", ["0"])[0])
        last = first + self.server.sites.page_rows
        if last < len(rows):
            query = {key: values[0] for key, values in self.query.items()} | {"cursor": str(last)}
            address = f"http://{self.headers.get('Host')}{self.url.path}?{urlencode(query)}"
            headers = {**headers, "Link": f'<{address}>; rel="next"'}
        self.send_json(rows[first:last], headers)


def _commit(repo: Repo, revision: str) -> Commit:
    commit = repo.find(revision)
    if commit is None:
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return commit


def _refs(repo: Repo) -> dict[str, Any]:
    def rows(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in names.items()]

    return {"branches": rows("heads", repo.branches), "converts": [], "tags": rows("tags", repo.tags)}


def _yes(query: dict[str, list[str]], key: str) -> bool:
    return query.get(key, ["false"])[0].lower() in ("true", "1")


def new_key() -> str:
    """What makes a signed address hard to guess, and each one new."""
    return secrets.token_hex(16)


__all__ = [
    "BLOCK",
    "CdnHandler",
    "Fault",
    "HubHandler",
    "Link",
    "Refusal",
    "Request",
    "Server",
    "Side",
    "Sites",
    "new_key",
]
