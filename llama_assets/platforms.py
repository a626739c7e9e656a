"""Which store, engine, lease and launcher belong together. "Local or Kubernetes?" is asked here and nowhere else.

Tasks, commands, tests and the graph open the same thing by the same call. Not here: what any of the parts does.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from llama_assets import catalog as catalogs
from llama_assets.catalog import Catalog
from llama_assets.gpu import FileLease, Lease, LeaseTimes
from llama_assets.hub import Hub, HubLimits
from llama_assets.kube import Kube
from llama_assets.launch import Claim, JobLauncher, Launcher, ProcessLauncher, SecretKey, TaskKind, TaskPods
from llama_assets.settings import PREFIX, Settings
from llama_assets.store import Store

if TYPE_CHECKING:  # imported where it is asked: its HTTP client is a quarter of a second that a download does not need
    from llama_assets.engine import Processes, Served, SwapClient
    from llama_assets.gpu.lease import Card


class PlatformError(ValueError):
    """A platform that cannot be opened; the message names the variable and what is allowed."""

    exit_status = 2


@dataclass(frozen=True)
class Applied:
    """Where a configuration lies, and whether it was written."""

    where: str
    changed: bool


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
    def results(self) -> Path:
        """Where sessions lie."""
        return self.settings.results

    def photos(self) -> Path:
        """The folder with the photos to ask about.

        Raises:
            PlatformError: none is named, or it is not a folder.
        """
        folder = self.settings.photos
        if folder is None:
            raise PlatformError("LLAMA_ASSETS_PHOTOS is not set; name the folder with the photos to ask about")
        if not folder.is_dir():
            raise PlatformError(f"LLAMA_ASSETS_PHOTOS={str(folder)!r}: no such folder")
        return folder

    def lease(self, catalog: Catalog) -> Lease:
        """Who may use the card."""
        return FileLease(self.results / f"{catalog.gpu.lease}.json", tenants=tuple(map(str, catalog.tenants)))

    def engine(
        self, catalog: Catalog, served: Sequence[Served], logs: Path
    ) -> AbstractContextManager[Processes | SwapClient]:
        """What answers: an address if one is set, else a llama-swap binary if there is one, else llama.cpp itself."""
        from llama_assets.engine import Processes, SwapClient, local_swap

        if self.settings.engine_url:
            return SwapClient(self.settings.engine_url)
        swap = self.llama_swap()
        if swap is not None:
            return local_swap([str(swap)], served, catalog.engine, logs)
        return Processes(served, catalog.engine, logs)

    def apply_config(self, text: str) -> Applied:
        """Bring llama-swap's configuration to where it is read; identical content is not written."""
        path = self.results.parent / "llama-swap" / "config.yaml"
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return Applied(str(path), changed=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
        return Applied(str(path), changed=True)

    def engine_plan(self) -> str:
        """Which engine a benchmark would use, in one sentence. Raises EngineError when there is none."""
        from llama_assets.engine import local_server

        if self.settings.engine_url:
            return f"the engine at {self.settings.engine_url}"
        swap, server = self.llama_swap(), local_server()
        return f"{f'{swap}, a child process that runs' if swap else 'a child process per model of'} {' '.join(server)}"

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
HUB_TOKEN = SecretKey("llama-assets", "hf-token", optional=True)


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

    @cached_property
    def kube(self) -> Kube:
        """The cluster, asked for when it is first needed. Raises NoCluster."""
        return Kube.open()

    def card(self, catalog: Catalog) -> Card:
        """Who uses the card: tenants, and the engine unless it is somebody else's (`LLAMA_ASSETS_ENGINE_URL`)."""
        from llama_assets.gpu.lease import Ref
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

    def engine(
        self, catalog: Catalog, served: Sequence[Served], logs: Path
    ) -> AbstractContextManager[Processes | SwapClient]:
        """Raises PlatformError: nothing is asked without the lease."""
        raise self._not_yet(f"asking {len(served)} models of {catalog.engine.kind}, logs in {logs},")

    def apply_config(self, text: str) -> Applied:
        """Raises PlatformError: llama-swap is not applied to a cluster yet."""
        raise self._not_yet(f"applying llama-swap's configuration ({len(text)} characters)")

    def engine_plan(self) -> str:
        """Raises PlatformError: nothing is asked without the lease."""
        raise self._not_yet("asking an engine")

    def _not_yet(self, what: str) -> PlatformError:
        return PlatformError(
            f"LLAMA_ASSETS_PLATFORM='kubernetes': {what} is not in this version, which downloads and verifies models "
            "in a cluster (gguf/*); llama_swap, gpu_lease and benchmark/* run with LLAMA_ASSETS_PLATFORM='local'"
        )


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
            for name in HANDED_ON
            if name in settings.model_fields_set
        },
    }
    secrets = {"HF_TOKEN": HUB_TOKEN}
    if settings.engine_secret:
        secrets["LLAMA_ASSETS_ENGINE_API_KEY"] = SecretKey(settings.engine_secret, "api-key")
    models = frozenset[TaskKind]({"download", "store", "benchmark"})
    claims = (
        Claim("llama-models", str(MODELS), models),
        Claim("llama-results", str(RESULTS), frozenset({"benchmark", "verdict"})),
        Claim(settings.photos_claim, str(PHOTOS), frozenset({"benchmark"}), read_only=True),
    )
    pods = TaskPods(settings.image, environment=environment, secrets=secrets, claims=claims)
    return ClusterPlatform("kubernetes", named, JobLauncher(Kube.open, settings.namespace, pods))
