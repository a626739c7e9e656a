"""Another image of the engine as a candidate: one lease is one image, and the session goes on under the next."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from llama_assets.bench.record import Record
from llama_assets.bench.rows import Row, read_rows
from llama_assets.catalog import Tried
from llama_assets.engine import NotRolledOut
from llama_assets.store import Trial
from llama_assets.tasks.messages import Benchmarked
from tests.tasks.driven_benchmark import IMAGE, NEW_IMAGE, PHOTOS, World


@pytest.fixture
def world(made: Path, tmp_path: Path) -> World:
    """One whose engine is a pod, and whose catalog tries another image of it."""
    shutil.copytree(made, tmp_path / "world", symlinks=True)
    world = World(tmp_path / "world", tried_image=NEW_IMAGE, blocks=2)
    world.engine.image = IMAGE
    return world


def part(world: World, *models: str, **engine: str) -> Benchmarked:
    """One task, with the engine's pod as its caller left it."""
    world.engine.image = engine.get("engine_image", IMAGE)
    return world.benchmark(*models, **engine)


def whole(world: World, *models: str) -> tuple[Benchmarked, list[str]]:
    """As the asset does it: one task after the other, each with the image that the one before wants."""
    answer, images = part(world, *models), [IMAGE]
    while answer.engine_wanted is not None:
        images.append(answer.engine_wanted)
        answer = part(world, *models, engine_image=answer.engine_wanted)
    return answer, images


def rows(world: World) -> list[Row]:
    (folder,) = world.sessions()
    found = list(folder.glob("*.parquet")) or sorted(folder.glob("rows-*.jsonl"))
    return sorted(read_rows(found), key=lambda row: row.position or 0)


def test_every_model_has_an_arm_more_behind_all_others_and_a_key_of_its_own(world: World) -> None:
    world.tried = Tried(context=2048)
    found = world.lineup()
    assert [one.arm for one in found.arms] == ["m", "m@candidate", "n", "m@engine", "n@engine"]
    assert [one.image for one in found.arms] == [None, None, None, NEW_IMAGE, NEW_IMAGE]
    now, tried = found.arms[0], found.arms[3]
    assert (tried.of, tried.published, tried.model.aliases) == ("m", now.published, ()) and tried.key != now.key
    assert (tried.model.arguments, tried.model.context) == (now.model.arguments, now.model.context)
    assert dict(tried.tried) == {"engine.image": NEW_IMAGE} and not tried.is_files
    world.store.trials("m").add("loads", tried.key, Trial("s", "no", "2026-11-01T03:00:00Z"))
    world.automation["quarantine_after"] = 1
    assert [one.arm for one in world.lineup().arms] == ["m", "m@candidate", "n", "n@engine"], "it alone is kept out"


def test_a_session_is_asked_in_parts_each_under_a_lease_of_one_image_and_ends_with_advice(world: World) -> None:
    world.publish("m", 1)
    world.automation = {"promotion": "at_once"}
    world.engine.seconds = {"m@engine": 0.5}
    first = part(world, "m")
    assert (first.engine_wanted, first.verdict, first.arms) == (NEW_IMAGE, None, {})
    loads = len(world.engine.log)
    assert part(world, "m").engine_wanted == NEW_IMAGE and len(world.engine.log) == loads, "and no card is taken for it"
    world.engine.image = NEW_IMAGE
    world.killed_at(world.engine.requests + 20, "m", engine_image=NEW_IMAGE)
    answer, images = whole(world, "m")
    assert images == [IMAGE, NEW_IMAGE, IMAGE], "the chosen one has nothing to ask, then what the killed one left"
    found = rows(world)
    assert Counter((row.model, row.photo) for row in found).most_common(1)[0][1] == 1 and len(found) == 2 * PHOTOS
    by_lease: dict[int | None, set[bool]] = {}
    for row in found:
        by_lease.setdefault(row.lease_token, set()).add(row.model == "m@engine")
    assert len(by_lease) == 4 and all(len(engines) == 1 for engines in by_lease.values()), "one lease is one engine"
    record = Record.read(world.sessions()[0])
    assert {name: facts["engine"]["build"] for name, facts in record.values["arms"].items()} == {
        "m": f"b of {IMAGE}", "m@engine": f"b of {NEW_IMAGE}",
    }  # fmt: skip
    (settled,) = answer.settled
    assert (settled.action, settled.word) == ("recommend", "better"), settled
    assert f"write `engine.image: {NEW_IMAGE}` in the catalog" in settled.reason
    assert answer.arms["m"].figures["latency_p50_s"] > 0.9 and world.store.refused("m") == {}
    assert (
        answer.verdict is not None and "engine had leases of its own" in answer.verdict.text + answer.verdict.markdown
    )


def test_an_image_that_does_not_come_up_costs_the_others_nothing_and_is_kept_out_after_some_sessions(
    world: World,
) -> None:
    key = next(one.key for one in world.lineup().arms if one.arm == "m@engine")
    for session in ("a", "b"):
        world.store.trials("m").add("loads", key, Trial(session, "no", "2026-11-01T03:00:00Z"))
    world.engine.images = {NEW_IMAGE: "ErrImagePull: no such image"}
    answer, images = whole(world, "m")
    assert images == [IMAGE, NEW_IMAGE, IMAGE], "it is tried once"
    assert answer.arms["m"].figures["rows"] == PHOTOS
    (settled,) = answer.settled
    assert settled.action == "wait" and "its engine did not come up: the engine is not ready" in settled.reason
    assert "ErrImagePull" in settled.reason and set(world.lineup().quarantined) == {"m@engine"}
    assert len(Record.read(world.sessions()[0]).values["leases"]) == 3
    world.engine.images = {IMAGE: "the chosen one, too"}
    with pytest.raises(NotRolledOut):
        part(world, "n")


def test_where_no_pod_was_ready_before_the_lease_none_is_taken_for_it(world: World) -> None:
    assert part(world, "m").engine_wanted == NEW_IMAGE
    asked = len(world.engine.log)
    answer = part(world, "m", engine_image=NEW_IMAGE, engine_trouble="CrashLoopBackOff")
    assert answer.engine_wanted == IMAGE and len(world.engine.log) == asked
    record = Record.read(world.sessions()[0])
    assert "CrashLoopBackOff" in record.ended()["m@engine"] and len(record.values["leases"]) == 1


def test_an_engine_that_is_no_pod_of_ours_tries_no_image_and_says_so(world: World) -> None:
    world.engine.image = None
    world.engine.broken = {"m"}
    assert world.benchmark("m").engine_wanted is None
    assert any("candidate_image is not tried: the engine is no pod of ours" in line for line in world.said)
    assert not world.engine.loads("m@engine")
