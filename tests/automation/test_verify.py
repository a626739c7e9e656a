"""Files that are served are hashed again by the calendar, and a flipped bit turns the check red; no card is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

from llama_assets.assets import gguf
from llama_assets.automation.conditions import automation_sensor
from tests.automation.test_conditions import A, B, World, damage

FIRST_OF_MONTH = datetime(2029, 2, 1, 3, tzinfo=UTC)  # 04:00 in Berlin


def asked(world: World, at: datetime) -> set[dg.AssetCheckKey]:
    """The checks of files that are asked for; a world's own ticks tell the assets."""
    found = dg.evaluate_automation_conditions(
        defs=world.defs, instance=world.instance, cursor=world.cursor, evaluation_time=at
    )
    world.cursor, world.now = found.cursor, at
    return {subset.key for subset in found._requested_subsets} & checks(A, B)


def checks(*models: str) -> set[dg.AssetCheckKey]:
    return {dg.AssetCheckKey(gguf.key(model), name) for model in models for name in gguf.CHECKS}


def test_once_a_month_what_is_there_is_hashed_again_and_damage_is_found(tmp_path):
    world = World(tmp_path)
    assert asked(world, FIRST_OF_MONTH - timedelta(days=1)) == set()
    world.report("1", A)
    assert asked(world, FIRST_OF_MONTH - timedelta(hours=2)) == set()
    world.run(f"gguf/{A}")
    asked(world, FIRST_OF_MONTH - timedelta(minutes=1))
    due = asked(world, FIRST_OF_MONTH + timedelta(seconds=20))
    assert due == checks(A), "and not of B, which is not there"
    damage(world, A)
    job = world.defs.resolve_implicit_global_asset_job_def()
    subset = job.get_subset(asset_selection=set(), asset_check_selection=due)
    done = subset.execute_in_process(instance=world.instance, raise_on_error=False)
    red = {one.check_name for one in done.get_asset_check_evaluations() if not one.passed}
    assert red == {"sha256"}
    assert asked(world, FIRST_OF_MONTH + timedelta(minutes=2)) == set(), "once"
    assert asked(world, FIRST_OF_MONTH + timedelta(days=3)) == set()


def test_the_one_switch_counts_for_it(tmp_path):
    world = World(tmp_path)
    graph = world.defs.resolve_asset_graph()
    assert checks(A, B) <= automation_sensor(world.catalog).asset_selection.resolve_checks(graph)
