"""What asking costs beside the engine's own time: a whole session, rows with fsync included, on known delays.

`overhead`: seconds in the row, less the engine's. `overhead_turn`: on the engine's clock, from the last byte of an
answer to the last byte of the next request, so judging the answer, the row on disk, the next photo and HTTP are in it.
llama-swap's connection is kept, a plain llama-server's is not: it closes it now and then, so that one costs more.
`rows_in_memory` is a session whose rows lie on tmpfs: what fsync takes depends on the disk and on who else writes.
The rival, http.client, sends bodies that are ready and throws the answers away: no client in Python costs less.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from figures.answering import MODEL, EngineProcess, Pace, Turn, engine_process
from figures.measuring import Goal, How, in_turns, line, scratch, spread
from llama_assets import catalog as catalogs
from llama_assets.bench import (
    Arm,
    Comparison,
    Holding,
    PhotoSet,
    Question,
    begin,
    mirrored_plan,
    prepare,
    read_rows,
    run,
)
from llama_assets.demo.photos import draw_photos
from llama_assets.engine import SwapClient

GOAL = Goal(2.0, "ours")
SWAP, SERVER, MEMORY, RIVAL = "llama-swap", "llama-server", "rows in memory", "http.client"
TMPFS = Path("/dev/shm")


@dataclass(frozen=True)
class Costs:
    """Milliseconds, one value a request."""

    request: list[float]
    turn: list[float]


def measure(how: How) -> Iterator[dict[str, Any]]:
    photos, pace = (6, Pace(0.005, 0.0002)) if how.quick else (30, Pace(0.03, 0.002))
    memory = TMPFS if TMPFS.is_dir() else None
    with scratch() as folder, scratch(memory) as in_memory, engine_process(pace) as engine:
        pictures(folder / "photos", photos)
        with prepare(folder / "photos", photos, 1, how.say) as prepared:
            image_bytes = round(statistics.median(photo.bytes for photo in prepared.photos))
            runs = {
                SWAP: partial(session, engine, "/swap", prepared, folder),
                SERVER: partial(session, engine, "", prepared, folder),
                MEMORY: partial(session, engine, "/swap", prepared, in_memory),
                RIVAL: partial(bare, engine, prepared),
            }
            found: dict[str, list[Costs]] = in_turns(how, runs)
        told = {
            "requests": photos * how.rounds, "image_bytes": image_bytes, "fsync_ms": _fsync_ms(folder),
            "delays_ms": {"prompt": 1000 * pace.prompt_s, "token": 1000 * pace.token_s},
        }  # fmt: skip
    command = "llama_assets.bench.run with llama_assets.engine.SwapClient, the packaged question, one arm"
    for figure, part in ("overhead", "request"), ("overhead_turn", "turn"):
        values = {name: [getattr(costs, part) for costs in rounds] for name, rounds in found.items()}
        medians = {name: [statistics.median(costs) for costs in rounds] for name, rounds in values.items()}
        everything = sorted(itertools.chain.from_iterable(values[SWAP]))
        p95 = round(everything[int(0.95 * (len(everything) - 1))], 3)
        more = {"p95": p95, "plain_llama_server": spread(medians[SERVER]), **told}
        if memory:
            more["rows_in_memory"] = spread(medians[MEMORY])
        beside = (RIVAL, medians[RIVAL], "http.client, bodies that are ready, answers thrown away")
        yield line(figure, how, GOAL, "ms", medians[SWAP], command, beside, **more)


def session(engine: EngineProcess, path: str, photos: PhotoSet, folder: Path) -> Costs:
    """One session of one arm, as the task runs it."""
    spec = catalogs.load().benchmark
    comparison = Comparison(
        arms=(Arm(MODEL, fingerprint="f" * 64),),
        question=Question.load(spec.question),
        photos=photos,
        plan=mirrored_plan([MODEL], [photo.name for photo in photos.photos], 4, 1),
        catalog_hash="figures",
        max_tokens=spec.max_tokens,
        answer_timeout_s=30.0,
    )
    lines: list[str] = []
    begun = begin(folder / f"results-{time.monotonic_ns()}", comparison, lines.append)
    engine.turns()
    with SwapClient(engine.address + path) as client:
        outcome = run(begun.folder, comparison, client, Holding(), lines.append)
    asked = len(photos.photos)
    rows = sorted(read_rows(sorted(begun.folder.glob("rows-*.jsonl"))), key=lambda row: row.position or 0)
    assert outcome.complete and [row.status for row in rows] == ["ok"] * asked, lines
    turns = engine.turns()[-asked:]  # before them the warm-up and the probe
    return _costs([row.seconds or 0.0 for row in rows], turns)


def bare(engine: EngineProcess, photos: PhotoSet) -> Costs:
    """As many requests as the session's, by http.client alone."""
    bodies = [_body(photos.jpeg(photo)) for photo in photos.photos]  # made before, so that they cost no time
    connection = http.client.HTTPConnection(urlsplit(engine.address).netloc)
    seconds = []
    engine.turns()
    for body in bodies:
        began = time.monotonic()
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        seconds.append(time.monotonic() - began)
    connection.close()
    return _costs(seconds, engine.turns())


def pictures(folder: Path, count: int) -> None:
    """Drawn photos as large as a benchmark sends them, with the grain that makes a JPEG's size that of a photo."""
    draw_photos(folder, count)
    for path in folder.rglob("*"):
        if path.is_file():
            with Image.open(path) as drawn:
                large = drawn.convert("RGB").resize((1024, 768))
            grain = Image.effect_noise(large.size, 40).convert("RGB")
            Image.blend(large, grain, 0.3).save(path)


def _costs(seconds: Sequence[float], turns: Sequence[Turn]) -> Costs:
    assert len(seconds) == len(turns)
    request = [1000 * (one - (turn.done - turn.received)) for one, turn in zip(seconds, turns, strict=True)]
    between = [1000 * (after.received - before.done) for before, after in itertools.pairwise(turns)]
    return Costs(request, between)


def _body(jpeg: bytes) -> bytes:
    address = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    content = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "How good is it?"}]
    return json.dumps({"messages": [{"role": "user", "content": content}], "stream": True}).encode()


def _fsync_ms(folder: Path) -> float:
    """Median of an append of a row's size made durable: what the disk alone takes of a turn."""
    taken = []
    with (folder / "appended").open("ab", buffering=0) as file:
        for _ in range(40):
            began = time.monotonic()
            file.write(b"x" * 800)
            os.fsync(file.fileno())
            taken.append(1000 * (time.monotonic() - began))
    return round(statistics.median(taken), 3)
