"""`huggingface_revisions` against a loopback hub: what it asks, what it reports, whose check turns red, what it keeps.

Ticks are real sensor ticks; what they report is stored as the daemon does, events first, then the cursor. The clock is
handed in. Files are real GGUF pairs; the download that follows a first tick is the real one on a real store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.loader import LoadingContextForTest
from dagster._core.utils import make_new_run_id
from gguf import GGUFReader, GGUFWriter

from llama_assets import catalog as catalogs
from llama_assets.assets.huggingface import FOLLOWED, check_key, key, keys
from llama_assets.assets.versions import of_files
from llama_assets.automation.revisions import LIMITS, RevisionLimits, huggingface_revisions
from llama_assets.catalog import Catalog, Model, Tried
from llama_assets.definitions import build_defs
from llama_assets.demo.hub import LoopbackHub, Zeros
from llama_assets.hub import Hub, HubLimits
from llama_assets.hub.following import Following
from llama_assets.platforms import local
from llama_assets.settings import Settings
from llama_assets.store import Store
from llama_assets.tasks.changes import HeaderLimits
from llama_assets.tasks.download import download
from tests.store.pairs import mmproj_gguf, model_gguf

WEIGHTS, OTHER, PROJECTOR = "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-F16.gguf"
HOUR = 3600.0
POLL_S = 15 * 60.0


def a_model(name: str) -> Model:
    return Model(id=name, repo=f"org/{name}-GGUF", quant="Q4_K_M", mmproj="F16", context=4096)


@cache
def a_pair() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        return {
            WEIGHTS: model_gguf(Path(folder) / "m.gguf").read_bytes(),
            PROJECTOR: mmproj_gguf(Path(folder) / "p.gguf").read_bytes(),
        }


class Ticks:
    """The sensor on an instance of its own, ticked by hand at times of ours."""

    def __init__(self, hub: LoopbackHub, folder: Path, names: tuple[str, ...] = ("a", "b", "c")) -> None:
        self.hub, self.folder = hub, folder
        self.instance = dg.DagsterInstance.ephemeral()
        self.now_s, self.cursor, self.skipped, self.token = 1_800_000_000.0, None, "", None
        self.catalog: Catalog = catalogs.load().model_copy(update={"models": tuple(map(a_model, names))})
        self.limits = LIMITS
        self.files = a_pair()
        for model in self.catalog.models:
            hub.push(model.repo, {**self.files, OTHER: b"GGUF other", "README.md": model.id})

    def follow(self, name: str, **changed: object) -> None:
        """The catalog says something else of a model."""
        models = tuple(m.model_copy(update=changed) if m.id == name else m for m in self.catalog.models)
        self.catalog = self.catalog.model_copy(update={"models": models})

    def repo(self, name: str) -> str:
        return self.catalog.model(name).repo

    def push(self, name: str, *, remove: tuple[str, ...] = (), **files: bytes) -> str:
        named = {
            "readme": "README.md",
            "weights": WEIGHTS,
            "other": OTHER,
            "projector": PROJECTOR,
            "renamed": "x/n-Q4_K_M.gguf",
        }
        return self.hub.push(self.repo(name), {named[n]: data for n, data in files.items()}, remove=remove)

    def platform(self):
        settings = Settings(
            hf_endpoint=self.hub.url, hf_token=self.token, store=self.folder / "store", results=self.folder / "results"
        )
        return local(settings)

    def tick(self, after_s: float = POLL_S) -> dict[str, dict[str, str]]:
        """What was reported, by model; the hub's count begins anew before."""
        self.hub.forget_requests()
        self.now_s += after_s
        sensor = huggingface_revisions(self.catalog, self.platform(), self.limits, clock=lambda: self.now_s)
        said = sensor.evaluate_tick(dg.build_sensor_context(instance=self.instance, cursor=self.cursor))
        for event in said.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor, self.skipped = said.cursor, said.skip_message
        self.checks = [e for e in said.asset_events if isinstance(e, dg.AssetCheckEvaluation)]
        return {
            "/".join(event.asset_key.path[1:]): {name: value.value for name, value in event.metadata.items()}
            for event in said.asset_events
            if isinstance(event, dg.AssetMaterialization)
        }

    def check(self, name: str) -> dg.AssetCheckEvaluation | None:
        """The last word on a model's check, as the UI shows it."""
        for record in self.instance.event_log_storage.get_asset_check_execution_history(check_key(name), limit=1):
            return record.evaluation
        return None

    def red(self) -> dict[str, str]:
        """The models whose check is red, and how badly."""
        last = {model.id: self.check(model.id) for model in self.catalog.models}
        return {name: said.severity.value for name, said in last.items() if said and not said.passed}

    def good(self, name: str) -> str:
        """The commit that is remembered."""
        return Following.from_json(self.cursor, self.hub.url).models[name].revision.commit


