"""Who else scales a workload of the card: found and named before anything is written.

Goes out: one `Owner` for each autoscaler or GitOps tool, with what to do about it. It is an obstacle when it would put
replicas back while we hold the card; what may not be read is said, and judged by what the tool does when nobody set it
up otherwise. A lease that is scaled back all the same ends by itself (`lease.watch`), so a doubt is no obstacle.

    KEDA ScaledObject      an obstacle unless paused: it scales up from 0 whenever a trigger fires
    HorizontalPodAutoscaler  none: it does nothing at 0 replicas
    Argo CD Application    only with automated.selfHeal, replicas in its manifests, and no ignoreDifferences on them
    Flux Kustomization     when it sends replicas: it corrects drift at every interval, unless it is suspended
    Flux HelmRelease       only with driftDetection.mode enabled, and no ignore rule for replicas
    Helm, other owners     none: they act when somebody upgrades, or as an operator of their own pleases; named

Reads: the workloads, lists of ScaledObjects and HPAs beside them, one Application, Kustomization or HelmRelease by
name. A kind that the API server does not know (404) is a tool that is not installed. Not here: what is done about it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from llama_assets.gpu.errors import ScaledByOthers
from llama_assets.gpu.objects import Ref
from llama_assets.kube import Forbidden, Kube, NotFound, Object

OURS = "llama-assets-lease"  # the field manager under which the lease writes replicas
ARGO_NAMESPACE = "argocd"
REPLICAS = "/spec/replicas"
ARGO, KEDA = "argocd.argoproj.io", "autoscaling.keda.sh"
KUSTOMIZE, HELM_TOOLKIT = "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io"


@dataclass(frozen=True)
class Owner:
    """Somebody else who scales `ref`. `says` ends with what to do, where something is to be done."""

    ref: Ref
    what: str
    says: str
    obstacle: bool = False

    def __str__(self) -> str:
        return f"{self.ref}: {self.what} {self.says}"


def owners(kube: Kube, refs: tuple[Ref, ...]) -> tuple[Owner, ...]:
    """Everybody else who scales these workloads; nothing is written. A workload that is not there has no owner.

    Raises:
        KubeError: the API server does not answer.
    """
    scalers = {namespace: _Autoscalers.of(kube, namespace) for namespace in sorted({ref.namespace for ref in refs})}
    found: list[Owner] = []
    for ref in refs:
        try:
            workload = kube.get(ref.kind, ref.namespace, ref.name)
        except (NotFound, Forbidden):  # taking it says so in its own words
            continue
        found += scalers[ref.namespace].about(ref)
        found += _gitops(kube, ref, workload)
    return tuple(found)


def refuse_obstacles(found: tuple[Owner, ...], say: Callable[[str], None]) -> None:
    """Say who else scales a workload. Raises ScaledByOthers, naming each, when one of them would scale it back."""
    for owner in found:
        if not owner.obstacle:
            say(f"gpu lease: {owner}")
    if obstacles := tuple(str(owner) for owner in found if owner.obstacle):
        raise ScaledByOthers(obstacles)


# Autoscalers


@dataclass(frozen=True)
class _Autoscalers:
    """ScaledObjects and HPAs of a namespace; None: they may not be listed."""

    scaled_objects: tuple[Object, ...] | None
    hpas: tuple[Object, ...] | None

    @classmethod
    def of(cls, kube: Kube, namespace: str) -> _Autoscalers:
        return cls(_listed(kube, "ScaledObject", namespace), _listed(kube, "HorizontalPodAutoscaler", namespace))

    def about(self, ref: Ref) -> Iterator[Owner]:
        for found in _targeting(self.scaled_objects, ref):
            yield _keda(ref, found)
        for found in _targeting(self.hpas, ref):
            name = f"HorizontalPodAutoscaler {_name(found)}"
            if any(owner.get("kind") == "ScaledObject" for owner in found["metadata"].get("ownerReferences") or ()):
                continue  # KEDA's own
            yield Owner(ref, name, "targets it; it does nothing while replicas are 0, and goes on once they are back")
        unread = [
            f"{kind}s" for kind, found in (("ScaledObject", self.scaled_objects), ("HPA", self.hpas)) if found is None
        ]
        if unread:
            yield Owner(
                ref,
                " and ".join(unread),
                f"of namespace {ref.namespace} may not be listed by this account, so it is not known whether one "
                "scales it; a lease that is scaled back ends by itself",
            )


def _listed(kube: Kube, kind: str, namespace: str) -> tuple[Object, ...] | None:
    try:
        return kube.list(kind, namespace)
    except NotFound:
        return ()
    except Forbidden:
        return None


def _targeting(found: tuple[Object, ...] | None, ref: Ref) -> Iterator[Object]:
    for each in found or ():
        target = (each.get("spec") or {}).get("scaleTargetRef") or {}
        if (target.get("kind") or "Deployment", target.get("name")) == (ref.kind, ref.name):
            yield each


def _keda(ref: Ref, found: Object) -> Owner:
    what, notes = f"ScaledObject {_name(found)}", found["metadata"].get("annotations") or {}
    paused, at = notes.get(f"{KEDA}/paused"), notes.get(f"{KEDA}/paused-replicas")
    if at is not None:
        return Owner(ref, what, f"is paused at {at} replicas (annotation {KEDA}/paused-replicas)")
    if paused is not None and paused.lower() != "false":
        return Owner(ref, what, f"is paused (annotation {KEDA}/paused)")
    return Owner(
        ref,
        what,
        "scales it, and would scale it up from 0 while we hold the card; pause it first: "
        f"`kubectl -n {ref.namespace} annotate scaledobject {found['metadata']['name']} {KEDA}/paused=true`",
        obstacle=True,
    )


# GitOps tools and other owners


def _gitops(kube: Kube, ref: Ref, workload: Object) -> Iterator[Owner]:
    metadata = workload["metadata"]
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if application := _application(labels, notes, _managers(workload)):
        yield _argo(kube, ref, workload, *application)
    if f"{KUSTOMIZE}/name" in labels:
        yield _kustomization(kube, ref, workload, labels, notes)
    if f"{HELM_TOOLKIT}/name" in labels:
        yield _helm_release(kube, ref, labels)
    elif release := notes.get("meta.helm.sh/release-name"):
        yield Owner(ref, f"Helm release {release}", "made it; an upgrade meanwhile sets replicas as its values say")
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            says = "controls it; should its operator set replicas back, the lease ends"
            yield Owner(ref, f"{owner['kind']} {owner['name']}", says)


def _application(labels: dict[str, str], notes: dict[str, str], managers: set[str]) -> tuple[str, str] | None:
    """Namespace and name of the Argo CD Application that tracks the object, if one does."""
    if tracking := notes.get(f"{ARGO}/tracking-id"):
        return _named_application(tracking.partition(":")[0])
    if named := labels.get(f"{ARGO}/instance") or notes.get(f"{ARGO}/instance"):
        return _named_application(named)
    # The default label of label tracking is everybody's, Helm's too: only together with Argo's own writes is it Argo's.
    named = labels.get("app.kubernetes.io/instance")
    return _named_application(named) if named and any(name.startswith("argocd") for name in managers) else None


def _named_application(text: str) -> tuple[str, str]:
    """An Application outside of Argo CD's own namespace is written namespace_name."""
    namespace, apart, name = text.partition("_")
    return (namespace, name) if apart else (ARGO_NAMESPACE, text)


