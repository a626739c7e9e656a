"""Every call that our accounts make, from the API server's own audit log, compared with the Roles.

`recorded(cluster)` gives the calls made inside its block; `against_roles` says which no Role allows, and which rights
were never used. For the block the test cluster's API server is started again with an audit policy that knows service
accounts only, and after it as it was: twice some seconds without an API, for everybody.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from llama_assets.kube import KubeError
from tests.cluster import Cluster, until

HOME = Path(os.environ.get("CLUSTER_HOME", "/var/lib/test-cluster"))
LOG = HOME / "logs" / "audit.log"
LOCK = Path("/tmp/llama-assets-audit.lock")
SERVER = "kube-apiserver"
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "omitManagedFields": True,
    "rules": [
        {"level": "None", "namespaces": ["kube-system", "kube-public", "kube-node-lease", "default"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
FLAGS = (
    f"--audit-log-path={LOG}",
    f"--audit-policy-file={HOME}/run/audit-policy.yaml",
    "--audit-log-mode=blocking",  # a call is in the log before it is answered
    "--audit-log-maxsize=100",
    "--audit-log-maxbackup=1",
)
Object = dict[str, Any]


@dataclass(frozen=True, order=True)
class Call:
    """One kind of call: `account` is `namespace:name`, `resource` is like `deployments.apps` or `pods/log`."""

    account: str
    verb: str
    resource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.account}: {self.verb} {self.resource} {self.namespace}/{self.name}"


@dataclass
class Recorded:
    """What was called and how often, and what of it was refused; filled at the end of the block."""

    calls: dict[Call, int] = field(default_factory=dict)
    forbidden: dict[Call, int] = field(default_factory=dict)


@contextlib.contextmanager
def audited(cluster: Cluster) -> Iterator[Path]:
    """The kit's API server keeps an audit log in the block. The API is away for some seconds before and after it."""
    if cluster.kit is None:
        pytest.skip("only the kit's API server can be told to keep an audit log")
    remembered, policy = HOME / "run" / f"{SERVER}.argv", HOME / "run" / "audit-policy.yaml"
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        argv, environment = json.loads(remembered.read_text())
        plain = [word for word in argv if not word.startswith("--audit-")]
        policy.write_text(yaml.safe_dump(POLICY))
        LOG.unlink(missing_ok=True)
        try:
            _restart(cluster, [[*plain, *FLAGS], environment])
            yield LOG
        finally:
            _restart(cluster, [plain, environment])
            policy.unlink()
            LOG.unlink(missing_ok=True)


def _restart(cluster: Cluster, remembered: list[Any]) -> None:
    """As `cluster stop` and `start` do it; those know a server only by the words that it was started with."""
    words = f"{HOME}/bin/{SERVER}\0".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(words):
                os.kill(int(folder.name), signal.SIGKILL)  # it keeps nothing, and waits a minute for watches otherwise
    (HOME / "run" / f"{SERVER}.argv").write_text(json.dumps(remembered))
    subprocess.run([str(cluster.kit), "start", SERVER], check=True, capture_output=True, timeout=60)
    until("the API server", lambda: _answers(cluster), 120)


def _answers(cluster: Cluster) -> bool:
    try:
        return bool(cluster.kube.version())
    except KubeError:
        return False


@contextlib.contextmanager
def recorded(cluster: Cluster, *namespaces: str) -> Iterator[Recorded]:
    """Calls that service accounts of these namespaces make in the block, as the API server saw them."""
    seen = Recorded()
    with audited(cluster) as log:
        yield seen
        assert len(list(log.parent.glob("audit*.log"))) == 1, f"{log} was rotated meanwhile: 100 MB of calls"
        for line in log.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                _count(seen, json.loads(line), namespaces)


def _count(seen: Recorded, event: Object, namespaces: tuple[str, ...]) -> None:
    user = str(event["user"]["username"])
    what = event.get("objectRef")
    if not user.startswith("system:serviceaccount:") or what is None:  # /version, /readyz: no Role is about them
        return
    account = user.removeprefix("system:serviceaccount:")
    if account.partition(":")[0] not in namespaces:
        return
    resource = what["resource"] + (f"/{what['subresource']}" if what.get("subresource") else "")
    group = what.get("apiGroup", "")
    call = Call(
        account,
        event["verb"],
        f"{resource}.{group}" if group else resource,
        what.get("namespace", ""),
        what.get("name", ""),
    )
    seen.calls[call] = seen.calls.get(call, 0) + 1
    if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid":
        seen.forbidden[call] = seen.forbidden.get(call, 0) + 1


# Granted to every account by Kubernetes itself: asking what it may do.
EVERYBODYS = frozenset(
    {"selfsubjectaccessreviews.authorization.k8s.io", "selfsubjectrulesreviews.authorization.k8s.io"}
)


def against_roles(
    calls: Iterable[Call], manifests: Iterable[Object], rare: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """(missing, spare): calls that no Role of `manifests` allows, and rights that no call used.

    A right is spelled `account: verb resource namespace/name` (`/*` where it is any name), as in the answers. `rare`
    maps rights that a run needs on bad days only to the reason; one of them that was used after all is fine too.
    """
    granted = rights(manifests)
    used: set[Call] = set()
    missing: list[str] = []
    for call in sorted(set(calls)):
        if call.resource in EVERYBODYS:
            continue
        fitting = {right for right in granted if _covers(right, call)}
        if not fitting:
            missing.append(str(call))
        used |= fitting
        if call.verb in ("patch", "update"):  # an apply or a PUT that makes its object is authorised as a create, too
            used |= {
                right for right in granted if right.verb == "create" and right.name and _covers(right, call, "create")
            }
    spare = [str(right) for right in sorted(granted - used) if str(right) not in (rare or {})]
    return missing, spare


def rights(manifests: Iterable[Object]) -> set[Call]:
    """Every single right that the Roles give by their bindings; a name of `*` is any name."""
    objects = list(manifests)
    roles = {
        (found["metadata"]["namespace"], found["metadata"]["name"]): found
        for found in objects
        if found["kind"] == "Role"
    }
    granted: set[Call] = set()
    for binding in (found for found in objects if found["kind"] == "RoleBinding"):
        namespace = binding["metadata"]["namespace"]
        for rule in roles[namespace, binding["roleRef"]["name"]]["rules"]:
            granted |= {
                Call(
                    f"{subject['namespace']}:{subject['name']}",
                    verb,
                    f"{resource}.{group}" if group else resource,
                    namespace,
                    name,
                )
                for subject in binding["subjects"]
                for verb in rule["verbs"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", ["*"])
            }
    return granted


def _covers(right: Call, call: Call, verb: str = "") -> bool:
    same = (right.account, right.verb, right.resource, right.namespace)
    return same == (call.account, verb or call.verb, call.resource, call.namespace) and right.name in ("*", call.name)
