"""The task `benchmark` on a real store, real photos, a real lease file and real verdicts; only the engine is driven.

world = World.make(folder)               models m and n with a current set each
world.publish("m", 1)                    a newer set of m: its candidate
world.engine.seconds = {"m@...": 0.5}    how long an arm takes for a photo; 1 s if not named
world.benchmark()                        the task's answer
world.killed_at("promoted")              the same in a process that is killed when the store says so
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from llama_assets import catalog as catalogs
from llama_assets.bench.question import Question
from llama_assets.bench.record import Record
from llama_assets.catalog import Catalog, EngineImage
from llama_assets.engine import NotRolledOut, Served
from llama_assets.launch import ProcessLauncher, Task
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.store import Store
from llama_assets.tasks.benchmark import benchmark_task
from llama_assets.tasks.candidates import Lineup, lineup, serving_by
from llama_assets.tasks.messages import Benchmark, Benchmarked, Inspect
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.store import store_task
from llama_assets.tasks.work import Work
from tests.bench.driven import QUESTION, About, DrivenClock, DrivenEngine, Reply
from tests.store.pairs import published

IMAGE, NEW_IMAGE = (f"engines/one@sha256:{digit * 64}" for digit in "12")
PHOTOS = 100  # as few as settle valid answers within five points where all of three arms are valid


@dataclass
class Engine(DrivenEngine):
    """Answers at once and says that it took as long as the test wants, with a little noise."""

    seconds: dict[str, float] = field(default_factory=dict)
    served: list[Served] = field(default_factory=list)
    image: str | None = None
    """What its pod is made from, where it is one."""
    images: dict[str, str] = field(default_factory=dict)
    """Image -> why no pod of it becomes ready."""

    def about(self, model: str) -> About:
        return About(build=f"b of {self.image}" if self.image else self.build)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.answer = self._answer

    def _answer(self, model: str, n: int) -> Reply:
        noise = 1 + 0.02 * random.Random(n).random()
        return Reply(text=json.dumps({"score": 1 + n % 10}), seconds=self.seconds.get(model, 1.0) * noise)


class DrivenPlatform(Platform):
    """This machine, with another engine."""

    driven: Engine
    at: Callable[[str], None]

    def store(self) -> Store:
        return Store(self.settings.store, at=self.at)

    @contextlib.contextmanager
    def engine(self, catalog: Catalog, served: Sequence[Served], *more: Any) -> Iterator[Engine]:  # type: ignore[override]
        """As a cluster's: the pod there is must be made from the image that is wanted."""
        self.driven.served = list(served)
        wanted = more[-1] or self.engine_image(catalog)
        if wanted is not None:
            assert self.driven.image == wanted.reference, "the holder proves the image"
            if why := self.driven.images.get(wanted.reference):
                raise NotRolledOut("the engine", 900.0, why)
        yield self.driven

    def engine_image(self, catalog: Catalog) -> EngineImage | None:
        return catalog.engine.chosen_image() if self.driven.image else None

    def tried_image(self, catalog: Catalog) -> EngineImage | None:
        return catalog.engine.tried_image() if self.driven.image else None


