"""A year in some minutes: the project's own graph on a machine whose clock, card and engine are played.

Real: Dagster's evaluation of the conditions and its runs, the revision sensor, the hub client against the loopback hub,
downloads, store, policy, permission and ledger, sessions and verdicts. Played: the clock (all of the process's), the
lease (tenants go and come back in seconds that the clock is moved by), the engine (answers at speeds that are drawn).
Not here: what happens in the year and what is counted (`year.py`).
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine

from llama_assets.bench.asking import Ask
from llama_assets.bench.canary import PROBE_WORD, probe
from llama_assets.catalog import Catalog
from llama_assets.gpu.record import Change, Disturbed, Ended, Preview, Record, micro_time
from llama_assets.launch import Task, TaskFailed
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work

TENANTS_GO_S, TENANTS_RETURN_S, LOAD_S, ANSWER_S = 40.0, 30.0, 25.0, 2.4


@dataclass
class PlayedClock:
    """The process's clock, which moves only when something takes time."""

    traveller: time_machine.Coordinates

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.traveller.shift(timedelta(seconds=seconds))

    def now(self) -> datetime:
        """As everything in this process has it."""
        return datetime.now(UTC)


class PlayedWait(threading.Event):
    """Waiting moves the clock; nobody asks the task to end."""

    def __init__(self, clock: PlayedClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """As long as it was asked for."""
        self._clock.move(timeout or 0.0)
        return self.is_set()


@dataclass
class PlayedLease:
    """The card, always to be had. `spans` is when tenants were really down."""

    clock: PlayedClock
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)
    plan: str = "played: tenants go and come back"

    @contextlib.contextmanager
    def take(self, holder: str, purpose: str, say: Callable[[str], None] = lambda _: None) -> Iterator[PlayedCard]:
        """Tenants go, work is done, tenants come back."""
        began = self.clock.now()
        self.clock.move(TENANTS_GO_S)
        card = PlayedCard(len(self.spans) + 1, holder, purpose, began, self.clock)
        try:
            yield card
        finally:
            self.clock.move(TENANTS_RETURN_S)
            self.spans.append((began, self.clock.now()))
            card.given = self.clock.now()

    def preview(self, say: Callable[[str], None] = lambda _: None) -> Preview:
        """Nothing is in the way."""
        return Preview(Record(token=len(self.spans)), False, ("free", self.plan))

    def status(self) -> tuple[Record, bool]:
        """Free."""
        return Record(token=len(self.spans)), False


@dataclass
class PlayedCard:
    """The lease in its holder's hands."""

    token: int
    holder: str
    purpose: str
    began: datetime
    clock: PlayedClock
    given: datetime | None = None
    ended: Ended | None = None
    changes: tuple[Change, ...] = ()
    disturbed: Disturbed | None = None
    left: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """From taking to giving back, or to now."""
        return ((self.given or self.clock.now()) - self.began).total_seconds()

    @property
    def record(self) -> Record:
        """As a cluster's."""
        tenants = (("immich/immich-machine-learning", 1),)
        return Record(self.token, self.holder, self.purpose, micro_time(self.began), tenants=tenants)

    def still_held(self) -> bool:
        """Nobody takes it away."""
        return True

    def wait(self, seconds: float) -> bool:
        """Let time pass."""
        self.clock.move(seconds)
        return False


@dataclass(frozen=True)
class PlayedReply:
    """One answer, whole and valid."""

    seconds: float
    text: str
    status: str = "ok"
    reasoning: str = ""
    finish_reason: str | None = "stop"
    prompt_tokens: int | None = 900
    completion_tokens: int | None = 80
    cached_tokens: int | None = 0
    error: str | None = None
    first_tokens: tuple[tuple[str, float], ...] = ()

    @property
    def prompt_seconds(self) -> float:
        """A third of it."""
        return self.seconds / 3

    @property
    def generation_seconds(self) -> float:
        """The rest."""
        return self.seconds * 2 / 3


@dataclass(frozen=True)
class PlayedLoad:
    """A model was loaded."""

    seconds: float
    cold: bool


@dataclass(frozen=True)
class PlayedModel:
    """A model in memory."""

    model: str
    state: str = "ready"