@pytest.fixture
def site() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture
def ticks(site: LoopbackHub, tmp_path: Path) -> Ticks:
    """Three models that were looked at once."""
    ticks = Ticks(site, tmp_path)
    ticks.tick()
    return ticks


def altered(data: bytes, folder: Path, *, template: str | None = None, name: str | None = None) -> bytes:
    """The same tensors under another chat template or another name."""
    (folder / "old.gguf").write_bytes(data)
    reader = GGUFReader(folder / "old.gguf")
    writer = GGUFWriter(str(folder / "new.gguf"), reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value = template if template and field.name == "tokenizer.chat_template" else field.contents()
        kind = field.types[0]
        writer.add_key_value(field.name, value, kind, field.types[-1] if len(field.types) > 1 else None)
    if name:
        writer.add_name(name)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "new.gguf").read_bytes()


# -- what is asked, what is reported


def test_a_first_look_reports_every_model_and_turns_every_check_green(site, tmp_path):
    ticks = Ticks(site, tmp_path)
    found = ticks.tick()
    assert set(found) == {"a", "b", "c"} and ticks.red() == {}
    assert site.counts() == {"api": 3}, "one request a repo, and no byte of a file"
    assert "changed" not in found["a"], "there is nothing to compare with"
    assert found["a"]["repo"] == "org/a-GGUF" and found["a"]["bytes"] == sum(map(len, ticks.files.values()))
    last = ticks.instance.get_latest_materialization_event(key("a")).asset_materialization
    assert last.tags["dagster/data_version"] == found["a"]["fingerprint"]
    assert ticks.check("a").passed and found["a"]["revision"] in ticks.check("a").description


def test_a_quiet_tick_asks_one_small_request_a_repo_and_reports_nothing(ticks, site):
    assert ticks.tick() == {} and ticks.checks == []
    assert site.counts() == {"api": 3} and max(request.sent for request in site.requests()) < 300
    assert ticks.skipped == "3 models looked at, nothing changed"


@pytest.mark.parametrize(
    ("files", "remove"),
    [
        ({"readme": b"a typo less"}, ()),
        ({"other": b"GGUF another quantization"}, ()),
        ({"renamed": WEIGHTS.encode()}, (WEIGHTS,)),
    ],
    ids=["a README", "another quantization", "a new name for the same bytes"],
)
def test_a_commit_that_leaves_our_bytes_alone_costs_two_requests_and_is_no_news(ticks, site, files, remove):
    if "renamed" in files:
        files = {"renamed": ticks.files[WEIGHTS]}
    commit = ticks.push("b", remove=remove, **files)
    assert ticks.tick() == {} and ticks.checks == []
    assert site.count(of="org/b") == 2 and site.count() == 4
    assert ticks.good("b") == commit
    ticks.tick()
    assert site.counts() == {"api": 3}, "it is quiet again"


