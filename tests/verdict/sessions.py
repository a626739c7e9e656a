"""Sessions made from numbers: rows with a known truth, for tests of the verdict. Imports nothing of it.

`Recipe` says what is true (ratios, noise, drift, blocks, scores, faults); `rows()` plays it in mirrored blocks and
returns one dict a row with the columns of the row contract; `record()` is its session.json, `write()` puts both on
disk, `write_csv()` some columns of it as somebody else's file. Log seconds are a photo effect shared by the arms, noise
that is an AR(1) series over the whole session in the order of asking, and drift.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

MODELS = ("incumbent", "second", "third")
SHARES = (0, 0.01, 0.03, 0.05, 0.10, 0.16, 0.22, 0.30, 0.11, 0.02)  # of scores 1 to 10, crowded as models answer
SCHEMA = {
    "type": "object",
    "properties": {
        "instagram_fit_score": {"type": "integer", "minimum": 1, "maximum": 10},
        "suggested_caption": {"type": "string"},
    },
    "required": ["instagram_fit_score", "suggested_caption"],
}


@dataclass(frozen=True)
class Recipe:
    """What is true of a session. Ratios are seconds against the first arm; noise is the sd of log seconds."""

    models: Sequence[str] = MODELS
    photos: int = 100
    ratios: Sequence[float] = (1.0, 1.0, 1.0)
    blocks: int = 4
    median_s: float = 6.0
    noise: float = 0.08
    rho: float = 0.3
    photo_effect: float = 0.12
    drift: float = 0.0  # share by which the session's end is slower than its start
    shares: dict[str, Sequence[float]] = field(default_factory=dict)
    wrong_typed: dict[str, int] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    marked: dict[str, Sequence[int]] = field(default_factory=dict)
    cold_first: bool = False  # each load is inside the first answer, and nothing says so
    load_s: float = 25.0
    slow: dict[str, tuple[int, int, float]] = field(default_factory=dict)  # a stretch: first answer, how many, times
    names: str = "photo-{:03d}.jpg"
    seed: int = 1


def order(recipe: Recipe) -> list[tuple[int, int, int]]:
    """(block, arm, photo) as asked: ABC CBA ABC CBA, the same photos in the same order in every arm of a block."""
    edges = np.linspace(0, recipe.photos, recipe.blocks + 1).astype(int)
    asked = []
    for block in range(recipe.blocks):
        arms = range(len(recipe.models))
        for arm in arms if block % 2 == 0 else reversed(arms):
            asked += [(block, arm, photo) for photo in range(edges[block], edges[block + 1])]
    return asked


def ar1(rng: np.random.Generator, shape: tuple[int, ...], rho: float) -> np.ndarray:
    """Stationary AR(1) noise of variance 1 along the last axis."""
    z = rng.standard_normal(shape)
    for t in range(1, shape[-1]):
        z[..., t] = rho * z[..., t - 1] + np.sqrt(1 - rho**2) * z[..., t]
    return z


def rows(recipe: Recipe) -> list[dict[str, Any]]:
    """One dict a row, in the order asked."""
    rng = np.random.default_rng(recipe.seed)
    asked = order(recipe)
    noise = recipe.noise * ar1(rng, (len(asked),), recipe.rho)
    effect = recipe.photo_effect * rng.standard_normal(recipe.photos)
    taste = rng.standard_normal(recipe.photos)
    scores = {m: drawn_scores(rng, taste, recipe.shares.get(m, SHARES)) for m in recipe.models}
    faults = {
        kind: {m: set(rng.permutation(recipe.photos)[:count].tolist()) for m, count in getattr(recipe, kind).items()}
        for kind in ("wrong_typed", "truncated", "failed")
    }
    stretch = {m: range(first, first + many) for m, (first, many, _) in recipe.slow.items()}
    clock, loaded, made = datetime(2026, 11, 14, 2, 15, tzinfo=UTC), None, []
    for position, (block, arm, photo) in enumerate(asked):
        model = recipe.models[arm]
        log = effect[photo] + noise[position] + np.log1p(recipe.drift) * position / len(asked)
        seconds = recipe.median_s * recipe.ratios[arm] * float(np.exp(log))
        if photo in stretch.get(model, ()):  # photos are asked in this order
            seconds *= recipe.slow[model][2]
        tokens = round(140 * float(np.exp(0.6 * effect[photo])))
        if loaded != model:
            loaded = model
            clock += timedelta(seconds=0 if recipe.cold_first else 32)
            seconds += recipe.load_s if recipe.cold_first else 0
        answer: dict[str, Any] = {
            "instagram_fit_score": int(scores[model][photo]),
            "suggested_caption": f"Photo {photo} as {model} sees it",
        }
        if photo in faults["wrong_typed"].get(model, ()):
            answer["instagram_fit_score"] = str(answer["instagram_fit_score"])
        text, finish, status, error = json.dumps(answer), "stop", "ok", None
        if photo in faults["truncated"].get(model, ()):
            text, finish = text[:30], "length"
        if photo in faults["failed"].get(model, ()):
            text, finish, status, error = "", None, "timeout", "Timeout: no answer in 120 s"
        made.append(
            {
                "session": "20261114T021500Z-made",
                "model": model,
                "photo": recipe.names.format(photo),
                "position": position,
                "started_at": clock.isoformat(),
                "seconds": seconds,
                "status": status,
                "finish_reason": finish,
                "prompt_tokens": 700,
                "completion_tokens": tokens,
                "prompt_seconds": 0.3 * seconds,
                "generation_seconds": 0.7 * seconds,
                "cold_load": None if recipe.cold_first else False,
                "error": error,
                "answer_text": text,
                "answer_json": None,
                "schema_valid": None,
                "block": block,
                "lease_token": 7,
                "cached_tokens": 0,
                "marked": "another model was loaded" if photo in recipe.marked.get(model, ()) else None,
            }
        )
        clock += timedelta(seconds=seconds + 0.002)
    return made


def drawn_scores(rng: np.random.Generator, taste: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Integer scores 1 to 10 in the given shares, ordered by a taste that the arms have in common."""
    order_of_photos = np.argsort(np.argsort(taste + 0.5 * rng.standard_normal(len(taste))))
    edges = np.cumsum(np.asarray(shares) / np.sum(shares)) * len(taste)
    return 1 + np.searchsorted(edges, order_of_photos + 0.5)


