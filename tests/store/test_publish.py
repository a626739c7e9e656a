"""A published set is whole and verified; `current` moves by promotion only, and there is a way back."""

import json
import os
from pathlib import Path

import pytest

from llama_assets.store import (
    BadHeader,
    BadSet,
    Damaged,
    NotPublished,
    NoWayBack,
    Part,
    Refused,
    Store,
    StoreError,
    StoreLimits,
)
from tests.store.pairs import as_part, fingerprint, mmproj_gguf, model_gguf, published, put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", StoreLimits(look_every_s=0.01, store_wait_s=5.0))


def parts_of(store: Store, model: Path, mmproj: Path) -> list[Part]:
    parts = [as_part(model, "model"), as_part(mmproj, "mmproj")]
    for part, path in zip(parts, (model, mmproj), strict=True):
        put(store, part, path)
    return parts


def test_a_set_is_a_folder_of_links_named_by_its_fingerprint(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    found = store.get("m", name)
    assert found.folder == store.root / "models" / "m" / name
    assert (found.model_file.name, found.mmproj_file.name) == ("model.gguf", "mmproj.gguf")
    assert found.model_file.readlink() == Path("../../../blobs") / found.parts[0].sha256
    assert found.model_file.read_bytes() == (tmp_path / "model0.gguf").read_bytes()
    assert found.bytes == sum(part.size for part in found.parts)
    assert found.source == "org/m@0"


def test_the_volume_may_be_mounted_elsewhere(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    store.promote("m", name)
    moved = tmp_path / "elsewhere"
    store.root.rename(moved)
    current = Store(moved).current("m")
    assert current is not None
    assert current.model_file.is_relative_to(moved) and current.model_file.read_bytes()[:4] == b"GGUF"


def test_what_the_headers_say_is_kept(store: Store, tmp_path: Path) -> None:
    facts = store.get("m", published(store, tmp_path)).facts
    assert (facts.architecture, facts.context_length, facts.block_count, facts.file_type) == (
        "qwen3vl",
        4096,
        2,
        "Q4_K_M",
    )
    assert (facts.projector, facts.mmproj_file_type, facts.fit.fits) == ("qwen3vl_merger", "F16", True)


def test_publishing_does_not_move_current(store: Store, tmp_path: Path) -> None:
    published(store, tmp_path)
    assert store.current("m") is None
    assert store.published() == {}


def test_publishing_twice_changes_nothing(store: Store, tmp_path: Path) -> None:
    first = store.get("m", published(store, tmp_path))
    assert store.get("m", published(store, tmp_path)) == first


def test_a_split_model_keeps_the_names_by_which_llama_cpp_finds_its_parts(store: Store, tmp_path: Path) -> None:
    files = [model_gguf(tmp_path / f"{no}.gguf", split=(no, 2), seed=no) for no in (0, 1)]
    mmproj = mmproj_gguf(tmp_path / "p.gguf")
    parts = [as_part(mmproj, "mmproj"), *(as_part(path, "model", no + 1, 2) for no, path in enumerate(files))]
    for part, path in zip(parts, [mmproj, *files], strict=True):
        put(store, part, path)
    found = store.publish("m", fingerprint("split"), parts)
    assert found.model_file.name == "model-00001-of-00002.gguf"
    assert (found.folder / "model-00002-of-00002.gguf").read_bytes() == files[1].read_bytes()
    swapped = [Part(p.role, {1: 2, 2: 1}[p.part], 2, p.sha256, p.size) if p.role == "model" else p for p in parts]
    with pytest.raises(BadHeader, match="says of itself that it is part 2 of 2"):
        store.publish("m", fingerprint("swapped"), swapped)
    alone = [parts[0], as_part(files[0], "model")]
    with pytest.raises(BadHeader, match="one of 2 parts"):
        store.publish("m", fingerprint("alone"), alone)


def test_a_set_that_is_not_one_model_and_its_projector_is_refused(store: Store, tmp_path: Path) -> None:
    model, mmproj = parts_of(store, model_gguf(tmp_path / "m.gguf"), mmproj_gguf(tmp_path / "p.gguf"))
    with pytest.raises(BadSet, match="no mmproj file"):
        store.publish("m", fingerprint("x"), [model])
    two = Part("model", 1, 2, model.sha256, model.size)
    with pytest.raises(BadSet, match="the model file has the parts 1 of 2, 1 of 2"):
        store.publish("m", fingerprint("x"), [two, two, mmproj])
    with pytest.raises(Damaged, match="is not here whole"):
        store.publish("m", fingerprint("x"), [model, Part("mmproj", 1, 1, "0" * 64, 5)])


def test_files_that_cannot_be_served_are_refused_by_name(store: Store, tmp_path: Path) -> None:
    model, mmproj = model_gguf(tmp_path / "m.gguf", context=4096), mmproj_gguf(tmp_path / "p.gguf")
    html = tmp_path / "page.gguf"
    html.write_text("<html>" * 100)
    wide = mmproj_gguf(tmp_path / "wide.gguf", width=128)
    for files, problem in (
        ((mmproj, mmproj), "model.gguf: is a projector"),
        ((model, model), "mmproj.gguf: is no projector: its architecture is qwen3vl"),
        ((html, mmproj), "model.gguf: is not a GGUF file"),
        (
            (model, wide),
            "mmproj.gguf: is another model's: the projector (qwen3vl_merger) gives embeddings of width 256",
        ),
    ):
        parts = parts_of(store, *files)
        with pytest.raises(BadHeader) as error:
            store.publish("m", fingerprint("bad"), parts)
        assert problem in str(error.value)
    assert store.sets("m") == []
    good = parts_of(store, model, mmproj)
    with pytest.raises(BadHeader, match=r"holds 4096 tokens of context, the catalog asks for 8192; set `context`"):
        store.publish("m", fingerprint("long"), good, context=8192)
    assert store.sets("m") == []
    assert store.publish("m", fingerprint("good"), good, context=4096).facts.context_length == 4096
    with pytest.raises(BadHeader, match="asks for 8192"):
        store.publish("m", fingerprint("good"), good, context=8192)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", ".hidden", "A"])
def test_a_name_that_is_no_folder_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot name a folder"):
        store.get(name, fingerprint("x"))
    with pytest.raises(StoreError, match="cannot name a folder"):
        store.refuse("m", name, "why")


def test_promotion_moves_current_and_remembers_what_it_replaced(store: Store, tmp_path: Path) -> None:
    names = [published(store, tmp_path, seed=seed) for seed in range(3)]
    seen = []
    for name in (*names, names[2]):  # the last promotion is of what is current already
        store.promote("m", name)
        current, before = store.current("m"), store.previous("m")
        seen.append((current and current.fingerprint, before and before.fingerprint))
    assert seen == [(names[0], None), (names[1], names[0]), (names[2], names[1]), (names[2], names[1])]
    assert {model: one.fingerprint for model, one in store.published().items()} == {"m": names[2]}


def test_a_reader_of_the_old_file_is_undisturbed(store: Store, tmp_path: Path) -> None:
    store.promote("m", published(store, tmp_path, seed=1))
    with (store.root / "models/m/current/model.gguf").open("rb") as reader:
        reader.read(100)
        store.promote("m", published(store, tmp_path, seed=2))
        assert reader.read() == (tmp_path / "model1.gguf").read_bytes()[100:]
    assert (store.root / "models/m/current/model.gguf").read_bytes() == (tmp_path / "model2.gguf").read_bytes()


def test_what_is_not_published_or_refused_is_not_promoted(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    with pytest.raises(NotPublished, match=f"there are: {name}"):
        store.promote("m", fingerprint("other"))
    store.refuse("m", name, "worse than\nthe incumbent")
    assert store.refused("m") == {name: "worse than the incumbent"}
    with pytest.raises(Refused, match="worse than the incumbent"):
        store.promote("m", name)
    store.allow("m", name)
    assert store.promote("m", name).fingerprint == name


def test_rolling_back_refuses_the_bad_one_and_ends_where_it_was(store: Store, tmp_path: Path) -> None:
    good, bad = (published(store, tmp_path, seed=seed) for seed in (1, 2))
    with pytest.raises(NotPublished, match="no verified file of m is here"):
        store.rollback("m")
    store.promote("m", good)
    with pytest.raises(NoWayBack, match="no earlier verified fingerprint is here"):
        store.rollback("m")
    assert store.refused("m") == {}, "nothing is written where there is no way back"
    store.promote("m", bad)
    assert store.rollback("m", "answers nonsense").fingerprint == good
    current = store.current("m")
    assert current is not None and current.fingerprint == good
    assert store.refused("m") == {bad: "answers nonsense"}
    with pytest.raises(NoWayBack, match=f"{bad[:12]} is refused: answers nonsense"):
        store.rollback("m")  # the way back from good leads to bad
    assert store.refused("m") == {bad: "answers nonsense"}


def test_a_set_damaged_from_outside_is_told_and_built_again(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    store.promote("m", name)
    manifest = store.root / "models/m" / name / "published.json"
    manifest.write_text("{")
    with pytest.raises(Damaged, match="no file is fetched for it"):
        store.current("m")
    published(store, tmp_path)
    (manifest.parent / "model.gguf").unlink()
    published(store, tmp_path)
    current = store.current("m")
    assert current is not None and current.model_file.is_file()


def test_a_current_that_leads_nowhere_is_told(store: Store, tmp_path: Path) -> None:
    store.promote("m", published(store, tmp_path))
    link = store.root / "models/m/current"
    link.unlink()
    link.symlink_to(fingerprint("gone"))
    with pytest.raises(Damaged, match="which is gone"):
        store.current("m")


def test_a_set_without_its_blob_is_not_promoted(store: Store, tmp_path: Path) -> None:
    name = published(store, tmp_path)
    store.get("m", name).model_file.resolve().unlink()
    with pytest.raises(Damaged, match="is gone"):
        store.promote("m", name)
    assert store.current("m") is None


def test_an_unreadable_note_says_what_removing_it_costs(store: Store, tmp_path: Path) -> None:
    store.promote("m", published(store, tmp_path, seed=1))
    (store.root / "models/m/promotions.json").write_text(json.dumps({"not": "a list"}))
    with pytest.raises(Damaged, match="only which set came before"):
        store.previous("m")


def test_every_file_of_current_is_read_again_by_verify(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotPublished):
        store.verify("m")
    store.promote("m", published(store, tmp_path))
    current = store.current("m")
    assert current is not None
    ticks: list[int] = []
    assert store.verify("m", ticks.append) == []
    assert sum(ticks) == current.bytes

    blob = current.model_file.resolve()
    data = bytearray(blob.read_bytes())
    data[-5] ^= 1
    blob.write_bytes(data)
    (fault,) = store.verify("m")
    assert fault.part == current.parts[0] and "which is not its name" in str(fault) and str(blob) in str(fault)
    os.truncate(blob, 100)
    assert "has 100 bytes" in str(store.verify("m")[0])
    blob.unlink()
    assert "is gone" in str(store.verify("m")[0])

    put(store, current.parts[0], tmp_path / "model0.gguf")  # what the sentence says to do
    assert store.verify("m") == []


def test_the_headers_of_current_can_be_read_again(store: Store, tmp_path: Path) -> None:
    store.promote("m", published(store, tmp_path))
    current = store.current("m")
    assert current is not None
    assert store.read_headers("m", context=4096) == current.facts
    with pytest.raises(BadHeader, match="asks for 8192"):
        store.read_headers("m", context=8192)
    blob = current.mmproj_file.resolve()
    blob.write_bytes(b"<html>")
    with pytest.raises(BadHeader, match=r"mmproj.gguf: is not a GGUF"):
        store.read_headers("m")
    blob.unlink()
    with pytest.raises(Damaged, match="cannot be read"):
        store.read_headers("m")


def test_warming_asks_for_the_whole_set(store: Store, tmp_path: Path) -> None:
    store.promote("m", published(store, tmp_path))
    current = store.current("m")
    assert current is not None and store.warm("m") == current.bytes