def test_a_changed_template_is_reported_once_with_what_changed(ticks, site, tmp_path):
    before = ticks.good("a")
    commit = ticks.push("a", weights=altered(ticks.files[WEIGHTS], tmp_path, template="{{ other }}"))
    found = ticks.tick()
    assert set(found) == {"a"} and found["a"]["revision"] == commit != before
    assert found["a"]["changed"] == (
        f"model file {WEIGHTS} was replaced: of the header only the chat template differs; tensor data was not read"
    )
    assert site.count("api", of="org/a") == 2
    assert sorted(request.path.split("/resolve/")[1][:40] for request in site.requests("resolve")) == sorted(
        [before, commit]
    )
    assert ticks.tick() == {}, "the same again is no news, conditions would fire"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, f: {"weights": altered(t.files[WEIGHTS], f, name="again")}, "metadata differs: general.name;"),
        (lambda t, f: {"weights": model_gguf(f / "v.gguf", vocabulary=120).read_bytes()},
         "lists differ: tokenizer.ggml.scores, tokenizer.ggml.tokens;"),
        (lambda t, f: {"weights": model_gguf(f / "w.gguf", size=40_000).read_bytes()},
         "tensors: 1 of another shape (token_embd.weight);"),
        (lambda t, f: {"weights": model_gguf(f / "s.gguf", seed=5).read_bytes()},
         "the header is the same, so its tensor data differs"),
        (lambda t, f: {"projector": mmproj_gguf(f / "q.gguf", deepstack=2).read_bytes()},
         f"vision projector {PROJECTOR} was replaced: tensors: 1 new (v.deepstack.1.fc2.bias);"),
        (lambda t, f: {"weights": b"GGUF in no version"}, "is not known, because a header cannot be read: "),
        (lambda t, f: {"weights": b""}, "is not known, because it is empty"),
    ],
    ids=["metadata", "vocabulary", "tensor table", "tensor data", "projector", "no GGUF any more", "empty"],
)  # fmt: skip
def test_what_changed_is_read_from_the_headers(ticks, tmp_path, change, says):
    ticks.push("a", **change(ticks, tmp_path))
    assert says in ticks.tick()["a"]["changed"]


def test_an_old_commit_that_is_gone_is_said_and_the_news_is_told_all_the_same(ticks, site):
    ticks.push("a", weights=ticks.files[WEIGHTS] + b"\0" * 32)
    site.forget_history(ticks.repo("a"))
    changed = ticks.tick()["a"]["changed"]
    assert "the old header cannot be read: no revision" in changed and ticks.red() == {}


def test_headers_are_read_no_further_than_allowed_and_not_when_time_is_up(ticks, site, tmp_path):
    ticks.limits = RevisionLimits(headers=HeaderLimits(first_bytes=1000))
    ticks.push("a", weights=ticks.files[WEIGHTS] + b"\0" * 32)
    assert "ends inside its header" in ticks.tick()["a"]["changed"]
    assert [request.sent for request in site.requests("cdn")] == [1000, 1000]
    ticks.limits = RevisionLimits(tick_s=0)
    ticks.push("a", weights=ticks.files[WEIGHTS])
    assert "there was no time to read its headers" in ticks.tick()["a"]["changed"]
    assert site.count("cdn") == site.count("resolve") == 0


def test_a_header_that_trickles_is_given_up(ticks, site):
    ticks.limits = RevisionLimits(tick_s=0.5, hub=HubLimits(attempts=1, block_bytes=4096))
    site.slow_down(bytes_per_s=200_000, of=WEIGHTS)
    site.push(ticks.repo("a"), {WEIGHTS: Zeros(8 << 20, first=ticks.files[WEIGHTS])})
    assert "bytes when the time was up" in ticks.tick()["a"]["changed"]


def test_another_quantization_in_the_catalog_is_news_though_no_commit_moved(ticks, site):
    ticks.follow("a", quant="Q8_0")
    found = ticks.tick()
    assert (
        set(found) == {"a"} and OTHER in found["a"]["changed"] and f"before it was {WEIGHTS}" in found["a"]["changed"]
    )
    assert ticks.tick() == {}


def test_what_a_download_has_reported_is_not_reported_again(ticks):
    ticks.push("a", weights=b"GGUF new")
    revision = Hub(ticks.hub.url).resolve(ticks.catalog.model("a"))
    tags = {"dagster/data_version": revision.fingerprint}
    ticks.instance.report_runless_asset_event(dg.AssetMaterialization(key("a"), tags=tags))
    assert ticks.tick() == {} and ticks.hub.count("cdn") == 0


