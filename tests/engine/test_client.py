"""The client of an engine at an address: llama-swap (stand-in and real), llama.cpp's router, one plain llama-server."""

from __future__ import annotations

import itertools
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llama_assets.engine import LoadFailed, NotLoaded, Running, Served, SwapClient, UnknownModel, Unreachable

from .conftest import ROUTERS, SWAPS, Question, needs_server, photo
from .scripted import answer, playing

SWAPPING = [*SWAPS, *ROUTERS]
ALL = [*SWAPPING, "plain"]


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> SwapClient:
    client: SwapClient = request.getfixturevalue(request.param)
    client.unload()
    return client


@pytest.mark.parametrize("engine", ALL, indirect=True)
def test_a_loaded_model_answers_about_a_photo(engine: SwapClient, models: dict[str, Served]):
    engine.load("one")
    reply = engine.ask("one", Question(image_jpeg=photo()))
    assert (reply.status, reply.finish_reason, reply.error) == ("ok", "stop", None)
    assert reply.text.startswith('{"score": ')
    assert reply.completion_tokens and reply.prompt_tokens and reply.cached_tokens == 0
    assert reply.prompt_seconds and reply.generation_seconds
    assert reply.prompt_seconds + reply.generation_seconds < reply.seconds
    assert engine.running() == [Running("one", "ready")]


@pytest.mark.parametrize("engine", ALL, indirect=True)
def test_it_says_what_answers_and_what_its_server_counted(engine: SwapClient, models: dict[str, Served]):
    engine.load("one")
    before = engine.metrics("one")["tokens_predicted_total"]
    replies = [engine.ask("one", Question(image_jpeg=photo(colour))) for colour in ("red", "green", "blue")]
    counted = engine.metrics("one")["tokens_predicted_total"] - before
    assert counted == sum(reply.completion_tokens or 0 for reply in replies) > 0
    about = engine.about("one")
    assert about.kind == engine.kind
    assert (about.n_ctx, about.model_file) == (3072, str(models["one"].model_file))
    assert "vision" in about.modalities
    if engine.kind == "llama-swap":
        assert about.fingerprint == models["one"].fingerprint and about.version
    assert ("loaded multimodal model" in engine.log("one")) == (engine.kind == "llama-swap"), "others do not show it"


@pytest.mark.parametrize("engine", ALL, indirect=True)
def test_the_likeliest_first_tokens_come_with_their_chances_where_they_are_asked_for(engine: SwapClient):
    engine.load("one")
    red, blue, again = (
        engine.ask("one", Question(image_jpeg=photo(colour), grammar=None, max_tokens=1, logprobs=5))
        for colour in ("red", "blue", "red")
    )
    chances = [chance for _, chance in red.first_tokens]
    assert len(chances) == 5 and chances == sorted(chances, reverse=True) and chances[0] < 0
    assert red.first_tokens == again.first_tokens != blue.first_tokens
    assert engine.ask("one", Question(image_jpeg=photo())).first_tokens == ()


@pytest.mark.parametrize("engine", SWAPPING, indirect=True)
def test_loading_is_cold_once_and_leaves_no_other_model_loaded(engine: SwapClient):
    first, again, other = engine.load("one"), engine.load("one"), engine.load("two")
    assert (first.cold, again.cold, other.cold) == (True, False, True)
    assert first.seconds > 0
    assert engine.running() == [Running("two", "ready")]
    engine.unload()
    assert engine.running() == []


@pytest.mark.parametrize("engine", SWAPPING, indirect=True)
def test_an_unknown_model_is_named_with_those_there_are(engine: SwapClient):
    with pytest.raises(UnknownModel, match="'nope'; it has broken, one, two"):
        engine.load("nope")


@pytest.mark.parametrize("engine", SWAPPING, indirect=True)
def test_a_model_that_cannot_be_loaded_says_why_and_the_next_one_is_loaded_all_the_same(engine: SwapClient):
    with pytest.raises(LoadFailed) as caught:
        engine.load("broken")
    if engine.kind == "llama-swap":
        assert "failed to load model" in caught.value.last_words
    assert "broken" in str(caught.value)
    assert engine.load("one").cold


@pytest.mark.parametrize("engine", SWAPPING, indirect=True)
def test_asking_about_a_model_never_loads_it(engine: SwapClient):
    for ask in (engine.about, engine.metrics):
        with pytest.raises(NotLoaded):
            ask("one")
    assert engine.running() == []


@pytest.mark.parametrize("engine", SWAPPING, indirect=True)
def test_a_request_to_a_model_that_cannot_be_loaded_is_a_reply_with_an_error(engine: SwapClient):
    reply = engine.ask("broken", Question())
    assert reply.status == "error"
    assert reply.error_class == ("load_failed" if engine.kind == "llama-swap" else "engine_error")


def test_the_kind_is_recognised(swap: SwapClient, plain: SwapClient):
    assert (swap.kind, plain.kind) == ("llama-swap", "llama-server")


@needs_server
def test_the_router_is_recognised(router: SwapClient):
    assert router.kind == "router"


def test_nobody_at_the_address_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with SwapClient(address) as client:
        with pytest.raises(Unreachable, match=f"answers at {address}: "):
            client.load("one")
        assert client.ask("one", Question()).error_class == "unreachable"


@pytest.mark.parametrize("said", [answer(404, b"not here"), answer(200, b"<html>"), answer(401, {"error": "no"})])
def test_something_else_at_the_address_is_no_engine(said: bytes):
    with playing(said) as script, SwapClient(script.address) as client, pytest.raises(Unreachable):
        client.load("one")


def test_a_connection_that_led_elsewhere_is_not_kept():
    """As made in the moment when a Service's rule is not there yet: packets leave the node, and a gateway answers."""
    connections = itertools.count()

    class Service(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.elsewhere = next(connections) == 0

        def do_GET(self) -> None:
            body = b"" if self.elsewhere else b'{"running": []}'
            self.send_response(404 if self.elsewhere else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with SwapClient(f"http://127.0.0.1:{server.server_port}") as client:
            client.wait_until_up(10)
            assert client.kind == "llama-swap"
        server.shutdown()
