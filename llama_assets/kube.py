"""The Kubernetes API as every room uses it: one connection, objects as plain JSON, errors of ours.

Comes in: a kubeconfig, or the service account of a pod. Goes out: objects (dicts, as `kubectl get -o json` shows
them), log lines, and nothing but these errors:

    KubeError
    |- NoCluster        neither a kubeconfig nor a service account; or one that cannot be read or trusted
    |- Unauthorized     401
    |- Forbidden        403: a Role, Pod Security or a quota says no
    |- NotFound         404
    |- Conflict         409: changed since it was read, exists already, or another field manager owns it
    |- Invalid          422: a wrong value, or an admission policy said no; the message says which
    |- Refused          any other 4xx
    `- Trouble          the same call may succeed later (transient). A write may have landed all the same: read again
       |- Unreachable   no answer: refused, cut, timed out
       `- Overloaded    408, 429, 5xx; retry_after_s if the API server said so

No call is tried twice here: who renews a lease and who follows a Job wait differently. Not here: what objects mean.
The reason for requests of our own (client 36): its log reader returns the text of a bytes literal and knows no
`sinceTime`, its retries repeat a write thrice, a Job deleted without a propagation policy leaves its pod running, and a
failed handshake is an AttributeError. It is used for what it is good at: finding and renewing credentials, and TLS.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

Object = dict[str, Any]
Propagation = Literal["Foreground", "Background", "Orphan"]
STAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)")

# What is spoken of here, and where it lives: apiVersion, plural, whether it belongs to a namespace.
KINDS = {
    "Application": ("argoproj.io/v1alpha1", "applications", True),  # Argo CD; 404 where it is not installed
    "ConfigMap": ("v1", "configmaps", True),
    "CronJob": ("batch/v1", "cronjobs", True),
    "DaemonSet": ("apps/v1", "daemonsets", True),
    "Deployment": ("apps/v1", "deployments", True),
    "Event": ("v1", "events", True),
    "HelmRelease": ("helm.toolkit.fluxcd.io/v2", "helmreleases", True),  # Flux; 404 where it is not installed
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers", True),
    "Job": ("batch/v1", "jobs", True),
    "Kustomization": ("kustomize.toolkit.fluxcd.io/v1", "kustomizations", True),  # Flux, too
    "Lease": ("coordination.k8s.io/v1", "leases", True),
    "Namespace": ("v1", "namespaces", False),
    "Node": ("v1", "nodes", False),
    "PersistentVolume": ("v1", "persistentvolumes", False),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims", True),
    "Pod": ("v1", "pods", True),
    "ReplicaSet": ("apps/v1", "replicasets", True),
    "ResourceQuota": ("v1", "resourcequotas", True),
    "Role": ("rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings", True),
    "ScaledObject": ("keda.sh/v1alpha1", "scaledobjects", True),  # KEDA; 404 where it is not installed
    "Secret": ("v1", "secrets", True),
    "Service": ("v1", "services", True),
    "ServiceAccount": ("v1", "serviceaccounts", True),
    "StatefulSet": ("apps/v1", "statefulsets", True),
}


@dataclass(eq=False)  # an exception is itself only
class KubeError(Exception):
    """The root. `doing` is what was asked (`patch Deployment immich/ml`), `message` the API server's own words."""

    doing: str
    message: str
    status: int | None = None
    reason: str = ""
    """The API server's word for it: `AlreadyExists`, `Conflict`, `Expired`."""
    details: Object = field(default_factory=dict)

    exit_status = 1
    transient = False
    way_out = ""

    def __str__(self) -> str:
        return f"{self.doing}: {self.message}" + (f". {self.way_out}" if self.way_out else "")


class NoCluster(KubeError):
    """There is no cluster to speak to, or no way to trust it."""

    exit_status = 2
    way_out = "Set KUBECONFIG to a file that `kubectl cluster-info` works with"


class Unauthorized(KubeError):
    """401: the credentials are not, or no longer, accepted."""

    way_out = "Renew the credentials of the kubeconfig; `kubectl auth whoami` shows whether they work"


