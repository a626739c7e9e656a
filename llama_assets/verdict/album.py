"""Photos in a report: where the arms disagree most, and each arm's best and worst.

A photo is private: its number is always told, its name, thumbnail and captions only in the HTML report, and there only
if asked for. Answers are foreign text: cut at 120 characters, escaped by the template.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .evidence import Evidence, Floats
from .judgement import Judgement

SHOWN = 6
CAPTION = 120
LARGEST_THUMBNAIL = 40_000  # bytes; anything larger was not made for this
CAPTIONS = ("suggested_caption", "caption", "description", "primary_subject")


def disagreements(j: Judgement, folder: Path | None, private: bool, shown: int = SHOWN) -> list[dict[str, Any]]:
    """The photos with the widest spread of middle ranks between arms; empty with one arm or without scores.

    Raw scores would only show that the arms use different scales.
    """
    arms = [j.evidence.arms[model] for model in j.models if np.isfinite(j.evidence.arms[model].score).any()]
    if len(arms) < 2:
        return []
    ranks = np.full((len(arms), len(j.evidence.photos)), np.nan)
    best, worst = ranks.copy(), ranks.copy()
    for index, arm in enumerate(arms):
        middle, first, last = middle_ranks(arm.score)
        ranks[index, arm.photo], best[index, arm.photo], worst[index, arm.photo] = middle, first, last
    everywhere = np.flatnonzero(np.isfinite(ranks).all(axis=0))
    spread = ranks[:, everywhere].max(axis=0) - ranks[:, everywhere].min(axis=0)
    pictures = thumbnails(j.evidence, folder) if private else {}
    found = []
    for place in np.argsort(-spread, kind="stable")[:shown]:
        photo = int(everywhere[place])
        cells = []
        for index, arm in enumerate(arms):
            row = int(np.flatnonzero(arm.photo == photo)[0])
            low, high = int(best[index, photo]), int(worst[index, photo])
            cells.append(
                {
                    "model": arm.model,
                    "score": f"{arm.score[row]:g}",
                    "rank": str(low) if low == high else f"{low} to {high}",
                    "says": caption(arm.rows[row].answer_json) if private else "",
                }
            )
        name = j.evidence.photos[photo]
        label = f"Photo {j.evidence.numbers[photo]}" + (f" · {cut(name)}" if private else "")
        apart = f"{spread[place]:.0f} ranks apart"
        found.append({"label": label, "apart": apart, "src": pictures.get(name), "cells": cells})
    return found


def middle_ranks(scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Rank of each score, 1 the highest: the middle of its ties, the first and the last of them. NaN stays NaN."""
    known = np.isfinite(scores)
    _, group, sizes = np.unique(-scores[known], return_inverse=True, return_counts=True)
    first, last = np.full(len(scores), np.nan), np.full(len(scores), np.nan)
    last[known] = np.cumsum(sizes)[group]
    first[known] = last[known] - sizes[group] + 1
    return (first + last) / 2, first, last


def caption(answer_json: str | None) -> str:
    """What an answer says of its photo, in one line; empty where it says nothing we know."""
    answer = json.loads(answer_json) if answer_json else None
    if not isinstance(answer, dict):
        return ""
    said = next((answer[key] for key in CAPTIONS if isinstance(answer.get(key), str)), "")
    return cut(said)


def cut(text: str) -> str:
    """Foreign text in one line of 120 characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= CAPTION else line[: CAPTION - 1] + "…"


def thumbnails(evidence: Evidence, folder: Path | None) -> Mapping[str, str]:
    """data: addresses by photo, of the thumbnails in the session folder that session.json names."""
    if folder is None or evidence.facts is None:
        return {}
    found = {}
    for name in evidence.photos:
        path = folder / evidence.facts.thumbs.get(name, "")
        if path.suffix.lower() not in (".jpg", ".jpeg") or not path.is_file():
            continue
        if path.resolve().is_relative_to(folder.resolve()) and path.stat().st_size <= LARGEST_THUMBNAIL:
            found[name] = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
    return found


def worst_and_best(j: Judgement, model: str, n: int = 5) -> list[dict[str, str | int | float]]:
    """An arm's photos with the highest and lowest scores, for a table: number and figures, no name, no caption.

    Sorted best first; without scores the slowest and quickest. Keys: `photo` (number), `place` (`best` or `worst`),
    `score`, `seconds`, `valid`; what is not known is left out.
    """
    arm = j.evidence.arms[model]
    key = arm.score if np.isfinite(arm.score).any() else -arm.seconds
    known = np.flatnonzero(np.isfinite(key))
    order = known[np.argsort(-key[known], kind="stable")].tolist()
    n = min(n, len(order) // 2) if len(order) > 1 else len(order)
    picked = [("best", row) for row in order[:n]] + [("worst", row) for row in order[len(order) - n :] if n]
    table: list[dict[str, str | int | float]] = []
    for place, row in picked:
        entry: dict[str, str | int | float] = {"photo": j.evidence.numbers[int(arm.photo[row])], "place": place}
        for name, value in (("score", arm.score[row]), ("seconds", arm.seconds[row]), ("valid", arm.valid[row])):
            if np.isfinite(value):
                entry[name] = int(value) if name == "valid" else round(float(value), 3)
        table.append(entry)
    return table
