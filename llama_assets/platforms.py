"""Which store, engine, lease and launcher belong together. "Local or Kubernetes?" is asked here and nowhere else.

Tasks, commands, tests and the graph open the same thing by the same call. Not here: what any of the parts does.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llama_assets import catalog as catalogs
from llama_assets.catalog import Catalog, EngineImage
from llama_assets.gpu import FileLease, Lease, LeaseTimes
from llama_assets.hub import Hub, HubLimits
from llama_assets.kube import Kube
from llama_assets.launch import Claim, JobLauncher, Launcher, ProcessLauncher, SecretKey, TaskKind, TaskPods
from llama_assets.settings import PREFIX, Settings
from llama_assets.store import Store

if TYPE_CHECKING:  # imported where it is asked: its HTTP client is a quarter of a second that a download does not need
    from llama_assets.bench import Source
    from llama_assets.engine import Drift, EngineConfig, EngineDeployment, Processes, Served, SwapClient
    from llama_assets.gpu.objects import Card
    from llama_assets.gpu.queues import Courtesy
    from llama_assets.immich import Immich


# Where a configuration names a model's verified file, whichever engine it is for: the id and the fingerprint.
SERVED_FILE = re.compile(r"/models/([a-z0-9.-]+)/([0-9a-f]{64})/model")


class PlatformError(ValueError):
    """A platform that cannot be opened; the message names the variable and what is allowed."""

    exit_status = 2


@dataclass(frozen=True)
class Applied:
    """What became of a configuration: where it lies, what was written for it (nothing: it was so), what runs now."""

    where: str
    changed: tuple[str, ...]
    config: EngineConfig
    state: str


@dataclass(frozen=True)
class EngineView:
    """One look at the engine, for people and as values."""

    good: bool
    lines: tuple[str, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Platform:
    """Where tasks run, and what they find there."""

    name: str
    settings: Settings
    launcher: Launcher

    def catalog(self) -> Catalog:
        """The catalog of this environment. Raises CatalogError."""
        return catalogs.load(self.settings.catalog)

    def hub(self, limits: HubLimits | None = None) -> Hub:
        """The Hub, as `HF_ENDPOINT` and `HF_TOKEN` say."""
        token = self.settings.hf_token
        return Hub(self.settings.hf_endpoint, token.get_secret_value() if token else None, limits or HubLimits())

    def store(self) -> Store:
        """The model volume."""
        return Store(self.settings.store)

    @property
    def has_store(self) -> bool:
        """Whether the model volume is here, so that a command may open it itself instead of asking a task."""
        return True

    @property
    def results(self) -> Path:
        """Where sessions lie."""
        return self.settings.results

    def photos(self) -> Source:
        """The photos to ask about: an album of Immich if one is named, else a folder.

        Raises:
            PlatformError: none is named, it is not a folder, or Immich's address or key is not set.
        """
        from llama_assets.bench import Folder, ImmichAlbum

        settings = self.settings
        if settings.immich_album is not None:
            if settings.immich_url is None or settings.immich_key is None:
                lacks = "LLAMA_ASSETS_IMMICH_URL" if settings.immich_url is None else "LLAMA_ASSETS_IMMICH_KEY"
                raise PlatformError(
                    f"LLAMA_ASSETS_IMMICH_ALBUM={settings.immich_album!r} needs {lacks}, which is not set"
                )
            key = settings.immich_key.get_secret_value()
            return ImmichAlbum(settings.immich_url, key, settings.immich_album, settings.immich_photos)
        folder = settings.photos
        if folder is None:
            raise PlatformError(
                "LLAMA_ASSETS_PHOTOS is not set; name the folder with the photos to ask about, or an album of Immich "
                "in LLAMA_ASSETS_IMMICH_ALBUM"
            )
        if not folder.is_dir():
            raise PlatformError(f"LLAMA_ASSETS_PHOTOS={str(folder)!r}: no such folder")
        return Folder(folder)

    def lease(self, catalog: Catalog) -> Lease:
        """Who may use the card."""
        return FileLease(self.results / f"{catalog.gpu.lease}.json", tenants=tuple(map(str, catalog.tenants)))

    def courtesy(self, catalog: Catalog, say: Callable[[str], None]) -> Courtesy | None:
        """What makes Immich's queues wait while its card is lent; None without an administrator's key.

        A tenant is Immich's when its namespace or name says so. On one machine the tenants are not touched, and their
        queues wait all the same: what they do on the card would be measured.

        Raises:
            PlatformError: there is a key and no address.
        """
        from llama_assets.gpu.queues import Courtesy, QueueLimits

        settings = self.settings
        if settings.immich_admin_key is None:
            return None
        if settings.immich_url is None:
            raise PlatformError("LLAMA_ASSETS_IMMICH_ADMIN_KEY needs LLAMA_ASSETS_IMMICH_URL, which is not set")
        if not any("immich" in str(tenant) for tenant in catalog.tenants):
            say("immich: no tenant of the catalog is Immich's (none has immich in its name), so its queues go on")
            return None
        address, key = settings.immich_url, settings.immich_admin_key.get_secret_value()

        def connect(limits: QueueLimits) -> Immich:
            from llama_assets.immich import Immich, ImmichLimits

            found = ImmichLimits(timeout_s=limits.request_s, whole_s=limits.request_s, attempts=limits.attempts)
            return Immich(address, key, "LLAMA_ASSETS_IMMICH_ADMIN_KEY", found)

        return Courtesy(self.results / "courtesy", connect, say)

    def engine(
        self,
        catalog: Catalog,
        served: Sequence[Served],
        logs: Path,
        still_held: Callable[[], bool] = lambda: True,
        say: Callable[[str], None] = print,
        tried: EngineImage | None = None,
    ) -> AbstractContextManager[Processes | SwapClient]:
        """What answers: an address if one is set, else a llama-swap binary if there is one, else llama.cpp itself.

        Entered under the lease; `still_held` says when waiting for it is of no use any more. `tried` is the image of
        its pod, where that is not the chosen one.
        """
        from llama_assets.engine import Processes, SwapClient, local_swap

        if self.settings.engine_url:
            return SwapClient(self.settings.engine_url, self._engine_key())
        swap = self.llama_swap()
        if swap is not None:
            return local_swap([str(swap)], served, catalog.engine, logs)
        return Processes(served, catalog.engine, logs)

    def apply_config(
        self,
        catalog: Catalog,
        served: Sequence[Served],
        say: Callable[[str], None] = print,
        *,
        dry_run: bool = False,
        take_over: bool = False,
        tried: EngineImage | None = None,
    ) -> Applied:
        """Bring the engine's configuration to where it is read, and LiteLLM's beside it; what is so is not written.

        Raises:
            NotServable: a model's arguments cannot be given to the engine.
        """
        from llama_assets.engine import engine_config

        config = engine_config(served, catalog.engine, self.settings.engine_url or "http://127.0.0.1:8080")
        folder = self.results.parent / "llama-swap"
        files = {folder / config.file: config.text, folder / "litellm.yaml": config.gateway}
        differ = {path: text for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text}
        for path, text in differ.items() if not dry_run else ():
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(".new")
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        state = "an engine is started for each benchmark, and ends with it"
        return Applied(str(folder / config.file), tuple(map(str, differ)), config, state)

    @property
    def candidates(self) -> Literal["never", "started", "listed"]:
        """How a candidate comes to be served while it is measured: the engine is somebody's and never serves one, is
        started with it for each session, or reads it in a configuration that has to be applied before and after.
        """  # fmt: skip
        return "never" if self.settings.engine_url else "started"

    def served(self, catalog: Catalog) -> dict[str, str]:
        """Which fingerprint the engine's configuration serves under which name; nothing where none was applied."""
        found: dict[str, str] = {}
        for path in sorted((self.results.parent / "llama-swap").glob("*")):
            if path.suffix in (".yaml", ".ini"):
                found |= dict(SERVED_FILE.findall(path.read_text(encoding="utf-8")))
        return found

    def wait_until_free(self, catalog: Catalog, work: str, say: Callable[[str], None]) -> float:
        """Seconds waited until nobody has the card; `work` is what waits. Raises HeldByOther."""
        from llama_assets.gpu.waiting import wait_until_free

        return wait_until_free(self.lease(catalog), work, LeaseTimes(), say)

    def engine_image(self, catalog: Catalog) -> EngineImage | None:
        """The image that the engine's pod is made from; None where the engine is no pod of ours."""
        return None

    def tried_image(self, catalog: Catalog) -> EngineImage | None:
        """The image that is measured beside it; None too where it is the chosen one."""
        return None

    def left_image(self, catalog: Catalog) -> str | None:
        """The image that the engine's pod is made from by now, if that is not the chosen one."""
        return None

    def engine_drift(self, catalog: Catalog) -> tuple[Drift, ...]:
        """What others set in the engine's objects; on one machine there are none."""
        return ()

    def engine_status(self, catalog: Catalog) -> EngineView:
        """What is configured, what runs, what is served."""
        path = self.results.parent / "llama-swap"
        found = sorted(str(file) for file in path.glob("*") if file.suffix in (".yaml", ".ini"))
        plan = self.engine_plan()
        lines = (plan, f"written: {', '.join(found) or 'nothing yet; `llama-assets engine apply` does'}")
        return EngineView(True, lines, {"good": True, "plan": plan, "written": found})

    def engine_plan(self) -> str:
        """Which engine a benchmark would use, in one sentence. Raises EngineError when there is none."""
        from llama_assets.engine import local_server

        if self.settings.engine_url:
            return f"the engine at {self.settings.engine_url}"
        swap, server = self.llama_swap(), local_server()
        return f"{f'{swap}, a child process that runs' if swap else 'a child process per model of'} {' '.join(server)}"

    def _engine_key(self) -> str | None:
        key = self.settings.engine_api_key
        return key.get_secret_value() if key else None

    def llama_swap(self) -> Path | None:
        """The llama-swap binary of this machine, if there is one."""
        found = self.settings.llama_swap_bin or shutil.which("llama-swap")
        return Path(found) if found else None


