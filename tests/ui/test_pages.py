"""What a person sees after `make demo` and `make ui`: the graph, figures that plot, green checks, a verdict, a report.

What is stored is asked of GraphQL, which is steady; the browser shows that it can be seen.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from llama_assets.catalog import load
from llama_assets.definitions import build_defs
from llama_assets.platforms import local
from llama_assets.settings import Settings
from llama_assets.tasks.nudge import launch

MODELS = [model.id for model in load().models]
# Contract: names that people's dashboards use.
FIGURES = {
    "latency_p50_s",
    "latency_p95_s",
    "tokens_per_second",
    "schema_valid_rate",
    "cold_load_s",
    "rows",
    "lease_efficiency",
}
GRAPH = "{ assetNodes { assetKey { path } groupName dependencyKeys { path } isMaterializable staleStatus } }"
METADATA = """
query ($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset { assetMaterializations(limit: 1) {
  metadataEntries { label ... on FloatMetadataEntry { floatValue } ... on IntMetadataEntry { intValue }
                    ... on MarkdownMetadataEntry { mdStr } ... on TextMetadataEntry { text } } } } } }
"""
RUN = """
query ($id: ID!) { runOrError(runId: $id) { ... on Run {
  status assetSelection { path } assetCheckSelection { name assetKey { path } } } } }
"""
CHECKS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { assetChecksOrError {
  ... on AssetChecks { checks { name blocking executionForLatestMaterialization { evaluation { success } } } } } } } }
"""


def metadata(server, *path: str) -> dict:
    found = server.query(METADATA, key={"path": list(path)})["assetOrError"]["assetMaterializations"][0]
    return {
        entry["label"]: next(
            (entry[kind] for kind in ("floatValue", "intValue", "mdStr", "text") if kind in entry), None
        )
        for entry in found["metadataEntries"]
    }


def test_the_graph_page_shows_every_group_and_asset(server, tab, picture):
    graph = build_defs(load(), local(Settings())).resolve_asset_graph()
    nodes = {tuple(node["assetKey"]["path"]): node for node in server.query(GRAPH)["assetNodes"]}
    assert set(nodes) == {tuple(key.path) for key in graph.get_all_asset_keys()}
    for key in graph.get_all_asset_keys():
        above = {tuple(parent["path"]) for parent in nodes[tuple(key.path)]["dependencyKeys"]}
        assert above == {tuple(parent.path) for parent in graph.get(key).parent_keys}

    assert {path for path, node in nodes.items() if node["staleStatus"] == "STALE"} == set()

    page = tab.open("/asset-groups")
    expect(page.get_by_text("huggingface").first).to_be_visible()
    page.get_by_text("Hide navigation").click()
    page.keyboard.press("Alt+e")  # expands all groups
    for group in {node["groupName"] for node in nodes.values()}:
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    for path in nodes:
        alike = sum(other[-1] == path[-1] for other in nodes)
        expect(page.get_by_text(path[-1], exact=True).nth(alike - 1)).to_be_visible()
    picture(page, "graph")


def test_a_benchmarks_page_plots_the_figures_of_the_contract(server, tab, picture):
    for model in MODELS:
        stored = metadata(server, "benchmark", model)
        assert set(stored) >= FIGURES
        assert all(isinstance(stored[name], int | float) for name in FIGURES), stored
        assert stored["rows"] >= 30

    page = tab.open("/assets/benchmark/qwen3vl-4b?view=overview")
    page.get_by_text("Plots", exact=True).first.click()
    for name in FIGURES:
        expect(page.get_by_text(name, exact=True)).to_be_attached()
    expect(page.locator("canvas").first).to_be_visible()
    picture(page, "plots")


@pytest.mark.parametrize("model", MODELS)
def test_a_models_files_have_four_green_checks_three_of_them_blocking(server, tab, model):
    checks = server.query(CHECKS, key={"path": ["gguf", model]})["assetNodeOrError"]["assetChecksOrError"]["checks"]
    assert {check["name"] for check in checks if check["blocking"]} == {"sha256", "header", "projector"}
    assert {check["name"] for check in checks if not check["blocking"]} == {"updated"}
    assert all(check["executionForLatestMaterialization"]["evaluation"]["success"] for check in checks)

    page = tab.open(f"/assets/gguf/{model}?view=checks")
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(4)


def test_a_nudge_of_the_hubs_webhook_queues_a_look_at_the_models_named(server):
    """A server without a daemon: the run waits, and is deleted again, because others read this instance."""
    said = launch(server.address, ["qwen3vl-4b", "qwen3vl-8b"])
    run_id = said.removeprefix("qwen3vl-4b, qwen3vl-8b: run ").removesuffix(" looks at the Hub")
    try:
        run = server.query(RUN, id=run_id)["runOrError"]
        checks = {(*check["assetKey"]["path"], check["name"]) for check in run["assetCheckSelection"]}
        assert checks == {("huggingface", "qwen3vl-4b", "followed"), ("huggingface", "qwen3vl-8b", "followed")}
        assert run["status"] == "QUEUED" and not run["assetSelection"]
    finally:
        server.query("mutation ($id: String!) { deletePipelineRun(runId: $id) { __typename } }", id=run_id)
    refused = launch(server.address, ["no-such-model"])
    assert refused.startswith(f"no-such-model: {server.address} starts no look (") and "next tick will" in refused


def test_the_verdicts_summary_is_markdown_with_a_picture(server, tab):
    stored = metadata(server, "verdict")
    assert stored["recommendation"] in MODELS
    assert stored["verdict"] in stored["summary"]

    page = tab.open("/assets/verdict?view=overview")
    page.get_by_text("[Show Markdown]").click()
    dialog = page.get_by_role("dialog")
    words = stored["verdict"].split("`")[0].strip()  # a warning's code is drawn as code, in an element of its own
    expect(dialog.get_by_text(words).first).to_be_visible()
    expect(dialog.locator("img")).to_have_count(1)
    page.wait_for_function("[...document.querySelectorAll('[role=dialog] img')].every(i => i.naturalWidth > 300)")


def test_the_report_is_one_file_that_asks_nothing_of_the_network(demo_run, tab, picture):
    report = demo_run.session / "report.html"
    tab.address = report.as_uri()
    page = tab.open("")
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("svg:visible").first).to_be_visible()
    drawn = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert drawn and all(drawn)
    picture(page, "report")
