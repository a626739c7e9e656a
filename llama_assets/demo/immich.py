"""A stand-in for Immich on loopback: albums, pictures, keys with permissions, machine-learning queues, and faults.

    with LoopbackImmich() as immich:
        me = immich.key("album.read", "asset.read", "asset.download", "user.read")
        immich.album("Travel", immich.picture("a.jpg", data, favourite=True, stars=5))
        immich.fault("search/metadata", 500)                 the next such request fails; then all is well
        Immich(immich.url, me).album("Travel")

Written from Immich's OpenAPI and what its server does (1.137 to 3.x), for tests and the demo; it is not Immich. What a
user of it should know:

- a key belongs to a user; `isFavorite` is false for pictures of others; a search finds one's own and no videos' stills.
- permissions are as the OpenAPI's x-immich-permission; queues and jobs want an administrator besides.
- before 2.4 there is no `/queues`. A queue that is at work refuses `start` with 400, as Immich does.
- jobs: `upload(n)` queues n jobs a queue; `work()` does what is not paused, and what is done while `ml_up` is False
  fails and is missing for ever, until somebody starts "missing". `start` on a paused queue waits like any other job.
- `page_most` makes pages smaller than the client asked for, so that few pictures make several; Immich's hold 1000.
Not here: sessions, shared links, thumbnails of its own making (a preview is whatever was given as one), uploads.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LEARNING = ("smartSearch", "faceDetection", "facialRecognition", "ocr", "duplicateDetection")
OTHERS = ("thumbnailGeneration", "metadataExtraction", "backgroundTask")
ME = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"


@dataclass
class Picture:
    """One asset."""

    id: str
    name: str
    data: bytes
    preview: bytes
    favourite: bool = False
    stars: int | None = None
    owner: str = ME
    kind: str = "IMAGE"


@dataclass
class Jobs:
    """One queue. `starting`: a search for what is missing waits among its jobs."""

    paused: bool = False
    waiting: int = 0
    active: int = 0
    failed: int = 0
    missing: int = 0
    done: int = 0
    starting: bool = False

    def work(self, ml_up: bool) -> None:
        """Do all that waits, unless it is paused."""
        if self.paused:
            return
        if self.starting:
            self.starting, self.waiting, self.missing = False, self.waiting + self.missing, 0
        jobs, self.waiting, self.active = self.waiting + self.active, 0, 0
        if ml_up:
            self.done += jobs
        else:
            self.failed, self.missing = self.failed + jobs, self.missing + jobs

    def counts(self) -> dict[str, int]:
        """QueueStatisticsDto; a paused queue's jobs are counted as paused."""
        waits = self.waiting + self.starting
        return {
            "active": self.active,
            "waiting": 0 if self.paused else waits,
            "paused": waits if self.paused else 0,
            "failed": self.failed,
            "delayed": 0,
            "completed": 0,
        }


@dataclass
class Fault:
    """What comes instead of an answer: a status, `cut` in the middle of the body, or `hang` until the server ends."""

    path: str
    what: int | str
    times: int
    headers: dict[str, str]


