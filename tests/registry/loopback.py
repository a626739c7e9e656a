"""A container registry on loopback: real HTTP, manifests by tag and digest, tokens, and one fault at a time."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
Fault = Callable[["Handler"], bool]  # answers and says so, or leaves it to the registry


@dataclass
class LoopbackRegistry:
    """`push` gives a name its bytes; `heard` is every request as (method, path)."""

    tokens: bool = False
    private: str | None = None  # user:password; with `tokens` the token is given for it, else it is asked for itself
    identity: str | None = None  # with `tokens`: a token is given for this one, too
    names_digest: bool = True
    manifests: dict[str, bytes] = field(default_factory=dict)
    heard: list[tuple[str, str]] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"registry": self}))
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def push(self, name: str, tag: str, what: str) -> str:
        """A manifest under a tag; the one that the tag had before stays under its digest. Gives the new digest."""
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"is": what}})
        digest = f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"
        self.manifests[f"{name}/{tag}"] = self.manifests[f"{name}/{digest}"] = body.encode()
        return digest

    def delete(self, name: str, digest: str) -> None:
        del self.manifests[f"{name}/{digest}"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: LoopbackRegistry

    def do_GET(self) -> None:
        registry = self.registry
        registry.heard.append((self.command, self.path))
        if registry.faults and registry.faults[0](self):
            return None
        login = f"Basic {base64.b64encode((registry.private or '').encode()).decode()}"
        given = self.headers.get("Authorization")
        if self.path.startswith("/token") and registry.private and given != login:
            return self.error(401, "unauthorized")
        if not registry.tokens and registry.private and given != login:
            return self.answer(401, b"", {"WWW-Authenticate": 'Basic realm="a registry"'})
        if self.path.startswith("/token"):
            registry.scopes += parse_qs(urlsplit(self.path).query).get("scope", [])
            return self.answer(200, json.dumps({"token": "anybodys"}).encode())
        if registry.tokens and self.headers.get("Authorization") != "Bearer anybodys":
            realm = f'Bearer realm="http://{registry.host}/token?kind=pull",service="loopback, a registry"'
            return self.answer(401, b"", {"WWW-Authenticate": realm})
        name, _, which = self.path.removeprefix("/v2/").partition("/manifests/")
        body = registry.manifests.get(f"{name}/{which}")
        if body is None or INDEX not in self.headers.get("Accept", ""):
            return self.error(404, "manifest unknown")
        digest = {"Docker-Content-Digest": f"sha256:{hashlib.sha256(body).hexdigest()}"}
        return self.answer(200, body, digest if registry.names_digest else {}, INDEX)

    do_HEAD = do_GET  # noqa: N815 - http.server calls it so

    def do_POST(self) -> None:
        """A token for an identity token: OAuth2's grant `refresh_token`."""
        registry = self.registry
        registry.heard.append((self.command, self.path))
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if registry.faults and registry.faults[0](self):
            return None
        form = {name: values[0] for name, values in parse_qs(body).items()}
        wanted = {"grant_type": "refresh_token", "refresh_token": registry.identity, "service": "loopback, a registry"}
        if not form.get("client_id") or {name: form.get(name) for name in wanted} != wanted:
            return self.answer(400, json.dumps({"error": "invalid_grant"}).encode())
        registry.scopes.append(form["scope"])
        return self.answer(200, json.dumps({"access_token": "anybodys", "expires_in": 300}).encode())

    def error(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self.answer(status, json.dumps({"errors": [{"code": "ERROR", "message": message}]}).encode(), headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, kind="application/json") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(b"" if self.command == "HEAD" else body)

    def log_message(self, *_: object) -> None:
        return


def always(status: int, message: str = "no", headers: dict[str, str] | None = None, path: str = "/v2/") -> Fault:
    """The same refusal for ever, to all that is asked below `path`."""

    def fault(handler: Handler) -> bool:
        if not handler.path.startswith(path):
            return False
        handler.error(status, message, headers)
        return True

    return fault


def once(fault: Fault) -> Fault:
    """The fault for the first request that it is about."""
    done: list[bool] = []

    def first(handler: Handler) -> bool:
        if done:
            return False
        done.extend([True] if fault(handler) else [])
        return bool(done)

    return first
