"""`rollback`, `gc`, `pin` and `store`, on a store of their own: no Hub, no engine, no Dagster."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from llama_assets.cli import main
from llama_assets.gpu import FileLease
from llama_assets.store import Store
from tests.demo_run import BIN, own_environment
from tests.store.pairs import published

MODEL = "qwen3vl-4b"


@dataclass(frozen=True)
class Home:
    """A store with three generations of one model, of which the last is current."""

    folder: Path
    store: Store
    names: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        places = {"LLAMA_ASSETS_STORE": self.store.root, "LLAMA_ASSETS_RESULTS": self.folder / "results"}
        return {"HF_ENDPOINT": "http://127.0.0.1:9", **{name: str(path) for name, path in places.items()}}

    def run(self, *arguments: str) -> Result:
        """In this process: a second less for each."""
        return CliRunner(env=self.environment).invoke(main, arguments)

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BIN / "llama-assets", *arguments], cwd=self.folder, env={**own_environment(), **self.environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def served(self) -> str:
        config = yaml.safe_load((self.folder / "llama-swap" / "config.yaml").read_text())
        return str(config["models"][MODEL]["metadata"]["fingerprint"])

    @property
    def current(self) -> str:
        found = self.store.current(MODEL)
        assert found is not None
        return found.fingerprint


@pytest.fixture
def home(tmp_path: Path) -> Home:
    store = Store(tmp_path / "store")
    names = tuple(published(store, tmp_path / "files", MODEL, seed) for seed in range(3))
    for name in names:
        store.promote(MODEL, name)
    return Home(tmp_path, store, names)


def test_rollback_serves_what_was_before_and_says_how_to_undo_it(home: Home) -> None:
    _, before, bad = home.names
    assert home.run("engine", "apply").exit_code == 0 and home.served() == bad
    dry = home.run("rollback", MODEL, "--dry-run")
    assert dry.exit_code == 0 and f"{before[:12]} (" in dry.stdout and "would be current" in dry.stdout
    assert home.current == bad == home.served()

    running = home.started("rollback", MODEL, "--why", "answers nonsense")
    output, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert f"{MODEL}: {before[:12]} is current; {bad[:12]} is refused" in output
    assert f"to undo it: llama-assets promote {MODEL} {bad[:12]}" in output
    assert home.current == before == home.served()
    assert home.store.refused(MODEL) == {bad: "answers nonsense"}


def test_a_rollback_that_was_cut_off_before_the_engine_heard_of_it_is_ended_and_not_done_twice(home: Home) -> None:
    _, before, bad = home.names
    home.run("engine", "apply")
    home.store.rollback(MODEL)
    found = json.loads(home.run("rollback", MODEL, "--json").stdout)
    assert found["moved"] is False and found["now"]["fingerprint"] == before and found["served"] == {MODEL: before}
    assert home.served() == before and home.store.refused(MODEL) == {bad: "rolled back"}


def test_rollback_waits_for_whoever_has_the_card_and_says_for_whom(home: Home) -> None:
    lease = FileLease(home.folder / "results" / "llama-assets-gpu.json")
    with lease.take("host/7", "benchmark of all"):
        running = home.started("rollback", MODEL)
        assert running.stderr is not None
        said = running.stderr.readline()
        assert f"rollback of {MODEL} waits for host/7 (benchmark of all)" in said
        assert home.current == home.names[2], "nothing is written meanwhile"
        assert home.run("gc", "--dry-run").exit_code == 0, "looking waits for nobody"
    running.communicate(timeout=60)
    assert running.returncode == 0 and home.current == home.names[1]


def test_gc_explains_and_frees_and_keeps_what_is_pinned_or_served(home: Home) -> None:
    first, second, third = home.names
    assert home.run("pin", MODEL, first[:8], "--why", "the holidays").exit_code == 0
    assert json.loads(home.run("gc", "--json").stdout)["removed"] == []
    assert "is not pinned" in home.run("unpin", MODEL, first[:8]).stdout
    home.store.promote(MODEL, first)
    assert home.run("engine", "apply").exit_code == 0 and home.served() == first
    home.store.promote(MODEL, second)
    home.store.promote(MODEL, third)
    kept = {one["name"]: one["why"] for one in json.loads(home.run("gc", "--json").stdout)["kept"]}
    assert kept[first] == f"in use by the engine's configuration, as {MODEL}"
    (home.folder / "llama-swap" / "config.yaml").unlink()
    dry = home.run("gc", "--dry-run")
    assert f"would go: set {MODEL} {first[:12]}: not current" in dry.stdout and "would be freed" in dry.stdout
    assert home.store.sets(MODEL) == sorted(home.names)
    done = json.loads(home.run("gc", "--json").stdout)
    assert [one["name"] for one in done["removed"] if one["kind"] == "set"] == [first]
    assert done["bytes"] == sum(one["bytes"] for one in done["removed"]) > 0
    assert home.store.sets(MODEL) == sorted([second, third])


def test_gc_keeps_what_an_unfinished_session_would_go_on_with(home: Home) -> None:
    session = home.folder / "results" / "sessions" / "20261122-1"
    session.mkdir(parents=True)
    record = {"identity": "i", "finished": None, "arms": {MODEL: {"fingerprint": home.names[0]}}}
    (session / "session.json").write_text(json.dumps(record))
    kept = {one["name"]: one["why"] for one in json.loads(home.run("gc", "--json").stdout)["kept"]}
    assert kept[home.names[0]] == "in use by unfinished session 20261122-1"


def test_store_list_names_what_each_set_is(home: Home) -> None:
    first, second, third = home.names
    home.store.refuse(MODEL, first, "slow")
    found = json.loads(home.run("store", "list", "--json").stdout)
    model = found["models"][MODEL]
    assert (model["current"], model["previous"], model["candidate"]) == (third, second, None)
    assert [(one["fingerprint"], one["refused"]) for one in model["sets"]] == [
        (third, None),
        (second, None),
        (first, "slow"),
    ]
    assert found["bytes"] == sum(path.stat().st_size for path in (home.store.root / "blobs").iterdir())
    lines = home.run("store", "list").stdout.splitlines()
    assert lines[0] == MODEL and lines[1].endswith("current") and lines[3].endswith("refused (slow)")


def test_store_verify_finds_a_flipped_bit_and_is_status_1(home: Home) -> None:
    assert home.run("store", "verify", MODEL).exit_code == 0
    (blob,) = {part.sha256 for part in home.store.get(MODEL, home.names[2]).parts if part.role == "model"}
    path = home.store.root / "blobs" / blob
    data = bytearray(path.read_bytes())
    data[-9] ^= 8
    path.write_bytes(data)
    done = home.run("store", "verify", MODEL, "--json")
    assert done.exit_code == 1 and blob in json.loads(done.stdout)["faults"][MODEL][0]
    repaired = home.run("store", "verify", "--repair")  # it came from no repo of the catalog
    assert repaired.exit_code == 1 and "cannot be fetched again" in repaired.stderr
    assert f"llama-assets rollback {MODEL}" in repaired.stderr
    assert "model gone or damaged" in home.run("store", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("rollback", "nothing"), 2, "no model 'nothing' in the catalog"),
        (("rollback", "qwen3vl-8b"), 1, "no verified file of qwen3vl-8b is here"),
        (("rollback", MODEL, "--to", "abcdef"), 1, "has no verified fingerprint abcdef; there are: "),
        (("pin", MODEL, "abc"), 1, "has no verified fingerprint abc"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(home: Home, arguments: tuple[str, ...], status: int, says: str) -> None:
    done = home.run(*arguments)
    assert done.exit_code == status and says in done.stderr and "Traceback" not in done.stderr
    assert home.current == home.names[2] and home.store.refused(MODEL) == {}
