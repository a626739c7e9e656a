"""A person decides, by command: candidates listed, promoted, rejected; quarantine shown and released."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from llama_assets import catalog as catalogs
from llama_assets.cli import main
from llama_assets.store import Trial
from tests.store.pairs import fingerprint
from tests.tasks.driven_benchmark import World, arm

Run = Callable[..., Result]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    for model in ("m", "n"):
        world.store.promote(model, world.publish(model, 0))
    said = yaml.safe_load(catalogs.PACKAGED.read_text())
    first = next(iter(said["models"].values()))
    said["models"] = {name: {**first, "aliases": [f"{name}-alias"]} for name in ("m", "n")}
    said["benchmark"]["incumbent"] = "n"
    said["automation"] = {"promotion": "on_verdict"}
    shutil.copytree(catalogs.PACKAGED.parent / "questions", tmp_path / "questions")
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(said))
    return world


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(world.folder)
    for name, value in (("STORE", "store"), ("RESULTS", "results"), ("CATALOG", "models.yaml")):
        monkeypatch.setenv(f"LLAMA_ASSETS_{name}", str(world.folder / value))
    return lambda *words: CliRunner().invoke(main, words, catch_exceptions=False)


def config(world: World) -> bytes:
    return (world.folder / "llama-swap" / "config.yaml").read_bytes()


def test_candidates_are_listed_with_who_decides_next(world: World, run: Run) -> None:
    assert "no candidate" in run("candidates").stdout
    new = world.publish("m", 1)
    assert f"{arm('m', new)}  0.00 GB  the next benchmark measures it; not measured yet" in run("candidates").stdout
    for n in range(3):
        world.store.trials("m").add("undecided", new, Trial(f"s{n}", "too few photos", "2026-11-01T03:00:00Z"))
    assert "waits for a person: `promote` or `reject`; tried 3 times, last: too few photos" in run("candidates").stdout
    (found,) = json.loads(run("candidates", "--json").stdout)["candidates"]
    assert (found["arm"], found["due"], found["tries"]) == (arm("m", new), False, 3)


def test_promote_serves_the_candidate_under_the_models_own_names_and_says_the_way_back(world: World, run: Run) -> None:
    run("engine", "apply")
    before, new, old = config(world), world.publish("m", 1), world.store.current("m").fingerprint
    said = run("promote", "m").stdout
    assert f"m: {new[:12]} is current" in said and "llama-assets rollback m" in said
    assert config(world) == before.replace(old.encode(), new.encode()), "the id and the alias stay, the files differ"
    assert b"m-alias" in before and run("promote", "m").exit_code == 1, "there is no candidate any more"


def test_reject_keeps_a_candidate_from_ever_being_promoted_but_by_hand(world: World, run: Run) -> None:
    run("engine", "apply")
    before, new = config(world), world.publish("m", 1)
    said = run("reject", "m", new[:12], "--why", "it rhymes")
    assert f"m: {new[:12]} is refused" in said.stdout and world.store.refused("m") == {new: "it rhymes"}
    assert run("candidates").stdout.startswith("no candidate") and config(world) == before
    assert "(as before)" in run("reject", "m", new[:12]).stdout and world.store.refused("m") == {new: "it rhymes"}
    assert run("promote", "m", new[:12]).exit_code == 0
    assert world.store.current("m").fingerprint == new and world.store.refused("m") == {}


def test_what_is_current_is_not_rejected_and_what_is_not_here_is_by_its_whole_name(world: World, run: Run) -> None:
    current = world.store.current("m").fingerprint
    refused = run("reject", "m", current[:12])
    assert refused.exit_code == 1 and "`llama-assets rollback m`" in refused.stderr
    absent = fingerprint("never here")
    assert run("reject", "m", absent[:12]).exit_code == 1
    assert run("reject", "m", absent).exit_code == 0 and absent in world.store.refused("m")
    assert run("promote", "nobody").exit_code == 2


def test_what_is_quarantined_is_shown_not_served_and_released(world: World, run: Run) -> None:
    assert run("quarantine", "list").exit_code == 0
    run("engine", "apply")
    before = config(world)
    for n in range(3):
        trial = Trial(f"s{n}", "its server ended with exit status 1", "2026-11-01T03:00:00Z")
        world.store.trials("m").add("loads", key_of(world), trial)
    listed = run("quarantine", "list")
    assert listed.exit_code == 1 and "exit status 1" in listed.stdout and "quarantine release m" in listed.stdout
    applied = run("engine", "apply")
    assert "m is not served, quarantined" in applied.stderr and b"m-alias" not in config(world)
    doctor = run("doctor", "--offline")
    assert doctor.exit_code == 1 and "m is not served, quarantined" in doctor.stdout
    assert "3 failed loads are forgotten" in run("quarantine", "release", "m").stdout
    run("engine", "apply")
    assert config(world) == before


def key_of(world: World) -> str:
    """What a failed load of m is noted under, by the catalog that the commands read."""
    from llama_assets.policy.promotion import loading_key

    catalog = catalogs.load(world.folder / "models.yaml")
    return loading_key(world.store.current("m").fingerprint, catalog.model("m"), catalog.engine, None)
