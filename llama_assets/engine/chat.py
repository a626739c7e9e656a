"""One photo and one prompt asked of llama.cpp's chat endpoint, and what came back, measured.

Here: the request (streamed, deterministic, thinking off, nothing cached), the stream's bytes, and every way it can go
wrong as a reply with a class from `errors.REPLY_ERRORS`. Not here: which server, and whether the model is loaded there
(`client.py`, `process.py`).
Streamed because a dropped stream frees the server's slot at once, while a dropped plain request is computed to its end.
Protocol: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal, Protocol

import httpx
import tenacity

Status = Literal["ok", "error", "timeout"]
HERE = f"<image {uuid.uuid4()}>"  # no prompt holds it


@dataclass(frozen=True)
class EngineLimits:
    """Every number of this room."""

    connect_s: float = 5.0
    quick_s: float = 10.0  # for questions that no model computes: /running, /props
    look_s: float = 2.0  # likewise, for who looks on each second and is waited for at a session's end
    poll_s: float = 0.02  # between two looks at a model that is being loaded
    load_s: float = 330.0  # a little more than the catalog lets the engine take itself
    tries: int = 4  # requests sent in all while none reaches the model
    busy_wait_s: float = 5.0  # longest wait after a 429, whatever Retry-After says
    gateway_wait_s: float = 0.05  # after a 502, before a look at whether the model lives
    stop_s: float = 10.0  # between SIGTERM and SIGKILL
    death_s: float = 2.0  # for a process to be gone after its connection broke
    last_lines: int = 12  # of what a server wrote, quoted in an error
    idle_connection_s: float = 2.0  # llama-server closes a kept connection after 5


class Ask(Protocol):
    """What to ask. At most one of `grammar` (GBNF) and `json_schema` is set; no image is an empty `image_jpeg`."""

    @property
    def prompt(self) -> str:
        """The words beside the image."""

    @property
    def image_jpeg(self) -> bytes:
        """The image as JPEG."""

    @property
    def max_tokens(self) -> int:
        """Most tokens of the answer."""

    @property
    def timeout_s(self) -> float:
        """Most seconds for the whole answer."""

    @property
    def grammar(self) -> str | None:
        """What the answer must look like, as GBNF."""

    @property
    def json_schema(self) -> Mapping[str, Any] | None:
        """The same as JSON Schema, by `response_format`."""

    @property
    def logprobs(self) -> int:
        """How many of the likeliest first tokens are wanted with their log-probabilities; 0 for none."""


@dataclass(frozen=True)
class Reply:
    """What came back; what the engine did not say is None.

    `seconds` runs from sending to the last byte. `reasoning` is thinking that leaked although it was switched off.
    `retries` is how often it was asked in vain before, without the model seeing it; the waits are in `waited_seconds`,
    and `seconds` is the last time alone. `first_tokens` are those that could have been the answer's first, likeliest
    first, with their log-probabilities before sampling; empty where nobody asked or the engine does not tell.
    """

    status: Status
    seconds: float
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    prompt_seconds: float | None = None
    generation_seconds: float | None = None
    error: str | None = None
    retries: int = 0
    waited_seconds: float = 0.0
    first_tokens: tuple[tuple[str, float], ...] = ()
    retry_after_s: float | None = field(default=None, repr=False)

    @property
    def error_class(self) -> str | None:
        """The error's class, one of `errors.REPLY_ERRORS`; None for a good reply."""
        return self.error.split(":", 1)[0] if self.error else None


def connection(limits: EngineLimits, api_key: str | None = None) -> httpx.Client:
    """An HTTP client that keeps its connection. It reads no proxy from the environment: engines are near."""
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    return httpx.Client(
        headers=headers,
        timeout=httpx.Timeout(limits.quick_s, connect=limits.connect_s),
        limits=httpx.Limits(keepalive_expiry=limits.idle_connection_s),
        trust_env=False,
    )


