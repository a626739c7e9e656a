"""Photos from a real folder: drawn by a seed, turned, shrunk, without EXIF; what cannot be used is named."""

import random
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llama_assets import catalog
from llama_assets.bench.photos import NoPhotos, PhotoLimits, PhotoSet, prepare
from llama_assets.bench.plan import mirrored_plan
from llama_assets.bench.question import Question
from llama_assets.bench.ratings import RatingsError
from llama_assets.bench.record import Arm, Comparison, Record
from llama_assets.demo.photos import draw_photos


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    draw_photos(folder, 24)
    return folder


def silent(_: str) -> None:
    pass


def picture(path: Path, size: tuple[int, int] = (40, 30), **save: object) -> Path:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, "red")
    image.paste((0, 0, 255), (size[0] // 2, 0, *size))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **save)  # type: ignore[arg-type]
    return path


def opened(photos: PhotoSet, index: int = 0) -> Image.Image:
    return Image.open(BytesIO(photos.jpeg(photos.photos[index])))


def names(photos: PhotoSet) -> list[str]:
    return [photo.name for photo in photos.photos]


def test_the_draw_depends_on_the_seed_and_not_on_the_directory(album: Path, tmp_path: Path) -> None:
    files = [path for path in album.rglob("*") if path.is_file()]
    random.Random(3).shuffle(files)
    for path in files:  # the same photos, created in another order
        copy = tmp_path / path.relative_to(album)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    with (
        prepare(album, 10, 1, silent) as one,
        prepare(tmp_path, 10, 1, silent) as again,
        prepare(album, 10, 2, silent) as other,
    ):
        assert names(one) == names(again) and one.hash == again.hash
        assert names(one) != names(other) and one.hash != other.hash
        assert len(one.photos) == 10 and all((album / name).is_file() for name in names(one))


def test_a_photo_added_later_does_not_reshuffle_the_draw(album: Path, tmp_path: Path) -> None:
    for path in album.rglob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with prepare(tmp_path, 12, 1, silent) as before:
        picture(tmp_path / "new.jpg")
        with prepare(tmp_path, 12, 1, silent) as after:
            assert [name for name in names(after) if name != "new.jpg"] == names(before)[
                : 12 - ("new.jpg" in names(after))
            ]


@pytest.mark.parametrize(("orientation", "upright"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")])
def test_a_photo_is_turned_as_its_exif_says_and_loses_it(tmp_path: Path, orientation: int, upright: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Secret Camera"
    picture(tmp_path / "a.jpg", exif=exif, comment=b"home", quality=95)
    with prepare(tmp_path, 1, 1, silent) as photos, opened(photos) as image:
        assert image.format == "JPEG" and not image.getexif() and "comment" not in image.info
        assert b"Secret Camera" not in photos.jpeg(photos.photos[0])
        width, height = image.size
        where = {"left": (2, height // 2), "right": (width - 3, height // 2), "top": (width // 2, 2)}
        where["bottom"] = (width // 2, height - 3)
        red, _, blue = image.getpixel(where[upright])  # type: ignore[misc]
        assert red > 200 and blue < 60
        assert (width, height) == ((40, 30) if orientation in (1, 3) else (30, 40))


def test_the_long_edge_is_1024_at_most_and_nothing_is_enlarged(tmp_path: Path) -> None:
    picture(tmp_path / "wide.jpg", (3000, 1500))
    picture(tmp_path / "tall.png", (900, 1800))
    picture(tmp_path / "small.webp", (64, 48))
    Image.new("P", (2048, 10)).save(tmp_path / "palette.png")
    with prepare(tmp_path, 9, 1, silent) as photos:
        sizes = {photo.name: (photo.width, photo.height) for photo in photos.photos}
        assert sizes == {
            "wide.jpg": (1024, 512),
            "tall.png": (512, 1024),
            "small.webp": (64, 48),
            "palette.png": (1024, 5),
        }
        assert all(opened(photos, i).size == sizes[photo.name] for i, photo in enumerate(photos.photos))


def test_what_is_see_through_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    with prepare(tmp_path, 1, 1, silent) as photos, opened(photos) as image:
        assert image.getpixel((5, 5)) == (255, 255, 255)


def test_heic_is_read_where_the_library_is(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    picture(tmp_path / "phone.HEIC", (64, 48), format="HEIF")
    with prepare(tmp_path, 1, 1, silent) as photos:
        assert names(photos) == ["phone.HEIC"] and photos.photos[0].width == 64


def test_heic_without_the_library_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "phone.heic").write_bytes(b"...")
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)  # as if it were not installed
    said: list[str] = []
    with prepare(tmp_path, 2, 1, said.append) as photos:
        assert names(photos) == ["a.jpg"]
    assert "left out: phone.heic: HEIC needs a library: pip install llama-assets[heic]" in said


def test_broken_files_are_named_and_the_next_of_the_draw_take_their_places(album: Path, tmp_path: Path) -> None:
    for path in album.rglob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with prepare(tmp_path, 24, 1, silent) as photos:
        draw = names(photos)
    (tmp_path / draw[0]).write_bytes((tmp_path / draw[0]).read_bytes()[:900])
    (tmp_path / draw[1]).write_text("not a photo")
    (tmp_path / draw[2]).write_bytes(b"")
    said: list[str] = []
    with prepare(tmp_path, 10, 1, said.append) as photos:
        assert names(photos) == draw[3:13]
        reasons = {one.name: one.reason for one in photos.left_out}
    assert list(reasons) == draw[:3]
    assert "truncated" in reasons[draw[0]] and reasons[draw[1]] == reasons[draw[2]] == "is not an image"
    assert [line for line in said if draw[1] in line] == [f"left out: {draw[1]}: is not an image"]


def test_an_image_with_too_many_pixels_is_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "bomb.png", (200, 200))
    picture(tmp_path / "fine.png", (50, 50))
    with prepare(tmp_path, 2, 1, silent, PhotoLimits(pixels=10_000)) as photos:
        assert names(photos) == ["fine.png"]
        assert "200 x 200 pixels are more than 10000" in photos.left_out[0].reason


def test_the_same_bytes_count_once(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.jpg").read_bytes()
    for name in ("b.jpg", "sub/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with prepare(tmp_path, 3, 1, silent) as photos:
        assert len(photos.photos) == 1
        assert {one.reason for one in photos.left_out} == {f"the same bytes as {photos.photos[0].name}"}


def test_too_few_photos_are_said_and_none_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    said: list[str] = []
    picture(tmp_path / "one" / "a.jpg")
    with prepare(tmp_path / "one", 5, 1, said.append):
        assert said == [f"1 of the 5 photos asked for are in {tmp_path / 'one'}"]
    for folder, why in ((tmp_path / "gone", "is not a folder"), (tmp_path / "two", "holds no photo that can be used")):
        if folder.name == "two":
            folder.mkdir()
            (folder / "x.jpg").write_text("no")
            (folder / "notes.txt").write_text("no")
            picture(folder / ".trash" / "hidden.jpg")
        with pytest.raises(NoPhotos, match=f"{why}.*point LLAMA_ASSETS_PHOTOS at a folder") as found:
            prepare(folder, 5, 1, silent)
    assert [one.name for one in found.value.left_out] == ["x.jpg"] and found.value.exit_status == 2


def test_thumbnails_are_small_and_without_exif(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.jpg", (900, 600))
    with prepare(tmp_path / "in", 1, 1, silent) as photos:
        assert photos.write_thumbnails(tmp_path / "thumbs") == ("1.jpg",)
        with Image.open(tmp_path / "thumbs" / "1.jpg") as image:
            assert image.size == (240, 160) and not image.getexif()
        assert photos.write_thumbnails(tmp_path / "thumbs") == ("1.jpg",)


def test_the_demo_draws_varied_photos_once(tmp_path: Path) -> None:
    assert draw_photos(tmp_path) == 36 and draw_photos(tmp_path) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    turned = [path for path in files if path.suffix == ".jpg" and Image.open(path).getexif().get(0x0112) == 6]
    assert len(files) == 36 and len({path.read_bytes() for path in files}) == 36
    assert sum(path.suffix == ".png" for path in files) >= 3 and len(turned) >= 3
    with prepare(tmp_path, 36, 1, silent) as photos:
        shapes = {(photo.width, photo.height) for photo in photos.photos}
        assert shapes == {(320, 240), (240, 320)} and not photos.left_out


def test_a_folder_may_bring_ratings_and_session_json_has_them(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        picture(tmp_path / name, (40 + 10 * ord(name[0]), 30))
    with prepare(tmp_path, 3, 1, silent) as photos:
        assert photos.source == {"kind": "folder", "ratings": None} and not any(one.rating for one in photos.photos)
        assert "favourite" not in written(photos)["photos"][0]
    (tmp_path / "ratings.csv").write_text("photo,favourite,stars\na.jpg,true,5\nsub/c.jpg,,2\ngone.jpg,false,1\n")
    said: list[str] = []
    with prepare(tmp_path, 3, 1, said.append) as photos:
        ratings = {one["name"]: (one["favourite"], one["stars"]) for one in written(photos)["photos"]}
        assert ratings == {"a.jpg": (True, 5), "b.jpg": (None, None), "sub/c.jpg": (None, 2)}
        assert written(photos)["photo_set"]["source"] == {"kind": "folder", "ratings": "ratings.csv"}
    assert any("1 of its 3 photos are not in the folder: gone.jpg" in line for line in said)


def test_ratings_that_cannot_be_read_are_an_error_before_anything_is_asked(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "ratings.csv").write_text("photo,favourite,stars\na.jpg,true,6\n")
    with pytest.raises(RatingsError, match="6"):
        prepare(tmp_path, 1, 1, silent)


def written(photos: PhotoSet) -> dict[str, Any]:
    """session.json of these photos, asked of one model."""
    names = [photo.name for photo in photos.photos]
    question = Question.load(catalog.load(None).benchmark.question)
    plan = mirrored_plan(["m"], names, 2, 1)
    comparison = Comparison((Arm("m", "f" * 64),), question, photos, plan, "c" * 64, 10, 1.0)
    return Record.begin(Path("session"), comparison, datetime.now(UTC)).values
