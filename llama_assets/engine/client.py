"""An engine at an address: llama-swap, llama.cpp's router, or one plain llama-server.

Here: which of the three it is, loading so that one model is loaded at a time, what runs, what it says about itself.
Not here: the request to a model (`chat.py`), servers that this process starts itself (`process.py`).
A model is ready when the engine says so: llama-swap's /health is always 200, and `/upstream/<m>/` loads a model.
llama-swap: https://github.com/mostlygeek/llama-swap; the router: tools/server/README.md in llama.cpp, "router mode".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import Any, Literal

import httpx
import tenacity

from llama_assets.engine.chat import Ask, EngineLimits, Reply, chat, connection, reason
from llama_assets.engine.errors import EngineError, LoadFailed, NotLoaded, UnknownModel, Unreachable

Kind = Literal["llama-swap", "router", "llama-server"]
METRICS_PREFIX = "llamacpp:"
MOST_LOG_BYTES = 1 << 20


@dataclass(frozen=True)
class Load:
    """A load that was asked for. `cold` is False where the model was ready already."""

    seconds: float
    cold: bool


@dataclass(frozen=True)
class Running:
    """A model that is not unloaded. `state` is starting, ready or stopping."""

    model: str
    state: str


@dataclass(frozen=True)
class Reading:
    """Memory of one card in MiB, whoever uses it. `card` is its UUID, or its number where it has none."""

    card: str
    used_mib: float
    total_mib: float | None


@dataclass(frozen=True)
class Look:
    """An engine at one moment. `readings` are those made since the look before."""

    running: tuple[Running, ...]
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True)
class About:
    """What the engine says of itself and of a model that is loaded; what it does not say is None.

    `kind` is what answers, `version` its own version or the program's path, `build` llama.cpp's. `fingerprint` is the
    one in llama-swap's config, `image` what its pod runs, with the digest where that is known.
    """

    kind: str
    version: str | None
    build: str | None
    n_ctx: int | None
    modalities: tuple[str, ...]
    model_file: str | None
    fingerprint: str | None = None
    image: str | None = None


class SwapClient:
    """The engine at `address`. Which kind it is, is asked when it is first needed; `image` is what its pod runs."""

    def __init__(
        self,
        address: str,
        api_key: str | None = None,
        limits: EngineLimits | None = None,
        image: str | None = None,
    ) -> None:
        self.image = image
        self.address = address.rstrip("/")
        self.limits = limits or EngineLimits()
        self._api_key = api_key
        self._http = connection(self.limits, api_key)
        self._asked_for: str | None = None

    def __enter__(self) -> SwapClient:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    @cached_property
    def kind(self) -> Kind:
        """What answers here.

        Raises:
            Unreachable: nothing does, or something that is no engine.
        """
        # A new connection each time: one that was made before a Service led to its pod leads elsewhere as long as it
        # lives, and whatever is there may well answer.
        if "running" in _object(self._call("GET", "/running", keep=False)):
            return "llama-swap"
        answer = self._wait_until_up("/props")
        if "default_generation_settings" in (props := _object(answer)):
            return "router" if props.get("role") == "router" else "llama-server"
        raise Unreachable(self.address, ": ".join(reason(answer)))

    def wait_until_up(self, seconds: float) -> None:
        """Return when it answers: a Service knows its pod a moment after the pod is ready. Raises Unreachable."""
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unreachable),
            stop=tenacity.stop_after_delay(seconds),
            wait=tenacity.wait_fixed(self.limits.poll_s),
            reraise=True,
        )
        tries(lambda: self.kind)

    def load(self, model: str) -> Load:
        """Have `model` loaded and ready, and no other.

        Raises:
            UnknownModel: the engine has no such model.
            LoadFailed: it did not become ready; carries what its server wrote last, where the engine tells.
            Unreachable: the engine does not answer.
        """
        started = time.monotonic()
        loaders: dict[Kind, Callable[[str], bool]] = {
            "llama-swap": self._load_by_swap, "router": self._load_by_router, "llama-server": self._load_plain,
        }  # fmt: skip
        cold = loaders[self.kind](model)
        self._asked_for = model
        return Load(time.monotonic() - started, cold)

    def ask(self, model: str, ask: Ask) -> Reply:
        """Ask `model`; trouble with the engine is in the reply. An engine that swaps loads the model if need be."""
        try:
            kind = self.kind
        except EngineError as error:
            return Reply("error", 0.0, error=f"unreachable: {error}")
        if kind != "llama-swap":
            return chat(self._http, self.address, model, ask, self.limits)
        # llama-swap keeps its connections to llama-server, which closes them after a stream: one request in a hundred
        # meets that moment and is answered 502 although nothing is wrong.
        return chat(
            self._http, self.address, model, ask, self.limits, keep=True, survived=lambda: self._is_ready(model)
        )

    def unload(self) -> None:
        """Have no model loaded when this returns. A plain llama-server cannot unload: nothing happens."""
        if self.kind == "llama-swap":
            self._call("GET", "/unload", patient=True, must=True)
        elif self.kind == "router":
            for one in self.running():
                self._unload_in_router(one.model)

    def running(self) -> list[Running]:
        """What is loaded or about to be. A plain llama-server's one model bears the name last loaded by us."""
        if self.kind == "llama-swap":
            return [Running(one["model"], one["state"]) for one in self._list("/running", "running")]
        if self.kind == "router":
            states = {name: status["value"] for name, status in self._router_models().items()}
            words = {"loaded": "ready", "loading": "starting"}
            return [Running(name, words.get(value, value)) for name, value in states.items() if value != "unloaded"]
        return [Running(self._asked_for or one["id"], "ready") for one in self._list("/v1/models")]

    def about(self, model: str) -> About:
        """What is known about `model` and its server; never loads it.

        Raises:
            NotLoaded: it is not loaded.
        """
        props = _object(self._of_model(model, "/props"))
        version = fingerprint = None
        if self.kind == "llama-swap":
            version = _object(self._call("GET", "/api/version")).get("version")
            listed = self._list("/v1/models")
            said = [(one.get("meta") or {}).get("llamaswap") or {} for one in listed if one["id"] == model]
            fingerprint = said[0].get("fingerprint") if said else None
        return replace(described(self.kind, version, props, fingerprint), image=self.image)

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Another connection to the same engine, for a thread that looks on while this one asks."""
        quick = replace(self.limits, quick_s=self.limits.look_s)
        with SwapClient(self.address, self._api_key, quick, self.image) as other:
            yield Watch(other)

    def performance(self, after: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """What llama-swap measured of the cards later than `after`, oldest first, and the time of the newest.

        It measures every 5 s and keeps an hour (`internal/perf`, v250); empty where it has no tool to measure with,
        where that is switched off, and of other engines.

        Raises:
            Unreachable: the engine does not answer.
        """
        if self.kind != "llama-swap":
            return [], after
        question = f"?{httpx.QueryParams(after=after)}" if after else ""
        found = _object(self._call("GET", f"/api/performance{question}"))
        cards, machine = found.get("gpu_stats") or [], found.get("sys_stats") or []  # both, or an hour comes each time
        newest = max((one["timestamp"] for one in (*cards, *machine)), key=_moment, default=after)
        return [one for one in cards if "mem_used_mb" in one], newest

    def log(self, model: str) -> str:
        """What `model`'s server wrote lately, as far as llama-swap keeps it; of other engines nothing."""
        return self._swap_log(model) if self.kind == "llama-swap" else ""

    def metrics(self, model: str) -> dict[str, float]:
        """What `model`'s server has counted since it was started, by llama.cpp's names without their prefix.

        There is no counter of requests: `tokens_predicted_total` is the sum of all answers' completion tokens.

        Raises:
            NotLoaded: it is not loaded.
        """
        return parsed_metrics(self._of_model(model, "/metrics"))

    def close(self) -> None:
        """Close the connection; the engine goes on."""
        self._http.close()

    # llama-swap

    def _load_by_swap(self, model: str) -> bool:
        cold = Running(model, "ready") not in self.running()
        # Answered when the model is ready. llama-swap lets the others finish what they answer before it stops them.
        answer = self._call("GET", f"/upstream/{model}/health", patient=True)
        if answer.status_code == 404:
            raise UnknownModel(model, [one["id"] for one in self._list("/v1/models")])
        if not answer.is_success:
            lines = self._swap_log(model).splitlines()
            raise LoadFailed(model, reason(answer)[1], "\n".join(lines[-self.limits.last_lines :]))
        for other in self.running():  # a config with groups may keep several
            if other.model != model and other.state == "ready":
                self._call("POST", f"/api/models/unload/{other.model}", patient=True, must=True)
        return cold

    def _swap_log(self, model: str) -> str:
        """What the model's server wrote. The log never ends by itself: a pause is taken for its end."""
        read = b""
        pause = httpx.Timeout(self.limits.quick_s, read=0.3)
        try:
            with self._http.stream("GET", f"{self.address}/logs/stream/{model}", timeout=pause) as answer:
                for piece in answer.iter_raw():
                    read += piece
                    if not answer.is_success or len(read) > MOST_LOG_BYTES:
                        return ""
        except httpx.ReadTimeout:
            pass
        except httpx.HTTPError:
            return ""  # it only explains what is reported elsewhere
        return read.decode(errors="replace")

    # llama.cpp's router

    def _load_by_router(self, model: str) -> bool:
        models = self._router_models()
        if model not in models:
            raise UnknownModel(model, list(models))
        state = models[model]["value"]
        cold = bool(state != "loaded")
        if cold:
            for other, status in models.items():
                # One that sleeps is loaded by its next request, and by nothing else: it is loaded from the start here.
                if status["value"] != "unloaded" and (other != model or state == "sleeping"):
                    self._unload_in_router(other)
            if state in ("unloaded", "sleeping"):
                self._call("POST", "/models/load", {"model": model}, must=True)
            # It answers before it is done.
            for status in self._until_load_limit(model, lambda: self._router_models()[model]):
                if status["value"] == "loaded":
                    break
                if status.get("failed"):
                    why = f"its server ended with exit status {status.get('exit_code')}; the router's log says more"
                    raise LoadFailed(model, why)
        return cold

    def _unload_in_router(self, model: str) -> None:
        self._call("POST", "/models/unload", {"model": model})  # 400 where somebody was faster
        for status in self._until_load_limit(model, lambda: self._router_models()[model]):
            if status["value"] == "unloaded":
                return

    def _router_models(self) -> dict[str, dict[str, Any]]:
        return {one["id"]: one["status"] for one in self._list("/models")}

    # A plain llama-server

    def _load_plain(self, _: str) -> bool:
        self._wait_until_up("/health")
        return False

    # What all of them share

    def _is_ready(self, model: str) -> bool:
        try:
            return Running(model, "ready") in self.running()
        except EngineError:
            return False

    def _of_model(self, model: str, path: str) -> httpx.Response:
        """GET `path` of the model's own server, if the model is loaded."""
        if Running(model, "ready") not in self.running() and self.kind != "llama-server":
            raise NotLoaded(model)
        places = {"llama-swap": f"/upstream/{model}{path}", "router": f"{path}?model={model}", "llama-server": path}
        return self._call("GET", places[self.kind])

    def _wait_until_up(self, path: str) -> httpx.Response:
        """GET until the answer is another than 503: a plain llama-server says that while it loads."""
        deadline = time.monotonic() + self.limits.load_s
        while (answer := self._call("GET", path, keep=False)).status_code == 503 and time.monotonic() < deadline:
            time.sleep(self.limits.poll_s)
        return answer

    def _until_load_limit(self, model: str, look: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + self.limits.load_s
        while time.monotonic() < deadline:
            yield look()
            time.sleep(self.limits.poll_s)
        raise LoadFailed(model, f"the engine was not done within {self.limits.load_s:g} s")

    def _list(self, path: str, key: str = "data") -> list[dict[str, Any]]:
        found = _object(self._call("GET", path, must=True)).get(key)
        if not isinstance(found, list):
            raise Unreachable(self.address + path, f"the answer has no list {key!r}")
        return found

    def _call(
        self, method: str, path: str, body: object = None, patient: bool = False, must: bool = False, keep: bool = True
    ) -> httpx.Response:
        """One request; `patient` for those that are answered after a load, `must` for those that must succeed."""
        seconds = self.limits.load_s if patient else self.limits.quick_s
        timeout = httpx.Timeout(seconds, connect=self.limits.connect_s)
        headers = {} if keep else {"Connection": "close"}
        with unreachable(self.address):
            answer = self._http.request(method, self.address + path, json=body, headers=headers, timeout=timeout)
        if must and not answer.is_success:
            raise Unreachable(self.address + path, ": ".join(reason(answer)))
        return answer


class Watch:
    """Looks at an engine, again and again. The first look brings only the newest readings, of up to 5 s before."""

    def __init__(self, client: SwapClient) -> None:
        self._client = client
        self._newest: str | None = None

    def look(self) -> Look:
        """Now. Raises Unreachable."""
        running = tuple(self._client.running())
        first = self._newest is None
        stats, self._newest = self._client.performance(self._newest)
        readings = [Reading(_card(one), float(one["mem_used_mb"]), one.get("mem_total_mb")) for one in stats]
        if first:
            readings = list({one.card: one for one in readings}.values())
        return Look(running, tuple(readings))


def _card(stat: Mapping[str, Any]) -> str:
    return str(stat.get("uuid") or stat.get("id"))


def _moment(stamp: str) -> datetime:
    """Go writes nanoseconds, Python reads microseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", stamp))


def _object(answer: httpx.Response) -> dict[str, Any]:
    """The answer's JSON object; empty if it is an error or something else."""
    try:
        found = answer.json() if answer.is_success else {}
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def unreachable(address: str) -> Iterator[None]:
    """What HTTP raises, as `Unreachable`."""
    try:
        yield
    except httpx.HTTPError as error:
        raise Unreachable(address, str(error) or type(error).__name__) from error


def described(kind: str, version: str | None, props: dict[str, Any], fingerprint: str | None = None) -> About:
    """llama-server's /props as About."""
    build = props.get("build_info")
    return About(
        kind=kind,
        version=version,
        build=None if build == "b0-unknown" else build,  # xllamacpp's wheel knows no build number
        n_ctx=(props.get("default_generation_settings") or {}).get("n_ctx"),
        modalities=("text", *(name for name, able in (props.get("modalities") or {}).items() if able)),
        model_file=props.get("model_path"),
        fingerprint=fingerprint,
    )


def parsed_metrics(answer: httpx.Response) -> dict[str, float]:
    """llama-server's /metrics: name without prefix to value."""
    from prometheus_client.parser import text_string_to_metric_families

    if not answer.is_success:
        raise EngineError(f"no metrics from {answer.url}: {': '.join(reason(answer))}")
    return {
        sample.name.removeprefix(METRICS_PREFIX): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
