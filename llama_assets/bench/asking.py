"""What this room needs of an engine, as protocols: `engine` knows nothing of them, and `tasks` joins the two.

In: an `Ask` (one photo, one question). Out: a `Reply`, whatever happened. How it is sent (streamed, temperature 0,
thinking off, nothing from the cache) is the engine's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable


@dataclass(frozen=True)
class Ask:
    """One request. At most one of `grammar` (GBNF) and `json_schema` (for `response_format`) is set.

    `logprobs` is how many of the likeliest first tokens are wanted with their log-probabilities.
    """

    prompt: str
    image_jpeg: bytes
    max_tokens: int
    timeout_s: float
    grammar: str | None = None
    json_schema: Mapping[str, Any] | None = None
    logprobs: int = 0


class Reply(Protocol):
    """What came of an Ask. Numbers that the engine did not say are None."""

    @property
    def status(self) -> Literal["ok", "error", "timeout"]:
        """How the request ended."""

    @property
    def seconds(self) -> float:
        """From sending to the last byte, as the client saw it."""

    @property
    def text(self) -> str:
        """The answer, or what had come of it."""

    @property
    def reasoning(self) -> str:
        """Thinking that came beside the answer although it was switched off."""

    @property
    def finish_reason(self) -> str | None:
        """`stop`, or `length` for a cut answer."""

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens of prompt and image."""

    @property
    def completion_tokens(self) -> int | None:
        """Tokens of the answer."""

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from the engine's cache."""

    @property
    def prompt_seconds(self) -> float | None:
        """Seconds the engine read prompt and image."""

    @property
    def generation_seconds(self) -> float | None:
        """Seconds the engine wrote."""

    @property
    def first_tokens(self) -> Sequence[tuple[str, float]]:
        """Likely first tokens with their log-probabilities; empty where nobody asked, or the engine does not tell."""

    @property
    def error(self) -> str | None:
        """`Class: sentence` when the status is not ok."""


class Load(Protocol):
    """A model was loaded."""

    @property
    def seconds(self) -> float:
        """Until it was ready."""

    @property
    def cold(self) -> bool:
        """False when it was ready before."""


class Running(Protocol):
    """A model that the engine holds."""

    @property
    def model(self) -> str:
        """Its id in the catalog, or the engine's name for a model that is not ours."""

    @property
    def state(self) -> str:
        """`ready`, or what it is doing instead."""


class Reading(Protocol):
    """Memory of one card, whoever uses it."""

    @property
    def card(self) -> str:
        """Its name, the same each time."""

    @property
    def used_mib(self) -> float:
        """MiB in use."""

    @property
    def total_mib(self) -> float | None:
        """MiB it has."""


class Look(Protocol):
    """What an engine shows of itself at one moment. `readings` are those made since the look before, maybe none."""

    @property
    def running(self) -> Sequence[Running]:
        """What is loaded, or about to be."""

    @property
    def readings(self) -> Sequence[Reading]:
        """Memory, oldest first; empty where the engine does not tell."""


class About(Protocol):
    """A dataclass with what the engine says of itself; all of it goes to session.json."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class Watch(Protocol):
    """A second connection to an engine, used by another thread than asks."""

    def look(self) -> Look:
        """Now. Raises the engine's own error when it does not say."""


@runtime_checkable
class Watched(Protocol):
    """An engine that can be looked at while it answers."""

    def watch(self) -> AbstractContextManager[Watch]:
        """A connection for it."""


@runtime_checkable
class Logged(Protocol):
    """An engine that keeps what its servers write."""

    def log(self, model: str) -> str:
        """What the server of a loaded model wrote; empty where that is not known."""


class Engine(Protocol):
    """Something that loads a model and answers. One model is loaded at a time."""

    def load(self, model: str) -> Load:
        """Load the model and wait until it is ready. Raises the engine's own error when it cannot."""

    def ask(self, model: str, ask: Ask) -> Reply:
        """Ask; never raises for the engine's troubles."""

    def running(self) -> Sequence[Running]:
        """What is loaded now."""

    def about(self, model: str) -> About:
        """Kind, build, image of what answers as `model`."""
