"""Who may do what, as the API server answers it: a golden text, so that a widened Role is a line in a diff."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

from llama_assets.kube import Kube
from tests.manifests.conftest import TENANT
from tests.manifests.installation import OURS, TENANTS, Installed

ACCOUNTS = (
    "llama-assets-run", "llama-assets-lease", "llama-assets-reaper", "llama-assets-code", "dagster-daemon",
    "dagster-webserver", "default",
)  # fmt: skip
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
HERE = (  # group, resource, name: what there is, and a name that nobody has a right on
    ("coordination.k8s.io", "leases", "llama-assets-gpu"), ("coordination.k8s.io", "leases", "llama-assets-reaper"),
    ("coordination.k8s.io", "leases", "other"),
    ("apps", "deployments", "llama-swap"), ("apps", "deployments", "other"), ("apps", "deployments", ""),
    ("apps", "deployments/scale", "llama-swap"), ("apps", "statefulsets", ""), ("apps", "replicasets", ""),
    ("", "services", "llama-swap"), ("", "services", "other"),
    ("", "configmaps", "llama-swap-config"), ("", "configmaps", "llama-assets-settings"),
    ("", "secrets", "llama-assets"), ("", "secrets", "dagster-postgresql"), ("", "secrets", ""),
    ("", "pods", ""), ("", "pods/log", ""), ("", "pods/exec", ""), ("", "events", ""),
    ("", "serviceaccounts/token", ""),
    ("batch", "jobs", ""), ("batch", "jobs/status", ""), ("", "persistentvolumeclaims", ""),
    ("rbac.authorization.k8s.io", "roles", ""), ("rbac.authorization.k8s.io", "rolebindings", ""),
)  # fmt: skip
THERE = (
    ("apps", "deployments", TENANT), ("apps", "deployments", "other"), ("apps", "deployments", ""),
    ("apps", "deployments/scale", TENANT), ("apps", "statefulsets", TENANT), ("apps", "statefulsets", ""),
    ("", "pods", ""), ("", "pods/log", ""), ("", "pods/exec", ""), ("", "secrets", ""), ("", "configmaps", ""),
    ("batch", "jobs", ""), ("coordination.k8s.io", "leases", "llama-assets-gpu"), ("", "events", ""),
    ("autoscaling", "horizontalpodautoscalers", ""), ("keda.sh", "scaledobjects", ""),
    ("argoproj.io", "applications", ""), ("kustomize.toolkit.fluxcd.io", "kustomizations", ""),
    ("helm.toolkit.fluxcd.io", "helmreleases", ""),
)  # fmt: skip
EVERYWHERE = (
    ("", "nodes", ""), ("", "namespaces", ""), ("apps", "deployments", ""), ("", "pods", ""), ("", "secrets", ""),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", ""),
)  # fmt: skip


def may(kube: Kube, user: str, verb: str, namespace: str, group: str, resource: str, name: str) -> bool:
    plural, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": plural, "subresource": subresource, "name": name}
    spec = {
        "user": user,
        "groups": ["system:serviceaccounts", "system:authenticated", f"system:serviceaccounts:{user.split(':')[2]}"],
        "resourceAttributes": {**attributes, "namespace": namespace},
    }
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(kube._json("POST", "ask about rights", path, body=body)["status"].get("allowed"))


def test_each_account_may_do_this_and_nothing_else(granted: Installed, golden):
    places = [
        *(((OURS, granted.namespace), thing) for thing in HERE),
        *(((TENANTS, granted.tenants), thing) for thing in THERE),
        *((("all namespaces", ""), thing) for thing in EVERYWHERE),
    ]
    asked = [(account, place, thing, verb) for account, (place, thing), verb in product(ACCOUNTS, places, VERBS)]

    def ask(question: tuple) -> bool:
        account, (_, namespace), thing, verb = question
        user = f"system:serviceaccount:{granted.namespace}:{account}"
        return may(granted.cluster.kube, user, verb, namespace, *thing)

    with ThreadPoolExecutor(8) as pool:
        allowed = dict(zip(asked, pool.map(ask, asked), strict=True))
    lines = []
    for account in ACCOUNTS:
        lines.append(f"{account}:")
        for place, thing in places:
            verbs = [verb for verb in VERBS if allowed[account, place, thing, verb]]
            if verbs:
                group, resource, name = thing
                what = f"{resource}{f'.{group}' if group else ''}{f' {name}' if name else ''}"
                lines.append(f"  {place[0]}: {what}: {' '.join(verbs)}")
        if lines[-1] == f"{account}:":
            lines.append("  nothing")
    golden("rights.txt", "\n".join(lines) + "\n")
