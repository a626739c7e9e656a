"""A flipped bit is found and noted: the blob is not here for a download, and stays where it is for a running engine."""

from pathlib import Path

import pytest

from llama_assets.store import Damaged, NoWayBack, Part, Store, StoreLimits
from tests.store.pairs import published, put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", StoreLimits(look_every_s=0.01, store_wait_s=5.0))


def flip(path: Path, at: int = -100) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with path.open("r+b") as file:  # in place: a disk's doing, no writer's
        file.write(data)


def weights(store: Store, name: str) -> tuple[Part, Path]:
    part = store.get("m", name).parts[0]
    return part, store.root / "blobs" / part.sha256


def test_a_flipped_bit_is_found_and_the_blob_is_not_here_any_more(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    current = store.promote("m", name)
    part, blob = weights(store, name)
    with current.model_file.open("rb") as of_an_engine:
        flip(blob)
        assert store.missing(current) == (), "nobody looked yet"
        (fault,) = store.verify("m")
        assert fault.blob == blob and "materialize gguf/m" in str(fault) and "llama-assets rollback m" in str(fault)
        assert store.missing(current) == (part,) and not store.has(part.sha256, part.size)
        assert store.arrived(part) == 0
        of_an_engine.seek(0)
        assert of_an_engine.read() == blob.read_bytes() == current.model_file.read_bytes(), (
            "served as well as it can be"
        )
    assert store.current("m") == current


def test_only_the_damaged_blob_is_written_again_and_then_all_is_right(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    current = store.promote("m", name)
    part, blob = weights(store, name)
    flip(blob)
    store.verify("m")
    with store.blob(current.parts[1]) as projector:
        assert projector.whole
    put(store, part, tmp_path / "model0.gguf")
    assert store.missing(current) == () and store.verify("m") == []
    assert sorted(path.name for path in blob.parent.iterdir()) == sorted(p.sha256 for p in current.parts)


def test_a_damaged_set_is_not_promoted_and_no_way_back(store: Store, tmp_path: Path) -> None:
    old, new = (published(store, tmp_path, seed=seed) for seed in (1, 2))
    store.promote("m", old)
    flip(weights(store, old)[1])
    store.verify("m")
    store.promote("m", new)
    with pytest.raises(Damaged, match="is damaged"):
        store.promote("m", old)
    with pytest.raises(NoWayBack, match=f"{old[:12]} is damaged"):
        store.rollback("m")
    assert store.refused("m") == {}


def test_a_note_that_a_kill_left_at_a_right_blob_goes_with_the_next_look(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    current = store.promote("m", name)
    part, blob = weights(store, name)
    blob.with_name(f"{blob.name}.damaged").write_text("killed after the rename\n")
    assert store.missing(current) == (part,)
    assert store.verify("m") == [] and store.missing(current) == ()


def test_what_is_being_written_anew_is_not_noted(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    store.promote("m", name)
    part, blob = weights(store, name)
    flip(blob)
    with store.blob(part):
        assert len(store.verify("m")) == 1
    assert not blob.with_name(f"{blob.name}.damaged").exists(), "whoever writes it puts right bytes in its place"


def test_a_note_goes_with_its_blob(store: Store, tmp_path: Path) -> None:
    bad, good, newest = (published(store, tmp_path, seed=seed) for seed in (1, 2, 3))
    for name in (bad, good, newest):
        store.promote("m", name)
        if name == bad:
            flip(weights(store, bad)[1])
            store.verify("m")
    (store.root / "blobs" / f"{'f' * 64}.damaged").write_text("its blob is gone\n")
    _, blob = weights(store, bad)
    plan = store.plan_gc()
    assert {(item.kind, item.path.name) for item in plan.remove} == {
        ("set", bad), ("blob", blob.name), ("leftover", f"{'f' * 64}.damaged"),
    }  # fmt: skip
    store.gc(plan)
    assert [path for path in blob.parent.iterdir() if path.suffix == ".damaged"] == []