@dataclass
class LoopbackImmich:
    """The server; a context manager. `asked` is every request so far: (method, path below /api)."""

    version: tuple[int, int, int] = (2, 4, 1)
    page_most: int = 1000
    ml_up: bool = True
    queues: dict[str, Jobs] = field(default_factory=lambda: {name: Jobs() for name in (*LEARNING, *OTHERS)})
    asked: list[tuple[str, str]] = field(default_factory=list)
    order: Callable[[list[Picture]], list[Picture]] = lambda pictures: pictures
    ignores_albums: bool = False
    on_request: Callable[[str, str], None] = lambda _method, _path: None

    def __post_init__(self) -> None:
        self._keys: dict[str, tuple[frozenset[str], bool, str]] = {}
        self._albums: list[tuple[str, str, list[Picture], str]] = []
        self._faults: list[Fault] = []
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LoopbackImmich:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def key(self, *permissions: str, admin: bool = False, user: str = ME) -> str:
        """A new API key with these permissions (`all` is every one)."""
        made = f"key-{uuid.uuid4().hex}"
        self._keys[made] = (frozenset(permissions), admin, user)
        return made

    def picture(self, name: str, data: bytes, *, preview: bytes | None = None, **more: Any) -> Picture:
        """A new asset; the same name and bytes have the same id."""
        made = uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{hashlib.sha256(data).hexdigest()}")
        return Picture(str(made), name, data, preview if preview is not None else data, **more)

    def album(self, name: str, *pictures: Picture, owner: str = ME) -> str:
        """A new album; its id."""
        made = str(uuid.uuid4())
        self._albums.append((made, name, list(pictures), owner))
        return made

    def fault(self, path: str, what: int | str, times: int = 1, **headers: str) -> None:
        """The next `times` requests whose path matches this expression get `what` instead of an answer."""
        self._faults.append(Fault(path, what, times, headers))

    def upload(self, count: int = 1) -> None:
        """Somebody's new pictures: that many jobs in each machine-learning queue."""
        for name in LEARNING:
            self.queues[name].waiting += count

    def work(self) -> None:
        """Every queue does what waits in it."""
        for queue in self.queues.values():
            queue.work(self.ml_up)

    # What the handler asks.

    def faulty(self, path: str) -> Fault | None:
        """The fault that this request gets, if any."""
        for fault in self._faults:
            if fault.times > 0 and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None

    def hang(self) -> None:
        """Until the server ends."""
        self._ended.wait()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any, key: str | None) -> tuple[int, Any]:
        """Status, and JSON or bytes."""
        if (method, path) == ("GET", "server/version"):
            return 200, dict(zip(("major", "minor", "patch"), self.version, strict=True))
        if key not in self._keys:
            return 401, _error(401, "Invalid API key")
        found = self._route(method, path)
        if found is None:
            return 404, _error(404, f"Cannot {method} /api/{path}")
        permission, serve = found
        allowed, admin, user = self._keys[key]
        if permission.startswith(("queue", "job")) and not admin:
            return 403, _error(403, "Forbidden")
        if permission not in allowed and "all" not in allowed:
            return 403, _error(403, f"Missing required permission: {permission}")
        return serve(query, body, user)

    def _route(self, method: str, path: str) -> tuple[str, Callable[..., tuple[int, Any]]] | None:
        parts = path.split("/")
        match method, parts:
            case "GET", ["albums"]:
                return "album.read", self._list_albums
            case "GET", ["users", "me"]:
                return "user.read", lambda _q, _b, user: (200, {"id": user})
            case "POST", ["search", "metadata"]:
                return "asset.read", self._search
            case "GET", ["assets", asset, ("original" | "thumbnail") as what]:
                permission = "asset.download" if what == "original" else "asset.view"
                return permission, lambda query, _b, user: self._bytes(asset, what, query, user)
            case "GET", ["jobs"]:
                return "job.read", lambda _q, _b, _u: (200, {n: _legacy(jobs) for n, jobs in self.queues.items()})
            case "PUT", ["jobs", name]:
                return "job.create", lambda _q, body, _u: self._command(name, body)
            case "GET", ["queues"] if self.version >= (2, 4, 0):
                return "queue.read", lambda _q, _b, _u: (200, [_queue(n, jobs) for n, jobs in self.queues.items()])
            case "PUT", ["queues", name] if self.version >= (2, 4, 0):
                return "queue.update", lambda _q, body, _u: self._update(name, body)
        return None

    def _list_albums(self, query: dict[str, str], _: Any, user: str) -> tuple[int, Any]:
        shared = query.get("shared") == "true"
        return 200, [
            {"id": made, "albumName": name, "assetCount": len(pictures), "ownerId": owner, "shared": owner != user}
            for made, name, pictures, owner in self._albums
            if (owner != user) == shared
        ]

    def _search(self, _: dict[str, str], body: Any, user: str) -> tuple[int, Any]:
        wanted = body.get("albumIds")
        pictures = [
            picture
            for made, _name, inside, _owner in self._albums
            if self.ignores_albums or made in wanted
            for picture in inside
            if picture.owner == user or (picture.owner == OTHER and user == ME and picture.name.startswith("partner"))
        ]
        pictures = self.order([one for one in pictures if one.kind == body.get("type", one.kind)])
        size, page = min(body.get("size", 250), self.page_most), body.get("page", 1)
        more = len(pictures) > page * size
        items = [_item(one, user, body.get("withExif", False)) for one in pictures[(page - 1) * size : page * size]]
        assets = {"items": items, "nextPage": str(page + 1) if more else None, "count": len(items), "total": len(items)}
        return 200, {"assets": assets, "albums": {"items": []}}

    def _bytes(self, asset: str, what: str, query: dict[str, str], user: str) -> tuple[int, Any]:
        for _, _, pictures, _ in self._albums:
            for one in pictures:
                if one.id == asset and (one.owner == user or one.name.startswith("partner")):
                    return 200, one.data if what == "original" else one.preview if query.get(
                        "size"
                    ) == "preview" else b""
        return 400, _error(400, f"Not found or no asset.{'download' if what == 'original' else 'view'} access")

    def _command(self, name: str, body: Any) -> tuple[int, Any]:
        jobs = self.queues.get(name)
        if jobs is None:
            return 400, _error(400, "name must be one of the following values")
        match body["command"]:
            case "pause" | "resume" as command:
                jobs.paused = command == "pause"
            case "start" if jobs.active:
                return 400, _error(400, "Job is already running")
            case "start":
                jobs.starting = True
        return 200, _legacy(jobs)

    def _update(self, name: str, body: Any) -> tuple[int, Any]:
        if name not in self.queues:
            return 400, _error(400, "name must be one of the following values")
        self.queues[name].paused = body["isPaused"]
        return 200, _queue(name, self.queues[name])


def _item(one: Picture, user: str, with_exif: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": one.id,
        "type": one.kind,
        "ownerId": one.owner,
        "originalFileName": one.name,
        "isFavorite": one.favourite and one.owner == user,
    }
    return item | ({"exifInfo": {"rating": one.stars, "city": None}} if with_exif else {})


def _queue(name: str, jobs: Jobs) -> dict[str, Any]:
    return {"name": name, "isPaused": jobs.paused, "statistics": jobs.counts()}


def _legacy(jobs: Jobs) -> dict[str, Any]:
    return {"queueStatus": {"isPaused": jobs.paused, "isActive": jobs.active > 0}, "jobCounts": jobs.counts()}


def _error(status: int, message: str) -> dict[str, Any]:
    return {"message": message, "statusCode": status}


def _handler(immich: LoopbackImmich) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            address = urlsplit(self.path)
            path = address.path.removeprefix("/api/")
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            immich.asked.append((self.command, path))
            immich.on_request(self.command, path)
            fault = immich.faulty(path)
            if fault is not None and fault.what == "hang":
                immich.hang()
                self.close_connection = True
                return
            if fault is not None and isinstance(fault.what, int):
                self._send(fault.what, _error(fault.what, "a fault, as it was asked for"), fault.headers)
                return
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            status, found = immich.answer(self.command, path, query, body, self.headers.get("x-api-key"))
            self._send(status, found, {}, cut=fault is not None and fault.what == "cut")

        def _send(self, status: int, found: Any, headers: dict[str, str], cut: bool = False) -> None:
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(found, bytes) else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.close_connection = True

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Requests are in `asked`."""

    return Handler
