"""Every way in which an API server can fail to answer becomes one of our errors. No cluster: a scripted server."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from llama_assets import kube as kubes
from llama_assets.kube import Kube, KubeLimits, NoCluster, Overloaded, Unreachable

SHORT = KubeLimits(connect_s=2, read_s=0.5)


@dataclass
class Scripted:
    """An HTTP server that gives one answer to everything and keeps what it was asked."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    cut: bool = False
    asked: list[tuple[str, str, str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    def say_no(self, status: int, reason: str, message: str, **details: object) -> None:
        said = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "details": details}
        self.status, self.body = status, json.dumps(said).encode()


@pytest.fixture
def server() -> Iterator[Scripted]:
    script = Scripted()
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            script.asked.append((self.command, self.path, sent, dict(self.headers)))
            if script.hang:
                released.wait(10)
            self.send_response(script.status)
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(script.body) + (10 if script.cut else 0)))
            self.end_headers()
            self.wfile.write(script.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815, the library's names

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        script.port = listening.server_address[1]
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield script
        released.set()
        listening.shutdown()


def kubeconfig(folder: Path, address: str, **cluster: object) -> Path:
    said = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": address, **cluster}}],
        "users": [{"name": "test", "user": {"token": "secret-token"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(said))
    return path


@pytest.fixture
def kube(server: Scripted, tmp_path: Path) -> Iterator[Kube]:
    with Kube.open(kubeconfig(tmp_path, f"http://127.0.0.1:{server.port}"), SHORT) as opened:
        yield opened


@pytest.mark.parametrize(
    ("status", "error", "transient"),
    [
        (400, kubes.Refused, False),
        (401, kubes.Unauthorized, False),
        (403, kubes.Forbidden, False),
        (404, kubes.NotFound, False),
        (405, kubes.Refused, False),
        (408, kubes.Overloaded, True),
        (409, kubes.Conflict, False),
        (410, kubes.Refused, False),
        (422, kubes.Invalid, False),
        (429, kubes.Overloaded, True),
        (500, kubes.Overloaded, True),
        (503, kubes.Overloaded, True),
        (504, kubes.Overloaded, True),
    ],
)
def test_each_status_is_one_error_with_the_servers_words(kube, server, status, error, transient):
    server.say_no(status, "SomeReason", "what the API server said")
    with pytest.raises(kubes.KubeError) as raised:
        kube.get("Deployment", "immich", "machine-learning")
    found = raised.value
    assert type(found) is error and found.transient is transient and found.status == status
    assert found.reason == "SomeReason"
    assert str(found).startswith("read Deployment immich/machine-learning: what the API server said")
    assert len(server.asked) == 1, "a call is never repeated behind the caller's back"


def test_an_answer_that_is_no_json_keeps_its_text(kube, server):
    server.status, server.body = 503, b"apiserver not ready"
    with pytest.raises(Overloaded, match="apiserver not ready"):
        kube.version()
    server.status, server.body = 200, b"<html>a proxy's sign-in page</html>"
    with pytest.raises(kubes.Refused, match="does not answer as the Kubernetes API does"):
        kube.version()


def test_how_long_to_wait_is_the_servers_word_or_nothing(kube, server):
    server.say_no(429, "TooManyRequests", "slow down")
    with pytest.raises(Overloaded) as raised:
        kube.version()
    assert raised.value.retry_after_s is None
    server.headers["Retry-After"] = "7"
    with pytest.raises(Overloaded) as raised:
        kube.version()
    assert raised.value.retry_after_s == 7


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_a_server_that_hangs_is_unreachable_and_asked_once(kube, server, verb):
    server.hang = True
    with pytest.raises(Unreachable) as raised:
        kube.get("Lease", "a", "b") if verb == "get" else kube.patch("Lease", "a", "b", {"spec": {}})
    assert raised.value.transient
    assert len(server.asked) == 1


def test_an_answer_cut_in_the_middle_is_unreachable(kube, server):
    server.cut = True
    server.body = b'{"items": ['
    with pytest.raises(Unreachable):
        kube.list("Pod", "a")


def test_a_refused_connection_is_unreachable(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Kube.open(kubeconfig(tmp_path, f"https://127.0.0.1:{port}"), SHORT) as kube, pytest.raises(Unreachable):
        kube.version()


def test_a_server_with_another_certificate_is_no_trouble_that_passes(tmp_path):
    made = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -days 1 -keyout key.pem -out cert.pem"
    subprocess.run(made.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as listening:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        opened = Kube.open(kubeconfig(tmp_path, f"https://127.0.0.1:{listening.server_address[1]}"), SHORT)
        with opened as kube, pytest.raises(NoCluster, match="is not who the kubeconfig says"):
            kube.version()
        listening.shutdown()


def test_the_credentials_of_the_kubeconfig_are_sent(kube, server):
    server.body = b'{"gitVersion": "v1.34.4"}'
    assert kube.version() == "v1.34.4"
    assert server.asked[0][3]["authorization"] == "Bearer secret-token"


def test_without_a_cluster_it_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoCluster, match=r"no .*/\.kube/config, and not in a pod.*Set KUBECONFIG"):
        Kube.open()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(NoCluster, match="absent"):
        Kube.open()


@pytest.mark.parametrize("text", ["", "- a\n", "{", "a: [", "clusters: 3"])
def test_a_kubeconfig_that_is_none_is_named(tmp_path, text):
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(NoCluster, match=str(path)):
        Kube.open(path)


def test_a_delete_always_says_what_becomes_of_what_it_owns(kube, server):
    kube.delete("Job", "llama-cpp", "task", uid="u-1")
    method, path, sent, _ = server.asked[0]
    assert (method, path) == ("DELETE", "/apis/batch/v1/namespaces/llama-cpp/jobs/task")
    assert json.loads(sent)["propagationPolicy"] == "Foreground"
    assert json.loads(sent)["preconditions"] == {"uid": "u-1"}