def _argo(kube: Kube, ref: Ref, workload: Object, namespace: str, name: str) -> Owner:
    what = f"Argo CD Application {namespace}/{name}"
    if _sends_replicas(workload, "argocd") is False:
        return Owner(ref, what, "owns it and does not set its replicas")
    ignore = (
        f"give it ignoreDifferences {{group: apps, kind: {ref.kind}, name: {ref.name}, jsonPointers: [{REPLICAS}]}} "
        "and syncOption RespectIgnoreDifferences=true"
    )
    try:
        spec = kube.get("Application", namespace, name).get("spec") or {}
    except NotFound:
        return Owner(ref, what, "is named on it and is not there; nobody syncs it")
    except Forbidden:
        return Owner(
            ref, what, "owns it and may not be read by this account, so it is not known whether it heals itself; a "
            f"lease that is scaled back ends by itself. If it has automated.selfHeal, {ignore}",
        )  # fmt: skip
    automated = (spec.get("syncPolicy") or {}).get("automated") or {}
    heals = bool(automated.get("selfHeal")) and automated.get("enabled") is not False
    if any(_ignores(rule, ref) for rule in spec.get("ignoreDifferences") or ()):
        return Owner(ref, what, f"owns it and ignores {REPLICAS}")
    if not heals:
        return Owner(ref, what, "owns it and does not heal itself; a sync meanwhile sets replicas back, and ends it")
    return Owner(ref, what, f"heals itself and would scale it back; {ignore}", obstacle=True)


