"""Where a fault can be aimed: an actor's API requests, by name, each before it is sent and after it was answered.

An actor that reaches the point it was ordered to stop at says so through its pipe and stands still until it is told to
go on, or is killed there. Only the thread that makes the request stands: a heartbeat goes on beating.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from llama_assets.gpu.note import LABEL
from llama_assets.gpu.objects import Card
from llama_assets.kube import Kube, Unreachable

When = Literal["before", "after"]
WORKLOAD = re.compile(r"/namespaces/([^/]+)/(deployments|statefulsets)/([^/]+)$")


@dataclass(frozen=True)
class Point:
    """The `nth` request of this name: one that `Door.name_of` gives, or what an actor says itself.

    With " at work" behind the name, only those are counted that come after the first row was written.
    """

    name: str
    when: When = "after"
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.when} {self.name}" + (f" {self.nth}" if self.nth > 1 else "")


class Stops:
    """What an actor and the one who ordered it say to each other."""

    def __init__(self, pipe: Connection, point: Point | None) -> None:
        self._pipe = pipe
        self._point = point
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def say(self, kind: str, value: object = None) -> None:
        """One message to the parent, from any thread."""
        with self._lock:
            self._pipe.send((kind, value))

    def listen(self) -> bool:
        """Take a new order, if there is one (None: no order any more); for actors that outlive a fault."""
        heard = False
        with self._lock:
            while self._pipe.poll():
                said = self._pipe.recv()
                if said is None or isinstance(said, Point):
                    self._point, heard = said, True
                    self._counts.clear()
        return heard

    def pass_by(self, name: str, when: When) -> bool:
        """Stand still here if it was ordered. True when the answer that just came is to be taken for lost."""
        with self._lock:
            names = [name, f"{name} at work"] if self._counts["work", "after"] else [name]
            self._counts.update((each, when) for each in names)
            point = self._point
            if point is None or point.name not in names or point.when != when:
                return False
            if self._counts[point.name, when] < point.nth:
                return False
            self._point = None
            self._pipe.send(("at", str(point)))
        while isinstance(said := self._pipe.recv(), Point):  # an order that came too late
            pass
        return said == "lost" and when == "after"


class Door(Kube):
    """A connection whose every request is a point to stop at. `watch_over` says for whom it speaks."""

    stops: Stops
    card: Card

    def watch_over(self, card: Card, lease: str, stops: Stops, listens: bool = False) -> None:
        """Name the requests by what they are about."""
        self.card, self.lease, self.stops, self._listens = card, lease, stops, listens
        self._begin()

    def _begin(self) -> None:
        """What an actor has done so far tells apart requests that look the same; with a new order it counts anew."""
        self._given: set[str] = set()
        self._phase = "begin"

    def _call(self, method: str, doing: str, path: str, query: Any = None, body: Any = None, *rest: Any, **more: Any) -> bytes:  # fmt: skip # noqa: E501
        if self._listens and self.stops.listen():
            self._begin()
        name = self.name_of(method, path, query or {}, body or {})
        self.stops.pass_by(name, "before")
        answer = super()._call(method, doing, path, query, body, *rest, **more)
        if method != "GET" and name not in ("heartbeat", "other"):
            self._phase = name
        if name == "tenant up":
            self._given.add(path)
        if self.stops.pass_by(name, "after"):
            raise Unreachable(doing, "the answer is lost on its way")
        return answer

    def name_of(self, method: str, path: str, query: Any, body: Any) -> str:
        """What this request is for in the life of a lease."""
        if path.endswith(f"/leases/{self.lease}"):
            if method == "GET":
                return f"lease read after {self._phase}"
            if threading.current_thread().name == "gpu-lease":
                return "heartbeat"
            return "lease taken" if (body.get("spec") or {}).get("holderIdentity") else "lease freed"
        if path.endswith("/pods"):
            engine = self.card.engine and f"app={self.card.engine.name}" in (query.get("labelSelector") or "")
            return "engine going" if engine else "pods going"
        if match := WORKLOAD.search(path):
            engine = self.card.engine is not None and match.group(3) == self.card.engine.name
            if method == "GET":
                if path in self._given:
                    return "ready wait"
                before = {"begin": "looked at", "engine down": "read back"}.get(self._phase, "read")
                return f"{'engine' if engine else 'tenant'} {before}"
            return _write(engine, body)
        return "other"


def _write(engine: bool, body: Any) -> str:
    label = body.get("metadata", {}).get("labels", {}).get(LABEL)
    replicas = body.get("spec", {}).get("replicas", 0)
    if engine:
        return ("engine up" if replicas else "engine lowered") if label else ("engine back" if replicas else "engine down")  # fmt: skip # noqa: E501
    return "tenant noted" if label else "tenant up"
