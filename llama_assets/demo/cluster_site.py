"""Which cluster the demo is on, and how an image gets there: the test kit, kind, k3d, minikube, k3s, or a registry.

    SiteError
    |- NoSite            no cluster is named, or it cannot be looked at
    |- NoWayIn           no image can be built, or brought to this cluster's nodes; says what to do instead
    `- CommandFailed     a program that builds or loads ended badly; its last words

Here: telling clusters apart and the commands for each. Not here: what is installed (`cluster_install`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SiteKind = Literal["kit", "kind", "k3d", "minikube", "k3s", "registry", "unknown"]
Say = Callable[[str], None]
CARD = "nvidia.com/gpu"
BUILD_LOCK = Path("/tmp/llama-assets-image.lock")  # `make image` holds it too: the kit's builder is not for two
LAST_LINES = 25


class SiteError(Exception):
    """The root."""

    exit_status = 2


class NoSite(SiteError):
    """There is no cluster to look at."""


class NoWayIn(SiteError):
    """An image cannot be built here, or not be brought to this cluster."""


@dataclass(eq=False)
class CommandFailed(SiteError):
    """A program ended badly."""

    command: Sequence[str]
    status: int
    output: str

    exit_status = 1

    def __str__(self) -> str:
        words = " ".join(self.command)
        last = "\n".join(self.output.rstrip().splitlines()[-LAST_LINES:])
        return f"`{words}` ended with status {self.status}:\n{last}"


@dataclass(frozen=True)
class Site:
    """One cluster: its kind, its names, and whether its nodes have cards."""

    kind: SiteKind
    context: str
    kubeconfig: Path | None
    """As KUBECONFIG names it; None is kubectl's own default."""
    cards: int
    """How many `nvidia.com/gpu` its nodes offer."""
    program: Path | None = None
    """The kit's program, where it is the kit's cluster."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def kubectl(self) -> list[str]:
        """kubectl as this machine has it; the kit brings its own."""
        if self.program and not shutil.which("kubectl"):
            return [str(self.program), "kubectl"]
        return ["kubectl"]

    @property
    def digests(self) -> bool:
        """Whether a pod may name an image by the digest that it was loaded or pushed with."""
        return self.kind in ("kit", "registry")

    def run(self, command: Sequence[str], stdin: str | None = None) -> str:
        """A program's output. Raises CommandFailed."""
        return run(command, self.environment, stdin)

    def build(self, tag: str, context: Path, dockerfile: Path | None = None) -> None:
        """Build an image and bring it to the cluster's nodes.

        Raises:
            NoWayIn: no builder here, or none of the ways into this cluster.
            CommandFailed: with the builder's last words.
        """
        named = ["-f", str(dockerfile)] if dockerfile else []
        if self.kind == "kit":
            with BUILD_LOCK.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.run([str(self.program), "build", tag, str(context), *named])
            return
        if self.kind == "unknown":
            raise NoWayIn(
                f"context {self.context} is neither kind, k3d, minikube, k3s nor the test kit, so images reach it by a "
                "registry: make cluster-demo IMAGE=registry.example.org/llama-assets:demo (docker pushes it there)"
            )
        if not shutil.which("docker"):
            raise NoWayIn("there is no docker here to build images with; install it, or use the test kit")
        self.run(["docker", "build", "--tag", tag, *named, str(context)])
        for command in loading(self.kind, self.context, tag):
            self.run(["sh", "-c", command])

    def forget(self, prefixes: Sequence[str], say: Say) -> None:
        """Remove from the nodes the images whose name begins so; what cannot be removed is said."""
        for prefix in prefixes:
            command = removing(self.kind, self.context, prefix)
            if command is None:
                say(f"images   {prefix}* stay where they are: remove them from the registry, and by docker image rm")
            else:
                done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=self.environment)
                gone = sum(1 for line in done.stdout.splitlines() if line.strip())
                say(f"images   {prefix}*: {gone} names removed" + ("" if done.returncode == 0 else f" ({done.stderr})"))


def loading(kind: SiteKind, context: str, tag: str) -> list[str]:
    """Shell commands that bring a built image to the nodes."""
    name = context.partition("-")[2]
    return {
        "kind": [f"kind load docker-image {tag} --name {name}"],
        "k3d": [f"k3d image import {tag} --cluster {name}"],
        "minikube": [f"minikube image load {tag} --profile {context}"],
        "k3s": [f"docker save {tag} | k3s ctr images import -"],
        "registry": [f"docker push {tag}"],
    }.get(kind, [])


