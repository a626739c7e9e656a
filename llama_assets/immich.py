"""Immich's HTTP API, as far as photos are read and machine-learning queues are paused: one client, errors of ours.

Comes in: an address, an API key. Goes out: albums, assets, bytes, queues, and nothing but these:

    ImmichError
    |- NoAlbum       no album of that name; names those there are
    |- ManyAlbums    several; names their ids
    |- TooOld        before 1.137: keys had no permission for pictures there, and albums were listed in another way
    |- OtherAlbum    it listed more than the album holds: it does not understand how we ask, and nothing is used
    `- Answered      a request and what came of it
       |- WrongKey       401
       |- NotPermitted   403; names the permission the key lacks
       |- NotThere       404, or 400 of one asset: gone, in the trash, or somebody else's
       |- TooLarge       a picture of more bytes than we are ready to take
       |- NotImmich      something answers there, but not as Immich does (an address, a proxy, another API)
       `- Trouble        may be answered later (transient): no answer, cut, 429, 5xx

By Immich's own OpenAPI (open-api/immich-openapi-specs.json): 1.137 to 3.x. Majors that are newer are asked in the same
way; what they answer in another shape is NotImmich, with the version. The key goes into the header x-api-key of that
address alone: redirects are not followed. Only `pause`, `resume` and `start_missing` change anything.
Not here: which photos (`bench/sources.py`), when queues are paused (`gpu/queues.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Literal

import httpx

from llama_assets.patience import patiently

OLDEST = (1, 137, 0)  # github.com/immich-app/immich/pull/20250: from here on a key may be allowed pictures alone
QUEUES_SINCE = (2, 4, 0)  # `/queues` took over from `/jobs`, which still is the only way to start what is missing
NEWEST_KNOWN = 3
PAGE = 1000  # the most that MetadataSearchDto.size allows
COUNTS = ("active", "waiting", "paused", "delayed", "failed")  # of QueueStatisticsDto; `completed` is never kept
Photos = Literal["originals", "previews"]


@dataclass(frozen=True)
class ImmichLimits:
    """The room's numbers. `attempts` counts tries of one request in all; `whole_s` bounds one request's answer."""

    timeout_s: float = 30.0
    whole_s: float = 300.0
    attempts: int = 4
    first_wait_s: float = 0.5  # doubles with each attempt where the server does not say how long
    longest_wait_s: float = 30.0  # a longer Retry-After is not waited for but told
    photo_bytes: int = 512 << 20
    answer_bytes: int = 64 << 20
    block_bytes: int = 1 << 16


@dataclass(frozen=True)
class Album:
    """One album. `assets` counts everything in it, videos and other people's pictures too."""

    id: str
    name: str
    assets: int


@dataclass(frozen=True)
class Asset:
    """One picture. `favourite` is its owner's word and None where it is not the key's user's; `stars` are 1 to 5."""

    id: str
    name: str
    favourite: bool | None
    stars: int | None


@dataclass(frozen=True)
class Queue:
    """One queue. `counts`: how many jobs are active, waiting, paused, delayed, failed."""

    name: str
    paused: bool
    counts: Mapping[str, int]


class ImmichError(Exception):
    """The root. `transient`: may be over in a moment; `retry_after_s`: in how long, if the server said."""

    exit_status = 1
    transient = False
    retry_after_s: float | None = None


class NoAlbum(ImmichError):
    """No album is called so."""

    exit_status = 2

    def __init__(self, url: str, name: str, there: tuple[str, ...]) -> None:
        super().__init__(url, name, there)
        self.url, self.name, self.there = url, name, there

    def __str__(self) -> str:
        there = f"there are {_named(self.there)}" if self.there else "this key sees no album at all"
        return f"{self.url} has no album {self.name!r}: {there}. Name one in LLAMA_ASSETS_IMMICH_ALBUM"


class ManyAlbums(ImmichError):
    """Several albums are called so."""

    exit_status = 2

    def __init__(self, url: str, name: str, found: tuple[Album, ...]) -> None:
        super().__init__(url, name, found)
        self.url, self.name, self.found = url, name, found

    def __str__(self) -> str:
        ids = ", ".join(f"{album.id} ({album.assets} assets)" for album in self.found)
        return (
            f"{self.url} has {len(self.found)} albums {self.name!r}: put one's id in LLAMA_ASSETS_IMMICH_ALBUM: {ids}"
        )


