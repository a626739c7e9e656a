"""Courtesy to the stand-in's queues: what waits, what goes on, what happens when Immich or a holder fails."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_assets.demo.immich import LEARNING, LoopbackImmich
from llama_assets.gpu import FileLease
from llama_assets.gpu.queues import CourteousLease, Courtesy, QueueLimits
from llama_assets.immich import Immich, ImmichLimits

QUICK = QueueLimits(request_s=2, attempts=2, pause_s=5, settle_s=5, look_again_s=0.01, resume_s=5, lock_s=5)
RIGHTS = ("queue.read", "queue.update", "job.read", "job.create")


@pytest.fixture
def server() -> Iterator[LoopbackImmich]:
    with LoopbackImmich() as immich:
        yield immich


class Told:
    """Courtesy of one holder, and what it said."""

    def __init__(self, server: LoopbackImmich, folder: Path, *rights: str, limits: QueueLimits = QUICK) -> None:
        self.said: list[str] = []
        self.key = server.key(*(rights or RIGHTS), admin=True)
        self.courtesy = Courtesy(
            folder / "courtesy",
            lambda limits: Immich(
                server.url, self.key, "ADMIN_KEY", ImmichLimits(limits.request_s, 5, limits.attempts, 0.01)
            ),
            self.said.append,
            limits,
        )


def paused(server: LoopbackImmich) -> set[str]:
    return {name for name, queue in server.queues.items() if queue.paused}


@pytest.mark.parametrize("version", [(2, 1, 0), (2, 4, 1)])
def test_queues_wait_while_the_card_is_lent_and_catch_up_afterwards(
    server: LoopbackImmich, tmp_path: Path, version: tuple[int, int, int]
) -> None:
    server.version = version
    for courteous in (False, True):
        server.upload(3)
        block = Told(server, tmp_path).courtesy.around() if courteous else contextlib.nullcontext()
        with block as told:
            server.ml_up = False
            server.upload(4)
            server.work()
        server.ml_up = True
        server.work()
        lost = sum(queue.missing for queue in server.queues.values())
        assert (lost == 0) == courteous  # and what was lost without courtesy is found by asking for what is missing
    assert told is not None and told.paused == list(LEARNING) == told.resumed == told.started
    assert told.before["ocr"]["failed"] == 7 and told.before["ocr"]["waiting"] == 3
    assert set(told.after) == set(LEARNING) and not told.trouble and not paused(server)
    assert not list((tmp_path / "courtesy").glob("*.json"))


def test_what_a_person_paused_stays_paused_and_other_queues_are_not_touched(
    server: LoopbackImmich, tmp_path: Path
) -> None:
    server.queues["ocr"].paused = True
    one = Told(server, tmp_path)
    with one.courtesy.around() as told:
        assert paused(server) == set(LEARNING)
    assert paused(server) == {"ocr"} and "ocr" not in told.resumed + told.started
    assert any("ocr somebody else paused" in line for line in one.said)
    touched = {path.rpartition("/")[2] for method, path in server.asked if method == "PUT"}
    assert touched == set(LEARNING) - {"ocr"}


def test_jobs_under_way_are_waited_for(server: LoopbackImmich, tmp_path: Path) -> None:
    server.queues["smartSearch"].active = 1
    looks = 0

    def ends(method: str, path: str) -> None:
        nonlocal looks
        looks += path == "queues"
        if looks == 4:
            server.queues["smartSearch"].active = 0

    server.on_request = ends
    with Told(server, tmp_path).courtesy.around():
        assert looks >= 4 and not server.queues["smartSearch"].active
    server.queues["ocr"].active, server.on_request = 1, lambda *_: None
    impatient = Told(server, tmp_path, limits=QueueLimits(settle_s=0, look_again_s=0.01))
    with impatient.courtesy.around():
        pass
    assert any("ocr still at work after 0 s" in line for line in impatient.said)


def test_tenants_are_back_before_queues_go_on(server: LoopbackImmich, tmp_path: Path) -> None:
    lease = FileLease(tmp_path / "gpu.json")
    during: list[tuple[str, bool]] = []
    server.on_request = lambda method, path: during.append((f"{method} {path}", lease.status()[1]))
    courteous = CourteousLease(lease, Told(server, tmp_path).courtesy)
    with courteous.take("me", "a test") as held:
        assert held.still_held() and paused(server) == set(LEARNING)
    assert [asked for asked, card in during if card] == [] and len(during) > 10
    assert courteous.told is not None and courteous.told.resumed == list(LEARNING)


def test_what_ends_with_an_error_resumes_all_the_same(server: LoopbackImmich, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Told(server, tmp_path).courtesy.around():
        raise ZeroDivisionError
    assert not paused(server)


@pytest.mark.parametrize(
    ("path", "fault"), [("server/version", 500), ("queues$", "cut"), ("queues/smartSearch", 403), ("queues/ocr", 500)]
)
def test_an_immich_in_trouble_does_not_stop_the_lease(
    server: LoopbackImmich, tmp_path: Path, path: str, fault: int | str
) -> None:
    server.fault(path, fault, times=2)  # as often as it is tried
    one = Told(server, tmp_path)
    with one.courtesy.around() as told:
        pass
    assert told.trouble and server.url in told.trouble[0]
    assert any(line.startswith("immich: Immich's queues are not paused") for line in one.said)
    assert not paused(server) and one.key not in "".join(one.said)


def test_an_immich_that_is_away_is_said_and_a_key_without_rights_names_the_permission(
    server: LoopbackImmich, tmp_path: Path
) -> None:
    one = Told(server, tmp_path, "queue.read")
    with one.courtesy.around() as told:
        pass
    assert "permission queue.update" in told.trouble[0] and "ADMIN_KEY" in told.trouble[0]
    server.__exit__()
    with one.courtesy.around() as told:
        pass
    assert "does not answer" in told.trouble[0]


def test_an_immich_that_was_away_at_the_end_is_mended_later(server: LoopbackImmich, tmp_path: Path) -> None:
    one = Told(server, tmp_path)
    with one.courtesy.around() as told:
        server.fault("jobs/faceDetection", 500, times=2)
    assert told.resumed == ["smartSearch"] and told.trouble and paused(server) == set(LEARNING) - {"smartSearch"}
    assert set(one.courtesy.left()) == set(LEARNING)
    mended = one.courtesy.mend()
    assert not mended.trouble and not paused(server) and one.courtesy.left() == ()
    asked = len(server.asked)
    assert one.courtesy.mend().resumed == [] and len(server.asked) == asked  # nothing to do: Immich is not asked


def test_two_holders_hand_over_and_the_last_one_resumes(server: LoopbackImmich, tmp_path: Path) -> None:
    one, two = Told(server, tmp_path), Told(server, tmp_path)
    with one.courtesy.around() as first:
        with contextlib.ExitStack() as stack:
            second = stack.enter_context(two.courtesy.around())
            assert one.courtesy.mend().resumed == []
        assert second.resumed == [] and paused(server) == set(LEARNING)
    assert first.resumed == list(LEARNING) and not paused(server)


HOLDER = """
import json, sys
from pathlib import Path
from llama_assets.gpu.queues import Courtesy, QueueLimits
from llama_assets.immich import Immich
url, key, folder = sys.argv[1:]
with Courtesy(Path(folder), lambda _: Immich(url, key), lambda _: None).around():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("where", ["PUT queues/faceDetection", "held", "PUT jobs/ocr"])
def test_what_a_killed_holder_left_paused_the_next_who_looks_resumes(
    server: LoopbackImmich, tmp_path: Path, where: str
) -> None:
    one = Told(server, tmp_path)
    folder = one.courtesy.folder
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, server.url, one.key, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None and holder.stdout is not None

    def kill(method: str, path: str) -> None:
        if f"{method} {path}" == where and holder.poll() is None:
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()

    server.on_request = kill
    if holder.stdout.readline():  # nothing when it was killed on its way
        assert one.courtesy.mend().resumed == [] and paused(server) == set(LEARNING)
        if where == "held":
            holder.kill()
        else:
            holder.stdin.close()
    holder.wait()
    server.on_request = lambda *_: None
    assert holder.returncode == -signal.SIGKILL and one.courtesy.left()
    assert json.loads(next(folder.glob("*.json")).read_text())["queues"] == list(LEARNING)
    told = one.courtesy.mend()
    assert not paused(server) and told.resumed == list(LEARNING) and one.courtesy.left() == ()


def test_the_next_holder_takes_over_what_a_dead_one_left(server: LoopbackImmich, tmp_path: Path) -> None:
    one = Told(server, tmp_path)
    dead = one.courtesy.folder / "dead.json"
    dead.parent.mkdir()
    dead.write_text(json.dumps({"queues": ["ocr"], "address": server.url, "at": "", "holder": "x"}))
    (dead.parent / "torn.json").write_text('{"queu')
    server.queues["ocr"].paused = True
    with one.courtesy.around() as told:
        assert told.paused == list(LEARNING) and not dead.exists()
    assert not paused(server) and not list(dead.parent.glob("*.json"))
