"""Where photos come from: a folder, or an album of Immich. Names, bytes by name, and what people think of them.

Here: what a source has, under which name and identity it is drawn, how its bytes are opened. Not here: which are drawn
and how they are prepared (`photos.py`), Immich's HTTP (`llama_assets/immich.py`). Nothing is ever written to a source.

PhotosError
'- NoPhotos    not one photo can be used
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Protocol

from .ratings import RATINGS_FILE, Rating, read_ratings

if TYPE_CHECKING:  # its HTTP client is imported where Immich is asked
    from llama_assets.immich import Album, Asset, Immich, ImmichLimits, Photos

PLAIN = frozenset({".jpg", ".jpeg", ".png", ".webp"})
HEIC = frozenset({".heic", ".heif"})
KINDS = ", ".join(sorted(suffix.lstrip(".") for suffix in PLAIN | HEIC))


@dataclass(frozen=True)
class Listed:
    """One photo of a source. `name` is unique there and goes into rows; `identity` is what the seed draws by.

    `suffix` says what its bytes are, in lower case, and is empty where the source made them readable. `rating` is None
    where the source knows of no ratings at all.
    """

    name: str
    identity: str
    suffix: str
    rating: Rating | None = None


@dataclass(frozen=True)
class LeftOut:
    """A photo that was drawn and not taken, and why."""

    name: str
    reason: str


class PhotosError(ValueError):
    """There is nothing to ask about."""

    exit_status = 2


class NoPhotos(PhotosError):
    """`there` says what is wrong with the source; `left_out` are the photos that were tried."""

    def __init__(self, there: str, way_out: str, left_out: tuple[LeftOut, ...] = ()) -> None:
        self.there, self.way_out, self.left_out = there, way_out, left_out
        super().__init__(there, way_out, left_out)

    def __str__(self) -> str:
        first = f"{self.left_out[0].name}: {self.left_out[0].reason}" if self.left_out else ""
        tried = f" ({len(self.left_out)} left out; the first: {first})" if self.left_out else ""
        return f"{self.there}{tried}: {self.way_out}"


class Unreadable(Exception):
    """One photo's bytes cannot be had; the others can. Its text is the reason."""


class Source(Protocol):
    """Photos by name. A context manager, so that connections end."""

    @property
    def where(self) -> str:
        """For people: which folder, which album."""

    @property
    def way_out(self) -> str:
        """What to do when nothing in it can be used."""

    @property
    def described(self) -> Mapping[str, Any]:
        """For session.json, once listed: `kind`, and what would find these photos again. No address, no key."""

    def listed(self, say: Callable[[str], None]) -> Sequence[Listed]:
        """All its photos, in any order. Raises PhotosError and the source's own errors."""

    def open(self, one: Listed) -> IO[bytes]:
        """A photo's bytes, at their beginning. Raises Unreadable for this one, the source's own errors for all."""

    def __enter__(self) -> Source: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass
