"""Photos as they are asked: a seeded sample of a folder, turned upright, at most 1024 px, JPEG, without EXIF.

Here: which files, how they are prepared, which were left out and why. The prepared JPEGs lie in one unnamed temporary
file: memory stays small, and nothing of a private photo is left when the process ends. Not here: the order in which
photos are asked (`plan`), sending them (`engine`).

PhotosError
'- NoPhotos    not one photo can be used
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:  # Pillow is imported where a photo is opened: the graph needs this room's names, not its pictures
    from PIL import Image

PLAIN = frozenset({".jpg", ".jpeg", ".png", ".webp"})
HEIC = frozenset({".heic", ".heif"})
SAID = 10  # left-out files that are said one by one


@dataclass(frozen=True)
class PhotoLimits:
    """How photos are prepared. The first three are part of what is measured: changing one changes the set's hash."""

    long_edge_px: int = 1024
    jpeg_quality: int = 90
    thumbnail_edge_px: int = 240
    thumbnail_quality: int = 70
    pixels: int = 160_000_000  # more is a decompression bomb rather than a photo; phones stop at 108 million


@dataclass(frozen=True)
class Photo:
    """One prepared photo. `name` is its path below the folder, with `/`; `sha256` is of the prepared JPEG."""

    name: str
    sha256: str
    bytes: int
    width: int
    height: int
    start: int  # where its JPEG begins in the set's file


@dataclass(frozen=True)
class LeftOut:
    """A file that was drawn and not taken, and why."""

    name: str
    reason: str


class PhotosError(ValueError):
    """There is nothing to ask about."""

    exit_status = 2


class NoPhotos(PhotosError):
    """No photo of the folder can be used; `left_out` are those that were tried."""

    def __init__(self, folder: Path, left_out: tuple[LeftOut, ...] = ()) -> None:
        self.folder, self.left_out = folder, left_out
        super().__init__(folder, left_out)

    def __str__(self) -> str:
        there = "is not a folder" if not self.folder.is_dir() else "holds no photo that can be used"
        tried = f" ({len(self.left_out)} left out; the first: {_said(self.left_out[0])})" if self.left_out else ""
        kinds = ", ".join(sorted(suffix.lstrip(".") for suffix in PLAIN | HEIC))
        return f"{self.folder} {there}{tried}: point LLAMA_ASSETS_PHOTOS at a folder with photos ({kinds})"


class PhotoSet:
    """Prepared photos in the seed's order. `hash` is over names and JPEGs in that order: equal hashes, equal sets.

    Close it (or use it as a context manager) to give the temporary file back.
    """

    def __init__(self, photos: tuple[Photo, ...], left_out: tuple[LeftOut, ...], seed: int, file: IO[bytes]) -> None:
        self.photos, self.left_out, self.seed = photos, left_out, seed
        self._file = file
        self.hash = hashlib.sha256("\n".join(f"{photo.name}\0{photo.sha256}" for photo in photos).encode()).hexdigest()

    def jpeg(self, photo: Photo) -> bytes:
        """The prepared photo, ready to be sent."""
        return os.pread(self._file.fileno(), photo.bytes, photo.start)

    def write_thumbnails(self, folder: Path, limits: PhotoLimits | None = None) -> tuple[str, ...]:
        """Small JPEGs `1.jpg`, `2.jpg`... in the set's order; returns their names. What is there is kept."""
        from PIL import Image

        limits = limits or PhotoLimits()
        folder.mkdir(parents=True, exist_ok=True)
        names = []
        for number, photo in enumerate(self.photos, 1):
            target = folder / f"{number}.jpg"
            names.append(target.name)
            if not target.exists():
                with Image.open(BytesIO(self.jpeg(photo))) as image:
                    _fit(image, limits.thumbnail_edge_px)
                    small = _jpeg(image, limits.thumbnail_quality)
                written = target.with_suffix(".tmp")
                written.write_bytes(small)
                written.replace(target)
        return tuple(names)

    def close(self) -> None:
        """Give the temporary file back; `jpeg` works no more."""
        self._file.close()

    def __enter__(self) -> PhotoSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_photos(folder: Path) -> dict[str, Path]:
    """Files that say they are photos, by name, below the folder. Hidden files and folders are the system's: left alone.

    Raises:
        NoPhotos: there is none.
    """
    found = {}
    for above, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "@"))]
        for file in files:
            path = Path(above, file)
            if path.suffix.lower() in PLAIN | HEIC and not file.startswith("."):
                name = path.relative_to(folder).as_posix()
                # A name that is not UTF-8 still gets one that can be stored.
                found[os.fsencode(name).decode("utf-8", "backslashreplace")] = path
    if not found:
        raise NoPhotos(folder)
    return found


