"""What can go wrong with an engine, and the words a reply uses for it.

EngineError                 exit status 1
├── NotServable             a model's arguments cannot be given to llama-server              exit status 2
├── NoServer                this machine has nothing that could answer                       exit status 2
├── Unreachable             nothing, or something else, answers at the address
├── UnknownModel            the engine does not know this model
├── NotLoaded               the model is known and does not run now
├── LoadFailed              it was started and did not become ready; carries its last words
├── FieldsTaken             somebody else set fields of the Deployment, ConfigMap or Service
├── NotReplaceable          the Deployment there is another one's: it cannot be changed into ours
├── NotRolledOut            its pod does not become ready: carries the reason
├── OtherConfig             its pod serves other files than those to be asked
└── OtherImage              its pod runs another image than the pinned one

`load`, `about` and `metrics` raise these. `ask` never does: trouble with one answer is a reply whose `error` is
"<class>: <sentence>" with a class of `REPLY_ERRORS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

REPLY_ERRORS = {
    "unreachable": "no connection to the engine",
    "cut": "the connection ended before the answer did",
    "timeout": "the answer did not end in time; what had come is in the reply's text",
    "busy": "the engine had too many requests (429), also after waiting",
    "gateway": "a proxy lost the model's server, or its connection to it (502, 504)",
    "unauthorized": "the engine wants another API key (401, 403)",
    "unknown_model": "the engine does not know the model",
    "not_ready": "the model is not loaded, or still being loaded (503)",
    "load_failed": "the engine could not start the model",
    "too_long": "prompt and photo do not fit the context",
    "rejected": "the engine refused the request (another 4xx)",
    "engine_error": "the engine failed at the request (5xx, or an error inside the stream)",
    "bad_stream": "what came is no stream of answers",
    "engine_crashed": "the engine's process died while it answered",
}


class EngineError(Exception):
    """The engine cannot do what was asked."""

    exit_status = 1


class NotServable(EngineError):
    """`model`'s configuration cannot be written: `why`."""

    exit_status = 2

    def __init__(self, model: str, why: str) -> None:
        self.model, self.why = model, why
        super().__init__(model, why)

    def __str__(self) -> str:
        return f"model {self.model} cannot be served: {self.why}"


class NoServer(EngineError):
    """Neither llama-server nor xllamacpp is on this machine."""

    exit_status = 2

    def __str__(self) -> str:
        return (
            "nothing on this machine can run a model: put llama.cpp's llama-server on PATH, "
            "or `pip install llama-assets[local]`, or set LLAMA_ASSETS_ENGINE_URL to a running llama-swap"
        )


class Unreachable(EngineError):
    """No engine at `address`: `why`."""

    def __init__(self, address: str, why: str) -> None:
        self.address, self.why = address, why
        super().__init__(address, why)

    def __str__(self) -> str:
        return f"no llama-swap or llama-server answers at {self.address}: {self.why}"


class UnknownModel(EngineError):
    """`model` is none of `known`."""

    def __init__(self, model: str, known: Sequence[str]) -> None:
        self.model, self.known = model, tuple(known)
        super().__init__(model, self.known)

    def __str__(self) -> str:
        return f"the engine has no model {self.model!r}; it has {', '.join(self.known) or 'none'}"


class NotLoaded(EngineError):
    """`model` does not run, and asking about it would have loaded it."""

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(model)

    def __str__(self) -> str:
        return f"model {self.model} is not loaded; load it first"


class LoadFailed(EngineError):
    """`model` did not become ready: `why`. `last_words` are the end of what its server wrote."""

    def __init__(self, model: str, why: str, last_words: str = "", log: Path | None = None) -> None:
        self.model, self.why, self.last_words, self.log = model, why, last_words.strip(), log
        super().__init__(model, why)

    def __str__(self) -> str:
        said = f"; it said last:\n{self.last_words}" if self.last_words else ""
        more = f"\n(all of it is in {self.log})" if self.log else ""
        return f"model {self.model} could not be loaded: {self.why}{said}{more}"


class FieldsTaken(EngineError):
    """Fields of `what` were set by somebody else: `owners`, field -> what the API server says of its owner."""

    def __init__(self, what: str, owners: Mapping[str, str]) -> None:
        self.what, self.owners = what, dict(owners)
        super().__init__(what, self.owners)

    def __str__(self) -> str:
        fields = "; ".join(f"{field} ({said})" for field, said in self.owners.items())
        return (
            f"{self.what}: nothing was written, because others set what is ours to set: {fields}. Let them stop, or "
            "take the fields over with `llama-assets engine apply --take-over`"
        )


class NotReplaceable(EngineError):
    """`what` cannot be changed into ours: `why`."""

    def __init__(self, what: str, why: str) -> None:
        self.what, self.why = what, why
        super().__init__(what, why)

    def __str__(self) -> str:
        return f"{self.what}: nothing was written: {self.why}. If it is not ours, delete it, and apply again"


class NotRolledOut(EngineError):
    """The pod of `what` is not ready after `seconds`: `why`."""

    def __init__(self, what: str, seconds: float, why: str) -> None:
        self.what, self.seconds, self.why = what, seconds, why
        super().__init__(what, seconds, why)

    def __str__(self) -> str:
        return f"{self.what} is not ready after {self.seconds:.0f} s: {self.why}"


class OtherConfig(EngineError):
    """`pod` does not serve what is to be asked: `why`."""

    def __init__(self, pod: str, why: str) -> None:
        self.pod, self.why = pod, why
        super().__init__(pod, why)

    def __str__(self) -> str:
        return f"pod {self.pod} {self.why}; materialize llama_swap (or `llama-assets engine apply`) first"


class OtherImage(EngineError):
    """`pod` runs the image with digest `runs`, and `pinned` is the one that was tested."""

    def __init__(self, pod: str, runs: str, pinned: str) -> None:
        self.pod, self.runs, self.pinned = pod, runs, pinned
        super().__init__(pod, runs, pinned)

    def __str__(self) -> str:
        return (
            f"pod {self.pod} runs the image {self.runs}, and the pinned one is {self.pinned}: nothing was asked. "
            "Materialize llama_swap to run the pinned one, or pin what runs"
        )
