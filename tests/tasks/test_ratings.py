"""What a person thinks of photos, from its source through a whole measured session to the verdict's words about it.

m's scores go with the photos' grain, and so do the ratings; n gives every photo the same score.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from llama_assets.bench.record import Record
from llama_assets.catalog import Catalog
from llama_assets.cli import main
from llama_assets.demo.immich import LoopbackImmich
from llama_assets.tasks.messages import Benchmarked
from tests.bench.driven import Reply
from tests.tasks.driven_benchmark import PHOTOS, DrivenPlatform, World

ASKED = 40  # of the world's photos: ratings need fewer than valid answers do
LIKED = PHOTOS // 2  # photos from this number on are favourites


@dataclass
class Rated(World):
    """The driven engine scores by what it is shown, and nobody tells it a rating. `settings` are of the platform."""

    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        answered = self.engine.answer

        def by_grain(model: str, n: int) -> Reply:
            score = min(10, 1 + len(self.engine.asked[-1].image_jpeg) // 400) if model == "m" else 5
            reply = answered(model, n)
            assert isinstance(reply, Reply)
            return Reply(text=json.dumps({"score": score}), seconds=reply.seconds)

        self.engine.answer = by_grain

    @property
    def catalog(self) -> Catalog:
        found = super().catalog
        return found.model_copy(update={"benchmark": found.benchmark.model_copy(update={"photos": ASKED})})

    @property
    def platform(self) -> DrivenPlatform:
        platform = super().platform
        object.__setattr__(platform, "settings", platform.settings.model_copy(update=self.settings))
        return platform

    @property
    def photos(self) -> list[Path]:
        """By grain."""
        return sorted((self.folder / "photos").glob("*.jpg"))


@pytest.fixture
def rated(world: World) -> Rated:
    return Rated(world.folder)


def stars(number: int) -> int:
    return 4 + number % 2 if number >= LIKED else 1 + number % 3


def measured(answer: Benchmarked) -> tuple[dict[str, Any], dict[str, tuple[bool | None, int | None]]]:
    """session.json, and what it says of each photo."""
    values = Record.read(Path(answer.session)).values
    return values, {photo["name"]: (photo.get("favourite"), photo.get("stars")) for photo in values["photos"]}


def agrees(answer: Benchmarked, said: dict[str, tuple[bool | None, int | None]]) -> None:
    """`judge --json`: m ranks as the person does, n says nothing of it, and m is the better one by both truths."""
    done = CliRunner().invoke(main, ["judge", answer.session, "--json"])
    assert done.exit_code in (0, 1), done.output
    truth = json.loads(done.stdout)["truth"]
    sides: dict[str, list[bool | None]] = {
        "favourites": [one for one, _ in said.values()],
        "stars": [None if number is None else number >= 4 for _, number in said.values()],
    }
    for name, liked in sides.items():
        told = truth[name]
        assert (told["photos"], told["positives"]) == (len(liked) - liked.count(None), liked.count(True))
        m, n = told["models"]["m"], told["models"]["n"]
        assert n["auc"] == 0.5 and 0.8 < m["auc"] <= 1 and n["auc"] < m["low"] <= m["auc"] <= m["high"]
        (pair,) = told["pairs"]
        assert (pair["a"], pair["b"], pair["verdict"]) == ("n", "m", "better")


def test_a_folders_ratings_reach_the_verdict_and_no_model_sees_them(rated: Rated) -> None:
    lines = [f"{path.name},{'yes' if n >= LIKED else 'no'},{stars(n)}" for n, path in enumerate(rated.photos) if n % 10]
    (rated.folder / "photos" / "ratings.csv").write_text("\n".join(["photo,favourite,stars", *lines]))
    answer = rated.benchmark()
    values, said = measured(answer)
    assert values["photo_set"]["source"] == {"kind": "folder", "ratings": "ratings.csv"}
    person = {path.name: (n >= LIKED, stars(n)) if n % 10 else (None, None) for n, path in enumerate(rated.photos)}
    assert len(said) == ASKED and said == {name: person[name] for name in said} and (None, None) in said.values()
    agrees(answer, said)
    assert not any("favourite" in ask.prompt or "stars" in ask.prompt for ask in rated.engine.asked)


def test_an_albums_hearts_and_stars_do_too_and_its_key_is_nowhere(rated: Rated) -> None:
    with LoopbackImmich() as immich:
        pictures = [
            immich.picture(path.name, path.read_bytes(), favourite=n >= LIKED, stars=stars(n))
            for n, path in enumerate(rated.photos)
        ]
        immich.album("Travel", *pictures)
        key = immich.key("album.read", "asset.read", "asset.download", "user.read")
        rated.settings = {"immich_url": immich.url, "immich_key": SecretStr(key), "immich_album": "Travel"}
        answer = rated.benchmark()
        assert {asked for asked in immich.asked if asked[0] != "GET"} == {("POST", "search/metadata")}
    values, said = measured(answer)
    assert values["photo_set"]["source"]["kind"] == "immich"
    person = {(favourite, number) for favourite, number in said.values()}
    assert len(said) == ASKED and person == {(False, 1), (False, 2), (False, 3), (True, 4), (True, 5)}
    agrees(answer, said)
    told = [json.dumps(values), *rated.said, *(ask.prompt for ask in rated.engine.asked)]
    assert not any(key in text for text in told)
