"""Which store, engine, lease and launcher belong together. "Local or Kubernetes?" is asked here and nowhere else.

Tasks, commands, tests and the graph open the same thing by the same call. Not here: what any of the parts does.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llama_assets import catalog as catalogs
from llama_assets.catalog import Catalog
from llama_assets.gpu import FileLease
from llama_assets.hub import Hub, HubLimits
from llama_assets.kube import Kube
from llama_assets.launch import JobLauncher, Launcher, ProcessLauncher, SecretKey, TaskPods
from llama_assets.settings import Settings
from llama_assets.store import Store

if TYPE_CHECKING:  # imported where it is asked: its HTTP client is a quarter of a second that a download does not need
    from llama_assets.engine import Processes, Served, SwapClient


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

    def lease(self, catalog: Catalog) -> FileLease:
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


MODELS, RESULTS = Path("/models"), Path("/results")  # where a task's pod mounts the claims llama-models, llama-results
HUB_TOKEN = SecretKey("llama-assets", "hf-token", optional=True)


class ClusterPlatform(Platform):
    """Tasks are Jobs, and what lies on a volume is seen by them only. Downloads and the store's checks so far."""

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

    def lease(self, catalog: Catalog) -> FileLease:
        """Raises PlatformError: there is no lease of a cluster's card yet."""
        raise self._not_yet(f"who may use the card ({catalog.gpu.lease})")

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


def kubernetes(settings: Settings) -> Platform:
    """Jobs in `settings.namespace`. Opens nothing before a task is run; a token of the Hub comes from a Secret only."""
    mounted = {"store": MODELS, "results": RESULTS}
    named = settings.model_copy(update={k: v for k, v in mounted.items() if k not in settings.model_fields_set})
    environment = {
        "LLAMA_ASSETS_PLATFORM": "kubernetes",
        "LLAMA_ASSETS_STORE": str(MODELS),
        "LLAMA_ASSETS_RESULTS": str(RESULTS),
        "LLAMA_ASSETS_NAMESPACE": settings.namespace,
        "LLAMA_ASSETS_IMAGE": settings.image,
        "HF_ENDPOINT": settings.hf_endpoint,
    }
    pods = TaskPods(settings.image, environment=environment, secrets={"HF_TOKEN": HUB_TOKEN})
    return ClusterPlatform("kubernetes", named, JobLauncher(Kube.open, settings.namespace, pods))