def prepare(
    folder: Path, count: int, seed: int, say: Callable[[str], None], limits: PhotoLimits | None = None
) -> PhotoSet:
    """Draw `count` photos from the folder, below it too, and prepare them.

    The draw depends on the seed and the names alone, so neither the directory's order nor photos added later reshuffle
    it. A file that cannot be used is left out by name and the next of the draw takes its place; the same bytes count
    once. Fewer than `count` is said.

    Raises:
        NoPhotos: the folder is missing or nothing in it can be used.
    """
    limits = limits or PhotoLimits()
    found = find_photos(folder)
    heic = _can_read_heic()
    file = tempfile.TemporaryFile(prefix="llama-assets-photos-")  # noqa: SIM115  # the set closes it
    photos: list[Photo] = []
    left_out: list[LeftOut] = []
    first_with: dict[bytes, str] = {}
    for name, path in sorted(found.items(), key=lambda item: _draw(seed, item[0])):
        if len(photos) == count:
            break
        if path.suffix.lower() in HEIC and not heic:
            left_out.append(LeftOut(name, "HEIC needs a library: pip install llama-assets[heic]"))
            continue
        try:
            data = path.read_bytes()
            twin = first_with.setdefault(hashlib.sha256(data).digest(), name)
            if twin != name:
                left_out.append(LeftOut(name, f"the same bytes as {twin}"))
                continue
            image = _upright(data, limits)
        except Exception as error:  # decoders of damaged files raise anything; the reason is kept and shown
            left_out.append(LeftOut(name, _reason(error)))
            continue
        jpeg = _jpeg(image, limits.jpeg_quality)
        start = file.tell()
        file.write(jpeg)
        photos.append(Photo(name, hashlib.sha256(jpeg).hexdigest(), len(jpeg), image.width, image.height, start))
    file.flush()
    if not photos:
        file.close()
        raise NoPhotos(folder, tuple(left_out))
    for one in left_out[:SAID]:
        say(f"left out: {_said(one)}")
    if len(left_out) > SAID:
        say(f"left out: {len(left_out) - SAID} more; session.json names all")
    if len(photos) < count:
        say(f"{len(photos)} of the {count} photos asked for are in {folder}")
    return PhotoSet(tuple(photos), tuple(left_out), seed, file)


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _can_read_heic() -> bool:
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        return True
    return False


def _upright(data: bytes, limits: PhotoLimits) -> Image.Image:
    """The photo as RGB, fitted, turned as its EXIF says."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is the one that counts
        opened = Image.open(BytesIO(data))
    with opened:
        if opened.width * opened.height > limits.pixels:
            raise Image.DecompressionBombError(f"{opened.width} x {opened.height} pixels are more than {limits.pixels}")
        if opened.mode in ("RGB", "L") and "transparency" not in opened.info:
            _fit(opened, limits.long_edge_px)  # here a JPEG's decoder shrinks while it reads; other modes would suffer
        image = ImageOps.exif_transpose(opened)
        if "A" in image.getbands() or "transparency" in image.info:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        image = image.convert("RGB")
        _fit(image, limits.long_edge_px)
        return image


def _fit(image: Image.Image, edge_px: int) -> None:
    """Shrink in place until the long edge fits; never enlarge."""
    from PIL.Image import Resampling

    image.thumbnail((edge_px, edge_px), Resampling.LANCZOS)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = BytesIO()
    image.info.clear()  # pixels only: no EXIF, no comment
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "is not an image"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _said(one: LeftOut) -> str:
    return f"{one.name}: {one.reason}"