@dataclass
class World:
    """A store, photos and results below one folder."""

    folder: Path
    engine: Engine = field(default_factory=lambda: Engine(DrivenClock()))
    at: Callable[[str], None] = lambda _: None
    said: list[str] = field(default_factory=list)
    automation: dict[str, Any] = field(default_factory=lambda: {"promotion": "on_verdict"})
    arguments: tuple[str, ...] = ()
    address: str | None = None
    card_gib: float | None = None
    tried: catalogs.Tried | None = None
    further: dict[str, Question] = field(default_factory=dict)
    tried_image: str | None = None
    blocks: int = 4

    @classmethod
    def make(cls, folder: Path) -> World:
        """A new world."""
        world = cls(folder)
        (folder / "photos").mkdir(parents=True)
        for number in range(PHOTOS):
            Image.effect_noise((48, 48), 10 + number).save(folder / "photos" / f"{number:02d}.jpg")
        for model in ("m", "n"):
            world.store.promote(model, world.publish(model, 0))
        return world

    @property
    def store(self) -> Store:
        """The store, looked at from outside."""
        return Store(self.folder / "store")

    @property
    def catalog(self) -> Catalog:
        """Two models of the packaged catalog, under short names."""
        packaged = catalogs.load()
        models = tuple(
            packaged.models[0].model_copy(
                update={
                    "id": name,
                    "aliases": (f"{name}-alias",),
                    "candidate": self.tried if name == "m" else None,
                    "arguments": self.arguments,
                }
            )
            for name in ("m", "n")
        )
        spec = packaged.benchmark.model_copy(update={"photos": PHOTOS, "incumbent": "n", "blocks": self.blocks})
        automation = catalogs.Automation(**self.automation)
        gpu = packaged.gpu.model_copy(update={"memory_gib": self.card_gib})
        engine = packaged.engine.model_copy(update={"image": IMAGE, "candidate_image": self.tried_image})
        changed = {"models": models, "benchmark": spec, "automation": automation, "gpu": gpu, "engine": engine}
        return packaged.model_copy(update=changed)

    @property
    def platform(self) -> DrivenPlatform:
        """This machine, with the driven engine."""
        settings = Settings(
            store=self.folder / "store", results=self.folder / "results", photos=self.folder / "photos",
            engine_url=self.address,
        )  # fmt: skip
        platform = DrivenPlatform("local", settings, ProcessLauncher())
        object.__setattr__(platform, "driven", self.engine)
        object.__setattr__(platform, "at", self.at)
        return platform

    def publish(self, model: str, seed: int) -> str:
        """A verified set that nobody promoted; returns its fingerprint."""
        return published(self.store, self.folder / "files", model, seed)

    def benchmark(self, *models: str, automatic: bool = False, **engine: str) -> Benchmarked:
        """One benchmark of these models, or of all; `engine` says which image its pod is made from."""
        catalog = self.catalog.only(models) if models else self.catalog
        further = {name: question.to_json() for name, question in self.further.items()}
        request = Benchmark(
            catalog=catalog, question=QUESTION.to_json(), further=further, automatic=automatic, **engine
        )
        task = Task("benchmark", "run", "step", request.model_dump(mode="json"))
        return benchmark_task(Work(task, self.platform, self.said.append, Stop()))

    def killed_at(self, step: str | int, *models: str, **engine: str) -> None:
        """A benchmark in a process of its own that ends by SIGKILL once the store says `step`, or, for `decided`, once
        session.json first holds a decision; for a number, at that request. A fork: importing takes longest.
        """
        child = os.fork()
        if child == 0:
            try:
                if step == "decided":
                    write = Record.write

                    def written(record: Record) -> None:
                        write(record)
                        if any(facts.get("decided") for facts in record.values["arms"].values()):
                            os.kill(os.getpid(), signal.SIGKILL)

                    Record.write = written  # type: ignore[method-assign]
                if isinstance(step, int):
                    self.engine.before_answer = lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == step else None
                self.at = lambda reached: os.kill(os.getpid(), signal.SIGKILL) if reached == step else None
                self.benchmark(*models, **engine)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"it was not killed at {step}"

    def lineup(self, automatic: bool = False) -> Lineup:
        """What the next benchmark would measure."""
        return lineup(self.store, self.catalog.models, serving_by(self.platform, self.catalog), automatic)

    def found_out(self) -> dict[str, str]:
        """What `llama-assets candidates` says of each."""
        request = Inspect(models=self.catalog.models, serving=serving_by(self.platform, self.catalog))
        task = Task("store", "run", "step", request.model_dump(mode="json"))
        return {one.arm: one.last for one in store_task(Work(task, self.platform, print, Stop())).candidates}

    def sessions(self) -> list[Path]:
        """Every session's folder, oldest first."""
        return sorted((self.folder / "results" / "sessions").glob("*"))


def arm(model: str, fingerprint: str) -> str:
    """The name of a candidate's arm."""
    return f"{model}@{fingerprint[:12]}"


def picture(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder, byte for byte."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and ".locks" not in path.parts and path.suffix != ".lock"
    }
