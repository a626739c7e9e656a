"""Other files of a model, named by its `candidate`: brought beside its own, measured, promoted, refused, taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_assets.catalog import Model, Tried
from llama_assets.demo.hub import LoopbackHub
from llama_assets.launch import ProcessLauncher, Task
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.store import Store
from llama_assets.tasks.deciding import Decide, Undecidable
from llama_assets.tasks.keeping import Collect
from llama_assets.tasks.messages import Download, Downloaded, Inspect, Inspected, Request
from llama_assets.tasks.stopping import Stop
from llama_assets.tasks.work import Work
from tests.store.pairs import mmproj_gguf, model_gguf
from tests.tasks.driven_benchmark import World, picture

REPO = "org/m-GGUF"
OWN = Model(id="m", repo=REPO, quant="Q4_K_M", mmproj="F16", context=4096)
TRIES = OWN.model_copy(update={"candidate": Tried(quant="Q8_0")})
ADOPTED = OWN.model_copy(update={"quant": "Q8_0"})


class Desk:
    """A hub with two quantizations, a store, and tasks done on them."""

    def __init__(self, hub: LoopbackHub, folder: Path) -> None:
        self.hub, self.folder, self.said = hub, folder, list[str]()
        settings = Settings(HF_ENDPOINT=hub.url, store=folder / "store", results=folder / "results")
        self.platform = Platform("local", settings, ProcessLauncher())
        self.push()

    @property
    def store(self) -> Store:
        return self.platform.store()

    def push(self, own: int = 4, other: int | None = 8) -> None:
        files = {"m-Q4_K_M.gguf": model_gguf(self.folder / f"m{own}.gguf", seed=own)}
        files["mmproj-m-F16.gguf"] = mmproj_gguf(self.folder / "p.gguf")
        if other is not None:
            files["m-Q8_0.gguf"] = model_gguf(self.folder / f"m{other}.gguf", seed=other)
        self.hub.push(REPO, files)

    def do(self, request: Request) -> object:
        asked = json.loads(json.dumps(request.model_dump(mode="json")))
        return Work(Task(request.kind, "run", "step", asked), self.platform, self.said.append, Stop()).do()

    def download(self, model: Model = TRIES) -> Downloaded:
        found = self.do(Download(model=model))
        assert isinstance(found, Downloaded)
        return found

    def current(self) -> str:
        found = self.store.current("m")
        assert found is not None
        return found.fingerprint


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with LoopbackHub() as hub:
        yield Desk(hub, tmp_path)


def test_the_candidates_files_come_beside_the_models_own_and_are_not_current(desk: Desk) -> None:
    found = desk.download()
    assert found.tried is not None and found.tried_error is None and found.candidate is None
    assert found.tried_version is not None and found.tried_version.fingerprint == found.tried.fingerprint
    assert desk.current() == found.current.fingerprint == found.followed.fingerprint != found.tried.fingerprint
    assert {name: "tried" in why for name, why in desk.store.standing("m").items()} == {
        found.current.fingerprint: False,
        found.tried.fingerprint: True,
    }
    before = picture(desk.folder / "store")
    assert desk.download().fetched_bytes == 0
    assert picture(desk.folder / "store") == before, "the same again writes nothing"


def test_a_candidate_that_is_not_to_be_had_does_not_fail_the_models_own_files(desk: Desk) -> None:
    found = desk.download(OWN.model_copy(update={"candidate": Tried(quant="Q9_0")}))
    assert found.update_error is None and found.tried is None
    assert found.tried_error is not None and "no model file of quantization Q9_0" in found.tried_error
    assert found.tried_failed and found.tried_version is None
    found = desk.download(OWN.model_copy(update={"candidate": Tried(repo="org/gone", quant="Q8_0")}))
    assert found.update_error is None and found.tried_error is not None and "org/gone" in found.tried_error


def test_a_candidate_that_changed_on_the_hub_takes_the_place_of_the_one_before(desk: Desk) -> None:
    before = desk.download()
    desk.push(other=9)
    after = desk.download()
    assert before.tried is not None and after.tried is not None and after.current == before.current
    assert after.tried.fingerprint != before.tried.fingerprint and after.fetched_bytes > 0
    (named,) = [name for name, what in desk.store.tried("m").items() if what]
    assert named == after.tried.fingerprint, "the next benchmark measures it"


def test_while_the_candidate_is_current_the_models_own_files_do_not_go_back_over_it_and_the_way_out_is_told(
    desk: Desk,
) -> None:
    found = desk.download()
    assert found.tried is not None
    tried, own = found.tried.fingerprint, found.current.fingerprint
    desk.store.promote("m", tried)
    for pushed in (4, 5):
        desk.push(own=pushed)
        found = desk.download()
        assert desk.current() == found.current.fingerprint == tried and found.update_error is None
        assert found.held_back and 'write {"quant": "Q8_0"} under models.m in the catalog' in found.held_back
    assert found.candidate is not None and found.candidate.fingerprint != own, "news of its own files are kept"
    assert desk.store.previous("m").fingerprint == own
    another = desk.download(OWN.model_copy(update={"candidate": Tried(quant="Q9_0")}))
    assert desk.current() == tried and another.tried_error
    assert "which the catalog tried before; write its files" in another.held_back, "and not those that it tries now"
    assert desk.download(ADOPTED).current.fingerprint == tried, "once it is written there, it is followed"
    assert desk.store.tried("m") == {}
    desk.push(own=5, other=9)
    assert desk.download(ADOPTED).current.fingerprint == desk.current() != tried


def test_a_candidate_taken_out_of_the_catalog_leaves_what_the_catalog_says_and_is_garbage(desk: Desk) -> None:
    found = desk.download()
    assert found.tried is not None
    desk.store.promote("m", found.tried.fingerprint)
    assert desk.download(OWN).current.fingerprint == desk.current() == found.current.fingerprint
    assert "tried" not in str(desk.store.standing("m")), "it stays as previous and for nothing else"
    assert desk.store.tried("m") == {found.tried.fingerprint: ""}


def test_a_refused_candidate_is_freed_by_gc_and_never_fetched_again(desk: Desk) -> None:
    found = desk.download()
    assert found.tried is not None
    name, path = found.tried.fingerprint, Path(found.tried.model_file)
    assert desk.do(Collect(dry_run=True)).removed == ()  # type: ignore[attr-defined]
    blob = path.resolve()
    desk.store.refuse("m", name, "worse than current")
    desk.do(Collect())
    assert not path.exists() and not blob.exists() and desk.store.missing(desk.store.current("m")) == ()
    again = desk.download()
    assert again.fetched_bytes == 0 and again.tried is None and "worse than current" in str(again.tried_error)
    assert not again.tried_failed, "there is nothing to ask for again"
    assert desk.store.sets("m") == [found.current.fingerprint]


def test_a_person_promotes_the_catalogs_candidate_without_naming_it(desk: Desk) -> None:
    found = desk.download()
    desk.do(Decide(action="promote", model="m"))
    assert found.tried is not None and desk.current() == found.tried.fingerprint
    with pytest.raises(Undecidable):
        desk.do(Decide(action="promote", model="m"))


def test_a_damaged_candidate_that_is_current_is_mended_from_its_own_file(desk: Desk) -> None:
    found = desk.download()
    assert found.tried is not None
    desk.store.promote("m", found.tried.fingerprint)
    path = Path(found.tried.model_file).resolve()
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 4]))
    mended = desk.do(Inspect(models=(TRIES,), verify=True, repair=True))
    assert isinstance(mended, Inspected) and mended.faults == {}
    assert "fetching that again" in "\n".join(desk.said)
    assert desk.current() == found.tried.fingerprint


# --- measured ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def world(world: World) -> World:
    world.automation, world.tried = {"promotion": "at_once"}, Tried(quant="Q8_0")
    world.store.note_tried("m", {world.publish("m", 8): "Q8_0 with F16"})
    return world


def test_other_files_that_are_better_become_current_and_the_reason_says_what_to_write(world: World) -> None:
    (new,) = world.store.tried("m")
    world.engine.seconds = {"m@candidate": 0.5}
    answer = world.benchmark("m")
    own, tried = world.engine.served
    assert (tried.model.id, tried.model.quant, tried.fingerprint, own.model.quant) == (
        "m@candidate", "Q8_0", new, "Q4_K_M",
    )  # fmt: skip
    (settled,) = answer.settled
    assert (settled.action, settled.word) == ("promote", "better")
    assert "write it under models.m in the catalog" in settled.reason and '{"quant": "Q8_0"}' in settled.reason
    assert world.store.current("m").fingerprint == new == answer.arms["m"].fingerprint
    assert [one.arm for one in world.lineup().arms] == ["m", "n"], "there is nothing left to try"
    back = world.store.rollback("m")
    assert back.fingerprint == own.fingerprint and [one.arm for one in world.lineup().arms] == ["m", "n"]


def test_other_files_that_are_worse_leave_the_store_as_it_was_but_for_one_line(world: World) -> None:
    (new,) = world.store.tried("m")
    world.engine.seconds = {"m@candidate": 2.0}
    before = picture(world.folder / "store")
    assert [one.action for one in world.benchmark("m").settled] == ["reject"]
    after = picture(world.folder / "store")
    assert after.pop("models/m/refused").decode().startswith(f"{new} worse than current")
    assert after == before and [one.arm for one in world.lineup().arms] == ["m", "n"]


def test_other_files_with_other_arguments_are_advice_because_only_a_person_writes_arguments(world: World) -> None:
    world.tried = Tried(quant="Q8_0", arguments=("--flash-attn", "on"))
    world.engine.seconds = {"m@candidate": 0.5}
    before = picture(world.folder / "store")
    (settled,) = world.benchmark("m").settled
    assert settled.action == "recommend" and '"quant": "Q8_0", "arguments": ["--flash-attn"' in settled.reason
    assert picture(world.folder / "store") == before


def test_news_of_the_followed_revision_and_what_the_catalog_tries_are_two_arms_of_one_session(world: World) -> None:
    world.automation = {"promotion": "on_verdict"}
    news = world.publish("m", 1)
    world.store.note_tried("m", {world.publish("m", 9): "Q8_0 with F16"})  # published last, and no news for that
    assert [one.arm for one in world.lineup().arms] == ["m", "m@candidate", f"m@{news[:12]}", "n"]
