"""gc says what it would take and why, and never takes what is served, may be served again, or is being written."""

import os
import time
from pathlib import Path

import pytest

from llama_assets.store import AlreadyCurrent, NotPublished, Part, Plan, Refused, Store, StoreLimits
from tests.store.pairs import as_part, fingerprint, model_gguf, published

LIMITS = StoreLimits(look_every_s=0.01, store_wait_s=5.0, abandoned_s=3600.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", LIMITS)


def kept(plan: Plan) -> dict[str, str]:
    return {item.path.name: item.why for item in plan.keep if item.kind == "set"}


def gone(plan: Plan) -> set[tuple[str, str]]:
    return {(item.kind, item.path.name) for item in plan.remove}


def sha(store: Store, model: str, name: str) -> str:
    return store.get(model, name).parts[0].sha256


def age(path: Path, hours: float) -> None:
    os.utime(path, (time.time() - hours * 3600,) * 2)


def test_an_empty_store_has_nothing_to_take(store: Store) -> None:
    assert store.plan_gc().remove == ()


def test_current_previous_used_and_the_candidate_stay_and_the_rest_goes(store: Store, tmp_path: Path) -> None:
    """Seven revisions: 0 and 1 superseded, 2 in use, 3 previous, 4 current, 5 and 6 candidates of which 6 is newer."""
    names = [published(store, tmp_path, seed=seed) for seed in range(5)]
    for name in names:
        store.promote("m", name)
    names += [published(store, tmp_path, seed=seed) for seed in (5, 6)]
    blobs = [sha(store, "m", name) for name in names]
    plan = store.plan_gc(in_use=[names[2]])
    assert kept(plan) == {names[2]: "in use", names[3]: "previous", names[4]: "current", names[6]: "candidate"}
    assert gone(plan) == {("set", names[i]) for i in (0, 1, 5)} | {("blob", blobs[i]) for i in (0, 1, 5)}
    assert plan.bytes == sum(store.get("m", names[i]).parts[0].size for i in (0, 1, 5))  # the projector is shared

    assert gone(store.gc(plan)) == gone(plan)
    assert store.sets("m") == sorted(names[i] for i in (2, 3, 4, 6))
    assert store.plan_gc(in_use=[names[2]]).remove == ()
    assert store.verify("m") == []
    before = store.previous("m")
    assert before is not None and before.fingerprint == names[3]


def test_a_refused_candidate_goes_and_says_why(store: Store, tmp_path: Path) -> None:
    good, bad = (published(store, tmp_path, seed=seed) for seed in (1, 2))
    store.promote("m", good)
    store.refuse("m", bad, "slower")
    (why,) = [item.why for item in store.plan_gc().remove if item.kind == "set"]
    assert why == "refused: slower"


def test_after_a_rollback_the_set_that_was_rolled_back_stays_as_previous(store: Store, tmp_path: Path) -> None:
    good, bad = (published(store, tmp_path, seed=seed) for seed in (1, 2))
    store.promote("m", good)
    store.promote("m", bad)
    store.rollback("m")
    assert kept(store.plan_gc()) == {good: "current", bad: "previous"}


def test_where_the_next_rollback_would_lead_stays_too(store: Store, tmp_path: Path) -> None:
    """After a rollback previous is the refused set; the way back from here is the one before."""
    first, second, third = (published(store, tmp_path, seed=seed) for seed in (1, 2, 3))
    for name in (first, second, third):
        store.promote("m", name)
    store.rollback("m")
    assert kept(store.plan_gc()) == {first: "the way back", second: "current", third: "previous"}
    store.gc(store.plan_gc())
    assert store.rollback("m").fingerprint == first
    assert set(store.refused("m")) == {second, third}


def test_a_rollback_to_a_named_set_refuses_only_what_was_current(store: Store, tmp_path: Path) -> None:
    first, second, third = (published(store, tmp_path, seed=seed) for seed in (1, 2, 3))
    for name in (first, second, third):
        store.promote("m", name)
    assert store.rollback("m", "slow", to=first).fingerprint == first
    assert store.refused("m") == {third: "slow"}
    with pytest.raises(AlreadyCurrent):
        store.rollback("m", to=first)
    with pytest.raises(Refused):
        store.rollback("m", to=third)
    assert store.refused("m") == {third: "slow"}


def test_a_pinned_set_stays_and_says_why_until_it_is_unpinned(store: Store, tmp_path: Path) -> None:
    names = [published(store, tmp_path, seed=seed) for seed in range(4)]
    for name in names:
        store.promote("m", name)
    store.pin("m", names[0], "the one of the\nholidays")
    store.refuse("m", names[0])
    assert kept(store.plan_gc())[names[0]] == "pinned (the one of the holidays)"
    store.gc(store.plan_gc())
    assert store.sets("m") == sorted({names[0], *names[2:]})
    assert Store(store.root).pinned("m") == {names[0]: "the one of the holidays"}
    assert store.unpin("m", names[0]) and not store.unpin("m", names[0])
    assert ("set", names[0]) in gone(store.plan_gc())


def test_what_is_pinned_between_plan_and_gc_stays(store: Store, tmp_path: Path) -> None:
    names = [published(store, tmp_path, seed=seed) for seed in range(4)]
    for name in names:
        store.promote("m", name)
    plan = store.plan_gc()
    store.pin("m", names[1])
    assert {name for kind, name in gone(store.gc(plan)) if kind == "set"} == {names[0]}


def test_a_pin_is_for_what_is_here(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    with pytest.raises(NotPublished, match=name):
        store.pin("m", fingerprint("nothing"))
    assert store.find("m", name[:6]) == name
    for beginning in (name[:5], "abcdef", ""):
        with pytest.raises(NotPublished):
            store.find("m", beginning)


def test_who_uses_a_set_is_said(store: Store, tmp_path: Path) -> None:
    names = [published(store, tmp_path, seed=seed) for seed in range(3)]
    for name in names:
        store.promote("m", name)
    assert kept(store.plan_gc({names[0]: "session 7"}))[names[0]] == "in use by session 7"
    assert store.standing("m", {names[2]: "the engine"})[names[2]] == ("current", "in use by the engine")


def test_models_do_not_take_each_others_blobs(store: Store, tmp_path: Path) -> None:
    """Both models have the same projector; one model's sets all go but its blob stays for the other."""
    store.promote("a", published(store, tmp_path, "a", seed=1))
    name = published(store, tmp_path, "b", seed=2)
    store.refuse("b", name)
    removed = store.gc(store.plan_gc())
    assert {item.kind for item in removed.remove} == {"set", "blob"}
    assert store.verify("a") == []


def test_a_part_and_an_unpublished_blob_are_kept_for_a_download_to_go_on_from(store: Store, tmp_path: Path) -> None:
    path = model_gguf(tmp_path / "m.gguf")
    whole, part = as_part(path, "model"), Part("model", 1, 1, "f" * 64, 1000)
    with store.blob(whole) as writer:
        writer.write(path.read_bytes())
        blob = writer.finish()
    with store.blob(part) as writer:
        writer.write(b"half")
    half = store.root / "blobs" / f"{'f' * 64}.part"
    assert gone(store.plan_gc()) == set()
    age(blob, 30)
    age(half, 30)
    plan = store.plan_gc()
    assert gone(plan) == {("blob", whole.sha256), ("part", half.name)}
    assert "nobody wrote it for 30 hours" in str(plan.remove[0])
    store.gc(plan)
    assert not blob.exists() and not half.exists()


def test_what_is_being_written_stays_however_old_it_looks(store: Store) -> None:
    part = Part("model", 1, 1, "f" * 64, 1000)
    with store.blob(part) as writer:
        writer.write(b"half")
        half = store.root / "blobs" / f"{'f' * 64}.part"
        age(half, 100)
        (item,) = store.plan_gc().keep
        assert item.why == f"{os.uname().nodename} process {os.getpid()} is writing it"
    plan = store.plan_gc()
    assert gone(plan) == {("part", half.name)}
    with store.blob(part):  # somebody takes it up between plan and gc
        assert store.gc(plan).remove == ()
    assert half.read_bytes() == b"half"


def test_a_finished_blob_stays_while_the_rest_of_its_set_arrives(store: Store, tmp_path: Path) -> None:
    """A download holds each blob of its set until the set is published, and so for as long as nothing names it."""
    path = model_gguf(tmp_path / "m.gguf")
    part = as_part(path, "model")
    with store.blob(part) as writer:
        writer.write(path.read_bytes())
        age(writer.finish(), 100)
        plan = store.plan_gc()
        assert gone(plan) == set() and "is writing it" in plan.keep[0].why
    assert gone(store.plan_gc()) == {("blob", part.sha256)}


def test_what_became_current_after_the_plan_stays(store: Store, tmp_path: Path) -> None:
    first, second, third = (published(store, tmp_path, seed=seed) for seed in (1, 2, 3))
    store.promote("m", third)
    plan = store.plan_gc()
    assert {name for kind, name in gone(plan) if kind == "set"} == {first, second}
    store.promote("m", first)
    removed = store.gc(plan)
    assert {name for kind, name in gone(removed) if kind == "set"} == {second}
    assert store.verify("m") == []


def test_what_killed_processes_left_is_found(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    store.promote("m", name)
    half_built = store.root / "models/m" / f".{fingerprint('dead')}.tmp"
    half_built.mkdir()
    (half_built / "model.gguf").symlink_to("../../../blobs/nothing")
    (store.root / "models/m/.current.tmp").symlink_to(name)
    plan = store.plan_gc()
    assert gone(plan) == {("leftover", half_built.name), ("leftover", ".current.tmp")}
    store.gc(plan)
    assert sorted(path.name for path in (store.root / "models/m").iterdir()) == sorted(
        [name, "current", "promotions.json"]
    )