@dataclass(frozen=True)
class PlayedAbout:
    """What the engine says of itself."""

    kind: str = "played"
    build: str = "b1"


class CannotLoad(Exception):
    """These files cannot be loaded."""


class PlayedEngine:
    """Answers at the pace of each arm's files: `pace` of a fingerprint is seconds over the usual; None: never loads."""

    def __init__(
        self, clock: PlayedClock, pace: Mapping[str, float | None], arms: Mapping[str, str], seed: int
    ) -> None:
        self._clock, self._pace, self._arms, self._chance = clock, pace, arms, random.Random(seed)
        self._loaded: str | None = None

    def load(self, model: str) -> PlayedLoad:
        """Raises CannotLoad."""
        cold = self._loaded != model
        self._clock.move(LOAD_S if cold else 0.1)
        if self._pace.get(self._arms[model], 1.0) is None:
            raise CannotLoad(f"error loading model: {model} has a tensor of a type that is not known")
        self._loaded = model
        return PlayedLoad(LOAD_S if cold else 0.1, cold)

    def ask(self, model: str, ask: Ask) -> PlayedReply:
        """A valid answer."""
        if ask.logprobs:
            return PlayedReply(0.0, "Grey")
        pace = self._pace.get(self._arms[model], 1.0) or 1.0
        seconds = ANSWER_S * pace * self._chance.lognormvariate(0, 0.08)
        self._clock.move(seconds)
        if ask.prompt == probe().prompt:
            return PlayedReply(seconds, json.dumps({"word": PROBE_WORD, "number": 83}))
        score = 1 + ask.image_jpeg[len(ask.image_jpeg) // 2] % 10
        answer = {
            "aesthetic_score": score, "instagram_fit_score": score, "primary_subject": "a house", "scene_tags": ["sea"],
            "suggested_caption": "By the sea", "reasoning": "It is bright",
        }  # fmt: skip
        return PlayedReply(seconds, json.dumps(answer))

    def running(self) -> Sequence[PlayedModel]:
        """What is loaded."""
        return [PlayedModel(self._loaded)] if self._loaded else []

    def about(self, model: str) -> PlayedAbout:
        """Always the same engine."""
        return PlayedAbout()


@dataclass(frozen=True)
class PlayedPlatform(Platform):
    """One machine, with the played card and engine."""

    card: PlayedLease = field(kw_only=True)
    pace: dict[str, float | None] = field(kw_only=True)

    def lease(self, catalog: Catalog) -> Any:
        """The played one."""
        return self.card

    @contextlib.contextmanager
    def engine(self, catalog: Catalog, served: Sequence[Any], *_: Any, **__: Any) -> Iterator[PlayedEngine]:  # type: ignore[override]
        """The played one, with the files that are served."""
        arms = {one.model.id: one.fingerprint for one in served}
        yield PlayedEngine(self.card.clock, self.pace, arms, len(self.card.spans))


class InProcess:
    """A launcher that does the task here, where the clock is played, and answers as a task's process does."""

    def __init__(self) -> None:
        self.platform: Platform | None = None
        self.done: list[str] = []
        self.lines: list[str] = []

    def run(self, task: Task, environment: Mapping[str, str], line: Callable[[str], None]) -> None:
        """See `Launcher.run`."""
        assert isinstance(self.platform, PlayedPlatform)
        stop = Stop()
        stop.event = PlayedWait(self.platform.card.clock)
        payload: dict[str, Any]
        try:
            self.done.append(task.kind)
            payload = {"answer": Work(task, self.platform, self.lines.append, stop).do().model_dump(mode="json")}
        except Exception as error:
            if not hasattr(error, "exit_status"):
                raise
            payload = {"failed": str(error)}
        messages = [("opened", {"extras": {}}), ("report_custom_message", {"payload": payload}), ("closed", None)]
        for method, params in messages:
            line(json.dumps({"__dagster_pipes_version": "0.1", "method": method, "params": params}))
        if "failed" in payload:
            raise TaskFailed(task, "exit status 1")


def platform(settings: Settings, clock: PlayedClock) -> tuple[PlayedPlatform, InProcess]:
    """The played machine and what runs its tasks."""
    launcher = InProcess()
    made = PlayedPlatform("local", settings, launcher, card=PlayedLease(clock), pace={})
    launcher.platform = made
    return made, launcher