def chat(
    http: httpx.Client,
    address: str,
    model: str,
    ask: Ask,
    limits: EngineLimits,
    keep: bool = False,
    survived: Callable[[], bool] = lambda: False,
) -> Reply:
    """Ask once, and again where the model never saw the question. Never raises for trouble with the engine.

    That is so while the engine is busy, and where a proxy lost its own connection (`gateway`) and `survived` says that
    the model is loaded all the same. `keep` keeps the connection; it is for proxies. llama-server promises to keep it
    and closes it right after a stream, so that of requests following each other on it one in a hundred meets its end.
    """
    body = _body(model, ask)
    headers = {"Content-Type": "application/json", "Connection": "keep-alive" if keep else "close"}
    waited = 0.0

    def again(reply: Reply) -> bool:
        nonlocal waited
        if reply.error_class == "gateway":
            time.sleep(limits.gateway_wait_s)  # for a death to be seen
            waited += limits.gateway_wait_s
            return survived()
        return reply.error_class == "busy"

    def wait(state: tenacity.RetryCallState) -> float:
        nonlocal waited
        assert state.outcome is not None
        reply: Reply = state.outcome.result()
        seconds = min(reply.retry_after_s or 1.0, limits.busy_wait_s) if reply.error_class == "busy" else 0.0
        waited += seconds
        return seconds

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_result(again),
        stop=tenacity.stop_after_attempt(limits.tries),
        wait=wait,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    url = f"{address}/v1/chat/completions"
    reply: Reply = attempts(_once, http, url, body, headers, ask.timeout_s, limits)
    tries = attempts.statistics["attempt_number"]
    return replace(reply, retries=tries - 1, waited_seconds=waited) if tries > 1 else reply


def reason(response: httpx.Response) -> tuple[str, str]:
    """(class, sentence) of an answer that is not 200; its body must have been read."""
    try:
        said = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        said = None
    error = said.get("error") if isinstance(said, dict) else None
    from_swap = isinstance(said, dict) and said.get("src") == "llama-swap"
    kind = error.get("type") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else error or response.text.strip()[:500]
    status = response.status_code
    sentence = f"{message or HTTPStatus(status).phrase} (HTTP {status})"
    if status in (401, 403):
        return "unauthorized", sentence
    if status == 429:
        return "busy", sentence
    if kind == "exceed_context_size_error":
        return "too_long", sentence
    if from_swap and status == 404:
        return "unknown_model", sentence
    if status == 503:
        return "not_ready", sentence
    if status in (502, 504) and not from_swap:
        return "gateway", sentence
    if from_swap and status >= 500:
        return "load_failed", sentence
    return ("engine_error" if status >= 500 else "rejected"), sentence


def _body(model: str, ask: Ask) -> bytes:
    content: list[dict[str, Any]] = []
    if ask.image_jpeg:
        content.append({"type": "image_url", "image_url": {"url": HERE}})
    content.append({"type": "text", "text": ask.prompt})
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": ask.max_tokens,
        "temperature": 0,
        "top_k": 1,
        "cache_prompt": False,
        "chat_template_kwargs": {"enable_thinking": False},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if ask.grammar is not None:
        body["grammar"] = ask.grammar
    elif ask.json_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": dict(ask.json_schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if ask.logprobs:
        body |= {"logprobs": True, "top_logprobs": ask.logprobs}
    # The image is put in afterwards: base64 needs no escaping, and looking for what to escape costs a millisecond.
    image = b"data:image/jpeg;base64," + base64.b64encode(ask.image_jpeg)
    return json.dumps(body).encode().replace(HERE.encode(), image, 1)