def open_platform(settings: Settings) -> Platform:
    """The platform that `LLAMA_ASSETS_PLATFORM` names."""
    return local(settings) if settings.platform == "local" else kubernetes(settings)


def local(settings: Settings) -> Platform:
    """Everything on this machine: child processes, a lock file, a folder."""
    return Platform("local", settings, ProcessLauncher())


# Where a task's pod mounts the claims llama-models and llama-results, and a benchmark's pod the photos.
MODELS, RESULTS, PHOTOS = Path("/models"), Path("/results"), Path("/photos")
ENGINE = "llama-swap"  # Deployment and Service of the engine, whichever kind it is
# What a task's pod is told as its caller was.
HANDED_ON = ("engine_url", "engine_image", "engine_secret", "lease_lifetime_seconds", "without_reaper")
# Where photos are from, and whose queues are paused; the keys are in a Secret.
IMMICH = ("immich_url", "immich_album", "immich_photos")
IMMICH_KEY = SecretKey("llama-assets", "immich-key", optional=True, tasks=frozenset({"benchmark"}))
IMMICH_ADMIN_KEY = SecretKey("llama-assets", "immich-admin-key", optional=True, tasks=frozenset({"benchmark", "hold"}))
HUB_TOKEN = SecretKey("llama-assets", "hf-token", optional=True)
ALERT_URL = SecretKey("llama-assets", "alert-url", optional=True)  # for the code location only: no task tells anybody


