"""Asks each room what is wrong with it, and says what to do; changes nothing.

Findings come in the order of the graph: settings, catalog, question, photos, Hub, store, engine, lease; in a cluster
also what the graph needs there: claims, Secrets, accounts, rights, tenants, the reaper. One bad finding does not hide
the next. Not here: how a room finds out (each room's own errors say it best).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from llama_assets.catalog import Catalog
from llama_assets.gpu import LeaseTimes
from llama_assets.kube import Forbidden, KubeError, NotFound, Object
from llama_assets.platforms import ALERT_URL, ENGINE, HUB_TOKEN, ClusterPlatform, Platform, open_platform
from llama_assets.settings import Settings

INSTALL = "`kubectl apply -k manifests/overlays/default` makes it"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `says` is the room's own sentence. Not `known`: this account may not see it; no fault."""

    about: str
    good: bool
    says: str
    known: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        indented = self.says.replace("\n", "\n" + " " * 11)
        mark = "BAD" if not self.good else "ok " if self.known else "?  "
        return f"{mark} {self.about:<6} {indented}"


def examine(*, offline: bool = False) -> Iterator[Finding]:
    """Everything there is to say, one finding at a time. `offline` leaves out the Hub."""
    try:
        platform = open_platform(Settings.read())
    except Exception as error:
        yield _bad("env", error)
        return
    yield Finding("env", True, f"platform {platform.name}, store {platform.settings.store}, results {platform.results}")
    try:
        catalog = platform.catalog()
    except Exception as error:
        yield _bad("models", error)
        return
    yield Finding(
        "models", True, f"{len(catalog.models)} in the catalog: {', '.join(model.id for model in catalog.models)}"
    )
    yield from _looked(_alerts, platform, catalog)
    if not offline:
        yield from _looked(_hub, platform, catalog)
    if isinstance(platform, ClusterPlatform):
        yield from _in_the_cluster(platform, catalog)
        return
    looks: list[Callable[[Platform, Catalog], Iterator[Finding]]] = [
        _question, _photos, _store, _engine, _lease, _immich,
    ]  # fmt: skip
    for look in looks:
        yield from _looked(look, platform, catalog)


P = TypeVar("P", bound=Platform)


def _looked(look: Callable[[P, Catalog], Iterator[Finding]], platform: P, catalog: Catalog) -> Iterator[Finding]:
    try:
        yield from look(platform, catalog)
    except Exception as error:
        yield _bad(look.__name__.strip("_")[:6], error)


def _bad(about: str, error: Exception) -> Finding:
    if not hasattr(error, "exit_status"):
        raise error
    return Finding(about, False, str(error))


def _not_seen(about: str, error: Forbidden) -> Finding:
    return Finding(about, True, f"not known, this account may not see it: {error.message}", known=False)


def _alerts(platform: Platform, _: Catalog) -> Iterator[Finding]:
    from llama_assets.alerts import Receiver

    settings = platform.settings
    if settings.alert_url is None:
        where = f" here; Secret {ALERT_URL.secret} says it for the cluster" if platform.name == "kubernetes" else ""
        says = f"nobody is told of red checks and failed runs: LLAMA_ASSETS_ALERT_URL is not set{where}"
        yield Finding("alerts", True, says)
        return
    receiver = Receiver(settings.alert_url.get_secret_value(), settings.alert_format)
    links = "" if settings.ui_url else "; LLAMA_ASSETS_UI_URL would add links"
    says = (
        f"told to {receiver.host} in the form of {receiver.format}{links}; `llama-assets alerts test` sends a message"
    )
    yield Finding("alerts", True, says)


def _hub(platform: Platform, catalog: Catalog) -> Iterator[Finding]:
    from llama_assets.hub import HubLimits

    hub = platform.hub(HubLimits(attempts=1))  # a person waits; what is wrong now is what is asked
    for model in catalog.models:
        try:
            revision = hub.resolve(model)
        except Exception as error:
            yield _bad("hub", error)
        else:
            files = ", ".join(file.path for file in revision.files)
            yield Finding(
                "hub",
                True,
                f"{model.id}: {model.repo}@{revision.commit[:12]} has {files}, {revision.bytes / 1e9:.2f} GB",
            )


def _question(_: Platform, catalog: Catalog) -> Iterator[Finding]:
    from llama_assets.bench.question import Question

    for name, files in catalog.benchmark.questions.items():
        question = Question.load(files)
        enforced = f"{len(question.grammar)} characters of grammar" if question.grammar else "response_format"
        ranked = f"ranked by {question.ranking_key}" if question.ranking_key else "ranks nothing"
        yield Finding("asked", True, f"{f'{name}: ' if name else ''}{ranked}, enforced by {enforced}")