def _ignores(rule: dict[str, Any], ref: Ref) -> bool:
    if rule.get("group") not in ("apps", "*") or rule.get("kind") not in (ref.kind, "*"):
        return False
    if rule.get("name") not in (None, "", ref.name) or rule.get("namespace") not in (None, "", ref.namespace):
        return False
    return (
        REPLICAS in (rule.get("jsonPointers") or ())
        or ".spec.replicas" in (rule.get("jqPathExpressions") or ())
        or OURS in (rule.get("managedFieldsManagers") or ())
    )


def _kustomization(kube: Kube, ref: Ref, workload: Object, labels: dict[str, str], notes: dict[str, str]) -> Owner:
    name = labels[f"{KUSTOMIZE}/name"]
    namespace = labels.get(f"{KUSTOMIZE}/namespace", "flux-system")
    what = f"Flux Kustomization {namespace}/{name}"
    off = {**labels, **notes}
    if off.get(f"{KUSTOMIZE}/reconcile") == "disabled" or off.get(f"{KUSTOMIZE}/ssa") in ("Ignore", "IfNotPresent"):
        return Owner(ref, what, "made it and leaves it alone (annotation on the workload)")
    sends = _sends_replicas(workload, "kustomize-controller")
    if sends is False:
        return Owner(ref, what, "owns it and does not set its replicas")
    try:
        if (kube.get("Kustomization", namespace, name).get("spec") or {}).get("suspend"):
            return Owner(ref, what, "owns it and is suspended")
        unread = ""
    except NotFound:
        return Owner(ref, what, "is named on it and is not there; nobody reconciles it")
    except Forbidden:  # drift is corrected unless somebody suspended it: no doubt that is in our favour
        unread = "; whether it is suspended may not be read by this account"
    way_out = (
        f"take spec.replicas out of its manifest, or annotate the workload: `kubectl -n {ref.namespace} annotate "
        f"{ref.kind.lower()} {ref.name} {KUSTOMIZE}/reconcile=disabled`"
    )
    if sends is None:
        return Owner(ref, what, f"owns it; whether it sets replicas does not show since a lease wrote them{unread}")
    return Owner(ref, what, f"sets its replicas and would scale it back{unread}; {way_out}", obstacle=True)


def _helm_release(kube: Kube, ref: Ref, labels: dict[str, str]) -> Owner:
    name = labels[f"{HELM_TOOLKIT}/name"]
    namespace = labels.get(f"{HELM_TOOLKIT}/namespace", ref.namespace)
    what = f"Flux HelmRelease {namespace}/{name}"
    ignore = f"add driftDetection.ignore [{{paths: [{REPLICAS}], target: {{kind: {ref.kind}, name: {ref.name}}}}}]"
    try:
        spec = kube.get("HelmRelease", namespace, name).get("spec") or {}
    except NotFound:
        return Owner(ref, what, "is named on it and is not there; nobody reconciles it")
    except Forbidden:
        return Owner(
            ref, what, "made it and may not be read by this account, so it is not known whether it corrects drift; "
            f"it does not by default. If it does, {ignore}",
        )  # fmt: skip
    drift = spec.get("driftDetection") or {}
    if spec.get("suspend") or drift.get("mode") != "enabled":
        return Owner(ref, what, "made it and does not correct drift; an upgrade meanwhile sets its replicas")
    for rule in drift.get("ignore") or ():
        target = rule.get("target") or {}
        if REPLICAS in (rule.get("paths") or ()) and all(
            target.get(key) in (None, "", value) for key, value in (("kind", ref.kind), ("name", ref.name))
        ):
            return Owner(ref, what, f"corrects drift and ignores {REPLICAS}")
    return Owner(ref, what, f"corrects drift and would scale it back; {ignore}", obstacle=True)


def _sends_replicas(workload: Object, manager: str) -> bool | None:
    """Do this tool's manifests set replicas? By the fields it owns, else by what was applied last (client-side).

    None: it does not show, because the lease owns the field since it wrote it.
    """
    entries = workload["metadata"].get("managedFields") or ()
    who = {str(e.get("manager")) for e in entries if "f:replicas" in ((e.get("fieldsV1") or {}).get("f:spec") or {})}
    if any(name.startswith(manager) for name in who):
        return True
    applied = (workload["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/last-applied-configuration")
    if manager == "argocd" and applied:
        try:
            return "replicas" in json.loads(applied)["spec"]
        except (ValueError, KeyError, TypeError):  # not what kubectl writes: it tells nothing
            return None
    return None if OURS in who else False


def _managers(workload: Object) -> set[str]:
    return {str(entry.get("manager")) for entry in workload["metadata"].get("managedFields") or ()}


def _name(found: Object) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