class ClusterPlatform(Platform):
    """Tasks are Jobs, and what lies on a volume is seen by them only."""

    def store(self) -> Store:
        """The model volume, in a task's pod.

        Raises:
            PlatformError: it is not mounted in this process.
        """
        if not self.settings.store.is_dir():
            raise PlatformError(
                f"LLAMA_ASSETS_STORE={str(self.settings.store)!r} is not mounted here: with LLAMA_ASSETS_PLATFORM="
                "'kubernetes' only a task's pod opens the model volume; materialize gguf/* to see what it holds"
            )
        return super().store()

    def courtesy(self, catalog: Catalog, say: Callable[[str], None]) -> Courtesy | None:
        """As on one machine; also None where results are not mounted: nobody else would see what we paused."""
        if self.settings.immich_admin_key is not None and not self.results.is_dir():
            says = f"LLAMA_ASSETS_RESULTS={str(self.results)!r} is not mounted here, so Immich's queues go on"
            say(f"immich: {says}; a Job's are paused")
            return None
        return super().courtesy(catalog, say)

    @property
    def has_store(self) -> bool:
        """Only in a pod that mounts it."""
        return self.settings.store.is_dir()

    @cached_property
    def kube(self) -> Kube:
        """The cluster, asked for when it is first needed. Raises NoCluster."""
        return Kube.open()

    def card(self, catalog: Catalog) -> Card:
        """Who uses the card: tenants, and the engine unless it is somebody else's (`LLAMA_ASSETS_ENGINE_URL`)."""
        from llama_assets.gpu.objects import Ref
        from llama_assets.gpu.workloads import card_of

        engine = None if self.settings.engine_url else Ref("Deployment", self.settings.namespace, ENGINE)
        return card_of(catalog, engine)

    def lease(self, catalog: Catalog) -> Lease:
        """The cluster's Lease, with the tenants scaled down under it and surely up again."""
        from llama_assets.gpu.cluster_lease import ClusterLease

        settings = self.settings
        times = LeaseTimes.of_lifetime(settings.lease_lifetime_seconds)
        card = self.card(catalog)
        return ClusterLease(
            self.kube, settings.namespace, catalog.gpu.lease, card, times, without_reaper=settings.without_reaper
        )

    @contextlib.contextmanager
    def engine(
        self,
        catalog: Catalog,
        served: Sequence[Served],
        logs: Path,
        still_held: Callable[[], bool] = lambda: True,
        say: Callable[[str], None] = print,
        tried: EngineImage | None = None,
    ) -> Iterator[SwapClient]:
        """The engine's pod, once it is proven to serve these files from the image that is pinned or tried; or the
        address that is set.

        Raises:
            NotRolledOut, OtherConfig, OtherImage: before anything is asked.
        """  # fmt: skip
        from llama_assets.engine import EngineLimits, SwapClient

        if self.settings.engine_url:
            with SwapClient(self.settings.engine_url, self._engine_key()) as client:
                yield client
            return
        deployment = self.engine_deployment(catalog, say, tried)
        running = deployment.prove({one.model.id: one.fingerprint for one in served}, still_held)
        limits = EngineLimits(load_s=catalog.engine.load_timeout_seconds + 30.0)
        with SwapClient(deployment.pod.address, self._engine_key(), limits, running.image) as client:
            client.wait_until_up(60.0)
            yield client

    def engine_deployment(
        self, catalog: Catalog, say: Callable[[str], None] = print, tried: EngineImage | None = None
    ) -> EngineDeployment:
        """The engine's three objects, as catalog and settings want them, or with an image that is tried."""
        from llama_assets.engine import EngineDeployment, EnginePod

        pod = EnginePod(
            namespace=self.settings.namespace,
            image=tried or catalog.engine.chosen_image(self.settings.engine_image),
            kind=catalog.engine.kind,
            name=ENGINE,
            claim="llama-models",
            claim_path=str(MODELS),
            resource=catalog.gpu.resource,
            runtime_class=catalog.gpu.runtime_class,
            secret=self.settings.engine_secret,
            exclusive=catalog.gpu.sharing == "exclusive",
        )
        return EngineDeployment(self.kube, pod, say=say)

    def apply_config(
        self,
        catalog: Catalog,
        served: Sequence[Served],
        say: Callable[[str], None] = print,
        *,
        dry_run: bool = False,
        take_over: bool = False,
        tried: EngineImage | None = None,
    ) -> Applied:
        """Apply llama-swap's objects, not while somebody has the card; on a shared card wait until its pod is ready.

        Raises:
            EngineError: refused, and nothing was written; or its pod does not become ready, with the reason.
            HeldByOther: somebody kept the card for too long.
        """
        from llama_assets.engine import engine_config
        from llama_assets.gpu.waiting import wait_until_free

        deployment = self.engine_deployment(catalog, say, tried)
        config = engine_config(served, catalog.engine, deployment.pod.address, bool(self.settings.engine_secret))
        if self.settings.engine_url:
            return Applied(self.settings.engine_url, (), config, "somebody else's engine: nothing is applied")
        changed = deployment.plan(config, take_over)
        if dry_run:
            return Applied(str(deployment), changed, config, "a dry run: nothing was written")
        if changed:
            times = LeaseTimes.of_lifetime(self.settings.lease_lifetime_seconds)
            wait_until_free(self.lease(catalog), "a new configuration of llama_swap", times, say)
        written = deployment.apply(config, take_over)
        if written.replicas == 0:
            state = "applied, not started: " + (
                "on an exclusive card it starts with the lease" if deployment.pod.exclusive else "it is at 0 replicas"
            )
        elif deployment.pod.exclusive:
            state = f"applied; at {written.replicas} replicas it competes with the tenants for an exclusive card"
        else:
            state = f"pod {deployment.wait_until_ready()['metadata']['name']} is ready"
        return Applied(str(deployment), written.changed, config, state)

    def served(self, catalog: Catalog) -> dict[str, str]:
        """As the engine's ConfigMap says. Raises KubeError."""
        return {} if self.settings.engine_url else dict(self.engine_deployment(catalog).served())

    def wait_until_free(self, catalog: Catalog, work: str, say: Callable[[str], None]) -> float:
        """As `Platform.wait_until_free`, by the cluster's Lease."""
        from llama_assets.gpu.waiting import wait_until_free

        times = LeaseTimes.of_lifetime(self.settings.lease_lifetime_seconds)
        return wait_until_free(self.lease(catalog), work, times, say)

    @property
    def candidates(self) -> Literal["never", "started", "listed"]:
        """Its pod reads them in its configuration."""
        return "never" if self.settings.engine_url else "listed"

    def engine_image(self, catalog: Catalog) -> EngineImage | None:
        """The image that the engine's pod is made from."""
        return None if self.settings.engine_url else catalog.engine.chosen_image(self.settings.engine_image)

    def tried_image(self, catalog: Catalog) -> EngineImage | None:
        """The image that is measured beside it; None too where it is the chosen one."""
        return None if self.settings.engine_url else catalog.engine.tried_image(self.settings.engine_image)

    def left_image(self, catalog: Catalog) -> str | None:
        """The image of the engine's Deployment, if that is there and not the chosen one. Raises KubeError."""
        if self.settings.engine_url:
            return None
        deployment = self.engine_deployment(catalog)
        found = deployment.applied_image()
        return None if found in (None, deployment.pod.image.reference) else found

    def engine_drift(self, catalog: Catalog) -> tuple[Drift, ...]:
        """What others set in the engine's objects."""
        return () if self.settings.engine_url else self.engine_deployment(catalog).drift()

    def engine_status(self, catalog: Catalog) -> EngineView:
        """What is configured, what runs, what is served."""
        if self.settings.engine_url:
            return EngineView(True, (self.engine_plan(),), {"good": True, "plan": self.engine_plan()})
        found = self.engine_deployment(catalog).status()
        return EngineView(found.good, tuple(found.lines()), found.as_dict())

    def engine_plan(self) -> str:
        """Which engine a benchmark would use, in one sentence."""
        if self.settings.engine_url:
            return f"the engine at {self.settings.engine_url}"
        deployment = self.engine_deployment(self.catalog())
        return f"{deployment} from {deployment.pod.image}"


