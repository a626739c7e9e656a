"""Who else scales a tenant is named, and who would scale it back is refused before anything is scaled."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml

from llama_assets.gpu.courtesy import owners
from llama_assets.gpu.errors import ScaledByOthers
from llama_assets.gpu.objects import Ref
from llama_assets.kube import KINDS, Kube, NotFound, Trouble
from tests.cluster import Cluster, until
from tests.gpu.place import Place

TOOLS = {
    "ScaledObject": "keda.sh",
    "Application": "argoproj.io",
    "Kustomization": "kustomize.toolkit.fluxcd.io",
    "HelmRelease": "helm.toolkit.fluxcd.io",
}


@pytest.fixture(scope="module")
def tools(cluster: Cluster) -> Iterator[None]:
    """The API of KEDA, Argo CD and Flux, as far as it is asked here, where the cluster does not have the real one."""
    made: list[str] = []
    try:
        yield from _made(cluster, made)
    finally:
        if made:
            cluster.kubectl("delete", "--wait=false", *made)


def _made(cluster: Cluster, made: list[str]) -> Iterator[None]:
    for kind, group in TOOLS.items():
        version, plural = KINDS[kind][0].rpartition("/")[2], KINDS[kind][1]
        body = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}", "labels": {"llama-assets/test": "true"}},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [{"name": version, "served": True, "storage": True, "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}],
            },
        }  # fmt: skip
        if f"{plural}.{group}" not in cluster.kubectl("get", "crd", "-o", "name"):
            cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(body))
            made.append(f"crd/{plural}.{group}")
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{plural}.{group}", "--timeout=30s")
    until("the tools' API answers", lambda: all(_served(cluster.kube, kind) for kind in TOOLS))
    yield


def _served(kube: Kube, kind: str) -> bool:
    try:
        kube.list(kind, "default")
    except (NotFound, Trouble):  # not yet, or its storage is being made
        return False
    return True


@dataclass
class Tenant:
    """A Deployment at one replica, whose pod starts nowhere: nothing here waits for pods."""

    place: Place
    ref: Ref

    def annotate(self, labels: dict[str, str] | None = None, **notes: str) -> None:
        metadata = {"labels": labels or {}, "annotations": notes}
        self.place.kube.patch("Deployment", self.ref.namespace, self.ref.name, {"metadata": metadata}, manager="test")

    def applied_by(self, manager: str, spec: dict[str, object]) -> None:
        body = {"metadata": {"name": self.ref.name}, "spec": spec}
        self.place.kube.apply("Deployment", self.ref.namespace, body, manager=manager, force=True)

    def beside(self, kind: str, spec: dict[str, object], name: str = "", **notes: str) -> None:
        metadata = {"name": name or self.ref.name, "annotations": notes}
        self.place.kube.create(kind, self.ref.namespace, {"metadata": metadata, "spec": spec})


def keda(tenant: Tenant) -> None:
    tenant.beside("ScaledObject", {"scaleTargetRef": {"name": tenant.ref.name}, "triggers": []})


def keda_paused(tenant: Tenant) -> None:
    spec = {"scaleTargetRef": {"name": tenant.ref.name, "kind": "Deployment"}, "triggers": []}
    tenant.beside("ScaledObject", spec, **{"autoscaling.keda.sh/paused": "true"})


def keda_held(tenant: Tenant) -> None:
    spec = {"scaleTargetRef": {"name": tenant.ref.name}, "triggers": []}
    tenant.beside("ScaledObject", spec, **{"autoscaling.keda.sh/paused-replicas": "0"})


def keda_of_another(tenant: Tenant) -> None:
    tenant.beside("ScaledObject", {"scaleTargetRef": {"name": "somebody-else"}, "triggers": []})


def hpa(tenant: Tenant) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": tenant.ref.name}
    tenant.beside("HorizontalPodAutoscaler", {"scaleTargetRef": target, "maxReplicas": 3})


def argo(tenant: Tenant, automated: dict[str, bool], **more: object) -> None:
    tenant.applied_by("argocd-controller", {"replicas": 1})
    of = f"{tenant.ref.namespace}_{tenant.ref.name}:apps/Deployment:{tenant.ref.namespace}/{tenant.ref.name}"
    tenant.annotate(**{"argocd.argoproj.io/tracking-id": of})
    tenant.beside("Application", {"syncPolicy": {"automated": automated}, **more})


def argo_heals(tenant: Tenant) -> None:
    argo(tenant, {"selfHeal": True})


def argo_switched_off(tenant: Tenant) -> None:
    argo(tenant, {"selfHeal": True, "enabled": False})


def argo_ignores(tenant: Tenant) -> None:
    rule = {"group": "apps", "kind": "Deployment", "name": tenant.ref.name, "jsonPointers": ["/spec/replicas"]}
    argo(tenant, {"selfHeal": True}, ignoreDifferences=[rule])


def argo_ignores_another(tenant: Tenant) -> None:
    rule = {"group": "apps", "kind": "Deployment", "name": "another", "jsonPointers": ["/spec/replicas"]}
    argo(tenant, {"selfHeal": True}, ignoreDifferences=[rule])


def argo_without_replicas(tenant: Tenant) -> None:
    applied = json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {}}})
    notes = {
        "argocd.argoproj.io/tracking-id": f"{tenant.ref.namespace}_any:apps/Deployment:x/y",
        "kubectl.kubernetes.io/last-applied-configuration": applied,
    }
    tenant.annotate(**notes)


def helm_label_alone(tenant: Tenant) -> None:
    tenant.annotate({"app.kubernetes.io/instance": "immich"})


def flux(tenant: Tenant, **spec: object) -> None:
    tenant.applied_by("kustomize-controller", {"replicas": 1})
    group = "kustomize.toolkit.fluxcd.io"
    tenant.annotate({f"{group}/name": tenant.ref.name, f"{group}/namespace": tenant.ref.namespace})
    tenant.beside("Kustomization", {"interval": "10m", **spec})


def flux_suspended(tenant: Tenant) -> None:
    flux(tenant, suspend=True)


def flux_told_to_leave_it(tenant: Tenant) -> None:
    flux(tenant)
    tenant.annotate(**{"kustomize.toolkit.fluxcd.io/reconcile": "disabled"})


def flux_helm(tenant: Tenant, mode: str = "enabled", ignore: tuple[object, ...] = ()) -> None:
    group = "helm.toolkit.fluxcd.io"
    tenant.annotate(
        {f"{group}/name": tenant.ref.name, f"{group}/namespace": tenant.ref.namespace},
        **{"meta.helm.sh/release-name": tenant.ref.name},
    )
    tenant.beside("HelmRelease", {"driftDetection": {"mode": mode, "ignore": list(ignore)}})


def flux_helm_warns(tenant: Tenant) -> None:
    flux_helm(tenant, "warn")


def flux_helm_ignores(tenant: Tenant) -> None:
    flux_helm(tenant, ignore=({"paths": ["/spec/replicas"], "target": {"kind": "Deployment"}},))


def helm(tenant: Tenant) -> None:
    tenant.annotate({"app.kubernetes.io/managed-by": "Helm"}, **{"meta.helm.sh/release-name": "immich"})


OBSTACLES: dict[Callable[[Tenant], None], str] = {
    keda: r"ScaledObject \S+ scales it, .*annotate scaledobject keda autoscaling.keda.sh/paused=true",
    argo_heals: r"Argo CD Application \S+/argo-heals heals itself .*ignoreDifferences .*: \[/spec/replicas\]",
    argo_ignores_another: r"Argo CD Application \S+ heals itself",
    flux: r"Flux Kustomization \S+/flux sets its replicas .*annotate deployment flux \S+/reconcile=disabled",
    flux_helm: r"Flux HelmRelease \S+ corrects drift .*driftDetection.ignore",
}
NAMED: dict[Callable[[Tenant], None], str] = {
    keda_paused: r"ScaledObject \S+ is paused",
    keda_held: r"ScaledObject \S+ is paused at 0 replicas",
    hpa: r"HorizontalPodAutoscaler \S+/hpa targets it; it does nothing while replicas are 0",
    argo_switched_off: r"Application \S+ owns it and does not heal itself",
    argo_ignores: r"Application \S+ owns it and ignores /spec/replicas",
    argo_without_replicas: r"Application \S+/any owns it and does not set its replicas",
    flux_suspended: r"Kustomization \S+ owns it and is suspended",
    flux_told_to_leave_it: r"Kustomization \S+ made it and leaves it alone",
    flux_helm_warns: r"HelmRelease \S+ made it and does not correct drift",
    flux_helm_ignores: r"HelmRelease \S+ corrects drift and ignores /spec/replicas",
    helm: r"Helm release immich made it",
}
UNNAMED: tuple[Callable[[Tenant], None], ...] = (keda_of_another, helm_label_alone)


@pytest.fixture
def tenant(place: Place, request: pytest.FixtureRequest) -> Tenant:
    prepare = request.node.callspec.params["prepare"]
    name = prepare.__name__.replace("_", "-")
    tenant = Tenant(place, place.workload(name, 1, asleep=True))
    prepare(tenant)
    return tenant


def _id(prepare: Callable[[Tenant], None]) -> str:
    return prepare.__name__


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("prepare", OBSTACLES, ids=_id)
def test_who_would_scale_a_tenant_back_is_refused_by_name_before_any_write(place, tenant, prepare):
    lease = place.lease(tenant.ref, name=tenant.ref.name)
    said: list[str] = []
    with pytest.raises(ScaledByOthers, match=OBSTACLES[prepare]) as refused:
        lease.take("test", "a test", said.append).__enter__()
    assert str(refused.value).startswith(f"nothing was scaled, because it would be scaled back. {tenant.ref}: ")
    assert place.at(tenant.ref) == (1, None)
    with pytest.raises(NotFound):
        place.holder_of(tenant.ref.name)
    (obstacle,) = lease.preview().obstacles
    assert obstacle in str(refused.value)


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("prepare", NAMED, ids=_id)
def test_who_scales_a_tenant_and_stands_aside_is_named(place, tenant, prepare):
    (owner,) = owners(place.kube, (tenant.ref,))
    assert not owner.obstacle
    assert re.search(NAMED[prepare], str(owner)), owner
    found = place.lease(tenant.ref, name=tenant.ref.name).preview()
    assert str(owner) in found.lines and found.obstacles == ()
    assert place.at(tenant.ref) == (1, None)


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("prepare", UNNAMED, ids=_id)
def test_what_is_no_owner_of_the_tenant_is_not_named(place, tenant, prepare):
    assert owners(place.kube, (tenant.ref,)) == ()
