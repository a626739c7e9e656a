"""Killed with SIGKILL after any durable step of publishing, the store is right and the next run ends the work."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from llama_assets.store import STEPS, NoWayBack, Part, Store, StoreLimits
from tests.store.pairs import as_part, fingerprint, mmproj_gguf, model_gguf, published, put

KILLED = """
import json, os, signal, sys
from pathlib import Path
from llama_assets.store import Part, Store

root, model, name, step, nth, files = json.loads(sys.argv[1])
left = nth

def at(reached):
    global left
    left -= reached == step
    if reached == step and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

store = Store(Path(root), at=at)
parts = []
for path, fields in files:
    parts.append(Part(**fields))
    with store.blob(parts[-1]) as writer:
        if not writer.whole:
            writer.write(Path(path).read_bytes()[writer.have:])
        writer.finish()
store.publish(model, name, parts)
store.promote(model, name)
"""


def run(store: Store, name: str, step: str, nth: int, files: list[tuple[Path, Part]]) -> int:
    asked = json.dumps([str(store.root), "m", name, step, nth, [(str(path), asdict(part)) for path, part in files]])
    return subprocess.run([sys.executable, "-c", KILLED, asked], check=False).returncode


@pytest.mark.parametrize(("step", "nth"), [(s, 1) for s in STEPS] + [(s, 2) for s in STEPS if s.startswith("blob")])
def test_a_store_killed_after_any_step_is_right_and_is_gone_on_with(tmp_path: Path, step: str, nth: int) -> None:
    store = Store(tmp_path / "store")
    oldest, old = (published(store, tmp_path, seed=seed) for seed in (1, 2))
    store.promote("m", oldest)
    store.promote("m", old)
    model, mmproj = model_gguf(tmp_path / "new.gguf", seed=9), mmproj_gguf(tmp_path / "newp.gguf", seed=9)
    files = [(model, as_part(model, "model")), (mmproj, as_part(mmproj, "mmproj"))]
    new = fingerprint("new")

    assert run(store, new, step, nth, files) == -signal.SIGKILL

    current, before = store.current("m"), store.previous("m")
    assert current is not None and before is not None
    assert (current.fingerprint, before.fingerprint) in ([(new, old)] if step == "promoted" else [(old, oldest)])
    assert store.verify("m") == []
    for blob in (store.root / "blobs").iterdir():
        if blob.suffix != ".part":  # a name is a proof
            assert as_part(blob, "model").sha256 == blob.name
    for name in store.sets("m"):
        found = store.get("m", name)
        assert found.model_file.is_file() and found.mmproj_file.is_file()
    assert not {current.fingerprint, before.fingerprint} & {item.path.name for item in store.plan_gc().remove}

    assert run(store, new, "nothing", 1, files) == 0
    current, before = store.current("m"), store.previous("m")
    assert current is not None and before is not None
    assert (current.fingerprint, before.fingerprint) == (new, old)
    assert store.verify("m") == []
    left = [item for item in store.plan_gc().remove if item.kind in ("leftover", "part")]
    assert left == []


@pytest.mark.parametrize("step", ["promotion noted", "promoted"])
def test_a_rollback_killed_between_its_writes_is_ended_by_the_next(tmp_path: Path, step: str) -> None:
    store = Store(tmp_path / "store")
    good, bad = (published(store, tmp_path, seed=seed) for seed in (1, 2))
    store.promote("m", good)
    store.promote("m", bad)
    pid = os.fork()
    if pid == 0:

        def at(reached: str) -> None:
            if reached == step:
                os.kill(os.getpid(), signal.SIGKILL)

        Store(store.root, at=at).rollback("m")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert store.refused("m") == {bad: "rolled back"}, "written first: nothing promotes it again"
    assert store.verify("m") == []
    now = store.current("m")
    assert now is not None and now.fingerprint == (good if step == "promoted" else bad)
    if step == "promoted":
        with pytest.raises(NoWayBack):
            store.rollback("m")
    else:
        assert store.rollback("m").fingerprint == good
    assert store.refused("m") == {bad: "rolled back"}


def test_gc_killed_after_anything_it_took_leaves_whole_sets_and_is_ended_by_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", StoreLimits(abandoned_s=0))  # else the blob of a set that went waits for a day
    names = [published(store, tmp_path, seed=seed) for seed in range(4)]
    for name in names:
        store.promote("m", name)
    wanted = {item.path for item in store.plan_gc().remove}
    for left in range(len(wanted) - 1, -1, -1):
        pid = os.fork()
        if pid == 0:
            killed = Store(store.root, store.limits, lambda _: os.kill(os.getpid(), signal.SIGKILL))
            killed.gc(killed.plan_gc())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        for name in store.sets("m"):
            assert store.missing(store.get("m", name)) == ()
        assert len(store.plan_gc().remove) == left
    assert store.sets("m") == sorted(names[2:]) and not any(path.exists() for path in wanted)


def test_locks_are_free_after_a_kill(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    path = model_gguf(tmp_path / "m.gguf")
    part = as_part(path, "model")
    pid = os.fork()
    if pid == 0:
        with store.blob(part) as writer:
            writer.write(path.read_bytes()[:5000])
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    with store.blob(part, lambda line: pytest.fail(line)) as writer:
        assert writer.have == 5000
    put(store, part, path)
    assert store.has(part.sha256, part.size)
