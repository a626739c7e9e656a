"""Photos from an album of the stand-in: the seed's sample, ratings, what is left out, and nothing written anywhere."""

import json
import random
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from llama_assets.bench import ImmichAlbum, prepare
from llama_assets.bench.photos import PhotoSet
from llama_assets.bench.ratings import Rating
from llama_assets.bench.sources import NoPhotos
from llama_assets.demo.immich import OTHER, LoopbackImmich, Picture
from llama_assets.immich import ImmichLimits, NoAlbum, NotPermitted, Trouble
from llama_assets.platforms import PlatformError, open_platform
from llama_assets.settings import Settings

QUICK = ImmichLimits(timeout_s=5, attempts=2, first_wait_s=0.01)
READS = ("album.read", "asset.read", "asset.view", "asset.download", "user.read")


def jpeg(number: int, size: tuple[int, int] = (40, 30)) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, (number * 7 % 256, number * 31 % 256, 90)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def server() -> Iterator[LoopbackImmich]:
    with LoopbackImmich() as immich:
        yield immich


def pictures(server: LoopbackImmich, count: int) -> list[Picture]:
    return [
        server.picture(f"IMG_{n % 5}.jpg", jpeg(n), preview=jpeg(n, (20, 15)), favourite=n % 3 == 0, stars=n % 6)
        for n in range(count)
    ]


def album(server: LoopbackImmich, **more: object) -> ImmichAlbum:
    values = {"key": server.key(*READS), "album": "Travel", "limits": QUICK} | more
    return ImmichAlbum(server.url, **values)  # type: ignore[arg-type]


def chosen(photos: PhotoSet) -> list[tuple[str, Rating | None]]:
    return [(photo.name, photo.rating) for photo in photos.photos]


def silent(_: str) -> None:
    pass


def test_the_same_seed_draws_the_same_photos_whatever_the_order_and_the_pages(server: LoopbackImmich) -> None:
    server.album("Travel", *pictures(server, 24))
    with prepare(album(server), 10, 1, silent) as one:
        first, seen = chosen(one), one.hash
    server.page_most = 7
    server.order = lambda found: random.Random(5).sample(found, len(found))
    server.order = lambda found: list(reversed(found))
    with prepare(album(server), 10, 1, silent) as again, prepare(album(server), 10, 2, silent) as other:
        assert chosen(again) == first and again.hash == seen and len(first) == 10
        assert other.hash != seen
    assert len({name for name, _ in first}) == 10  # cameras use IMG_0 for several


def test_a_photo_added_to_the_album_does_not_reshuffle_the_sample(server: LoopbackImmich) -> None:
    there = pictures(server, 20)
    made = server.album("Travel", *there[:19])
    with prepare(album(server, album=made), 12, 1, silent) as before:
        names = [name for name, _ in chosen(before)]
    server.album("Later", *there)
    with prepare(album(server, album="Later"), 12, 1, silent) as after:
        new = [name for name, _ in chosen(after) if name not in names]
        assert len(new) <= 1 and [name for name, _ in chosen(after) if name in names] == names[: 12 - len(new)]


def test_favourites_and_stars_come_with_the_photos(server: LoopbackImmich) -> None:
    server.album(
        "Travel",
        server.picture("a.jpg", jpeg(1), favourite=True, stars=5),
        server.picture("partner.jpg", jpeg(2), favourite=True, owner=OTHER),
    )
    with prepare(album(server), 5, 1, silent) as found:
        ratings = {name.partition(".")[0]: rating for name, rating in chosen(found)}
        assert ratings == {"a": Rating(True, 5), "partner": Rating(None, None)}
        assert found.source["kind"] == "immich" and found.source["album"] == "Travel"
        assert found.source["version"] == "2.4.1" and server.url not in json.dumps(dict(found.source))


def test_previews_are_asked_for_as_previews_and_need_no_library(server: LoopbackImmich) -> None:
    server.album("Travel", server.picture("a.dng", b"raw", preview=jpeg(1, (32, 24))))
    with prepare(album(server, photos="previews"), 1, 1, silent) as found:
        assert (found.photos[0].width, found.photos[0].height) == (32, 24)
    assert [path.rpartition("/")[2] for _, path in server.asked if path.startswith("assets/")] == ["thumbnail"]
    with pytest.raises(NoPhotos, match=r"\.dng cannot be read; LLAMA_ASSETS_IMMICH_PHOTOS=previews"):
        prepare(album(server), 1, 1, silent)