def removing(kind: SiteKind, context: str, prefix: str) -> str | None:
    """A shell command that removes images by the beginning of their name and prints each; None where we cannot."""
    name = context.partition("-")[2]
    of = f"grep -E '(^|/){prefix}[@:]'"
    drop = 'while read -r image; do {} "$image" >/dev/null 2>&1 && echo "$image"; done; true'
    if kind == "kit":
        home = os.environ.get("CLUSTER_HOME", "/var/lib/test-cluster")
        ctr = f"ctr -a {home}/run/containerd.sock -n k8s.io images"
        return f"{ctr} list -q | {of} | {drop.format(f'{ctr} rm')}"
    if kind in ("kind", "k3d"):
        nodes = f"kind get nodes --name {name}" if kind == "kind" else f"docker ps -q --filter label=k3d.cluster={name}"
        inside = f"crictl images -o yaml | grep -oE '[^ ]*{prefix}:[^ ]*' | xargs -r crictl rmi"
        return f'for node in $({nodes}); do docker exec $node sh -c "{inside}"; done'
    if kind == "minikube":
        return f"minikube image ls --profile {context} | {of} | {drop.format(f'minikube image rm --profile {context}')}"
    if kind == "k3s":
        return f"k3s ctr images list -q | {of} | {drop.format('k3s ctr images rm')}"
    return None


def find_site(kit: Path | None, registry: bool, environment: dict[str, str], say: Say) -> Site:
    """The cluster that KUBECONFIG names; the kit, started, where KUBECONFIG is not set and the kit is there.

    Raises:
        NoSite: there is none.
    """
    named = environment.get("KUBECONFIG")
    home = Path(environment.get("CLUSTER_HOME", "/var/lib/test-cluster"))
    if not named and kit and kit.exists():
        if os.geteuid():
            raise NoSite(f"KUBECONFIG is not set, and the test kit {kit} needs root; set KUBECONFIG")
        say(f"starting the test kit's cluster, {kit} up")
        run([str(kit), "up"], environment)
        named = str(home / "kubeconfig")
    environment = {**environment, **({"KUBECONFIG": named} if named else {})}
    ours = kit if kit and kit.exists() and named and Path(named) == home / "kubeconfig" else None
    kubectl = ["kubectl"] if shutil.which("kubectl") or ours is None else [str(ours), "kubectl"]
    if kubectl == ["kubectl"] and not shutil.which("kubectl"):
        raise NoSite("there is no kubectl on PATH")
    try:
        context = run([*kubectl, "config", "current-context"], environment).strip()
    except CommandFailed as failed:
        raise NoSite(f"no cluster is named: set KUBECONFIG to one ({failed.output.strip()})") from None
    nodes = _nodes(Path(named) if named else None)
    kind: SiteKind = "registry" if registry else "kit" if ours else kind_of(context, nodes)
    return Site(kind, context, Path(named) if named else None, cards_of(nodes), ours, environment)


def kind_of(context: str, nodes: Sequence[dict[str, Any]]) -> SiteKind:
    """What the context's name and the nodes say of the cluster; `unknown` is one that only a registry reaches."""
    first = nodes[0] if nodes else {}
    labels = first.get("metadata", {}).get("labels", {})
    version = str(first.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", ""))
    if str(first.get("spec", {}).get("providerID", "")).startswith("kind://"):
        return "kind"
    if "minikube.k8s.io/name" in labels:
        return "minikube"
    if context.startswith("k3d-"):
        return "k3d"
    # k3s takes images only on its own machine.
    return "k3s" if "+k3s" in version and len(nodes) == 1 and shutil.which("k3s") else "unknown"


def cards_of(nodes: Sequence[dict[str, Any]]) -> int:
    """How many cards the nodes offer."""
    return sum(int(node.get("status", {}).get("allocatable", {}).get(CARD, 0)) for node in nodes)


def _nodes(kubeconfig: Path | None) -> tuple[dict[str, Any], ...]:
    from llama_assets.kube import Kube, KubeError

    try:
        with Kube.open(kubeconfig) as kube:
            return kube.list("Node", None)
    except KubeError as error:
        raise NoSite(str(error)) from None


def run(command: Sequence[str], environment: dict[str, str], stdin: str | None = None) -> str:
    """A program's output. Raises CommandFailed with its last words."""
    done = subprocess.run(
        list(command), env=environment, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise CommandFailed(command, done.returncode, done.stdout)
    return done.stdout