def _photos(platform: Platform, catalog: Catalog) -> Iterator[Finding]:
    notes: list[str] = []
    with platform.photos() as source:
        found = len(source.listed(notes.append))
    wanted = catalog.benchmark.photos
    enough = "" if found >= wanted else f"; benchmark.photos asks for {wanted}, so all of them are used"
    yield Finding("photos", True, f"{found} in {source.where}{enough}")
    yield from (Finding("photos", True, note) for note in notes)


def _store(platform: Platform, catalog: Catalog) -> Iterator[Finding]:
    from llama_assets.store import short
    from llama_assets.tasks.candidates import lineup, serving_by

    root = platform.settings.store
    store = platform.store()
    for model in catalog.models:
        current = store.current(model.id)
        says = (
            f"fingerprint {short(current.fingerprint)}, {current.bytes / 1e9:.2f} GB" if current else "not fetched yet"
        )
        yield Finding("store", True, f"{model.id}: {says}")
    beside = lineup(store, catalog.models, serving_by(platform, catalog), automatic=True)
    for arm, why in beside.quarantined.items():
        yield Finding("store", False, f"{arm} is not served, {why}")
    for one in beside.waiting:
        todo = f"`llama-assets promote {one.of}` or `llama-assets reject {one.of} {short(one.published.fingerprint)}`"
        yield Finding("store", True, f"{one.arm} waits for a person, {todo}: {one.last or 'the engine is not ours'}")
    there = next(folder for folder in [root.absolute(), *root.absolute().parents] if folder.is_dir())
    yield Finding("store", True, f"{shutil.disk_usage(there).free / 1e9:.0f} GB free in {there}")


def _engine(platform: Platform, _: Catalog) -> Iterator[Finding]:
    yield Finding("engine", True, platform.engine_plan())


def _lease(platform: Platform, catalog: Catalog) -> Iterator[Finding]:
    lease = platform.lease(catalog)
    record, living = lease.status()
    yield Finding(
        "lease", True, f"{f'held by {record.holder} since {record.acquired_at}' if living else 'free'}; {lease.plan}"
    )


def _immich(platform: Platform, catalog: Catalog) -> Iterator[Finding]:
    """Only where there is an administrator's key."""
    courtesy = platform.courtesy(catalog, lambda _: None)
    if courtesy is not None and (left := courtesy.left()):
        says = f"queues {', '.join(left)} were left paused by a holder that died; `llama-assets courtesy` resumes them"
        yield Finding("immich", False, says)
    elif courtesy is not None:
        yield Finding("immich", True, "its machine learning queues wait while the card is leased")


# What is in the cluster. The store and the photos lie on claims, which only tasks mount.


def _in_the_cluster(platform: ClusterPlatform, catalog: Catalog) -> Iterator[Finding]:
    yield from _looked(_question, platform, catalog)
    try:
        found = platform.kube
        yield Finding("api", True, f"Kubernetes {found.version()} at {found.host}")
    except KubeError as error:  # nothing else can be asked
        yield _bad("api", error)
        return
    for look in (_namespace, _claims, _images, _secrets, _accounts, _rights, _tenants, _deployed, _card):
        yield from _looked(look, platform, catalog)


def _namespace(platform: ClusterPlatform, _: Catalog) -> Iterator[Finding]:
    name = platform.settings.namespace
    try:
        platform.kube.get("Namespace", None, name)
    except NotFound:
        says = f"namespace {name} is not there. {INSTALL}, or set LLAMA_ASSETS_NAMESPACE to the one there is"
        yield Finding("space", False, says)
    except Forbidden as error:
        yield _not_seen("space", error)
    else:
        yield Finding("space", True, f"namespace {name}")


def _claims(platform: ClusterPlatform, _: Catalog) -> Iterator[Finding]:
    photos = (platform.settings.photos_claim, "photos; copy them in through a pod that mounts it")
    for name, holds in (
        ("llama-models", "the store; `gguf/*` say what it holds"),
        ("llama-results", "sessions and reports"),
        *([] if platform.settings.immich_album else [photos]),
    ):
        try:
            claim = platform.kube.get("PersistentVolumeClaim", platform.settings.namespace, name)
        except NotFound:
            yield Finding("claim", False, f"claim {name} ({holds}) is not there. {INSTALL}")
        except Forbidden as error:
            yield _not_seen("claim", error)
        else:
            yield _claim(platform, name, holds, claim)


