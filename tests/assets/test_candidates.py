"""Candidates and quarantine in the graph, over a launcher that is a function (`test_graph.Tasks`).

`listing` is a platform whose engine reads a configuration, as a cluster's does; here it is a file that can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from llama_assets import catalog as catalogs
from llama_assets.assets.benchmark import AUTOMATIC_TAG, benchmark_assets, key
from llama_assets.assets.gguf import gguf_assets
from llama_assets.assets.huggingface import huggingface_assets
from llama_assets.assets.serving import llama_swap_asset
from llama_assets.launch import Task
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.tasks.messages import Benchmarked, Candidate, Downloaded, FoundVersion, Inspected, Settled
from tests.assets.test_graph import MODELS, Tasks, arm, checks, failures, files, materialized, verdict

MODEL = "qwen3vl-4b"
OLD, NEW = "a" * 64, "b" * 64
ARM = f"{MODEL}@{NEW[:12]}"


class Listing(Platform):
    """This machine, but for an engine that has to be told of a candidate beforehand."""

    candidates = "listed"  # type: ignore[assignment]


@dataclass
class Graph:
    """The stages that know of candidates, over one state of the store."""

    folder: Path
    listing: bool = True
    tasks: Tasks = field(default_factory=Tasks)
    current: str = OLD
    candidate: str | None = NEW
    quarantined: dict[str, str] = field(default_factory=dict)
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    def __post_init__(self) -> None:
        packaged = catalogs.load()
        models = tuple(
            model.model_copy(update={"aliases": ("small",) if model.id == MODEL else ()}) for model in packaged.models
        )
        automation = catalogs.Automation(promotion="on_verdict")
        self.catalog = packaged.model_copy(update={"models": models, "automation": automation})
        self.tasks.replies["store"] = lambda _: self.inspected()

    @property
    def platform(self) -> Platform:
        kind = Listing if self.listing else Platform
        return kind("local", Settings(store=self.folder / "store", results=self.folder / "results"), self.tasks)

    @property
    def config(self) -> Path:
        return self.folder / "llama-swap" / "config.yaml"

    def inspected(self) -> Inspected:
        current = {model: files(model) for model in MODELS} | {MODEL: files(MODEL, self.current)}
        beside = (Candidate(arm=ARM, model=MODEL, files=files(MODEL, NEW), due=True, tries=0, last=""),)
        return Inspected(
            current=current, faults={}, candidates=beside if self.candidate else (), quarantined=self.quarantined
        )

    def answers(self, action: str, seen: Callable[[], object] = lambda: None) -> None:
        """The benchmark's task ends so; `seen` is called while it has the card."""

        def reply(_: Task) -> Benchmarked:
            seen()
            if action != "wait":
                self.candidate = None
            if action == "promote":
                self.current = NEW
            settled = Settled(
                arm=ARM, model=MODEL, fingerprint=NEW, session="s", action=action, word="better", reason="because"
            )  # type: ignore[arg-type]
            return Benchmarked(session="/s/1", verdict=verdict(), arms={MODEL: arm()}, settled=(settled,))

        self.tasks.replies["benchmark"] = reply

    def run(
        self, *assets: Any, select: list[dg.AssetKey] | None = None, tags: dict[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        keys = [dg.SourceAsset(k) for k in (dg.AssetKey("gpu_lease"), dg.AssetKey("engine"))]
        return dg.materialize(
            [*assets, *keys], selection=select, instance=self.instance, raise_on_error=False, tags=tags
        )

    def serve(self) -> dict[str, Any]:
        found = materialized(self.run(llama_swap_asset(self.catalog, self.platform)))["llama_swap"]
        return {name: value.value for name, value in found.items()}

    def benchmark(self, *models: str, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
        assets = benchmark_assets(self.catalog, self.platform)
        return self.run(assets, select=[key(model) for model in models or (MODEL,)], tags=tags)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return Graph(tmp_path)


def entries(graph: Graph) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(graph.config.read_text())["models"]
    return found


def test_while_the_catalogs_candidate_is_current_the_check_says_what_to_write_and_the_version_is_the_followed_one(
    graph: Graph,
) -> None:
    graph.tasks.replies["download"] = lambda _: Downloaded(
        current=files(MODEL, NEW), candidate=files(MODEL, OLD), held_back="write it under models.m", repo="r/r",
        revision="c" * 40, seconds=1.0, fetched_bytes=0, tried=files(MODEL, "d" * 64), tried_error="the Hub is down",
    )  # fmt: skip
    asset = next(one for one in gguf_assets(graph.catalog, graph.platform) if MODEL in str(one.key))
    result = graph.run(asset)
    metadata = materialized(result)[f"gguf/{MODEL}"]
    assert (metadata["tried"].value, metadata["tried_error"].value) == ("d" * 64, "the Hub is down")
    (check,) = result.get_asset_check_evaluations()
    assert check.passed and f"{OLD[:12]} is not promoted: write it under models.m" in str(check.description)
    for prefix in ("gguf", "huggingface"):
        event = graph.instance.get_latest_materialization_event(dg.AssetKey([prefix, MODEL]))
        assert event.asset_materialization.tags["dagster/data_version"] == OLD


@pytest.mark.parametrize("failed", [False, True])
def test_a_candidates_files_have_a_report_and_a_check_of_their_own_and_the_models_version_stays_its_own(
    graph: Graph, failed: bool
) -> None:
    found = None if failed else FoundVersion(revision="d" * 40, fingerprint=NEW, bytes=120)
    graph.tasks.replies["download"] = lambda _: Downloaded(
        current=files(MODEL, OLD), repo="r/r", revision="c" * 40, seconds=1.0, fetched_bytes=0, tried_failed=failed,
        tried=None if failed else files(MODEL, NEW), tried_error="the Hub is down" if failed else None,
        tried_version=found,
    )  # fmt: skip
    tries = graph.catalog.model(MODEL).model_copy(update={"candidate": catalogs.Tried(quant="Q8_0")})
    graph.catalog = graph.catalog.model_copy(update={"models": (tries,)})
    result = graph.run(*gguf_assets(graph.catalog, graph.platform), *huggingface_assets(graph.catalog))
    assert result.success and checks(result) == {
        f"gguf/{MODEL}:updated": True,
        f"gguf/{MODEL}:candidate_here": not failed,
    }
    said = {one.check_name: one for one in result.get_asset_check_evaluations()}["candidate_here"]
    assert said.severity == dg.AssetCheckSeverity.WARN and ("the Hub is down" in str(said.description)) == failed
    event = graph.instance.get_latest_materialization_event(dg.AssetKey(["huggingface", MODEL, "candidate"]))
    assert (event is None) == failed
    made = graph.instance.get_latest_materialization_event(dg.AssetKey(["gguf", MODEL])).asset_materialization
    assert made.tags["dagster/data_version"] == OLD
    assert made.tags[f"dagster/input_data_version/huggingface/{MODEL}"] == OLD
    if not failed:
        assert made.tags[f"dagster/input_data_version/huggingface/{MODEL}/candidate"] == NEW


def test_a_download_that_waits_for_its_verdict_is_the_data_version_and_what_is_served_stays(graph: Graph) -> None:
    graph.tasks.replies["download"] = lambda task: Downloaded(
        current=files(task.request["model"]["id"], OLD), candidate=files(task.request["model"]["id"], NEW),
        repo="r/r", revision="c" * 40, seconds=1.0, fetched_bytes=120,
    )  # fmt: skip
    asset = next(one for one in gguf_assets(graph.catalog, graph.platform) if MODEL in str(one.key))
    result = graph.run(asset)
    metadata = materialized(result)[f"gguf/{MODEL}"]
    assert (metadata["fingerprint"].value, metadata["candidate"].value) == (OLD, NEW)
    for prefix in ("gguf", "huggingface"):
        event = graph.instance.get_latest_materialization_event(dg.AssetKey([prefix, MODEL]))
        assert event.asset_materialization.tags["dagster/data_version"] == NEW
    assert graph.tasks.asked[0].request["promotion"] == "on_verdict"
    assert checks(result) == {f"gguf/{MODEL}:updated": True}


@pytest.mark.parametrize("action", ["reject", "wait"])
def test_a_candidate_is_listed_while_it_is_measured_and_then_the_config_is_as_it_was(graph: Graph, action: str) -> None:
    graph.serve()
    before, during = graph.config.read_bytes(), []
    graph.answers(action, lambda: during.append(entries(graph)))
    result = graph.benchmark()
    assert result.success, failures(result)
    assert ARM in during[0] and NEW in during[0][ARM]["cmd"] and "aliases" not in during[0][ARM]
    assert during[0][MODEL]["aliases"] == ["small"] and OLD in during[0][MODEL]["cmd"]
    assert graph.config.read_bytes() == before, "byte for byte"
    metadata = materialized(result)[f"benchmark/{MODEL}"]
    assert (metadata["candidate"].value, metadata["candidate_decision"].value) == (ARM, action)


@pytest.mark.parametrize("listing", [True, False], ids=["listed", "started"])
def test_a_promoted_candidate_is_served_under_the_models_id_and_alias(graph: Graph, listing: bool) -> None:
    graph.listing = listing
    graph.serve()
    before = graph.config.read_text()
    graph.answers("promote")
    assert graph.benchmark().success
    assert graph.config.read_text() == before.replace(OLD, NEW)
    gateway = (graph.config.parent / "litellm.yaml").read_text()
    assert "small" in gateway and "@" not in gateway


def test_where_the_engine_is_started_for_each_session_no_candidate_is_ever_listed(graph: Graph) -> None:
    graph.listing = False
    graph.serve()
    before, during = graph.config.read_bytes(), []
    graph.answers("reject", lambda: during.append(graph.config.read_bytes()))
    assert graph.benchmark().success
    assert during == [before] and graph.config.read_bytes() == before


def test_a_benchmark_that_fails_takes_the_candidate_out_and_after_a_killed_one_llama_swap_does(graph: Graph) -> None:
    graph.serve()
    before, during = graph.config.read_bytes(), []

    def halted(_: Task) -> str:
        during.append(graph.config.read_bytes())
        return "the lease was lost"

    graph.tasks.replies["benchmark"] = halted
    assert "the lease was lost" in failures(graph.benchmark())
    assert ARM.encode() in during[0] and graph.config.read_bytes() == before
    graph.config.write_bytes(during[0])  # as a run leaves it that is killed while it measures
    assert graph.serve()["written"] is True and graph.config.read_bytes() == before


def test_a_quarantined_model_is_neither_served_nor_measured_and_its_check_says_the_way_out(graph: Graph) -> None:
    graph.candidate, why = None, f"quarantined: ...; `llama-assets quarantine release {MODEL}`"
    graph.quarantined = {MODEL: why}
    said = graph.serve()
    assert said["not_served"] == [MODEL] and MODEL not in said["served"] and MODEL not in entries(graph)
    other = MODELS[0]
    graph.tasks.replies["benchmark"] = lambda _: Benchmarked(
        session="/s/1", verdict=None, arms={other: arm()}, quarantined=graph.quarantined
    )
    result = graph.benchmark(MODEL, other)
    assert set(materialized(result)) == {f"benchmark/{other}"}
    assert result.success, "being quarantined is a state, and no failure of the run"
    log = graph.instance.all_logs(result.run_id)
    assert any(f"benchmark/{MODEL} is skipped: not measured, {why}" in entry.user_message for entry in log)
    red = [c for c in result.get_asset_check_evaluations() if not c.passed and c.check_name == "servable"]
    assert [(c.asset_key, c.severity) for c in red] == [(key(MODEL), dg.AssetCheckSeverity.ERROR)]
    assert "quarantine release" in red[0].description
    graph.quarantined = dict.fromkeys(MODELS, "quarantined")
    graph.run(llama_swap_asset(graph.catalog, graph.platform))
    assert MODEL not in entries(graph), "with nothing to serve nothing is written"


@pytest.mark.parametrize("automatic", [True, False], ids=["automation", "a person"])
def test_when_all_are_quarantined_a_persons_run_says_the_way_out_and_automations_is_green(
    graph: Graph, automatic: bool
) -> None:
    graph.quarantined = {model: f"quarantined: {model} was not loaded" for model in MODELS[:2]}
    graph.tasks.replies["benchmark"] = lambda _: Benchmarked(
        session="", verdict=None, arms={}, quarantined=graph.quarantined
    )
    result = graph.benchmark(*MODELS[:2], tags={AUTOMATIC_TAG: "true"} if automatic else {})
    assert not materialized(result)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [False, False], "`servable` of each"
    assert result.success is automatic
    a, b = MODELS[:2]
    assert failures(result) == (
        "" if automatic else f"nothing was measured: {a}, {b} are quarantined; `llama-assets quarantine release {a}` "
        f"and `llama-assets quarantine release {b}` lets the engine try again"
    )  # fmt: skip


def test_what_the_catalog_tries_is_listed_with_its_own_arguments(graph: Graph) -> None:
    tried = catalogs.Tried(arguments=("--flash-attn", "on"))
    models = tuple(
        model.model_copy(update={"candidate": tried if model.id == MODEL else None}) for model in graph.catalog.models
    )
    graph.catalog = graph.catalog.model_copy(update={"models": models, "automation": catalogs.Automation()})
    graph.serve()
    before, during, name = graph.config.read_bytes(), [], f"{MODEL}@candidate"
    beside = Candidate(arm=name, model=MODEL, files=files(MODEL, OLD), due=True, tries=0, last="")
    graph.tasks.replies["store"] = lambda _: graph.inspected().model_copy(update={"candidates": (beside,)})
    graph.answers("recommend", lambda: during.append(entries(graph)))
    assert graph.benchmark().success
    assert "--flash-attn on" in during[0][name]["cmd"] and "--flash-attn" not in during[0][MODEL]["cmd"]
    assert OLD in during[0][name]["cmd"] and graph.config.read_bytes() == before