class Folder:
    """Photos in a folder and below it. `ratings.csv` beside them says what people think of them."""

    path: Path

    @property
    def where(self) -> str:
        """Its path."""
        return str(self.path)

    @property
    def way_out(self) -> str:
        """Another folder."""
        return f"point LLAMA_ASSETS_PHOTOS at a folder with photos ({KINDS})"

    @property
    def described(self) -> Mapping[str, Any]:
        """The kind, and whether there are ratings."""
        return {"kind": "folder", "ratings": RATINGS_FILE if (self.path / RATINGS_FILE).is_file() else None}

    def listed(self, say: Callable[[str], None]) -> Sequence[Listed]:
        """Files that say they are photos, by their path below the folder.

        Raises:
            NoPhotos: there is none.
            RatingsError: ratings.csv cannot be read.
        """
        self._found = find_photos(self.path)
        path = self.path / RATINGS_FILE
        if not path.is_file():
            return [Listed(name, name, file.suffix.lower()) for name, file in self._found.items()]
        ratings = read_ratings(path)
        if strangers := sorted(ratings.keys() - self._found.keys()):
            first = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
            say(f"{path}: {len(strangers)} of its {len(ratings)} photos are not in the folder: {first}")
        return [
            Listed(name, name, file.suffix.lower(), ratings.get(name, Rating())) for name, file in self._found.items()
        ]

    def open(self, one: Listed) -> IO[bytes]:
        """The file."""
        try:
            return self._found[one.name].open("rb")
        except OSError as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class ImmichAlbum:
    """The pictures of one album of Immich, by its name or id; `photos` are `originals` or `previews`.

    A photo is drawn by its asset's id, so neither the order in which Immich lists nor a photo added later reshuffles
    the sample. Its name is the file's with the id's first 8 digits: cameras begin at IMG_0001 again and again.
    Favourites and stars are read with the list.
    """

    address: str
    key: str = field(repr=False)
    album: str
    photos: Photos = "originals"
    limits: ImmichLimits | None = None

    def __post_init__(self) -> None:
        self._client: Immich | None = None
        self._found: Album | None = None
        self._assets: dict[str, Asset] = {}
        self._version = ""

    @property
    def where(self) -> str:
        """Album and address."""
        return f"album {self.album!r} of {self.address}"

    @property
    def way_out(self) -> str:
        """Another album."""
        return "name an album with photos of yours in LLAMA_ASSETS_IMMICH_ALBUM"

    @property
    def described(self) -> Mapping[str, Any]:
        """The album, what was taken of its assets, and from which version of Immich."""
        found = {"album": self._found.name, "album_id": self._found.id} if self._found else {"album": self.album}
        return {"kind": "immich", **found, "photos": self.photos, "version": self._version}

    def listed(self, say: Callable[[str], None]) -> Sequence[Listed]:
        """The album's pictures. Raises ImmichError, NoPhotos."""
        client = self._asked()
        self._found = album = client.album(self.album)
        assets = client.pictures(album)
        self._version = client.version
        if len(assets) < album.assets:
            say(
                f"{self.where}: {len(assets)} of its {album.assets} assets are pictures that the key's user may "
                "search; videos and other people's are left out"
            )
        if assets and all(one.favourite is None for one in assets):
            say(f"{self.where}: nobody's favourites are known; the key needs permission user.read, and own pictures")
        if not assets:
            raise NoPhotos(f"{self.where} holds no picture that may be searched with this key", self.way_out)
        short: dict[str, int] = {}
        for one in assets:
            short[_name(one, 8)] = short.get(_name(one, 8), 0) + 1
        self._assets = {_name(one, 8 if short[_name(one, 8)] == 1 else 36): one for one in assets}
        return [
            Listed(name, one.id, self._suffix(one), Rating(one.favourite, one.stars))
            for name, one in self._assets.items()
        ]

    def open(self, one: Listed) -> IO[bytes]:
        """An unnamed temporary file with its bytes, gone when it is closed. Raises ImmichError, Unreadable."""
        from llama_assets.immich import NotThere, TooLarge

        file: IO[bytes] = tempfile.TemporaryFile(prefix="llama-assets-photo-")  # noqa: SIM115 - the caller closes it
        try:
            self._asked().download(self._assets[one.name], self.photos, file)
        except (NotThere, TooLarge) as error:
            file.close()
            raise Unreadable(str(error)) from None
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def _suffix(self, one: Asset) -> str:
        return PurePosixPath(one.name).suffix.lower() if self.photos == "originals" else ""

    def _asked(self) -> Immich:
        if self._client is None:
            from llama_assets.immich import Immich, ImmichLimits

            self._client = Immich(self.address, self.key, limits=self.limits or ImmichLimits())
        return self._client

    def __enter__(self) -> ImmichAlbum:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


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
        there = "holds no photo that can be used" if folder.is_dir() else "is not a folder"
        raise NoPhotos(f"{folder} {there}", Folder(folder).way_out)
    return found


def _name(one: Asset, digits: int) -> str:
    path = PurePosixPath(one.name.replace("/", "_"))
    return f"{path.stem}.{one.id[:digits]}{path.suffix}"