def _claim(platform: ClusterPlatform, name: str, holds: str, claim: Object) -> Finding:
    status, wanted = claim.get("status", {}), claim["spec"]["resources"]["requests"]["storage"]
    if status.get("phase") == "Bound":
        return Finding("claim", True, f"{name}: bound, {status['capacity']['storage']}; {holds}")
    try:
        events = platform.kube.events(platform.settings.namespace, claim["metadata"]["uid"])
    except Forbidden:
        events = ()
    if any(event.get("reason") == "WaitForFirstConsumer" for event in events):
        return Finding("claim", True, f"{name}: {wanted}, bound when its first pod comes; {holds}")
    why = f": {events[-1]['message'].strip(' .')}" if events else ""
    todo = f"`kubectl describe pvc -n {platform.settings.namespace} {name}`, and `kubectl get storageclass,pv`"
    return Finding("claim", False, f"{name} is {status.get('phase')}, not bound{why}. Look at {todo}")


def _images(platform: ClusterPlatform, _: Catalog) -> Iterator[Finding]:
    name = platform.settings.image
    try:
        nodes = platform.kube.list("Node", None)
    except Forbidden as error:
        yield _not_seen("image", error)
        return
    having = [node for node in nodes if _has_image(node, name)]
    says = f"{name} is on {len(having)} of {len(nodes)} nodes"
    if not having:  # kubelets report some of their images only, and a registry may have it
        says = f"{says}: the first task pulls it, or `make image` puts it there; LLAMA_ASSETS_IMAGE names another"
    yield Finding("image", True, says, known=bool(having))


def _has_image(node: Object, name: str) -> bool:
    tagged = name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
    known = [known for image in node["status"].get("images") or [] for known in image.get("names") or []]
    return any(f"/{known}".endswith(f"/{tagged}") for known in known)


def _secrets(platform: ClusterPlatform, _: Catalog) -> Iterator[Finding]:
    namespace, mine = platform.settings.namespace, platform.settings.engine_secret
    wanted = [(HUB_TOKEN.secret, HUB_TOKEN.key, "the Hub's token, for gated repos only", True)]
    if mine:
        wanted.append((mine, "api-key", "what the engine demands of its clients", False))
    wanted.append((ALERT_URL.secret, ALERT_URL.key, "where red checks and failed runs are told", True))
    for name, key, holds, optional in wanted:
        todo = f"`kubectl create secret generic -n {namespace} {name} --from-literal={key}=...`"
        try:
            there = key in platform.kube.get("Secret", namespace, name).get("data", {})
            patch = f"""'{{"stringData": {{"{key}": "..."}}}}'"""  # `create` refuses a Secret that is there
            todo = f"`kubectl patch secret -n {namespace} {name} -p {patch}`"
        except NotFound:
            there = False
        except Forbidden as error:
            yield _not_seen("secret", error)
            continue
        says = f"Secret {name}, key {key}: {holds}"
        yield Finding("secret", there or optional, says if there else f"{says}. It is not there; {todo} makes it")


ACCOUNTS = {"llama-assets-lease": "benchmark and hold Jobs", "llama-assets-reaper": "the reaper"}


def _accounts(platform: ClusterPlatform, _: Catalog) -> Iterator[Finding]:
    for name, whose in ACCOUNTS.items():
        try:
            platform.kube.get("ServiceAccount", platform.settings.namespace, name)
        except NotFound:
            yield Finding("accnt", False, f"ServiceAccount {name}, of {whose}, is not there. {INSTALL}, with its Role")
        except Forbidden as error:
            yield _not_seen("accnt", error)
        else:
            yield Finding("accnt", True, f"ServiceAccount {name}, of {whose}")


@dataclass(frozen=True)
class Need:
    """What this account must be allowed in the namespace, and what for; without one that has a `but` it works, but."""

    purpose: str
    kind: str
    verbs: tuple[str, ...]
    name: str = ""
    subresource: str = ""
    but: str = ""

    def __str__(self) -> str:
        what = f"{self.kind}{f'/{self.subresource}' if self.subresource else ''}{f' {self.name}' if self.name else ''}"
        return f"{', '.join(self.verbs)} {what}"


def needs(catalog: Catalog) -> tuple[Need, ...]:
    """What a run asks of the API server by itself; tasks have accounts of their own."""
    applied = (("Deployment", ENGINE), ("Service", ENGINE), ("ConfigMap", f"{ENGINE}-config"))
    return (
        Need("start and follow tasks", "Job", ("create", "get", "delete")),
        Need("start and follow tasks", "Pod", ("list",)),
        Need("start and follow tasks", "Pod", ("get",), subresource="log"),
        Need("start and follow tasks", "Pod", ("watch",), but="following a task costs twice the requests"),
        Need("start and follow tasks", "Event", ("list",), but="why a task does not start is often not told"),
        *(Need("apply the engine", kind, ("get", "create", "patch"), name) for kind, name in applied),
        Need("see who has the card", "Lease", ("get",), catalog.gpu.lease),
    )


