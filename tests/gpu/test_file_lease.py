"""The lease of one machine: one holder at a time, and the card is free again whatever dies."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading

import pytest

from llama_assets.gpu import FileLease, HeldByOther, LeaseTimes

TIMES = LeaseTimes(lifetime_s=5, beat_s=0.05, wait_s=0.3, look_again_s=0.02)


@pytest.fixture
def lease(tmp_path):
    return FileLease(tmp_path / "results" / "card.json", ("immich/immich-machine-learning",), TIMES)


def test_taking_writes_who_since_when_and_that_tenants_are_not_touched(lease):
    with lease.take("me", "benchmark") as held:
        record, living = lease.status()
        assert living and held.still_held()
        assert (record.holder, record.purpose, record.token) == ("me", "benchmark", 1)
        assert record.tenants == (("immich/immich-machine-learning", None),)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.acquired_at or "")
    record, living = lease.status()
    assert not living and record.holder is None and record.token == 1


def test_every_take_gets_a_higher_token(lease):
    tokens = []
    for _ in range(3):
        with lease.take("me", "x") as held:
            tokens.append(held.token)
    assert tokens == [1, 2, 3]


def test_a_second_taker_waits_and_then_is_told_who_has_it(lease):
    said: list[str] = []
    with (
        lease.take("first", "benchmark of a"),
        pytest.raises(HeldByOther) as caught,
        lease.take("second", "x", said.append),
    ):
        pass
    assert "first (benchmark of a)" in str(caught.value) and "lease release" in str(caught.value)
    assert said and "waiting for first" in said[0]


def test_a_second_taker_goes_on_when_the_first_gives(lease):
    entered, order = threading.Event(), []

    def second() -> None:
        patient = FileLease(lease.path, (), LeaseTimes(5, 0.05, 20, 0.02))
        entered.set()
        with patient.take("second", "x"):
            order.append("second takes")

    with lease.take("first", "x"):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        order.append("first gives")
    thread.join()
    assert order == ["first gives", "second takes"]


def test_the_heartbeat_renews_the_record_while_it_is_held(lease):
    with lease.take("me", "x"):
        first = lease.status()[0].renewed_at
        for _ in range(400):
            if lease.status()[0].renewed_at != first:
                break
            threading.Event().wait(0.02)
        assert lease.status()[0].renewed_at != first


def test_asking_for_release_is_heard_by_this_holder_and_not_by_the_next(lease):
    with lease.take("me", "x") as held:
        lease.release()
        assert held.wait(10)
        assert not held.still_held()
    with lease.take("next", "x") as held:
        assert not held.wait(0.2)


def test_a_holder_killed_by_kill_9_leaves_the_card_free_for_the_next(lease):
    program = (
        "import sys, time; from pathlib import Path; from llama_assets.gpu import FileLease\n"
        f"with FileLease(Path({str(lease.path)!r})).take('doomed', 'x'): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert lease.status()[1], "alive while it holds"
    process.send_signal(signal.SIGKILL)
    process.wait()
    record, living = lease.status()
    assert record.holder == "doomed" and not living
    said: list[str] = []
    with lease.take("next", "x", said.append) as held:
        assert held.token == 2
    assert any("doomed died with the card" in line for line in said)


def test_an_error_in_the_work_gives_the_card_back(lease):
    with pytest.raises(RuntimeError, match="boom"), lease.take("me", "x"):
        raise RuntimeError("boom")
    record, living = lease.status()
    assert record.holder is None and not living


def test_a_file_that_is_no_lease_is_an_error_that_names_it(lease):
    lease.path.parent.mkdir(parents=True)
    lease.path.write_text('{"hello": 1}')
    with pytest.raises(ValueError, match="lease record"):
        lease.status()
