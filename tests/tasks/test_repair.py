"""A flipped bit is found by the task, mended from the Hub by fetching one file, and told where the Hub has it no more.

The task is the real one, the Hub is the loopback hub, and what it sent is counted there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_assets.catalog import Model
from llama_assets.demo.hub import LoopbackHub
from llama_assets.launch import ProcessLauncher, Task
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.tasks.messages import Download, Downloaded, Inspect, Inspected, Request
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work
from tests.cluster import until
from tests.store.pairs import mmproj_gguf, model_gguf

REPO, WEIGHTS, PROJECTOR = "org/m-GGUF", "m-Q4_K_M.gguf", "mmproj-m-F16.gguf"
MODEL = Model(id="m", repo=REPO, quant="Q4_K_M", mmproj="F16", context=4096)


class Desk:
    """A hub, a store, and tasks done on them."""

    def __init__(self, hub: LoopbackHub, folder: Path) -> None:
        self.hub, self.folder, self.lines = hub, folder, list[str]()
        settings = Settings(HF_ENDPOINT=hub.url, store=folder / "store", results=folder / "results")
        self.platform = Platform("local", settings, ProcessLauncher())
        self.store = self.platform.store()

    def push(self, seed: int) -> None:
        weights = model_gguf(self.folder / f"m{seed}.gguf", seed=seed)
        self.hub.push(REPO, {WEIGHTS: weights, PROJECTOR: mmproj_gguf(self.folder / "p.gguf")})

    def do(self, request: Request) -> object:
        asked = json.loads(json.dumps(request.model_dump(mode="json")))
        return Work(Task(request.kind, "run", "step", asked), self.platform, self.lines.append, Stop()).do()

    def download(self) -> Downloaded:
        found = self.do(Download(model=MODEL))
        assert isinstance(found, Downloaded)
        return found

    def verify(self, repair: bool = False) -> list[str]:
        found = self.do(Inspect(models=(MODEL,), verify=True, repair=repair))
        assert isinstance(found, Inspected)
        return [fault.says for fault in found.faults.get("m", ())]

    def flip(self) -> int:
        """A bit of the current model file; returns the file's size."""
        current = self.store.current("m")
        assert current is not None
        path = current.model_file.resolve()
        with path.open("r+b") as file:
            file.seek(-50, 2)
            byte = file.read(1)[0]
            file.seek(-50, 2)
            file.write(bytes([byte ^ 4]))
        return path.stat().st_size

    def sent(self) -> int:
        """Bytes of bodies that the hub wrote, once it has counted them all."""
        asked = self.hub.requests("cdn", "GET")
        until("the hub's count", lambda: all(request.over for request in asked))
        return sum(request.sent for request in asked)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with LoopbackHub() as hub:
        made = Desk(hub, tmp_path)
        made.push(1)
        made.download()
        hub.forget_requests()
        yield made


def test_the_next_download_fetches_the_damaged_file_and_no_other(desk: Desk) -> None:
    size = desk.flip()
    assert desk.download().fetched_bytes == 0, "nobody looked yet"
    (says,) = desk.verify()
    assert "which is not its name" in says and "materialize gguf/m" in says
    assert (desk.download().fetched_bytes, desk.sent(), desk.hub.count("cdn")) == (size, size, 1)
    assert desk.verify() == []


def test_verify_with_repair_fetches_it_at_once_from_the_commit_it_came_from(desk: Desk) -> None:
    """Though the followed revision has moved on: that is for a download, and nothing new becomes current here."""
    before = desk.store.current("m")
    desk.push(2)
    size = desk.flip()
    assert desk.verify(repair=True) == []
    assert desk.sent() == size
    assert desk.store.current("m") == before


def test_what_stays_current_beside_a_refused_update_is_mended_too(desk: Desk) -> None:
    desk.push(2)
    new = desk.download().current.fingerprint
    desk.store.rollback("m")
    size = desk.flip()
    desk.verify()
    desk.hub.forget_requests()
    found = desk.download()
    assert found.update_error is not None and f"{new[:12]} is not promoted" in found.update_error
    assert desk.sent() == size and desk.verify() == []


def test_where_the_hub_has_it_no_more_that_is_said_with_the_way_out(desk: Desk) -> None:
    old = desk.store.current("m")
    desk.push(2)
    desk.download()
    desk.flip()
    desk.verify()
    desk.hub.delete(REPO)
    found = desk.download()
    assert (
        found.update_error is not None
        and "model (" in found.update_error
        and "is gone or damaged" in found.update_error
    )
    assert old is not None and f"`llama-assets rollback m` serves {old.fingerprint[:12]} instead" in found.update_error
    (says,) = desk.verify(repair=True)
    assert "cannot be fetched again" in says and "`llama-assets rollback m`" in says
    now = desk.store.current("m")
    assert now is not None and now.model_file.is_file(), "served as well as it can be"


def test_without_an_earlier_one_no_rollback_is_suggested(desk: Desk) -> None:
    desk.flip()
    desk.hub.delete(REPO)
    (says,) = desk.verify(repair=True)
    assert "no earlier fingerprint of m is here to go back to" in says