# -- files that a model's candidate names


@pytest.fixture
def tried(ticks) -> Ticks:
    """Two models, one of which tries another quantization of its own repo; both were looked at."""
    ticks.catalog = ticks.catalog.only(["a", "b"])
    ticks.follow("a", candidate=Tried(quant="Q8_0"))
    assert set(ticks.tick()) == {"a/candidate"} and ticks.hub.count("api", of="org/a") == 2
    return ticks


def version(ticks: Ticks, name: str) -> str:
    return ticks.instance.get_latest_materialization_event(key(name)).asset_materialization.tags["dagster/data_version"]


def test_a_candidates_files_are_followed_beside_the_models_own_by_the_same_requests_and_are_news_once(tried, site):
    own, before = version(tried, "a"), version(tried, "a@candidate")
    assert own != before and tried.check("a@candidate").passed
    assert tried.tick() == {} and site.counts() == {"api": 2}, "one request a repo"
    tried.push("a", readme=b"a typo less")
    assert tried.tick() == {} and site.count(of="org/a") == 2
    tried.push("a", other=b"GGUF other, mended")
    found = tried.tick()
    assert set(found) == {"a/candidate"} and OTHER in found["a/candidate"]["changed"]
    assert site.count("api", of="org/a") == 2 and version(tried, "a") == own
    assert version(tried, "a@candidate") == found["a/candidate"]["fingerprint"] != before
    assert tried.tick() == {} and site.counts() == {"api": 2}
    tried.push("a", weights=b"GGUF mended")
    assert set(tried.tick()) == {"a"}
    tried.follow("a", candidate=None)
    tried.tick()
    assert set(json.loads(tried.cursor)["models"]) == {"a", "b"}


def test_trouble_with_a_candidates_own_repo_is_its_own_red_check_and_the_models_news_are_told(tried, site):
    site.push("org/other-GGUF", {**tried.files, "README.md": "other"})
    tried.follow("a", candidate=Tried(repo="org/other-GGUF"))
    tried.tick()
    assert site.count("api", of="org/other") == 1
    assert version(tried, "a@candidate") == version(tried, "a")
    site.delete("org/other-GGUF")
    tried.push("a", weights=b"GGUF mended")
    assert set(tried.tick()) == {"a"}
    assert (site.count(of="org/other"), site.count("api", of="org/a")) == (1, 2), "its own one, and no more"
    said = tried.check("a@candidate")
    assert not said.passed and said.metadata["error"].value == "RepoNotFound" and "org/other-GGUF" in said.description
    assert tried.check("a").passed and tried.red() == {}
    tried.tick()
    assert tried.checks == [] and "2 models looked at" in tried.skipped


def test_a_candidate_that_names_what_is_not_there_hides_nothing_of_the_repo_it_shares(tried, site):
    tried.follow("a", candidate=Tried(quant="Q9_0"))
    tried.push("a", weights=b"GGUF mended")
    assert set(tried.tick()) == {"a"} and site.count("api", of="org/a") == 2
    assert tried.check("a").passed and "name one of these by `file`" in tried.check("a@candidate").description


def test_whoever_executes_the_check_of_a_candidate_looks_at_it_alone(tried, site):
    defs = build_defs(tried.catalog, tried.platform())
    run = defs.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={check_key("a@candidate")})
    tried.push("a", other=b"GGUF other, mended", weights=b"GGUF mended")
    site.forget_requests()
    before = version(tried, "a"), version(tried, "a@candidate")
    run.execute_in_process(instance=tried.instance)
    assert site.count("api", of="org/b") == 0
    assert version(tried, "a") == before[0] and version(tried, "a@candidate") != before[1]


# -- trouble


