"""Sessions whose photos a person has rated, with a known truth. Imports nothing of the verdict.

`Person` says how many favourites there are and how closely each arm's scores follow the person's taste: 1 is the taste
itself, 0 has nothing of it. Scores are integers 1 to 10, crowded as models answer.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .sessions import SHARES, Recipe, record, rows


@dataclass(frozen=True)
class Person:
    """What is true of a person and the arms. A count of None: the source knows of no such ratings."""

    favourites: int | None = 20
    starred: bool = True
    unsaid: int = 0  # photos of which the person says nothing, the last ones
    follows: Mapping[str, float] = field(default_factory=dict)  # by model; others follow at 0.8
    seed: int = 3


def taste(recipe: Recipe, person: Person) -> np.ndarray:
    return np.random.default_rng(person.seed).standard_normal(recipe.photos)


def ratings(recipe: Recipe, person: Person) -> dict[str, dict[str, Any]]:
    """`favourite` and `stars` by photo, as session.json has them."""
    n = recipe.photos
    place = np.argsort(np.argsort(-taste(recipe, person)))
    found = {}
    for photo in range(n):
        said = photo < n - person.unsaid
        favourite = None if person.favourites is None or not said else bool(place[photo] < person.favourites)
        stars = int(5 - 5 * place[photo] // n) if person.starred and said else None
        found[f"photo-{photo:03d}.jpg"] = {"favourite": favourite, "stars": stars}
    return found


def scores(recipe: Recipe, person: Person) -> dict[str, np.ndarray]:
    """Each arm's scores, by photo."""
    rng, likes = np.random.default_rng(person.seed + 1), taste(recipe, person)
    edges = np.cumsum(SHARES)[:-1] * recipe.photos
    found = {}
    for model in recipe.models:
        follows = person.follows.get(model, 0.8)
        seen = follows * likes + np.sqrt(1 - follows**2) * rng.standard_normal(recipe.photos)
        found[model] = 1 + np.searchsorted(edges, np.argsort(np.argsort(seen)) + 0.5)
    return found


def write_rated(folder: Path, recipe: Recipe, person: Person, in_session: bool = True) -> Path:
    """A session folder; with `in_session` its session.json holds the ratings."""
    folder.mkdir(parents=True, exist_ok=True)
    given, said = scores(recipe, person), ratings(recipe, person)
    lines: dict[str, list[str]] = {model: [] for model in recipe.models}
    for row in rows(recipe):
        number = int(row["photo"][6:9])
        answer = {"instagram_fit_score": int(given[row["model"]][number]), "suggested_caption": f"Photo {number}"}
        lines[row["model"]].append(json.dumps(row | {"answer_text": json.dumps(answer)}) + "\n")
    for model, text in lines.items():
        (folder / f"rows-{model}.jsonl").write_text("".join(text))
    told = record(recipe)
    if in_session:
        told["photos"] = [photo | said[photo["name"]] for photo in told["photos"]]
    (folder / "session.json").write_text(json.dumps(told))
    return folder


def write_ratings(path: Path, recipe: Recipe, person: Person) -> Path:
    """The same ratings as a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", "favourite", "stars"])
        for photo, said in ratings(recipe, person).items():
            favourite = "" if said["favourite"] is None else str(said["favourite"]).lower()
            writer.writerow([photo, favourite, said["stars"] or ""])
    return path
