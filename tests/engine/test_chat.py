"""One request: what is asked for, what is read from the answer, and each way it goes wrong as a class of its own."""

from __future__ import annotations

import base64
import socket
from dataclasses import replace

import pytest

from llama_assets.engine import REPLY_ERRORS, EngineLimits, Reply
from llama_assets.engine.chat import chat, connection

from .conftest import Question, photo
from .scripted import END, answer, chunk, event, piece, playing, stream

LIMITS = EngineLimits(busy_wait_s=0.01)
TIMINGS = {"cache_n": 2, "prompt_n": 40, "prompt_ms": 12.5, "predicted_n": 3, "predicted_ms": 30.0}
GOOD = stream(
    piece(None),
    piece('{"a"'),
    piece(": 1}"),
    event(choices=[{"delta": {}, "finish_reason": "stop"}], timings=TIMINGS),
    event(choices=[], usage={"prompt_tokens": 42, "completion_tokens": 3}),
)


def ask(address: str, question: Question = Question(), limits: EngineLimits = LIMITS) -> Reply:  # noqa: B008
    with connection(limits) as http:
        return chat(http, address, "m", question, limits)


def test_a_good_answer_is_read_whole():
    with playing(GOOD) as script:
        reply = ask(script.address)
    assert (reply.status, reply.text, reply.finish_reason, reply.error) == ("ok", '{"a": 1}', "stop", None)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens) == (42, 3, 2)
    assert (reply.prompt_seconds, reply.generation_seconds) == (0.0125, 0.03)
    assert reply.seconds > 0 and reply.retries == 0


def test_the_request_is_deterministic_streamed_uncached_and_without_thinking():
    question = Question("What?", photo(), 77, grammar="root ::= [a-z]")
    with playing(GOOD) as script:
        ask(script.address, question)
        (body,) = script.requests
    image, text = body.pop("messages")[0]["content"]
    assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/jpeg;base64,")) == question.image_jpeg
    assert text == {"type": "text", "text": "What?"}
    assert body == {
        "model": "m",
        "max_tokens": 77,
        "temperature": 0,
        "top_k": 1,
        "cache_prompt": False,
        "chat_template_kwargs": {"enable_thinking": False},
        "stream": True,
        "stream_options": {"include_usage": True},
        "grammar": "root ::= [a-z]",
    }


def test_a_schema_is_asked_for_by_response_format_and_no_image_is_no_image():
    schema = {"type": "object"}
    with playing(GOOD) as script:
        ask(script.address, Question(grammar=None, json_schema=schema))
        (body,) = script.requests
    assert body["response_format"]["json_schema"]["schema"] == schema and "grammar" not in body
    assert [part["type"] for part in body["messages"][0]["content"]] == ["text"]


def test_leaked_thinking_is_kept_apart_from_the_answer():
    with playing(stream(piece(None, reasoning_content="hm"), piece("yes"), piece(finish="stop"))) as script:
        reply = ask(script.address)
    assert (reply.text, reply.reasoning) == ("yes", "hm")


def test_what_the_engine_does_not_say_is_none_and_not_zero():
    with playing(stream(piece("yes"), piece(finish="stop"))) as script:
        reply = ask(script.address)
    assert reply.status == "ok"
    assert (reply.prompt_tokens, reply.cached_tokens, reply.prompt_seconds, reply.generation_seconds) == (None,) * 4


def swap_error(message: str) -> dict:
    return {"src": "llama-swap", "error": {"message": message, "type": "server_error"}}