TROUBLES = {
    "gone": (lambda t: t.hub.delete(t.repo("a")), "RepoNotFound", "check `repo` in the catalog"),
    "gated": (lambda t: t.hub.gate(t.repo("a")), "Gated", "ask for access at "),
    "disabled": (lambda t: t.hub.disable(t.repo("a")), "Forbidden", "see http"),
    "renamed without the file": (
        lambda t: t.push("a", remove=(WEIGHTS,), readme=b"moved"), "FileNotFound", "name one of these by `file`",
    ),
    "an unknown branch": (lambda t: t.follow("a", revision="dev"), "RevisionNotFound", "check `revision`"),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES)
def test_one_models_trouble_is_its_own_red_check_and_hides_no_other(ticks, trouble):
    arrange, kind, way_out = TROUBLES[trouble]
    good = ticks.good("a")
    arrange(ticks)
    commit = ticks.push("b", weights=b"GGUF new")
    assert set(ticks.tick()) == {"b"} and ticks.red() == {"a": "ERROR"}
    said = ticks.check("a")
    assert said.metadata["error"].value == kind and way_out in said.description
    assert said.metadata["revision"].value == good == ticks.good("a") and ticks.good("b") == commit
    ticks.tick()
    assert ticks.checks == [], "it is said when it begins and when it ends"
    assert "look 2" in ticks.skipped and "2 models looked at" in ticks.skipped


def test_a_check_turns_green_when_the_trouble_is_over_and_no_version_was_lost(ticks, site):
    ticks.push("a", remove=(WEIGHTS,), readme=b"moved")
    ticks.tick()
    assert ticks.red() == {"a": "ERROR"}
    ticks.push("a", weights=ticks.files[WEIGHTS])
    assert ticks.tick() == {}, "the bytes are those that were last seen"
    assert ticks.red() == {} and ticks.check("a").passed


def test_a_gate_that_lets_us_in_costs_one_look_more_and_no_trouble(ticks, site):
    ticks.token = "hf_mine"
    site.gate(ticks.repo("a"), allowed=["hf_mine"])
    ticks.tick()
    assert ticks.red() == {} and site.counts() == {"api": 3, "resolve": 1}
    ticks.tick()
    assert site.counts() == {"api": 3}
    site.know("hf_other")
    site.gate(ticks.repo("b"), allowed=["hf_other"])
    ticks.tick()
    assert ticks.red() == {"b": "ERROR"} and "the account of HF_TOKEN has no access yet" in ticks.check("b").description


def test_a_limit_of_the_hub_is_obeyed_across_ticks_for_every_model(ticks, site):
    ticks.limits = RevisionLimits(hub=HubLimits(attempts=1, at_once=1))
    site.fail(429, times=None, retry_after_s=2000)
    assert ticks.tick() == {} and ticks.red() == {}, "it may be over in a moment"
    assert site.count() == 1, "who is limited does not ask for the others"
    site.heal()
    for _ in range(2):
        ticks.tick()
        assert site.count() == 0 and "not asked before 2027-01-15 09:03:20 UTC, as the Hub wished" in ticks.skipped
    ticks.tick()
    assert site.count() == 3 and ticks.skipped == "3 models looked at, nothing changed"


def test_a_wish_to_wait_about_one_repo_is_that_models_alone(ticks, site):
    site.fail(503, of="org/a", retry_after_s=1500)
    ticks.tick()
    ticks.tick()
    assert site.count(of="org/a") == 0 and site.count() == 2
    assert "as the Hub wished: a" in ticks.skipped and "2 models looked at, nothing changed" in ticks.skipped
    ticks.tick()
    assert site.count() == 3


def test_a_limit_that_lasts_is_a_warning_and_those_not_asked_come_first_the_next_time(ticks, site):
    ticks.limits = RevisionLimits(hub=HubLimits(attempts=1, at_once=1))
    asked = []
    for _ in range(6):
        fault = site.fail(429, of="org/", times=1)
        ticks.tick()
        asked += [request.path.split("/")[4] for request in site.requests()]
        assert fault.played == 1
    assert set(asked[:3]) == {"a-GGUF", "b-GGUF", "c-GGUF"}
    assert ticks.red() == {"a": "WARN", "b": "WARN", "c": "WARN"}
    site.fail(429, of="org/", times=1)
    ticks.tick()
    assert ticks.checks == [], "limited, or not asked for that reason: it is one state"
    site.heal()
    ticks.tick()
    assert ticks.red() == {}


