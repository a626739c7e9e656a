"""A driven engine: an engine in memory whose answers, delays and misfortunes a test says beforehand, on its own clock.

engine = DrivenEngine(clock)
engine.answer = lambda model, n: '{"score": 7}'         what the n-th request (from 1) is answered
engine.crash_at = {5}                                    at these requests the model dies while answering
engine.broken = {"b"}                                    models that cannot be loaded
engine.log                                               what happened: ("load", model), ("ask", model, what)
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from llama_assets.bench import Arm, Ask, Clock, Comparison, PhotoSet, Question, mirrored_plan
from llama_assets.bench.canary import PROBE_WORD, probe

QUESTION = Question(
    prompt="How good is this photo?",
    schema={
        "type": "object",
        "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 10}},
        "required": ["score"],
        "additionalProperties": False,
    },
    ranking_key="score",
)


class DrivenClock:
    """Moves only when somebody says so."""

    def __init__(self) -> None:
        self.passed = 0.0

    def move(self, seconds: float) -> None:
        self.passed += seconds

    @property
    def clock(self) -> Clock:
        start = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
        return Clock(now=lambda: start + timedelta(seconds=self.passed), seconds=lambda: self.passed)


@dataclass(frozen=True)
class Reply:
    status: Literal["ok", "error", "timeout"] = "ok"
    seconds: float = 1.0
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = "stop"
    prompt_tokens: int | None = 90
    completion_tokens: int | None = 20
    cached_tokens: int | None = 0
    prompt_seconds: float | None = 0.4
    generation_seconds: float | None = 0.5
    error: str | None = None
    first_tokens: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Load:
    seconds: float
    cold: bool


@dataclass(frozen=True)
class Running:
    model: str
    state: str = "ready"


@dataclass(frozen=True)
class About:
    kind: str = "driven"
    build: str = "b1"


class CannotLoad(Exception):
    """The engine's own error."""


@dataclass
class DrivenEngine:
    time: DrivenClock
    answer: Callable[[str, int], str | Reply] = lambda model, n: json.dumps({"score": 1 + n % 10})
    probed: Callable[[str], str] = lambda model: json.dumps({"word": PROBE_WORD, "number": 83})
    crash_at: set[int] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    before_answer: Callable[[int], None] = lambda n: None
    foreign: Callable[[int], list[str]] = lambda n: []
    build: str = "b1"
    sees: Callable[[str, Ask], Reply] = lambda model, ask: Reply(seconds=0.0, text="Grey")

    def __post_init__(self) -> None:
        self.log: list[tuple[str, ...]] = []
        self.loaded: str | None = None
        self.requests = 0
        self.asked: list[Ask] = []

    def load(self, model: str) -> Load:
        cold = self.loaded != model
        self.log.append(("load", model))
        self.time.move(10.0)
        if model in self.broken:
            raise CannotLoad(f"no tensors in {model}")
        self.loaded = model
        return Load(10.0, cold)

    def ask(self, model: str, ask: Ask) -> Reply:
        if ask.prompt == probe().prompt:
            self.log.append(("probe", model))
            reply = Reply(text=self.probed(model))
        elif ask.logprobs:
            reply = self.sees(model, ask)
        else:
            self.requests += 1
            self.log.append(("ask", model, str(hash(ask.image_jpeg))))
            self.asked.append(ask)
            self.before_answer(self.requests)
            if self.requests in self.crash_at:
                self.loaded = None
                reply = Reply("error", 0.5, finish_reason=None, error="Died: signal 6", completion_tokens=None)
            elif self.loaded != model:
                reply = Reply("error", 0.1, finish_reason=None, error="NotLoaded: who?", completion_tokens=None)
            else:
                said = self.answer(model, self.requests)
                reply = said if isinstance(said, Reply) else Reply(text=said)
        self.time.move(reply.seconds)
        return reply

    def running(self) -> Sequence[Running]:
        ours = [Running(self.loaded)] if self.loaded else []
        return ours + [Running(name) for name in self.foreign(self.requests)]

    def about(self, model: str) -> About:
        return About(build=self.build)

    def loads(self, model: str) -> int:
        return self.log.count(("load", model))


def comparison(
    photos: PhotoSet, models: Sequence[str] = ("a", "b", "c"), blocks: int = 4, **changed: Any
) -> Comparison:
    values: dict[str, Any] = {
        "arms": tuple(Arm(model, fingerprint=f"f-{model}", mmproj="F16") for model in models),
        "question": QUESTION,
        "photos": photos,
        "plan": mirrored_plan(models, [photo.name for photo in photos.photos], blocks, photos.seed),
        "catalog_hash": "c0ffee",
        "max_tokens": 100,
        "answer_timeout_s": 30.0,
        "incumbent": models[0],
    }
    return Comparison(**(values | changed))


def lines(folder: Path) -> int:
    """Whole rows on disk now."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("rows-*.jsonl"))