def record(recipe: Recipe, **changed: Any) -> dict[str, Any]:
    """session.json as ours is; `changed` replaces keys, `mmproj` and `engine` those of single arms."""
    made = rows(recipe)
    mmproj, engine = changed.pop("mmproj", {}), changed.pop("engine", {})
    loads, last = [], None
    for row in made:
        if row["model"] != last:
            last = row["model"]
            at = datetime.fromisoformat(row["started_at"]) - timedelta(seconds=32)
            load = {"model": last, "why": "turn", "started_at": at.isoformat(), "seconds": 30.0, "cold": True}
            loads.append(load | {"warm_up_seconds": 2.0})
    begin, end = (datetime.fromisoformat(made[place]["started_at"]) for place in (0, -1))
    build = {"kind": "llama-server", "build": "b11549"}
    values = {
        "id": "20261114T021500Z-made",
        "incumbent": recipe.models[0],
        "ranking_key": "instagram_fit_score",
        "question": {
            "prompt": "Judge this photo.",
            "schema": SCHEMA,
            "ranking_key": "instagram_fit_score",
            "structured_output": "grammar",
        },
        "arms": {
            m: {"fingerprint": "ef" * 32, "mmproj": mmproj.get(m, "F16"), "engine": engine.get(m, build), "ended": None}
            for m in recipe.models
        },
        "photo_set": {"hash": "cd" * 32, "seed": 1, "left_out": []},
        "photos": [{"name": recipe.names.format(n), "thumb": f"thumbs/{n + 1}.jpg"} for n in range(recipe.photos)],
        "loads": loads,
        "contamination": [],
        "running_samples": 900,
        "lease_seconds": (end - begin).total_seconds() + 45,
        "finished": end.isoformat(),
    }
    return values | changed


def write(folder: Path, recipe: Recipe, **changed: Any) -> Path:
    """A session folder with JSON lines by model, as a session leaves it when it is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    for model in recipe.models:
        lines = [json.dumps(row) + "\n" for row in rows(recipe) if row["model"] == model]
        (folder / f"rows-{model}.jsonl").write_text("".join(lines))
    (folder / "session.json").write_text(json.dumps(record(recipe, **changed)))
    return folder


def write_csv(path: Path, recipe: Recipe, columns: Sequence[str]) -> Path:
    """Somebody else's file: these columns only, arm after arm."""
    made = sorted(rows(recipe), key=lambda row: recipe.models.index(row["model"]))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(made)
    return path
