"""The webhook's door: whom it lets in, what it makes of a POST, and that it only ever asks for a look."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator

import httpx
import pytest

from llama_assets import catalog as catalogs
from llama_assets.tasks.nudge import MOST_BYTES, Door, Nudges, launch

SECRET = "a secret of ours"
REPO = "Qwen/Qwen3-VL-8B-Instruct-GGUF"


def webhook(repo: str = REPO, kind: str = "model", scope: str = "repo.content") -> bytes:
    """What the Hub sends, as its documentation shows it; more keys are there than are read."""
    said = {
        "event": {"action": "update", "scope": scope},
        "repo": {"type": kind, "name": repo, "id": "621ff", "private": False, "headSha": "c" * 40},
        "updatedRefs": [{"ref": "refs/heads/main", "oldSha": "b" * 40, "newSha": "c" * 40}],
        "webhook": {"id": "6390e", "version": 3},
    }
    return json.dumps(said).encode()


class Listening:
    """A door on a real port, and the models it was nudged about."""

    def __init__(self) -> None:
        self.nudged: list[str] = []
        self.door = Door(("127.0.0.1", 0), catalogs.load(), SECRET, self.nudged.extend)
        threading.Thread(target=self.door.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def post(self, body: bytes, secret: str | None = SECRET) -> int:
        headers = {} if secret is None else {"X-Webhook-Secret": secret}
        return httpx.post(f"http://127.0.0.1:{self.door.server_port}/", content=body, headers=headers).status_code


@pytest.fixture
def listening() -> Iterator[Listening]:
    listening = Listening()
    yield listening
    listening.door.shutdown()
    listening.door.server_close()


def test_a_push_to_a_followed_repo_is_a_nudge_for_the_models_that_follow_it(listening):
    assert listening.post(webhook()) == 202 and listening.nudged == ["qwen3vl-8b"]
    assert listening.post(webhook(REPO.lower(), scope="repo.content.deep")) == 202


def test_a_push_to_the_repo_of_a_candidate_is_a_nudge_for_the_candidate(listening):
    catalog = listening.door.catalog
    tries = catalog.models[0].model_copy(update={"candidate": catalogs.Tried(repo="org/other-GGUF")})
    listening.door.catalog = catalog.model_copy(update={"models": (tries, *catalog.models[1:])})
    assert listening.post(webhook("org/other-GGUF")) == 202 and listening.nudged == [f"{tries.id}@candidate"]


@pytest.mark.parametrize(
    ("body", "secret", "status"),
    [
        (webhook(), None, 401),
        (webhook(), "a secret of ourz", 401),
        (webhook(), "", 401),
        (b"{}", SECRET, 400),
        (b"[1]", SECRET, 400),
        (b"\xff\xfe", SECRET, 400),
        (b" " * (MOST_BYTES + 1), SECRET, 413),
        (webhook("org/not-followed"), SECRET, 204),
        (webhook(kind="dataset"), SECRET, 204),
        (webhook(scope="discussion.comment"), SECRET, 204),
    ],
)
def test_anything_else_is_answered_and_nudges_nobody(listening, body, secret, status):
    try:
        assert listening.post(body, secret) == status
    except httpx.TransportError:  # the door closed before all of a body was sent that is too long anyway
        assert status == 413
    assert listening.nudged == []


def test_nudges_that_come_together_are_one_look():
    looks: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    looking, go_on = threading.Event(), threading.Event()

    def look(models):
        looks.put(list(models))
        looking.set()
        go_on.wait(30)

    nudges = Nudges(look, rest_s=0)
    nudges.add(["a"])
    assert looking.wait(30)
    for _ in range(3):
        nudges.add(["b", "a"])
    go_on.set()
    assert [looks.get(timeout=30), looks.get(timeout=30)] == [["a"], ["a", "b"]]


def test_a_web_server_that_is_away_costs_a_nudge_and_a_sentence():
    said = launch("http://127.0.0.1:9", ["a", "b"])
    assert said.startswith("a, b: http://127.0.0.1:9 starts no look (Connect") and "the sensor's next tick will" in said