TOO_LONG = {"code": 400, "message": "exceeds the context", "type": "exceed_context_size_error"}
TROUBLE = {
    "error in the stream": (stream(piece("so"), event(error={"message": "slot died"})), "engine_error: slot died"),
    "context in the stream": (stream(event(error=TOO_LONG)), "too_long: exceeds the context"),
    "500": (answer(500, {"error": {"message": "peg-native", "type": "server_error"}}), "engine_error: peg-native"),
    "502 without words": (answer(502, b""), "gateway: Bad Gateway"),
    "500 of llama-swap": (answer(500, swap_error("upstream command exited prematurely")), "load_failed: upstream"),
    "404 of llama-swap": (answer(404, swap_error("no router for requested model")), "unknown_model: no router"),
    "503": (answer(503, {"error": {"message": "Loading model", "type": "unavailable_error"}}), "not_ready: Loading"),
    "401": (answer(401, {"error": {"message": "Invalid API Key"}}), "unauthorized: Invalid API Key"),
    "400": (answer(400, {"error": {"message": "failed to parse grammar"}}), "rejected: failed to parse grammar"),
    "400 for length": (answer(400, {"error": TOO_LONG}), "too_long: exceeds the context"),
    "a page": (answer(500, b"<html>proxy</html>"), "engine_error: <html>proxy"),
    "no events": (stream(end=chunk(b"<html>") + END), "bad_stream: no answer"),
    "no json": (stream(chunk(b"data: {oops\n\n")), "bad_stream: b'{oops'"),
    "an end without a finish": (stream(piece("so"), end=END), "cut: the stream ended"),
    "a cut": ([stream(piece("so"), end=b"")], "cut: "),
    "a reset": ([stream(piece("so"), end=b""), "reset"], "cut: "),
    "no answer at all": ([b"", "reset"], "cut: "),
}


@pytest.mark.parametrize("case", TROUBLE)
def test_trouble_has_a_class_and_a_sentence(case: str):
    said, begins = TROUBLE[case]
    with playing(said if isinstance(said, bytes) else [*said, "reset"]) as script:
        reply = ask(script.address)
    assert reply.status == "error"
    assert reply.error is not None and reply.error.startswith(begins)
    assert reply.error_class in REPLY_ERRORS


def test_what_had_come_before_trouble_is_kept():
    with playing([stream(piece("so far"), end=b""), "reset"]) as script:
        reply = ask(script.address)
    assert (reply.error_class, reply.text) == ("cut", "so far")


@pytest.mark.parametrize("said", [[None], [stream(piece("so"), end=b""), None]], ids=["silence", "stall"])
def test_no_whole_answer_in_time_is_a_timeout(said):
    with playing(said) as script:
        reply = ask(script.address, Question(timeout_s=0.2))
    assert (reply.status, reply.error) == ("timeout", "timeout: no whole answer in 0.2 s")


def test_nobody_there_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert ask(f"http://127.0.0.1:{port}").error_class == "unreachable"


BUSY = answer(429, swap_error("Too many requests"), "Retry-After: 60\r\n")


def test_a_busy_engine_is_asked_again_and_the_reply_says_so():
    with playing(BUSY, BUSY, GOOD) as script:
        reply = ask(script.address)
    assert (reply.status, reply.retries, reply.waited_seconds) == ("ok", 2, pytest.approx(0.02))


def test_an_engine_that_stays_busy_is_an_error():
    with playing(BUSY) as script:
        reply = ask(script.address, limits=replace(LIMITS, tries=3))
        assert len(script.requests) == 3
    assert reply.status == "error" and reply.error is not None
    assert reply.error.startswith("busy: Too many requests") and reply.retries == 2


def test_every_class_an_engine_can_cause_is_documented_and_played_here():
    played = {begins.split(":")[0] for _, begins in TROUBLE.values()} | {"timeout", "unreachable", "busy"}
    assert played == set(REPLY_ERRORS) - {"engine_crashed"}  # test_process.py kills a real one


LOST = answer(502, b"")


def test_a_proxy_that_lost_its_connection_is_asked_again_if_the_model_lives():
    with playing(LOST, GOOD) as script, connection(LIMITS) as http:
        reply = chat(http, script.address, "m", Question(), LIMITS, survived=lambda: True)
        assert (reply.status, reply.retries) == ("ok", 1)
        script.requests.clear()
        reply = chat(http, script.address, "m", Question(), LIMITS, survived=lambda: False)
        assert (reply.status, reply.error_class, len(script.requests)) == ("error", "gateway", 1)


def test_a_connection_is_kept_for_proxies_and_not_for_llama_server():
    with playing(GOOD) as script, connection(LIMITS) as http:
        for keep in (True, True, False, False):
            assert chat(http, script.address, "m", Question(), LIMITS, keep=keep).status == "ok"
        assert script.connections == 2