class Forbidden(KubeError):
    """403: a Role, Pod Security or a quota does not allow it."""

    way_out = "`llama-assets doctor` lists what the account may do; manifests/ holds the Roles"


class NotFound(KubeError):
    """404: the object, its namespace, or its kind does not exist."""


class Conflict(KubeError):
    """409: changed since it was read, exists already, or another field manager owns the field."""

    @property
    def exists(self) -> bool:
        """It is there already (a create)."""
        return self.reason == "AlreadyExists"

    @property
    def owners(self) -> dict[str, str]:
        """Field -> who owns it, as a server-side apply without force reports; empty for any other conflict."""
        causes = self.details.get("causes") or []
        return {cause["field"]: cause["message"] for cause in causes if cause.get("reason") == "FieldManagerConflict"}


class Invalid(KubeError):
    """422: a value is not allowed, or an admission policy said no; `message` names which."""


class Refused(KubeError):
    """Any other 4xx."""


class Trouble(KubeError):
    """It may be over in a moment. A write may have landed all the same: read again before you repeat it."""

    transient = True


class Unreachable(Trouble):
    """No answer: connection refused, cut, or timed out."""

    way_out = "The API server may be restarting; `kubectl get --raw /readyz` shows whether it answers"


class Overloaded(Trouble):
    """408, 429 or 5xx."""

    @property
    def retry_after_s(self) -> float | None:
        """How long the API server asks us to wait, if it said so."""
        return self.details.get("retryAfterSeconds")


@dataclass(frozen=True)
class KubeLimits:
    """How long one call may take."""

    connect_s: float = 3.0
    read_s: float = 30.0


@dataclass(frozen=True)
class Applied:
    """What a server-side apply left. `changed` is False when nothing was written."""

    object: Object
    created: bool
    changed: bool


@dataclass(frozen=True)
class LogLine:
    """One whole line of a container. Stamps of one container sort as text and are never equal."""

    stamp: str
    text: str


@dataclass(frozen=True)
class Log:
    """New lines of a container. `gap`: the log was rotated since, and lines before these may be missing."""

    lines: tuple[LogLine, ...]
    gap: bool


@dataclass(frozen=True)
class Seen:
    """Objects as they were at one version of the API server's store."""

    objects: tuple[Object, ...]
    version: str


@dataclass(frozen=True)
class Change:
    """What happened to an object, and the object after it; before it went, where it is gone."""

    gone: bool
    object: Object


