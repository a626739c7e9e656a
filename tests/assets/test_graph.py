"""The graph over a launcher that is a function: what each stage asks, and what it makes of the answer.

Answers come as the lines a task writes, so Pipes is the real one. The real tasks run in tests/end_to_end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llama_assets import catalog as catalogs
from llama_assets.definitions import build_defs
from llama_assets.launch import Task, TaskFailed
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.tasks.messages import (
    Answer,
    Answered,
    ArmResult,
    Benchmarked,
    Downloaded,
    FileFacts,
    FileFault,
    Held,
    Inspected,
    Judged,
    ModelFiles,
    Previewed,
    VerdictResult,
)

MODELS = ["qwen3vl-8b", "minicpm-v-4-5", "qwen3vl-4b"]
Reply = Answer | str


def files(model: str, fingerprint: str = "") -> ModelFiles:
    fingerprint = fingerprint or (model + "0" * 64)[:64]
    facts = (
        FileFacts(role="model", part=1, sha256="a" * 64, bytes=100),
        FileFacts(role="mmproj", part=1, sha256="b" * 64, bytes=20),
    )
    folder = f"/models/{model}/{fingerprint}"
    return ModelFiles(
        model=model, fingerprint=fingerprint, bytes=120, files=facts, architecture="qwen3vl", context_length=32768,
        model_file=f"{folder}/model.gguf", mmproj_file=f"{folder}/mmproj.gguf",
    )  # fmt: skip


def verdict(sentence: str = "qwen3vl-4b is better than qwen3vl-8b on seconds") -> VerdictResult:
    return VerdictResult(
        figures={"qwen3vl-4b/ratio": 0.6, "warnings": 0}, verdict=sentence, recommendation="qwen3vl-4b", text="VERDICT",
        markdown="| a |", report="/r/report.html", picture_png="UE5H",
    )  # fmt: skip


def arm(p95: float = 0.2, valid: float = 1.0) -> ArmResult:
    figures = {
        "latency_p50_s": 0.1, "latency_p95_s": p95, "tokens_per_second": 50.0, "schema_valid_rate": valid,
        "cold_load_s": 1.0, "rows": 40, "ok": 40, "lease_efficiency": 0.96,
    }  # fmt: skip
    return ArmResult(figures=figures, fingerprint="f" * 64, photos=({"photo": 1, "seconds": 0.1},), picture_png="UE5H")


class Tasks:
    """A launcher that answers as `replies` say: an answer, or the sentence a task fails with."""

    def __init__(self) -> None:
        self.asked: list[Task] = []
        self.replies: dict[str, Callable[[Task], Reply]] = {
            "download": lambda task: Downloaded(
                current=files(task.request["model"]["id"]),
                repo="r/r",
                revision="c" * 40,
                seconds=1.5,
                fetched_bytes=120,
            ),
            "store": lambda task: Inspected(
                current={m["id"]: files(m["id"]) for m in task.request["models"]}, faults={}
            ),
            "benchmark": lambda task: Benchmarked(
                session="/s/1", verdict=verdict(),
                arms={m["id"]: arm() for m in task.request["catalog"]["models"]},
            ),
            "verdict": lambda _: Judged(session="/s/0", verdict=verdict("judged again")),
            "hold": lambda task: (
                Previewed(held_by=None, token=2, lines=("free", "immich/ml: at 1; set to 0"), obstacles=())
                if task.request["dry_run"]
                else Held(
                    holder="bench/1", token=3, seconds=60.0, ended_by="time", says="5 min are over",
                    tenants={"immich/ml": 1}, left=("Deployment immich/ml: restored, at 1 replicas",),
                )
            ),
        }  # fmt: skip

    def run(self, task: Task, environment: Mapping[str, str], line: Callable[[str], None]) -> None:
        self.asked.append(task)
        reply = self.replies[task.kind](task)
        failed = isinstance(reply, str)
        payload = {"failed": reply} if failed else {"answer": reply.model_dump(mode="json")}
        for method, params in [
            ("opened", {"extras": {}}),
            ("report_custom_message", {"payload": payload}),
            ("closed", None),
        ]:
            line(json.dumps({"__dagster_pipes_version": "0.1", "method": method, "params": params}))
        if failed:
            raise TaskFailed(task, "exit status 1")

    def kinds(self) -> list[str]:
        return [f"{task.kind}{f' {task.model}' if task.model else ''}" for task in self.asked]


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


@pytest.fixture
def run(tasks: Tasks, tmp_path: Path):
    return runner(catalogs.load(), tasks, tmp_path)


def runner(catalog: catalogs.Catalog, tasks: Tasks, folder: Path):
    settings = Settings(store=folder / "store", results=folder / "results")
    defs = build_defs(catalog, Platform("local", settings, tasks))
    instance = dg.DagsterInstance.ephemeral()

    def materialize(select: str, config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
        selection = dg.AssetSelection.from_string(select)
        job = defs.resolve_implicit_global_asset_job_def()
        keys = selection.resolve(defs.resolve_asset_graph())
        checks = dg.AssetSelection.checks_for_assets(*keys).resolve_checks(defs.resolve_asset_graph())
        subset = job.get_subset(asset_selection=set(keys), asset_check_selection=set(checks))
        return subset.execute_in_process(instance=instance, raise_on_error=False, run_config=config)

    materialize.instance = instance  # type: ignore[attr-defined]
    return materialize


def materialized(result: dg.ExecuteInProcessResult) -> dict[str, Mapping[str, Any]]:
    return {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {f"{c.asset_key.to_user_string()}:{c.check_name}": c.passed for c in result.get_asset_check_evaluations()}


def failures(result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(
        event.step_failure_data.user_failure_data.description or ""
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    )


def test_the_whole_graph_asks_each_task_once_and_materializes_everything(run, tasks):
    result = run("*")
    assert result.success
    assert sorted(tasks.kinds()) == sorted(
        [*(f"download {m}" for m in MODELS), "store", "store", "store", "store", "hold", "benchmark"]
    )
    expected = {f"{stage}/{m}" for stage in ("gguf", "benchmark") for m in MODELS} | {
        "llama_swap",
        "gpu_lease",
        "verdict",
    }
    assert set(materialized(result)) == expected
    assert all(checks(result).values())
    tags = {task.kind: (task.run_id, task.model) for task in tasks.asked}
    assert tags["benchmark"] == (result.run_id, None)


def test_a_download_becomes_metadata_and_its_fingerprint_the_data_version_of_both_sides(run, tasks):
    metadata = materialized(run("gguf/qwen3vl-8b"))["gguf/qwen3vl-8b"]
    assert {name: metadata[name].value for name in ("revision", "bytes", "seconds")} == {
        "revision": "c" * 40, "bytes": 120, "seconds": 1.5,
    }  # fmt: skip
    fingerprint = metadata["fingerprint"].value
    for key in (["gguf", "qwen3vl-8b"], ["huggingface", "qwen3vl-8b"]):
        record = run.instance.get_latest_materialization_event(dg.AssetKey(key))
        assert record.asset_materialization.tags["dagster/data_version"] == fingerprint
    assert tasks.kinds() == ["download qwen3vl-8b", "store"], "the checks ask the store what would be served"


def test_the_same_revision_is_reported_once(run):
    run("gguf/qwen3vl-8b")
    run("gguf/qwen3vl-8b")
    records = run.instance.fetch_materializations(dg.AssetKey(["huggingface", "qwen3vl-8b"]), limit=10).records
    assert len(records) == 1


def test_what_was_reported_while_a_download_ran_is_newer_than_what_it_brings_and_stays_news(run, tasks):
    bring, asset = tasks.replies["download"], dg.AssetKey(["huggingface", "qwen3vl-8b"])
    run("gguf/qwen3vl-8b")
    newer = dg.AssetMaterialization(asset, tags={"dagster/data_version": "f" * 64})

    def meanwhile(task):
        run.instance.report_runless_asset_event(newer)
        found = bring(task)
        return found.model_copy(update={"current": files("qwen3vl-8b", "e" * 64)})

    tasks.replies["download"] = meanwhile
    run("gguf/qwen3vl-8b")
    last = run.instance.get_latest_materialization_event(asset).asset_materialization
    assert last.tags["dagster/data_version"] == "f" * 64
    made = run.instance.get_latest_materialization_event(dg.AssetKey(["gguf", "qwen3vl-8b"])).asset_materialization
    assert made.tags["dagster/data_version"] == "e" * 64
    assert made.tags["dagster/input_data_version/huggingface/qwen3vl-8b"] != "f" * 64, "so it is asked for again"


def test_a_failed_update_materializes_the_file_that_stays_and_only_its_check_is_red(run, tasks):
    tasks.replies["download"] = lambda task: Downloaded(
        current=files(task.request["model"]["id"]), repo="r/r", revision="old", seconds=0, fetched_bytes=0,
        update_error="qwen3vl-8b: the hub is down",
    )  # fmt: skip
    result = run('key:"gguf/qwen3vl-8b" or key:"llama_swap"')
    assert result.success and set(materialized(result)) == {"gguf/qwen3vl-8b", "llama_swap"}
    assert [name for name, passed in checks(result).items() if not passed] == ["gguf/qwen3vl-8b:updated"]
    assert run.instance.get_latest_materialization_event(dg.AssetKey(["huggingface", "qwen3vl-8b"])) is None


def test_a_model_without_any_file_fails_with_the_tasks_own_sentence_and_how_to_go_on_without_it(run, tasks):
    good = tasks.replies["download"]
    tasks.replies["download"] = lambda t: "x is gated; ask for access" if t.model == "qwen3vl-8b" else good(t)
    result = run("*")
    assert not result.success and "verdict" not in materialized(result)
    says = failures(result)
    assert says.startswith("x is gated; ask for access\n")
    rest = says.split("--select ")[1].strip("'")
    result = run(rest)
    assert result.success
    assert {"benchmark/minicpm-v-4-5", "benchmark/qwen3vl-4b", "verdict"} <= set(materialized(result))
    assert "benchmark/qwen3vl-8b" not in materialized(result)


def test_one_bad_model_leaves_the_others_downloads_alone(run, tasks):
    good = tasks.replies["download"]
    tasks.replies["download"] = lambda t: "gone" if t.model == "minicpm-v-4-5" else good(t)
    result = run("group:gguf")
    assert set(materialized(result)) == {"gguf/qwen3vl-8b", "gguf/qwen3vl-4b"}


def test_a_damaged_byte_turns_its_check_red_and_stops_what_lies_downstream(run, tasks):
    def damaged(task: Task) -> Reply:
        found = Inspected(current={m["id"]: files(m["id"]) for m in task.request["models"]}, faults={})
        if not task.request["verify"]:
            return found
        return found.model_copy(update={"faults": {"qwen3vl-8b": (FileFault(check="sha256", says="other bytes"),)}})

    tasks.replies["store"] = damaged
    result = run("*")
    assert not result.success
    assert not checks(result)["gguf/qwen3vl-8b:sha256"] and checks(result)["gguf/qwen3vl-8b:header"]
    assert not {"llama_swap", "verdict"} & set(materialized(result))
    assert "benchmark" not in tasks.kinds()


def test_the_served_configuration_names_every_verified_file_and_is_written_once(run, tasks, tmp_path):
    first = materialized(run("llama_swap"))["llama_swap"]
    assert first["written"].value is True
    config = Path(first["where"].value)
    assert all(files(model).model_file in config.read_text() for model in MODELS)
    assert materialized(run("llama_swap"))["llama_swap"]["written"].value is False


def test_models_without_a_file_are_not_served_and_named(run, tasks):
    tasks.replies["store"] = lambda _: Inspected(current={"qwen3vl-4b": files("qwen3vl-4b")}, faults={})
    metadata = materialized(run("llama_swap"))["llama_swap"]
    assert metadata["served"].value == ["qwen3vl-4b"]
    assert metadata["not_served"].value == ["qwen3vl-8b", "minicpm-v-4-5"]


def test_nothing_to_serve_is_an_error_that_says_what_to_materialize(run, tasks):
    tasks.replies["store"] = lambda _: Inspected(current={}, faults={})
    assert "materialize gguf/*" in failures(run("llama_swap"))


def test_the_lease_beside_a_benchmark_takes_nothing_and_alone_it_holds(run, tasks):
    result = run('key:"gpu_lease" or key:"benchmark/qwen3vl-4b"')
    beside = materialized(result)["gpu_lease"]
    assert tasks.kinds() == ["hold", "benchmark"]
    assert tasks.asked[0].request["dry_run"] is True
    assert beside["taken"].value is False and beside["held_by"].value == "nobody"
    assert "immich/ml: at 1; set to 0" in beside["plan"].value
    alone = run("gpu_lease", {"ops": {"gpu_lease": {"config": {"minutes": 5}}}})
    metadata = materialized(alone)["gpu_lease"]
    assert metadata["taken"].value is True and metadata["ended_by"].value == "time"
    assert metadata["held_by"].value == "bench/1" and metadata["tenants"].value == {"immich/ml": 1}
    assert metadata["put_back"].value == ["Deployment immich/ml: restored, at 1 replicas"]
    assert tasks.asked[-1].request["minutes"] == 5 and tasks.asked[-1].request["dry_run"] is False
    assert checks(alone)["gpu_lease:restored"]


def test_what_stands_in_the_way_of_the_card_fails_the_lease_before_anything_is_asked(run, tasks):
    tasks.replies["hold"] = lambda _: Previewed(
        held_by=None, token=2, lines=("free",), obstacles=("Deployment immich/ml: ScaledObject immich/ml scales it",)
    )
    result = run('key:"gpu_lease" or key:"benchmark/qwen3vl-4b"')
    assert not result.success and tasks.kinds() == ["hold"], "the benchmark downstream does not begin"
    assert failures(result) == (
        "the card cannot be taken, and nothing was scaled:\nDeployment immich/ml: ScaledObject immich/ml scales it"
    )


def test_a_hold_that_could_not_put_back_fails_with_its_sentence(run, tasks):
    tasks.replies["hold"] = lambda _: "the GPU lease is free, but not all is as found: Deployment immich/ml: denied"
    result = run("gpu_lease")
    assert not result.success and "Deployment immich/ml: denied" in failures(result)


def test_one_model_is_asked_alone_and_only_its_asset_is_materialized(run, tasks):
    result = run('key:"benchmark/qwen3vl-4b"')
    assert result.success and set(materialized(result)) == {"benchmark/qwen3vl-4b"}
    assert [m["id"] for m in tasks.asked[0].request["catalog"]["models"]] == ["qwen3vl-4b"]


def test_benchmark_metadata_has_the_contracts_keys_and_numbers_plot(run):
    metadata = materialized(run("group:benchmark"))["benchmark/qwen3vl-4b"]
    for name in (
        "latency_p50_s",
        "latency_p95_s",
        "tokens_per_second",
        "schema_valid_rate",
        "cold_load_s",
        "rows",
        "lease_efficiency",
    ):
        assert isinstance(metadata[name], dg.FloatMetadataValue | dg.IntMetadataValue), name


def test_one_bad_arm_fails_its_own_asset_and_the_verdict_is_still_given(run, tasks):
    tasks.replies["benchmark"] = lambda task: Benchmarked(
        session="/s/1", verdict=verdict(),
        arms={
            **{m["id"]: arm() for m in task.request["catalog"]["models"]},
            "minicpm-v-4-5": ArmResult(figures={}, fingerprint=None, failed="it could not be loaded"),
        },
    )  # fmt: skip
    result = run('group:benchmark or key:"verdict"')
    assert not result.success
    assert set(materialized(result)) == {"benchmark/qwen3vl-8b", "benchmark/qwen3vl-4b", "verdict"}
    assert failures(result) == "minicpm-v-4-5: it could not be loaded"


def test_the_verdict_alone_judges_the_newest_session_and_takes_no_card(run, tasks):
    metadata = materialized(run("verdict"))["verdict"]
    assert tasks.kinds() == ["verdict"]
    assert metadata["verdict"].value == "judged again" and metadata["recommendation"].value == "qwen3vl-4b"
    assert "data:image/png;base64,UE5H" in metadata["summary"].value


def test_a_further_question_has_a_verdict_asset_of_its_own_and_its_figures_beside_the_others(tasks, tmp_path):
    captions = Answered(session="/s/2", figures={"qwen3vl-4b": {"latency_p50_s": 3.0}}, failed={}, verdict=verdict("c"))
    plain = tasks.replies["benchmark"]
    tasks.replies["benchmark"] = lambda t: plain(t).model_copy(update={"further": {"captions": captions}})
    tasks.replies["verdict"] = lambda t: Judged(session="/s/0", verdict=verdict(t.request["question_name"] or "main"))
    packaged = catalogs.load()
    further = {"captions": packaged.benchmark.question.model_copy(update={"ranking_key": None})}
    benchmark = packaged.benchmark.model_copy(update={"further_questions": further})
    run = runner(packaged.model_copy(update={"benchmark": benchmark}), tasks, tmp_path)
    found = materialized(run('key:"benchmark/qwen3vl-4b" or key:"verdict" or key:"verdict/captions"'))
    assert found["verdict/captions"]["verdict"].value == "c" and found["verdict/captions"]["session"].value == "/s/2"
    assert found["benchmark/qwen3vl-4b"]["captions/latency_p50_s"].value == 3.0
    assert list(tasks.asked[-1].request["further"]) == ["captions"]
    alone = materialized(run('key:"verdict/captions"'))
    assert {name: values["verdict"].value for name, values in alone.items()} == {"verdict/captions": "captions"}


def test_a_task_that_dies_without_a_word_is_told_with_its_last_lines(run, tasks):
    def die(task: Task, environment: Mapping[str, str], line: Callable[[str], None]) -> None:
        raise TaskFailed(task, "killed by SIGKILL (out of memory?)", ["loading"])

    tasks.run = die  # type: ignore[method-assign]
    assert "killed by SIGKILL (out of memory?)\n  loading" in failures(run('key:"gguf/qwen3vl-8b"'))


def test_latency_is_compared_with_the_models_own_history(run, tasks):
    for _ in range(3):
        assert checks(run('key:"benchmark/qwen3vl-4b"'))["benchmark/qwen3vl-4b:latency_against_history"]
    tasks.replies["benchmark"] = lambda task: Benchmarked(
        session="/s/2", verdict=None, arms={"qwen3vl-4b": arm(p95=0.3)}
    )
    result = run('key:"benchmark/qwen3vl-4b"')
    assert result.success, "a warning, not an error"
    assert not checks(result)["benchmark/qwen3vl-4b:latency_against_history"]


def test_too_few_valid_answers_are_a_warning(run, tasks):
    tasks.replies["benchmark"] = lambda task: Benchmarked(
        session="/s/2", verdict=None, arms={"qwen3vl-4b": arm(valid=0.8)}
    )
    assert not checks(run('key:"benchmark/qwen3vl-4b"'))["benchmark/qwen3vl-4b:schema_valid_rate"]
