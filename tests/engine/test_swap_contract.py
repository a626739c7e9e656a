"""What llama-swap answers, asked of the stand-in always and of the real binary where LLAMA_SWAP_BIN names one.

The stand-in may be relied on for what is asked here, and for nothing else.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from llama_assets.engine import LoadFailed, Served, SwapClient, local_swap
from llama_assets.engine.process import WORKER

from .conftest import ENGINE, SWAPS, needs_swap, swap_command

LONG = "root ::= [a-z]{1200}"  # keeps a tiny model busy for a second or so


@pytest.fixture
def http(swap: SwapClient):
    with httpx.Client(base_url=swap.address, timeout=60, trust_env=False) as client:
        client.get("/unload")
        yield client


def ask(http: httpx.Client, model: str, path: str = "/v1/chat/completions", **more: object) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "max_tokens": 4, **more}
    return http.post(path, json=body)


def running(http: httpx.Client) -> dict[str, str]:
    return {one["model"]: one["state"] for one in http.get("/running").json()["running"]}


@needs_swap
def test_the_real_llama_swap_is_asked_as_well(llama_swap: SwapClient):
    assert llama_swap.kind == "llama-swap"


def test_health_is_good_with_nothing_loaded(http):
    answer = http.get("/health")
    assert (answer.status_code, answer.text) == (200, "OK")
    assert running(http) == {}


def test_models_are_listed_by_id_with_their_metadata_and_without_aliases(http, models: dict[str, Served]):
    rows = http.get("/v1/models").json()["data"]
    assert [row["id"] for row in rows] == ["broken", "one", "two"]
    one = rows[1]
    assert one["owned_by"] == "llama-swap" and one["object"] == "model" and one["status"] == {"value": "unloaded"}
    assert one["meta"]["llamaswap"]["fingerprint"] == models["one"].fingerprint
    assert one["meta"]["llamaswap"]["type"] == "model" and one["meta"]["llamaswap"]["aliases"] == ["first"]
    assert one["architecture"]["input_modalities"] == ["text", "image"] and one["meta"]["n_ctx"] == 3072


def test_a_chat_loads_its_model_and_running_says_how(http, models: dict[str, Served]):
    answer = ask(http, "one")
    assert answer.status_code == 200
    assert answer.json()["model"] == str(models["one"].model_file), "the server's own name, not llama-swap's"
    (entry,) = http.get("/running").json()["running"]
    assert set(entry) == {"model", "state", "cmd", "proxy", "ttl", "name", "description"}
    assert (entry["model"], entry["state"], entry["ttl"]) == ("one", "ready", 600)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", entry["proxy"]) and "${" not in entry["cmd"]


def test_a_chat_with_another_model_swaps(http):
    assert ask(http, "one").status_code == ask(http, "two").status_code == 200
    assert running(http) == {"two": "ready"}


def test_alias_completion_and_upstream_reach_the_same_server(http):
    assert ask(http, "first").status_code == 200
    assert ask(http, "first", "/completion").json()["content"] is not None
    props = http.get("/upstream/first/props").json()
    assert props == http.get("/upstream/one/props").json()
    assert running(http) == {"one": "ready"}


def test_upstream_health_loads_the_model(http):
    assert http.get("/upstream/two/health").json() == {"status": "ok"}
    assert running(http) == {"two": "ready"}


def test_upstream_of_a_static_file_loads_nothing(http):
    assert http.get("/upstream/two/style.css").status_code == 409
    assert running(http) == {}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("unknown model", "no router for requested model"),
        ("no model", "no model id could be identified"),
        ("no json", "no model id could be identified"),
        ("unknown upstream", "model not found"),
    ],
)
def test_what_no_model_is_meant_by_is_404_and_says_who_answers(http, kind: str, message: str):
    answer = {
        "unknown model": lambda: ask(http, "nope"),
        "no model": lambda: http.post("/v1/chat/completions", json={"messages": []}),
        "no json": lambda: http.post("/v1/chat/completions", content='{"model": "one"}'),
        "unknown upstream": lambda: http.get("/upstream/nope/health"),
    }[kind]()
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "not_found"}
    assert (answer.status_code, answer.json()) == (404, {"src": "llama-swap", "error": error})


def test_a_command_that_exits_is_500_and_gone(http):
    answer = ask(http, "broken")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "unspecific error: upstream command exited prematurely"
    assert "broken" not in running(http)


def test_the_servers_words_are_in_its_log_stream(http):
    ask(http, "broken")
    with http.stream("GET", "/logs/stream/broken", timeout=httpx.Timeout(5, read=20)) as stream:
        assert "failed to load model" in next(text for text in stream.iter_text() if "failed" in text)
    assert http.get("/logs/stream/nope").status_code == 400


def test_another_model_waits_until_a_stream_has_ended(http, swap: SwapClient):
    order: list[str] = []
    begun = threading.Event()

    def other() -> None:
        begun.wait(30)
        with httpx.Client(base_url=swap.address, timeout=60, trust_env=False) as mine:
            assert ask(mine, "two").status_code == 200
        order.append("two answered")

    ask(http, "one")
    body = {"model": "one", "messages": [{"role": "user", "content": "hi"}], "stream": True, "grammar": LONG}
    thread = threading.Thread(target=other)
    thread.start()
    with http.stream("POST", "/v1/chat/completions", json=body | {"max_tokens": 1300}) as stream:
        for line in stream.iter_lines():
            begun.set()
            if line == "data: [DONE]":
                order.append("one ended")
    thread.join(60)
    assert order == ["one ended", "two answered"]


def test_more_than_ten_at_once_are_told_to_come_back(http):
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: ask(http, "one"), range(24)))
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) == {200, 429} and counts[200] >= 10
    busy = next(answer for answer in answers if answer.status_code == 429)
    assert busy.headers["Retry-After"] == "1" and busy.json()["error"]["code"] == "concurrency_limit"


def test_unload_returns_when_the_process_is_gone(http):
    ask(http, "one")
    (server,) = _model_servers("one", http)
    assert http.post("/api/models/unload/one").text == "OK"
    assert running(http) == {} and not server.is_running()
    assert http.post("/api/models/unload/nope").status_code == 404


def test_a_server_killed_in_the_middle_ends_the_stream_without_an_error(http):
    ask(http, "one")
    (server,) = _model_servers("one", http)
    body = {"model": "one", "messages": [{"role": "user", "content": "hi"}], "stream": True, "grammar": LONG}
    lines = []
    with http.stream("POST", "/v1/chat/completions", json=body | {"max_tokens": 1300}) as stream:
        for line in stream.iter_lines():
            if not lines:
                server.kill()
            lines.append(line)
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert events and all(event["choices"][0]["finish_reason"] is None for event in events)
    while "one" in running(http):
        time.sleep(0.02)
    assert ask(http, "one").status_code == 200, "the next request starts it again"


@pytest.mark.parametrize("which", SWAPS)
def test_a_model_that_nobody_asks_is_stopped(which: str, models: dict[str, Served], tmp_path: Path):
    engine = ENGINE.model_copy(update={"idle_unload_seconds": 1})
    with (
        local_swap(swap_command(which), [models["one"]], engine, tmp_path, WORKER) as client,
        httpx.Client(base_url=client.address, timeout=60, trust_env=False) as http,
    ):
        ask(http, "one")
        assert running(http) == {"one": "ready"}
        deadline = time.monotonic() + 30
        while running(http) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert running(http) == {}


def _model_servers(model: str, http: httpx.Client) -> list[psutil.Process]:
    entry = next(one for one in http.get("/running").json()["running"] if one["model"] == model)
    port = entry["proxy"].rsplit(":", 1)[1]
    return [p for p in psutil.process_iter() if port in _words(p) and "--model" in _words(p)]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize("which", SWAPS)
def test_no_model_server_outlives_a_llama_swap_that_was_killed(which: str, models: dict[str, Served], tmp_path: Path):
    with local_swap(swap_command(which), [models["one"]], ENGINE, tmp_path, WORKER) as client:
        client.load("one")
        config = str(tmp_path / "config.yaml")
        (killed,) = [child for child in psutil.Process().children() if config in _words(child)]
        servers = killed.children(recursive=True)
        assert any("--model" in _words(server) for server in servers)
        killed.kill()
        gone, alive = psutil.wait_procs(servers, timeout=30)
        assert gone and not alive


def test_a_llama_swap_that_does_not_start_says_why(models: dict[str, Served], tmp_path: Path):
    refusing = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    with pytest.raises(LoadFailed, match="exit status 1; it said last:\nno such option"):  # noqa: SIM117
        with local_swap(refusing, [models["one"]], ENGINE, tmp_path, WORKER):
            pass
