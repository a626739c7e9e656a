"""A loopback hub in a process of its own, so that it does not take turns with the one who is measured.

with hub_process(partial(fill, size)) as hub:       # fill(hub: LoopbackHub) runs over there; must be picklable
    hub.url; hub.counts(); hub.forget_requests()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from figures.company import company
from llama_assets.demo.hub import LoopbackHub


class HubProcess:
    """The hub over there: its address, and what it was asked."""

    def __init__(self, url: str, line: Connection) -> None:
        self.url, self._line = url, line

    def counts(self) -> dict[str, int]:
        """Requests by side, e.g. {"api": 1, "resolve": 2, "cdn": 2}."""
        return self._ask("counts")

    def forget_requests(self) -> None:
        """Begin to count anew."""
        self._ask("forget_requests")

    def _ask(self, method: str) -> dict[str, int]:
        self._line.send(method)
        answer: dict[str, int] = self._line.recv()
        return answer


@contextmanager
def hub_process(fill: Callable[[LoopbackHub], object]) -> Iterator[HubProcess]:
    """A hub that `fill` has filled, until the block ends."""
    with company(_serve, fill) as (url, line):
        yield HubProcess(url, line)


def _serve(line: Connection, fill: Callable[[LoopbackHub], object]) -> None:
    with LoopbackHub() as hub:
        fill(hub)
        line.send(hub.url)
        while True:
            try:
                method = line.recv()
            except EOFError:  # the block has ended
                return
            line.send(getattr(hub, method)())