class Kube:
    """One connection. Threads may share it. `host` is the API server's address."""

    def __init__(self, client: Any, limits: KubeLimits) -> None:
        self._client = client  # kubernetes.client.ApiClient: address, TLS, credentials that renew themselves
        self._limits = limits
        self.host: str = client.configuration.host

    @classmethod
    def open(cls, kubeconfig: str | Path | None = None, limits: KubeLimits = KubeLimits()) -> Kube:
        """Find the cluster as kubectl does: this file, else KUBECONFIG, else ~/.kube/config, else this pod's account.

        Raises:
            NoCluster: there is none, or the file cannot be used.
        """
        import yaml
        from kubernetes.client import ApiClient, Configuration
        from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

        configuration = Configuration()
        # Repeating is the caller's decision: the library would send a write up to four times.
        configuration.retries = False
        named = kubeconfig or os.environ.get("KUBECONFIG")
        path = str(named or Path("~/.kube/config").expanduser())
        try:
            if named or Path(path).is_file():
                load_kube_config(path, client_configuration=configuration, persist_config=False)
            else:
                load_incluster_config(client_configuration=configuration)
        except ConfigException as error:
            looked = path if named else f"no {path}, and not in a pod"
            raise NoCluster("find the cluster", f"{looked}: {error}") from None
        except (yaml.YAMLError, OSError, ValueError, TypeError) as error:  # no YAML, another shape, no such file
            raise NoCluster("find the cluster", f"{path} cannot be read: {error}") from None
        return cls(ApiClient(configuration), limits)

    def __enter__(self) -> Kube:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # Reading

    def get(self, kind: str, namespace: str | None, name: str) -> Object:
        """One object. Raises NotFound and whatever else the tree holds."""
        return self._json("GET", f"read {_named(kind, namespace, name)}", _path(kind, namespace, name))

    def list(
        self, kind: str, namespace: str | None, labels: str = "", fields: str = "", limit: int | None = None
    ) -> tuple[Object, ...]:
        """Objects of a namespace (None: of all of them) that both selectors select; `limit` cuts the answer."""
        return self.look(kind, namespace, labels, fields, limit).objects

    def look(
        self, kind: str, namespace: str | None, labels: str = "", fields: str = "", limit: int | None = None
    ) -> Seen:
        """As `list`, with the version that `change` can start from."""
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(limit or "")}
        found = self._json("GET", f"list {_named(kind, namespace)}", _path(kind, namespace), query)
        return Seen(tuple(found["items"]), str(found["metadata"]["resourceVersion"]))

    def change(self, kind: str, namespace: str | None, labels: str, since: str, limit_s: float) -> Change | None:
        """The first change after version `since` to an object that `labels` select, waited for; None when there was
        none in `limit_s` (whole seconds, rounded up). Its object's version is the next `since`: no change is missed.

        Raises:
            Refused: 410, `since` is too long ago; list again.
        """  # fmt: skip
        query = {"labelSelector": labels, "resourceVersion": since, "timeoutSeconds": str(math.ceil(limit_s))}
        doing = f"watch {_named(kind, namespace)}"
        line = self._call("GET", doing, _path(kind, namespace), {**query, "watch": "true"}, until=b"\n")
        if not line.strip():
            return None
        event = json.loads(line.partition(b"\n")[0])
        if event["type"] == "ERROR":
            raise Refused(doing, event["object"].get("message", "it ended"), event["object"].get("code"), "Expired")
        return Change(event["type"] == "DELETED", event["object"])

    def log(
        self, namespace: str, pod: str, container: str, after: str = "", ended: bool = False,
        follow_s: float | None = None,
    ) -> Log:  # fmt: skip
        """Lines of a container whose stamp is later than `after`, in order; with `follow_s` those to come too, until
        the container ends or for so long.

        A line still being written is left for the next call, unless the container has `ended`.

        Raises:
            NotFound: the pod is gone, and its log with it.
            Refused: 400, the container has not started yet.
        """
        query = {"container": container, "timestamps": "true", "sinceTime": after}
        path, doing = f"{_path('Pod', namespace, pod)}/log", f"read the log of Pod {namespace}/{pod}"
        if follow_s is None:
            read = self._call("GET", doing, path, query)
        else:
            read = self._call("GET", doing, path, {**query, "follow": "true"}, until=b"", follow_s=follow_s)
        text = read.decode("utf-8", "replace")
        *whole, rest = text.split("\n")
        pairs = [line.partition(" ") for line in (*whole, rest) if line and (ended or line is not rest)]
        # While a pod goes the kubelet answers 200 with words of its own (`failed to try resolving symlinks ...`).
        pairs = [pair for pair in pairs if STAMP.fullmatch(pair[0])]
        # The server drops the fraction of sinceTime, so the line of `after` comes again, if it is still there.
        gap = bool(after and pairs) and after not in {stamp for stamp, _, _ in pairs}
        return Log(tuple(LogLine(stamp, said) for stamp, _, said in pairs if stamp > after), gap)

    def events(self, namespace: str, uid: str) -> tuple[Object, ...]:
        """Events about one object, oldest first."""
        found = self.list("Event", namespace, fields=f"involvedObject.uid={uid}")
        return tuple(sorted(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or "")))

    def allowed(self, verb: str, kind: str, namespace: str | None, name: str = "", subresource: str = "") -> bool:
        """Whether this account may do it. Needs no right of its own."""
        api, plural, _ = KINDS[kind]
        group = api.rpartition("/")[0]
        asked = {"verb": verb, "group": group, "resource": plural, "subresource": subresource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**asked, "namespace": namespace or "", "name": name}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self._json("POST", "ask what is allowed", path, body=review)["status"]["allowed"])

    def version(self) -> str:
        """The API server's version, `v1.34.4`."""
        return str(self._json("GET", "ask for the version", "/version")["gitVersion"])

    # Writing: each is one request, conditional where its body says so

    def create(
        self, kind: str, namespace: str | None, body: Mapping[str, Any], manager: str = "llama-assets"
    ) -> Object:
        """Make a new object. Raises Conflict with `exists` when the name is taken."""
        doing = f"create {_named(kind, namespace, body['metadata'].get('name', ''))}"
        return self._json("POST", doing, _path(kind, namespace), {"fieldManager": manager}, _typed(kind, body))

    def replace(
        self, kind: str, namespace: str | None, name: str, body: Mapping[str, Any], manager: str = "llama-assets"
    ) -> Object:
        """PUT the whole object. With `metadata.resourceVersion` it is a compare-and-swap (Conflict when it moved);
        a Lease that does not exist is created by it, which RBAC can grant by name.
        """  # fmt: skip
        doing = f"replace {_named(kind, namespace, name)}"
        path = _path(kind, namespace, name)
        return self._json("PUT", doing, path, {"fieldManager": manager}, _typed(kind, body))

    def patch(
        self, kind: str, namespace: str | None, name: str, body: Mapping[str, Any],
        manager: str = "llama-assets", dry_run: bool = False,
    ) -> Object:  # fmt: skip
        """Merge `body` into the object. `metadata.resourceVersion` and `metadata.uid` in it are conditions: Conflict
        when the version moved, Invalid (`metadata.uid: ... field is immutable`) when it is another object by now.
        """
        query = {"fieldManager": manager, "dryRun": "All" if dry_run else ""}
        doing = f"patch {_named(kind, namespace, name)}"
        return self._json("PATCH", doing, _path(kind, namespace, name), query, dict(body), "merge-patch+json")

    def apply(
        self, kind: str, namespace: str | None, body: Mapping[str, Any],
        manager: str = "llama-assets", force: bool = False, dry_run: bool = False,
    ) -> Applied:  # fmt: skip
        """Server-side apply: the fields of `body` become ours, fields we stop sending go.

        Raises:
            Conflict: without `force`, when others own fields of it; `owners` names them.
        """
        name = str(body["metadata"]["name"])
        path = _path(kind, namespace, name)
        before: Object | None = None
        with contextlib.suppress(NotFound):
            before = self._json("GET", f"read {_named(kind, namespace, name)}", path)
        query = {"fieldManager": manager, "force": "true" if force else "", "dryRun": "All" if dry_run else ""}
        doing = f"apply {_named(kind, namespace, name)}"
        after = self._json("PATCH", doing, path, query, _typed(kind, body), "apply-patch+yaml")
        return Applied(after, created=before is None, changed=before is None or _said(before) != _said(after))

    def delete(
        self, kind: str, namespace: str | None, name: str, uid: str | None = None,
        propagation: Propagation = "Foreground", grace_s: int | None = None,
    ) -> None:  # fmt: skip
        """Delete it and what it owns; with Foreground it stays, with a deletionTimestamp, until what it owns is gone.

        Raises:
            NotFound: it is gone already.
            Conflict: `uid` is not its uid: somebody else's object has taken the name.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        self._call("DELETE", f"delete {_named(kind, namespace, name)}", _path(kind, namespace, name), body=options)

    # One request

    def _json(
        self, method: str, doing: str, path: str, query: Mapping[str, str] | None = None,
        body: Object | None = None, content: str = "json",
    ) -> Object:  # fmt: skip
        answer = self._call(method, doing, path, query, body, content)
        try:
            found: Object = json.loads(answer)
        except ValueError as error:
            raise Refused(doing, f"{self.host} does not answer as the Kubernetes API does: {error}") from None
        return found

    def _call(
        self, method: str, doing: str, path: str, query: Mapping[str, str] | None = None,
        body: Object | None = None, content: str = "json", until: bytes | None = None, follow_s: float | None = None,
    ) -> bytes:  # fmt: skip
        from kubernetes.config import ConfigException
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        asked = urlencode({key: value for key, value in (query or {}).items() if value})
        headers = {"Accept": "application/json, */*", "Content-Type": f"application/{content}"}
        try:
            self._client.update_params_for_auth(headers, [], ["BearerToken"])  # renews a token that is about to expire
            answer: BaseHTTPResponse = self._client.rest_client.pool_manager.request(
                method,
                f"{self.host}{path}{'?' if asked else ''}{asked}",
                headers=headers,
                body=None if body is None else json.dumps(body),
                timeout=Timeout(connect=self._limits.connect_s, read=follow_s or self._limits.read_s),
                preload_content=until is None,
            )
            text = answer.data if until is None or answer.status >= 400 else _part(answer, until, follow_s)
        except ConfigException as error:
            raise NoCluster(doing, str(error)) from None
        except HTTPError as error:
            raise _no_answer(doing, self.host, error) from None
        if answer.status >= 400:
            raise _said_no(doing, answer.status, text, answer.headers)
        return text


def _part(answer: BaseHTTPResponse, until: bytes, follow_s: float | None) -> bytes:
    """What comes until these bytes or the answer's end; of a followed log, what comes until it is quiet or time is up.
    The connection is of no use afterwards, unless the answer ended.
    """  # fmt: skip
    from urllib3.exceptions import ReadTimeoutError

    read, end = b"", time.monotonic() + (follow_s or math.inf)
    try:
        for block in answer.stream():
            read += block
            if (until and until in block) or time.monotonic() > end:
                answer.close()
                break
    except ReadTimeoutError:
        if follow_s is None:
            raise
        answer.close()
    return read


def _path(kind: str, namespace: str | None, name: str = "") -> str:
    api, plural, inside = KINDS[kind]
    root = "/api" if api == "v1" else "/apis"
    place = f"/namespaces/{quote(namespace, safe='')}" if inside and namespace else ""
    return f"{root}/{api}{place}/{plural}" + (f"/{quote(name, safe='')}" if name else "")


def _named(kind: str, namespace: str | None, name: str = "") -> str:
    inside = namespace if KINDS[kind][2] else ""
    return f"{kind} {'/'.join(part for part in (inside, name) if part)}".rstrip()


def _typed(kind: str, body: Mapping[str, Any]) -> Object:
    """A server-side apply wants both; elsewhere they do no harm."""
    return {"apiVersion": KINDS[kind][0], "kind": kind, **body}


def _said(found: Object) -> Object:
    """What an apply could have changed: all but the bookkeeping, which a dry run moves too."""
    kept = {"managedFields", "resourceVersion", "generation"}
    return {**found, "metadata": {key: value for key, value in found["metadata"].items() if key not in kept}}


def _no_answer(doing: str, host: str, error: Exception) -> KubeError:
    """A failed handshake for a reason that stays is not trouble that passes."""
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
        return NoCluster(doing, f"{host} is not who the kubeconfig says: {error}")
    return Unreachable(doing, f"{host} does not answer ({type(error).__name__}: {error})")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        yield from (part for part in error.args if isinstance(part, BaseException))
        error = error.__cause__ or error.__context__


# Which answer is which error. 404 and 409 are normal in every loop; the rest of the 4xx will not change by itself.
BY_STATUS: dict[int, type[KubeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    408: Overloaded,  # the API server gave up waiting for its store
    429: Overloaded,  # too many requests, or an eviction that a budget forbids for now
}


def _said_no(doing: str, status: int, text: bytes, headers: Mapping[str, str]) -> KubeError:
    try:
        said = json.loads(text)
        message, reason, details = said["message"], said.get("reason") or "", said.get("details") or {}
    except (ValueError, KeyError, TypeError):  # a proxy, or an API server that is not ready yet
        message, reason, details = text.decode("utf-8", "replace").strip()[:500] or f"HTTP {status}", "", {}
    if (wait := headers.get("Retry-After", "")).isdigit():
        details = {"retryAfterSeconds": float(wait), **details}
    kind = BY_STATUS.get(status) or (Overloaded if status >= 500 else Refused)
    return kind(doing, message, status, reason, details)