def _once(
    http: httpx.Client, url: str, body: bytes, headers: dict[str, str], timeout_s: float, limits: EngineLimits
) -> Reply:
    answer = _Answer()
    started = time.monotonic()
    deadline = started + timeout_s
    status: Status = "error"
    error: str | None
    retry_after: float | None = None
    try:
        timeout = httpx.Timeout(timeout_s, connect=min(limits.connect_s, timeout_s))
        with http.stream("POST", url, content=body, headers=headers, timeout=timeout) as response:
            # The rest has what is left of the time. Checked with every piece, and llama-server sends one each 30 s.
            response.request.extensions["timeout"]["read"] = max(deadline - time.monotonic(), 0.01)
            if response.status_code == 200:
                error = _read(response, answer, deadline)
            else:
                response.read()
                error = ": ".join(reason(response))
                retry_after = _seconds(response.headers.get("Retry-After"))
        if error is None:
            status = "ok"
    except (_Late, httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout):
        status, error = "timeout", f"timeout: no whole answer in {timeout_s:g} s"
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.ProxyError) as refused:
        error = f"unreachable: {refused}"
    except httpx.HTTPError as broken:
        error = f"cut: {broken or type(broken).__name__}"
    return answer.reply(status, time.monotonic() - started, error, retry_after)


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isdecimal() else None  # a date is as good as none here


class _Late(Exception):
    pass


@dataclass
class _Answer:
    """What has come so far."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    first_tokens: tuple[tuple[str, float], ...] = ()
    usage: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)

    def take(self, event: dict[str, Any]) -> None:
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            if piece := delta.get("content"):
                self.text.append(piece)
            if piece := delta.get("reasoning_content"):
                self.reasoning.append(piece)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if not self.first_tokens and (said := (choice.get("logprobs") or {}).get("content")):
                told = said[0].get("top_logprobs") or ()
                self.first_tokens = tuple(
                    (one["token"], one["logprob"]) for one in told if {"token", "logprob"} <= one.keys()
                )
        self.usage = event.get("usage") or self.usage
        self.timings = event.get("timings") or self.timings

    def reply(self, status: Status, seconds: float, error: str | None, retry_after_s: float | None) -> Reply:
        timings = self.timings
        prompt = self.usage.get("prompt_tokens")
        if prompt is None and "prompt_n" in timings:
            prompt = timings["prompt_n"] + timings.get("cache_n", 0)
        completion = self.usage.get("completion_tokens", timings.get("predicted_n"))
        cached = timings.get("cache_n", (self.usage.get("prompt_tokens_details") or {}).get("cached_tokens"))
        return Reply(
            status=status,
            seconds=seconds,
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            finish_reason=self.finish_reason,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=cached,
            prompt_seconds=_from_ms(timings.get("prompt_ms")),
            generation_seconds=_from_ms(timings.get("predicted_ms")),
            error=error,
            first_tokens=self.first_tokens,
            retry_after_s=retry_after_s,
        )


def _from_ms(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _read(response: httpx.Response, answer: _Answer, deadline: float) -> str | None:
    """Take the stream's events into `answer`. Returns what went wrong: an error may come inside a 200."""
    for data in _events(response, deadline):
        if data == b"[DONE]":
            continue
        try:
            event = json.loads(data.decode())
        except (json.JSONDecodeError, UnicodeDecodeError):
            return f"bad_stream: {data[:200]!r} is not JSON"
        if not isinstance(event, dict):
            return f"bad_stream: {data[:200]!r} is no event of an answer"
        if error := event.get("error"):
            said = error if isinstance(error, dict) else {"message": error}
            kind = "too_long" if said.get("type") == "exceed_context_size_error" else "engine_error"
            return f"{kind}: {said.get('message') or said}"
        answer.take(event)
    if answer.finish_reason is None:
        return "cut: the stream ended before the answer did" if answer.usage or answer.text else "bad_stream: no answer"
    return None


def _events(response: httpx.Response, deadline: float) -> Iterator[bytes]:
    """The data of each server-sent event; comments (llama-server's pings) are left out."""
    rest = b""
    for piece in response.iter_raw():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            name, colon, value = line.partition(b":")
            if colon and name in (b"data", b"error"):
                yield value.strip()
        if time.monotonic() > deadline:
            raise _Late