class TooOld(ImmichError):
    """The server's version is one that we cannot ask."""

    def __init__(self, url: str, version: str) -> None:
        super().__init__(url, version)
        self.url, self.version = url, version

    def __str__(self) -> str:
        return f"{self.url} is Immich {self.version}; this needs {_dotted(OLDEST)} or newer: update Immich"


class OtherAlbum(ImmichError):
    """More was listed than the album holds."""

    def __init__(self, url: str, album: Album, listed: int, version: str) -> None:
        super().__init__(url, album, listed, version)
        self.url, self.album, self.listed, self.version = url, album, listed, version

    def __str__(self) -> str:
        return (
            f"{self.url} (Immich {self.version}) listed {self.listed} pictures for album {self.album.name!r}, which "
            f"holds {self.album.assets}: it does not search by albumIds as versions up to {NEWEST_KNOWN} do. No photo "
            "is used; export the album and name its folder in LLAMA_ASSETS_PHOTOS"
        )


class Answered(ImmichError):
    """What `url` `said` when it was asked."""

    way_out = ""

    def __init__(self, url: str, said: str, way_out: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(url, said, way_out, retry_after_s)
        self.url, self.said, self.retry_after_s = url, said, retry_after_s
        self._way_out = way_out or self.way_out

    def __str__(self) -> str:
        return f"{self.url} {self.said}" + (f"; {self._way_out}" if self._way_out else "")


class WrongKey(Answered):
    """401: the key is not known there."""

    exit_status = 2
    way_out = "make a key in Immich under Account Settings > API Keys, and set "  # the client adds the variable


class NotPermitted(Answered):
    """403: the key lacks a permission, or its user is no administrator."""

    exit_status = 2


class NotThere(Answered):
    """It is gone, in the trash, or not for this key's user."""


class TooLarge(Answered):
    """A picture of more bytes than we take."""


class NotImmich(Answered):
    """An answer that Immich does not give."""

    way_out = "is LLAMA_ASSETS_IMMICH_URL Immich's own address?"


class Trouble(Answered):
    """No answer of use; may be over in a moment."""

    transient = True


@dataclass
class Immich:
    """One server, asked with one key. Close it, or use it as a context manager.

    `variable` names where the key comes from, for errors that are about it.
    """

    address: str
    key: str = field(repr=False)
    variable: str = "LLAMA_ASSETS_IMMICH_KEY"
    limits: ImmichLimits = field(default_factory=ImmichLimits)

    def __post_init__(self) -> None:
        self.address = self.address.rstrip("/").removesuffix("/api")
        self._http = httpx.Client(
            base_url=f"{self.address}/api/",
            headers={"x-api-key": self.key, "Accept": "application/json"},
            timeout=self.limits.timeout_s,
            verify=self.address.startswith("https"),  # certificates are read at once, and plain HTTP needs none
            follow_redirects=False,  # httpx would send the key's header along, to wherever it leads
        )
        self._version: tuple[int, int, int] | None = None

    def __enter__(self) -> Immich:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    @property
    def version(self) -> str:
        """As `2.4.1`. Raises ImmichError; TooOld among them."""
        return _dotted(self._known_version())

    def album(self, name: str) -> Album:
        """The album of this name, or with this id. Permission `album.read`.

        Raises:
            NoAlbum, ManyAlbums: not exactly one.
            ImmichError: any other child.
        """
        self._known_version()
        # Without `shared` these are the user's own; with it those of others, and own ones that are shared.
        listed = [*self._listed("albums", {}), *self._listed("albums", {"shared": "true"})]
        with self._shape("GET albums"):
            albums = {one["id"]: Album(one["id"], one["albumName"], int(one["assetCount"])) for one in listed}
        if name in albums:
            return albums[name]
        found = tuple(album for album in albums.values() if album.name == name)
        if not found:
            raise NoAlbum(self.address, name, tuple(sorted({album.name for album in albums.values()})))
        if len(found) > 1:
            raise ManyAlbums(self.address, name, found)
        return found[0]

    def pictures(self, album: Album) -> list[Asset]:
        """The album's pictures that the key's user may search: their own and their partners', no videos, no trash.

        Permission `asset.read`; without `user.read` nobody's favourites are known. In the server's order.

        Raises:
            OtherAlbum: more than the album holds.
            ImmichError: any other child.
        """
        me = self._me()
        found: dict[str, Asset] = {}
        for item in self._pages({"albumIds": [album.id], "type": "IMAGE", "withExif": True, "size": PAGE}):
            with self._shape("POST search/metadata"):
                found[item["id"]] = _asset(item, me)
            if len(found) > album.assets:
                raise OtherAlbum(self.address, album, len(found), self.version)
        return list(found.values())

    def download(self, asset: Asset, photos: Photos, into: IO[bytes]) -> int:
        """Write a picture's bytes at the file's beginning, in blocks; returns how many. `into` is cut to them.

        An original (permission `asset.download`) is the uploaded file; a preview (`asset.view`) a JPEG or WebP of
        Immich's, 1440 px by default.

        Raises:
            NotThere, TooLarge: this one cannot be had.
            ImmichError: any other child.
        """
        path = f"assets/{asset.id}/{'original' if photos == 'originals' else 'thumbnail'}"
        query = {} if photos == "originals" else {"size": "preview"}
        permission = "asset.download" if photos == "originals" else "asset.view"

        def once() -> int:
            into.seek(0)
            into.truncate()
            return sum(map(into.write, self._blocks("GET", path, permission, self.limits.photo_bytes, params=query)))

        return patiently(once, self.limits, ImmichError)

    def queues(self) -> dict[str, Queue]:
        """Every queue by its name. Permission `queue.read` (before 2.4 `job.read`), and an administrator's key."""
        if self._known_version() >= QUEUES_SINCE:
            listed = self._listed("queues", {}, "queue.read")
            with self._shape("GET queues"):
                return {one["name"]: Queue(one["name"], one["isPaused"], _counts(one["statistics"])) for one in listed}
        found = self._asked("GET", "jobs", "job.read")
        with self._shape("GET jobs"):
            return {
                name: Queue(name, one["queueStatus"]["isPaused"], _counts(one["jobCounts"]))
                for name, one in found.items()
            }

    def pause(self, queue: str) -> None:
        """Let the queue's jobs wait; one under way goes on. Permission `queue.update` (before 2.4 `job.create`)."""
        self._set(queue, paused=True)

    def resume(self, queue: str) -> None:
        """Let the queue's jobs begin again."""
        self._set(queue, paused=False)

    def start_missing(self, queue: str) -> bool:
        """Queue what was never done or failed; False when the queue is at work already. Permission `job.create`."""
        try:
            self._asked("PUT", f"jobs/{queue}", "job.create", json={"command": "start", "force": False})
        except NotThere:  # 400: "Job is already running"; it looks for what is missing only when it is idle
            return False
        return True

    def _set(self, queue: str, *, paused: bool) -> None:
        if self._known_version() >= QUEUES_SINCE:
            self._asked("PUT", f"queues/{queue}", "queue.update", json={"isPaused": paused})
        else:
            command = {"command": "pause" if paused else "resume", "force": False}
            self._asked("PUT", f"jobs/{queue}", "job.create", json=command)

    def _known_version(self) -> tuple[int, int, int]:
        if self._version is None:
            told = self._asked("GET", "server/version", "")
            with self._shape("GET server/version"):
                self._version = int(told["major"]), int(told["minor"]), int(told["patch"])
        if self._version < OLDEST:
            raise TooOld(self.address, _dotted(self._version))
        return self._version

    def _me(self) -> str | None:
        try:
            found = self._asked("GET", "users/me", "user.read")
        except NotPermitted:
            return None
        return str(found["id"]) if isinstance(found, dict) and "id" in found else None

    def _pages(self, query: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        page: str | None = "1"
        seen: set[str] = set()
        while page is not None and page not in seen:
            seen.add(page)
            found = self._asked("POST", "search/metadata", "asset.read", json={**query, "page": int(page)})
            with self._shape("POST search/metadata"):
                items, page = found["assets"]["items"], found["assets"]["nextPage"]
            yield from items

    def _listed(self, path: str, query: Mapping[str, str], permission: str = "album.read") -> list[dict[str, Any]]:
        found = self._asked("GET", path, permission, params=dict(query))
        if not isinstance(found, list):
            raise self._odd(f"GET {path}", "with no list")
        return found

    def _odd(self, asked: str, said: str) -> NotImmich:
        method, _, path = asked.partition(" ")
        version = f" (it says it is Immich {_dotted(self._version)})" if self._version else ""
        return NotImmich(f"{method} {self._http.base_url.join(path)}", f"answered {said}{version}")

    @contextmanager
    def _shape(self, asked: str) -> Iterator[None]:
        """What is read in the block has the shape that the OpenAPI gives it, or the answer is not Immich's."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._odd(asked, f"in another shape than we know ({type(error).__name__}: {error})") from None

    def _asked(self, method: str, path: str, permission: str, **request: Any) -> Any:
        """One request, tried again while there is hope; its JSON."""

        def once() -> Any:
            body = b"".join(self._blocks(method, path, permission, self.limits.answer_bytes, **request))
            try:
                return json.loads(body)
            except ValueError:
                raise self._odd(f"{method} {path}", "with something else than JSON") from None

        return patiently(once, self.limits, ImmichError)

    def _blocks(self, method: str, path: str, permission: str, most: int, **request: Any) -> Iterator[bytes]:
        """The body of one good answer. Raises children of Answered."""
        asked = f"{method} {self._http.base_url.join(path)}"
        end, read = time.monotonic() + self.limits.whole_s, 0
        try:
            with self._http.stream(method, path, **request) as answer:
                if answer.status_code not in (200, 201):
                    raise self._refusal(asked, answer, permission)
                if "text/html" in answer.headers.get("Content-Type", ""):
                    raise NotImmich(asked, "answered with a web page")
                for block in answer.iter_bytes(self.limits.block_bytes):
                    read += len(block)
                    if read > most:
                        raise TooLarge(asked, f"sends more than {most / 2**20:.0f} MiB")
                    if time.monotonic() > end:
                        raise Trouble(asked, f"did not end its answer in {self.limits.whole_s:.0f} s")
                    yield block
        except (httpx.TransportError, httpx.DecodingError) as error:
            said = f"does not answer: {str(error) or type(error).__name__}"
            raise Trouble(asked, said, "is it up, and LLAMA_ASSETS_IMMICH_URL right?") from error

    def _refusal(self, asked: str, answer: httpx.Response, permission: str) -> Answered:
        status, said = answer.status_code, f"answered {answer.status_code}"
        words = _words(answer)
        said += f" ({words})" if words else ""
        if status in (408, 429) or status >= 500:
            after = answer.headers.get("Retry-After", "")
            return Trouble(asked, said, "ask again later", float(after) if after.isdigit() else None)
        if status == 401:
            return WrongKey(asked, said, f"{WrongKey.way_out}{self.variable} to it")
        if status == 403:
            admin = ", and belong to an administrator" if permission.startswith(("queue", "job")) else ""
            needs = f"must have permission {permission}{admin}" if permission else "is not accepted here"
            return NotPermitted(
                asked, said, f"the key of {self.variable} {needs} (Immich: Account Settings > API Keys > Edit)"
            )
        if 300 <= status < 400:
            to = answer.headers.get("Location", "somewhere else")
            return NotImmich(asked, f"{said}, to {to}", "put the address it leads to into LLAMA_ASSETS_IMMICH_URL")
        if status in (400, 404):
            return NotThere(asked, said)
        return NotImmich(asked, said)


def _asset(item: Mapping[str, Any], me: str | None) -> Asset:
    """Immich answers `isFavorite: false` for pictures of others, whatever they think: that is not known, not a no."""
    favourite = bool(item["isFavorite"]) if me is not None and item.get("ownerId") == me else None
    rating = (item.get("exifInfo") or {}).get("rating")
    stars = rating if isinstance(rating, int) and 1 <= rating <= 5 else None  # 0, null and -1: not rated, or rejected
    return Asset(str(item["id"]), str(item.get("originalFileName") or item["id"]), favourite, stars)


def _counts(statistics: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(statistics[name]) for name in COUNTS if name in statistics}


def _words(answer: httpx.Response) -> str:
    """The server's own message, if it has one; at most a line."""
    try:
        answer.read()
        message = json.loads(answer.content)["message"]
    except (ValueError, KeyError, TypeError, httpx.TransportError, httpx.DecodingError):
        return ""
    return " ".join(str(message).split())[:200]


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


def _named(names: tuple[str, ...], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
