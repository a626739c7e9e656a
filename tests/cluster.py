"""A real Kubernetes for the tests that want one, and a namespace of each test's own.

`cluster` is whatever KUBECONFIG names, else the kit beside the checkout (started when first asked for; it stays up),
else a skip that says so. A test that needs the API server to go away does not stop it for everybody: it speaks through
`outage`, a wire that the test cuts and mends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from llama_assets.kube import Kube, KubeError, NotFound
from tests.conftest import ROOT
from tests.once import made_once

KIT = ROOT.parent / "shared" / "cluster" / "cluster"
LOCK = Path("/tmp/llama-assets-cluster.lock")  # the kit does not guard against two `up` at once
PYTHON = "python:3.13-slim"  # there on the kit; pulled elsewhere
IMAGE = "llama-assets:test"


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers."""

    kubeconfig: Path
    kube: Kube
    kit: Path | None
    """The kit's program, where the cluster is the kit's."""

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl's output. Fails the test when it fails."""
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            ["kubectl", *arguments], env=environment, input=stdin, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            pytest.fail(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout


def _started() -> Path:
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    if not KIT.exists():
        pytest.skip(f"no cluster: KUBECONFIG is not set, and {KIT} is not there")
    if os.geteuid():
        pytest.skip(f"no cluster: KUBECONFIG is not set, and {KIT} wants root")
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([str(KIT), "up"], capture_output=True, text=True, timeout=900)
        # `up` of a cluster that is up writes kube-proxy's configuration anew, and kube-proxy ends when that changes.
        subprocess.run([str(KIT), "start", "kube-proxy"], capture_output=True, timeout=60)
    if done.returncode:
        pytest.fail(f"{KIT} up ended with status {done.returncode}:\n{done.stderr[-3000:]}", pytrace=False)
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("export KUBECONFIG="))
    (value,) = shlex.split(said.removeprefix("export KUBECONFIG="))
    return Path(value)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real cluster, or a skip with the reason."""
    kubeconfig = made_once(tmp_path_factory, "cluster", lambda _: _started())
    with Kube.open(kubeconfig) as kube:
        try:
            kube.version()
        except KubeError as error:
            pytest.fail(f"KUBECONFIG={kubeconfig}: {error}", pytrace=False)
        kits_own = Path(os.environ.get("CLUSTER_HOME", "/var/lib/test-cluster"), "kubeconfig")
        yield Cluster(kubeconfig, kube, KIT if KIT.exists() and kubeconfig == kits_own else None)


@pytest.fixture(scope="session")
def image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Our image, built from this checkout by `make image` and on the cluster's node."""
    if cluster.kit is None:
        pytest.skip("the image's tests load it by the kit's builder, and this cluster is not the kit's")
    return made_once(tmp_path_factory, "image", lambda _: _built())


def _built() -> str:
    made = subprocess.run(
        ["make", "image", f"IMAGE={IMAGE}", f"KIT={KIT}"], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    if made.returncode:
        pytest.fail(f"make image ended with status {made.returncode}:\n{(made.stdout + made.stderr)[-3000:]}")
    return IMAGE


def until(what: str, ready: Callable[[], object], limit_s: float = 60) -> object:
    """The first true thing that `ready` returns. Fails the test when there is none in time."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.1)
    return pytest.fail(f"not in {limit_s:.0f} s: {what}")


def made_namespace(kube: Kube) -> str:
    """A new namespace in which Pod Security `restricted` is enforced, ready to start pods in."""
    name = f"llama-test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "llama-assets/test": "true"}
    kube.create("Namespace", None, {"metadata": {"name": name, "labels": labels}})

    def account() -> bool:
        try:
            return bool(kube.get("ServiceAccount", name, "default"))
        except NotFound:
            return False

    until(f"the default account of {name}", account)
    return name


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of this test's own."""
    name = made_namespace(cluster.kube)
    yield name
    cluster.kube.delete("Namespace", None, name, propagation="Background")


@pytest.fixture(scope="module")
def module_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for a whole file: its tests give their objects different names."""
    name = made_namespace(cluster.kube)
    yield name
    cluster.kube.delete("Namespace", None, name, propagation="Background")


@dataclass
class Wire:
    """A TCP wire to the API server. `cut()` drops every connection and refuses new ones until `mend()`."""

    target: tuple[str, int]
    kubeconfig: Path
    """The cluster's, with this wire as the server's address; the server's certificate is still checked."""
    _listener: socket.socket | None = None
    _open: set[socket.socket] = field(default_factory=set)
    port: int = 0

    def mend(self) -> None:
        """Listen (again) on the same port."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """The API server is away, for whoever speaks through this wire."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for end in list(self._open):
            _closed(end)
        self._open.clear()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # cut
                return
            try:
                far = socket.create_connection(self.target, timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(1 << 16):
                sink.sendall(block)
        _closed(source)
        _closed(sink)
        self._open -= {source, sink}


def _closed(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def opened_wire(cluster: Cluster, folder: Path) -> Wire:
    """A wire to the API server, in one piece; its kubeconfig lies in `folder`."""
    host, _, port = cluster.kube.host.removeprefix("https://").partition(":")
    made = Wire((host, int(port or 443)), folder / "kubeconfig")
    made.mend()
    said = yaml.safe_load(cluster.kubeconfig.read_text())
    for entry in said["clusters"]:
        entry["cluster"] |= {"server": f"https://127.0.0.1:{made.port}", "tls-server-name": host}
    made.kubeconfig.write_text(yaml.safe_dump(said))
    return made


@pytest.fixture
def wire(cluster: Cluster, tmp_path: Path) -> Iterator[Wire]:
    """A wire to the API server that this test may cut, in one piece."""
    made = opened_wire(cluster, tmp_path)
    yield made
    made.cut()
