"""Looking at llama-swap while it answers: what runs, and what the card holds, over a connection of its own."""

import json
import sys
import threading
from datetime import UTC, datetime

import httpx
import pytest

from llama_assets.bench.asking import Watched
from llama_assets.bench.watching import Watcher, WatchLimits
from llama_assets.engine import SwapClient, local_swap
from llama_assets.engine.client import Reading
from llama_assets.engine.process import WORKER

from .conftest import ENGINE, STANDIN, swap_command
from .scripted import answer, playing

# `/api/performance` of llama-swap v250 (commit 0bdb3720, `internal/perf/types.go`): Go's times have nanoseconds.
STAT = {
    "id": 0, "name": "Tesla T4", "uuid": "GPU-5f1c", "temp_c": 51, "vram_temp_c": 0, "gpu_util_pct": 97.0,
    "mem_util_pct": 60.0, "mem_used_mb": 6996, "mem_total_mb": 15360, "fan_speed_pct": 0.0, "power_draw_w": 68.5,
}  # fmt: skip
TIMES = ("2026-11-22T03:00:05.123456789Z", "2026-11-22T03:00:10.100000001Z")
SYSTEM = {"timestamp": "2026-11-22T03:00:10.2Z", "mem_used_mb": 9000, "mem_total_mb": 32000}


@pytest.fixture
def cards(tmp_path):
    file = tmp_path / "cards.json"

    def has(foreign_mb: int) -> None:
        written = file.with_suffix(".new")
        card = {"uuid": "GPU-0", "total_mb": 16384, "idle_mb": 400, "models": {"one": 5000, "two": 8000}}
        written.write_text(json.dumps([card | {"foreign_mb": foreign_mb}]))
        written.replace(file)

    has(0)
    has.file = file
    return has


@pytest.fixture
def swap(models, cards, tmp_path):
    more = ["--cards", str(cards.file), "--measure", "0.05"]
    script = tmp_path / "llama-swap"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} "$@" {" ".join(more)}\n')
    script.chmod(0o755)
    with local_swap([str(script)], list(models.values()), ENGINE, tmp_path / "logs", WORKER) as client:
        yield client


def test_a_look_brings_only_what_was_measured_since_the_one_before():
    """The first one the newest of each card; an hour of readings would be too much each second."""
    both = [{**STAT, "timestamp": at, "mem_used_mb": used} for at, used in zip(TIMES, (500, 6996), strict=True)]
    running = answer(200, {"running": [{"model": "a", "state": "ready"}]})
    first = answer(200, {"enabled": True, "gpu_stats": both, "sys_stats": [SYSTEM]})
    later = answer(200, {"enabled": True, "gpu_stats": None, "sys_stats": []})
    with playing(running, running, first, running, later) as script, SwapClient(script.address) as client:
        assert isinstance(client, Watched)
        with client.watch() as watch:
            assert watch.look().readings == (Reading("GPU-5f1c", 6996.0, 15360),)
            assert watch.look().readings == ()
            assert watch._newest == SYSTEM["timestamp"]


def test_an_engine_without_a_tool_to_measure_with_has_no_readings():
    running = answer(200, {"running": []})
    off = answer(503, {"enabled": False})
    with (
        playing(running, running, off, running, off) as script,
        SwapClient(script.address) as client,
        client.watch() as watch,
    ):
        assert [watch.look().readings for _ in range(2)] == [(), ()]


def test_the_standin_says_of_its_cards_what_llama_swap_says(swap):
    with httpx.Client(base_url=swap.address, trust_env=False) as http:
        found = {"gpu_stats": None}
        while not found["gpu_stats"]:
            found = http.get("/api/performance").json()
        assert set(found) == {"enabled", "gpu_stats", "sys_stats"} and found["enabled"] is True
        assert set(found["gpu_stats"][0]) == {*STAT, "timestamp"}
        now = datetime.now(UTC).isoformat()
        newer = http.get("/api/performance", params={"after": now}).json()["gpu_stats"]
        assert all(one["timestamp"] > found["gpu_stats"][-1]["timestamp"] for one in newer)
        assert http.get("/api/performance", params={"after": "yesterday"}).status_code == 400


def test_somebody_else_on_the_card_is_seen_while_a_model_answers(swap, cards):
    """The whole way: the stand-in measures, a thread looks on through its own connection, and the time is marked."""
    looked = threading.Semaphore(0)
    with swap.watch() as watch:

        def look():
            try:
                return watch.look()
            finally:
                looked.release()

        def until(seen) -> None:
            for _ in range(2000):
                if seen():
                    return
                assert looked.acquire(timeout=30)
            raise AssertionError("it was not seen")

        watcher = Watcher(look, lambda: datetime.now(UTC), print, WatchLimits(every_s=0.02))
        watcher.start()
        swap.load("one")
        watcher.expect("one")
        until(lambda: "one" in (watcher.memory() or {}).get("peak_mib", {}))
        calm = datetime.now(UTC)
        assert watcher.spans() == []
        cards(2000)
        until(watcher.spans)
        cards(0)
        watcher.stop()
    (span,) = watcher.spans()
    assert (span.what, span.mib, span.why) == ("memory", 2000.0, "2000 MiB on the card were not one's")
    assert calm <= span.end and watcher.failed == 0
    assert watcher.memory()["peak_mib"] == {"one": 5400.0} and watcher.memory()["total_mib"] == 16384.0


def test_the_standin_without_cards_measures_nothing(models, tmp_path):
    command = swap_command("standin")
    with (
        local_swap(command, list(models.values()), ENGINE, tmp_path / "logs", WORKER) as client,
        client.watch() as watch,
    ):
        assert watch.look().readings == ()