def test_what_cannot_be_had_or_read_is_left_out_by_name_and_the_next_takes_its_place(server: LoopbackImmich) -> None:
    bad = server.picture("broken.jpg", b"no jpeg")
    twin = server.picture("twin.jpg", jpeg(3))
    server.album("Travel", *pictures(server, 4), bad, twin)
    server.fault("assets/.*/original", 404)
    with prepare(album(server), 6, 1, silent) as found:
        reasons = {one.name.partition(".")[0]: one.reason for one in found.left_out}
    assert len(found.photos) == 6 - len(reasons) == 3
    assert reasons.pop("broken") == "is not an image"
    assert any("404" in reason for reason in reasons.values())
    assert any("the same bytes as" in reason or "404" in reason for reason in reasons.values())


def test_nothing_is_written_to_immich(server: LoopbackImmich) -> None:
    server.album("Travel", *pictures(server, 3))
    with prepare(album(server), 3, 1, silent):
        pass
    assert {method for method, _ in server.asked} <= {"GET", "POST"}
    assert {path for method, path in server.asked if method == "POST"} == {"search/metadata"}


def test_no_photo_has_a_name_on_disk_while_and_after_it_is_prepared(
    server: LoopbackImmich, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    there: list[list[Path]] = []
    server.on_request = lambda _method, _path: there.append(list(tmp_path.rglob("*")))
    server.album("Travel", *pictures(server, 3))
    with prepare(album(server), 3, 1, silent) as found:
        assert len(found.jpeg(found.photos[0])) > 100
        there.append(list(tmp_path.rglob("*")))
    assert len(there) > 5 and not any(there)


def test_trouble_that_lasts_ends_it_before_anything_is_asked_and_a_cut_photo_is_fetched_again(
    server: LoopbackImmich,
) -> None:
    server.album("Travel", *pictures(server, 3))
    server.fault("original", "cut")
    with prepare(album(server), 3, 1, silent) as found:
        assert len(found.photos) == 3 and not found.left_out
    server.fault("original", 500, times=9)
    with pytest.raises(Trouble, match="/original answered 500"):
        prepare(album(server), 3, 1, silent)


def test_errors_of_the_album_and_the_key_come_as_they_are(server: LoopbackImmich) -> None:
    server.album("Home", server.picture("clip.mp4", b"v", kind="VIDEO"))
    with pytest.raises(NoAlbum, match="'Home'"):
        prepare(album(server), 1, 1, silent)
    said: list[str] = []
    with pytest.raises(NoPhotos, match="holds no picture"):
        prepare(album(server, album="Home"), 1, 1, said.append)
    assert "0 of its 1 assets" in said[0]
    server.album("Travel", *pictures(server, 1))
    with pytest.raises(NotPermitted, match=r"asset\.download"):
        prepare(album(server, key=server.key("album.read", "asset.read")), 1, 1, silent)


def test_the_environment_names_address_key_and_album(server: LoopbackImmich, monkeypatch: pytest.MonkeyPatch) -> None:
    server.album("Travel", *pictures(server, 2))
    monkeypatch.setenv("LLAMA_ASSETS_IMMICH_ALBUM", "Travel")
    with pytest.raises(PlatformError, match="LLAMA_ASSETS_IMMICH_URL"):
        open_platform(Settings.read()).photos()
    monkeypatch.setenv("LLAMA_ASSETS_IMMICH_URL", server.url)
    with pytest.raises(PlatformError, match="LLAMA_ASSETS_IMMICH_KEY"):
        open_platform(Settings.read()).photos()
    key = server.key(*READS)
    monkeypatch.setenv("LLAMA_ASSETS_IMMICH_KEY", key)
    monkeypatch.setenv("LLAMA_ASSETS_IMMICH_PHOTOS", "previews")
    source = open_platform(Settings.read()).photos()
    with prepare(source, 2, 1, silent) as found:
        assert len(found.photos) == 2 and found.photos[0].width == 20
    assert key not in repr(source) + repr(Settings.read())