def test_without_a_network_a_tick_is_one_sentence_and_checks_turn_only_when_it_lasts(ticks, site):
    good = ticks.good("a")
    site.stop()
    began_s = ticks.now_s + POLL_S
    while ticks.now_s < began_s + HOUR - POLL_S:
        assert ticks.tick() == {} and ticks.checks == []
        assert ticks.skipped.startswith("a (and 2 more): org/a-GGUF: ") and "does not answer" in ticks.skipped
    assert "look 4" in ticks.skipped
    ticks.tick()
    assert ticks.red() == {"a": "WARN", "b": "WARN", "c": "WARN"}
    assert ticks.check("a").metadata["error"].value == "HubDown" and ticks.good("a") == good
    ticks.tick()
    assert ticks.checks == []
    site.start()
    assert ticks.tick() == {} and ticks.red() == {}


def test_a_hub_that_is_away_does_not_hide_what_a_person_has_to_do(ticks, site):
    site.gate(ticks.repo("a"))
    ticks.tick()
    site.stop()
    for _ in range(6):
        ticks.tick()
    assert ticks.red() == {"a": "ERROR", "b": "WARN", "c": "WARN"}
    assert ticks.check("a").metadata["error"].value == "Gated"


def test_what_the_others_took_the_time_for_is_asked_first_the_next_time(ticks, site):
    ticks.limits = RevisionLimits(follow=type(LIMITS.follow)(look_s=0.0))
    ticks.tick()
    assert site.count() == 0 and "because the others had taken the time there is" in ticks.skipped
    assert ticks.red() == {}
    ticks.limits = LIMITS
    ticks.tick()
    assert site.count() == 3 and ticks.red() == {}


# -- the cursor


def test_a_cursor_that_cannot_be_read_begins_anew_and_reports_nothing_twice(ticks, site):
    good = ticks.cursor
    spoiled = [
        good[:-40],
        "1",
        good.replace('"version": 1', '"version": 99'),
        good.replace('"files"', '"filles"'),
        json.dumps({**json.loads(good), "models": [1]}),
        None,
    ]
    assert Following.from_json(good, site.url).models.keys() == {"a", "b", "c"}
    assert all(Following.from_json(text, site.url) == Following(site.url) for text in spoiled)
    ticks.cursor = spoiled[0]
    assert ticks.tick() == {} and ticks.checks == []
    assert site.counts() == {"api": 3}
    ticks.tick()
    assert ticks.skipped == "3 models looked at, nothing changed"


def test_a_model_that_left_the_catalog_leaves_the_cursor(ticks, site):
    ticks.catalog = ticks.catalog.only(["a", "c"])
    ticks.tick()
    assert set(json.loads(ticks.cursor)["models"]) == {"a", "c"} and site.count(of="org/b") == 0


def test_another_hub_is_asked_at_once_though_the_last_one_wished_to_be_left_alone(ticks, site):
    site.fail(429, times=None, retry_after_s=50_000)
    ticks.tick()
    with LoopbackHub() as mirror:
        ticks.hub = mirror
        for model in ticks.catalog.models:
            mirror.push(model.repo, {**ticks.files, OTHER: b"GGUF other", "README.md": model.id})
        assert ticks.tick() == {} and mirror.counts() == {"api": 3}, "the same bytes there"


# -- in the graph


def test_a_first_tick_beside_a_full_store_lets_a_download_find_everything_here(ticks, site, tmp_path):
    """A new instance (no cursor, no events) on the store of an old one: reported anew, and nothing is fetched again."""
    model, store = ticks.catalog.model("a"), Store(tmp_path / "store")
    done = download(Hub(site.url), store, model, say=lambda _: None)
    assert site.count("cdn") == 2
    ticks.instance, ticks.cursor = dg.DagsterInstance.ephemeral(), None
    assert ticks.tick()["a"]["fingerprint"] == done.fingerprint
    again = download(Hub(site.url), store, model, say=lambda _: None)
    assert again.unchanged and site.count("cdn") == 0 and store.current("a").fingerprint == done.fingerprint