def _rights(platform: ClusterPlatform, catalog: Catalog) -> Iterator[Finding]:
    asked = needs(catalog)
    for purpose in dict.fromkeys(need.purpose for need in asked):
        lacks: list[str] = []
        dear: list[str] = []
        for need in (need for need in asked if need.purpose == purpose):
            without = tuple(verb for verb in need.verbs if not _may(platform, need, verb))
            if without:
                lack = f"{', '.join(without)} {str(need).partition(', '.join(need.verbs))[2].strip()}"
                (dear if need.but else lacks).append(f"{lack} ({need.but})" if need.but else lack)
        says = f"may {purpose}" if not lacks else f"may not {purpose}: it lacks {'; '.join(lacks)}"
        if lacks or dear:
            says += f"; {'also ' if lacks else ''}without {'; '.join(dear)}" if dear else ""
            says += ". Bind Role llama-assets-run of manifests/base/accounts.yaml to this account"
        yield Finding("rights", not lacks, says)


def _may(platform: ClusterPlatform, need: Need, verb: str) -> bool:
    return platform.kube.allowed(verb, need.kind, platform.settings.namespace, need.name, need.subresource)


def _tenants(platform: ClusterPlatform, catalog: Catalog) -> Iterator[Finding]:
    tenants = platform.card(catalog).tenants
    if not tenants:
        yield Finding("tenant", True, "none in the catalog: the card is nobody else's")
    for ref in tenants:
        try:
            found = platform.kube.get(ref.kind, ref.namespace, ref.name)
        except NotFound:
            yield Finding("tenant", False, f"{ref} is not there. Correct `tenants` in the catalog")
        except Forbidden as error:
            yield _not_seen("tenant", error)
        else:
            yield Finding("tenant", True, f"{ref}: {_standing(found)}")


def _standing(found: Object) -> str:
    from llama_assets.gpu.note import LABEL

    note = (found["metadata"].get("labels") or {}).get(LABEL)
    wanted, ready = found["spec"].get("replicas", 1), found.get("status", {}).get("readyReplicas", 0)
    taken = f"; taken down by the lease, note {note}" if note else ""
    return f"{ready} of {wanted} ready{taken}"


def _deployed(platform: ClusterPlatform, catalog: Catalog) -> Iterator[Finding]:
    yield from _looked(_engine, platform, catalog)
    if platform.settings.engine_url:
        return
    name = f"Deployment {platform.settings.namespace}/{ENGINE}"
    try:
        found = platform.kube.get("Deployment", platform.settings.namespace, ENGINE)
    except NotFound:
        yield Finding("engine", True, f"{name} is not there yet; materializing llama_swap makes it", known=False)
        return
    except Forbidden as error:
        yield _not_seen("engine", error)
        return
    from llama_assets.gpu.note import LABEL

    noted, says = LABEL in (found["metadata"].get("labels") or {}), f"{name}: {_standing(found)}"
    if catalog.gpu.sharing == "exclusive" and found["spec"].get("replicas", 1) and not noted and catalog.tenants:
        todo = f"`kubectl scale -n {platform.settings.namespace} deployment/{ENGINE} --replicas=0`"
        says += f". On an exclusive card its pod takes the card whenever a tenant restarts: {todo}, a lease starts it"
        yield Finding("engine", False, f"{says}; or set gpu.sharing to shared")
        return
    yield Finding("engine", True, says)


def _card(platform: ClusterPlatform, catalog: Catalog) -> Iterator[Finding]:
    lease = platform.lease(catalog)
    try:
        record, _ = lease.status()
    except Forbidden as error:
        yield _not_seen("lease", error)
    else:
        who = f"held by {record.holder} since {record.acquired_at}" if record.holder else "free"
        yield Finding("lease", True, f"{who}; {lease.plan}")
    yield _reaper(platform)


def _reaper(platform: ClusterPlatform) -> Finding:
    from llama_assets.gpu.workloads import HEART

    def beat() -> str:
        return str(platform.kube.get("Lease", platform.settings.namespace, HEART)["spec"].get("renewTime"))

    todo = (
        f"taking the card is refused. `kubectl get deploy,pods -n {platform.settings.namespace} -l "
        "app.kubernetes.io/name=llama-assets-reaper`; LLAMA_ASSETS_WITHOUT_REAPER=true takes it all the same"
    )
    wait_s = LeaseTimes().heart_s
    try:
        first, end = beat(), time.monotonic() + wait_s
        while time.monotonic() < end:
            if beat() != first:  # seen to change: no two machines' clocks are compared
                return Finding("reaper", True, f"a reaper beats, last at {first}")
            time.sleep(1)
    except NotFound:
        return Finding("reaper", platform.settings.without_reaper, f"no reaper has ever beaten here: {todo}. {INSTALL}")
    except Forbidden as error:
        return _not_seen("reaper", error)
    says = f"no reaper beats: Lease {HEART} did not change in {wait_s:.0f} s, last at {first}: {todo}"
    return Finding("reaper", platform.settings.without_reaper, says)