def kubernetes(settings: Settings) -> ClusterPlatform:
    """Jobs in `settings.namespace`. Opens nothing before a task is run; tokens and keys come from Secrets only."""
    mounted = {"store": MODELS, "results": RESULTS, "photos": PHOTOS}
    named = settings.model_copy(update={k: v for k, v in mounted.items() if k not in settings.model_fields_set})
    environment = {
        "LLAMA_ASSETS_PLATFORM": "kubernetes",
        "LLAMA_ASSETS_STORE": str(MODELS),
        "LLAMA_ASSETS_RESULTS": str(RESULTS),
        "LLAMA_ASSETS_PHOTOS": str(PHOTOS),
        "LLAMA_ASSETS_NAMESPACE": settings.namespace,
        "LLAMA_ASSETS_IMAGE": settings.image,
        "HF_ENDPOINT": settings.hf_endpoint,
        **{
            PREFIX + name.upper(): str(getattr(settings, name))
            for name in (*HANDED_ON, *IMMICH)
            if name in settings.model_fields_set
        },
    }
    secrets = {"HF_TOKEN": HUB_TOKEN}
    if settings.engine_secret:
        secrets["LLAMA_ASSETS_ENGINE_API_KEY"] = SecretKey(settings.engine_secret, "api-key")
    if settings.immich_url:
        secrets |= {"LLAMA_ASSETS_IMMICH_KEY": IMMICH_KEY, "LLAMA_ASSETS_IMMICH_ADMIN_KEY": IMMICH_ADMIN_KEY}
    models = frozenset[TaskKind]({"download", "store", "benchmark"})
    asking = frozenset[TaskKind]({"benchmark"})
    claims = (
        Claim("llama-models", str(MODELS), models),
        Claim("llama-results", str(RESULTS), frozenset({"benchmark", "hold", "verdict"})),
        Claim("llama-results", str(RESULTS), frozenset({"store"}), read_only=True),  # whose files a cut session needs
        *(() if settings.immich_album else (Claim(settings.photos_claim, str(PHOTOS), asking, read_only=True),)),
    )
    pods = TaskPods(settings.image, environment=environment, secrets=secrets, claims=claims)
    return ClusterPlatform("kubernetes", named, JobLauncher(Kube.open, settings.namespace, pods))
