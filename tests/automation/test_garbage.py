"""The job `collect_garbage` frees what the store says may go, and its run says what that was."""

from __future__ import annotations

import dagster as dg

from llama_assets import catalog as catalogs
from llama_assets.definitions import build_defs
from llama_assets.launch import ProcessLauncher
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.store import Store
from tests.store.pairs import published


class Volume(ProcessLauncher):
    """Tasks are processes that are told where the volume is."""

    def __init__(self, folder):
        super().__init__()
        self.told = {"LLAMA_ASSETS_STORE": str(folder / "store"), "LLAMA_ASSETS_RESULTS": str(folder / "results")}

    def run(self, task, environment, line):
        super().run(task, {**environment, **self.told}, line)


def test_the_job_frees_what_nobody_needs_and_says_what(tmp_path):
    store = Store(tmp_path / "store")
    names = [published(store, tmp_path, "qwen3vl-4b", seed) for seed in range(3)]
    for name in names:
        store.promote("qwen3vl-4b", name)
    blob = store.get("qwen3vl-4b", names[0]).parts[0]
    settings = Settings(store=store.root, results=tmp_path / "results")
    defs = build_defs(catalogs.load(), Platform("local", settings, Volume(tmp_path)))
    (schedule,) = [one for one in defs.get_repository_def().schedule_defs if one.name == "collect_garbage"]
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED

    done = defs.resolve_job_def("collect_garbage").execute_in_process()
    assert done.success
    (output,) = [event for event in done.all_events if event.is_successful_output]
    metadata = output.step_output_data.metadata
    assert metadata["freed_bytes"].value == blob.size
    assert {(row.data["kind"], row.data["name"]) for row in metadata["removed"].records} == {
        ("set", names[0]), ("blob", blob.sha256),
    }  # fmt: skip
    assert store.sets("qwen3vl-4b") == sorted(names[1:])
