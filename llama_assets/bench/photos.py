"""Photos as they are asked: a seeded sample of a source, turned upright, at most 1024 px, JPEG, without EXIF.

Here: which photos, how they are prepared, which were left out and why. The prepared JPEGs lie in one unnamed temporary
file: memory stays small, and nothing of a private photo is left when the process ends. Not here: where photos come from
and its errors (`sources`), the order in which they are asked (`plan`), sending them (`engine`).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .ratings import Rating
from .sources import HEIC, PLAIN, Folder, LeftOut, Listed, NoPhotos, Source, Unreadable

if TYPE_CHECKING:  # Pillow is imported where a photo is opened: the graph needs this room's names, not its pictures
    from PIL import Image

BLOCK_BYTES = 1 << 20
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
    """One prepared photo. `name` is what the source calls it; `sha256` is of the prepared JPEG.

    `rating` is what people think of it, None where the source knows of no ratings.
    """

    name: str
    sha256: str
    bytes: int
    width: int
    height: int
    start: int  # where its JPEG begins in the set's file
    rating: Rating | None = None


class PhotoSet:
    """Prepared photos in the seed's order. `hash` is over names and JPEGs in that order: equal hashes, equal sets.

    `source` says where they are from, for session.json. Close it (or use it as a context manager) to give the temporary
    file back.
    """

    def __init__(
        self,
        photos: tuple[Photo, ...],
        left_out: tuple[LeftOut, ...],
        seed: int,
        file: IO[bytes],
        source: Mapping[str, Any],
    ) -> None:
        self.photos, self.left_out, self.seed, self.source = photos, left_out, seed, source
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


def prepare(
    source: Source | Path, count: int, seed: int, say: Callable[[str], None], limits: PhotoLimits | None = None
) -> PhotoSet:
    """Draw `count` photos of the source (a path is a folder) and prepare them.

    The draw depends on the seed and the photos' identities alone, so neither the order in which they are listed nor
    photos added later reshuffle it. One that cannot be used is left out by name and the next of the draw takes its
    place; the same bytes count once. Fewer than `count` is said.

    Raises:
        NoPhotos: there is none, or nothing in it can be used.
        ImmichError: Immich cannot be asked.
        RatingsError: a folder's ratings.csv cannot be read.
    """
    limits = limits or PhotoLimits()
    photos: list[Photo] = []
    left_out: list[LeftOut] = []
    first_with: dict[bytes, str] = {}
    file = tempfile.TemporaryFile(prefix="llama-assets-photos-")  # noqa: SIM115  # the set closes it
    try:
        with Folder(source) if isinstance(source, Path) else source as opened:
            heic = _can_read_heic()
            for one in sorted(opened.listed(say), key=lambda one: _draw(seed, one.identity)):
                if len(photos) == count:
                    break
                try:
                    image = _image(opened, one, heic, first_with, limits)
                except Unreadable as error:
                    left_out.append(LeftOut(one.name, str(error)))
                    continue
                jpeg = _jpeg(image, limits.jpeg_quality)
                sha256, start = hashlib.sha256(jpeg).hexdigest(), file.tell()
                file.write(jpeg)
                photos.append(Photo(one.name, sha256, len(jpeg), image.width, image.height, start, one.rating))
            where, described = opened.where, opened.described
            if not photos:
                raise NoPhotos(f"{where} holds no photo that can be used", opened.way_out, tuple(left_out))
        file.flush()
    except BaseException:
        file.close()
        raise
    for out in left_out[:SAID]:
        say(f"left out: {out.name}: {out.reason}")
    if len(left_out) > SAID:
        say(f"left out: {len(left_out) - SAID} more; session.json names all")
    if len(photos) < count:
        say(f"{len(photos)} of the {count} photos asked for are in {where}")
    return PhotoSet(tuple(photos), tuple(left_out), seed, file, described)


def _image(source: Source, one: Listed, heic: bool, first_with: dict[bytes, str], limits: PhotoLimits) -> Image.Image:
    """The photo, ready to be written. Raises Unreadable with the reason."""
    if one.suffix in HEIC and not heic:
        raise Unreadable("HEIC needs a library: pip install llama-assets[heic]")
    if one.suffix and one.suffix not in PLAIN | HEIC:
        raise Unreadable(
            f"{one.suffix} cannot be read; LLAMA_ASSETS_IMMICH_PHOTOS=previews asks for Immich's JPEG of it"
        )
    with source.open(one) as data:
        try:
            sha256 = hashlib.sha256()
            while block := data.read(BLOCK_BYTES):
                sha256.update(block)
            data.seek(0)
            twin = first_with.setdefault(sha256.digest(), one.name)
            if twin == one.name:
                return _upright(data, limits)
        except Exception as error:  # decoders of damaged files raise anything; the reason is kept and shown
            raise Unreadable(_reason(error)) from None
    raise Unreadable(f"the same bytes as {twin}")


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _can_read_heic() -> bool:
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        return True
    return False


def _upright(data: IO[bytes], limits: PhotoLimits) -> Image.Image:
    """The photo as RGB, fitted, turned as its EXIF says."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is the one that counts
        opened = Image.open(data)
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