def bring(ticks: Ticks, model: Model) -> None:
    """A gguf asset is made from what was reported last."""
    made_from = {"/".join(one.path): version(ticks, "@".join(one.path[1:])) for one in keys(model)}
    tags = {
        "dagster/data_version": version(ticks, model.id),
        **{f"dagster/input_data_version/{name}": its for name, its in made_from.items()},
        **{f"dagster/input_event_pointer/{name}": "1" for name in made_from},
        "dagster/code_version": of_files(model),
    }
    ticks.instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(["gguf", model.id]), tags=tags))


def test_a_report_makes_the_models_file_stale_and_no_other(ticks):
    ticks.follow("c", candidate=Tried(quant="Q8_0"))
    ticks.tick()
    defs = build_defs(ticks.catalog, ticks.platform())

    def stale() -> set[str]:
        context = LoadingContextForTest(ticks.instance)
        resolver = CachingStaleStatusResolver(ticks.instance, defs.resolve_asset_graph(), context)
        files = [dg.AssetKey(["gguf", model.id]) for model in ticks.catalog.models]
        return {k.path[1] for k in files if resolver.get_status(k) == StaleStatus.STALE}

    for model in ticks.catalog.models:
        bring(ticks, model)
    ticks.push("b", readme=b"no news", other=b"GGUF that nobody tries")
    ticks.tick()
    assert stale() == set()
    ticks.push("c", other=b"GGUF that is tried")
    ticks.tick()
    assert stale() == {"c"}
    ticks.tick()
    bring(ticks, ticks.catalog.model("c"))
    assert stale() == set()
    ticks.push("a", weights=b"GGUF new")
    ticks.tick()
    assert stale() == {"a"}


def test_the_check_is_in_the_graph_and_whoever_executes_it_looks_and_reports_now(ticks, site):
    defs = build_defs(ticks.catalog, ticks.platform())
    graph = defs.resolve_asset_graph()
    assert [check.name for check in graph.get(key("a")).check_keys] == [FOLLOWED]
    assert not graph.get_check_spec(check_key("a")).blocking
    run = defs.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={check_key("a")})
    commit = ticks.push("a", weights=altered(ticks.files[WEIGHTS], ticks.folder, template="{{ other }}"))
    site.forget_requests()
    run.execute_in_process(instance=ticks.instance)
    last = ticks.instance.get_latest_materialization_event(key("a")).asset_materialization
    assert last.metadata["revision"].value == commit and "only the chat template" in last.metadata["changed"].value
    assert site.count(of="org/b") == 0
    assert ticks.tick() == {}, "the sensor does not say it again"
    site.gate(ticks.repo("a"))
    run.execute_in_process(instance=ticks.instance)
    assert ticks.red() == {"a": "ERROR"}
    site.gate(ticks.repo("a"), allowed=["hf_mine"])
    ticks.token = "hf_mine"
    ticks.tick()
    assert ticks.red() == {}, "and says that it is well, though for the sensor it always was"


def test_a_check_whose_execution_was_killed_is_said_anew(ticks):
    planned = AssetCheckEvaluationPlanned(asset_key=key("a"), check_name=FOLLOWED)
    event = DagsterEvent(
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value, "__ASSET_JOB", event_specific_data=planned
    )
    ticks.instance.report_dagster_event(event, run_id=make_new_run_id())
    ticks.tick()
    assert [check.asset_key for check in ticks.checks] == [key("a")] and ticks.check("a").passed
    ticks.tick()
    assert ticks.checks == []


def test_the_sensor_is_on_by_default_on_every_platform_and_polls_as_the_catalog_says(ticks):
    (sensor,) = [s for s in build_defs(ticks.catalog, ticks.platform()).sensors if s.name == "huggingface_revisions"]
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING and sensor.minimum_interval_seconds == 900
    assert "only looks" in " ".join(sensor.description.split())
