"""Who may use the card: the tenants that own it in normal life, and what taking it would do to them.

In a run that also measures, nothing is taken here: taking is checked and the plan recorded, and the benchmark's own
task takes and gives. Materialized alone it holds the card for `minutes`, then gives it back by itself.
"""

from collections.abc import Collection

import dagster as dg
from pydantic import Field

from llama_assets.assets import serving
from llama_assets.assets.described import first_paragraph
from llama_assets.catalog import Catalog
from llama_assets.pipes import run_task
from llama_assets.platforms import Platform
from llama_assets.tasks.messages import Held, Hold, Previewed

GROUP = "gpu"
GPU_LEASE = dg.AssetKey("gpu_lease")
RESTORED = dg.AssetCheckKey(GPU_LEASE, "restored")
CHECKS = {
    RESTORED.name: "What a holder took is back as found. In a cluster `gpu_lease_sensor` looks again every minute: red "
    "while a silent holder's tenants stay down, or while no reaper beats."
}


class HoldConfig(dg.Config):
    """How long to hold the card when the lease is materialized alone."""

    minutes: float = Field(60.0, gt=0, le=24 * 60, description="give the card back after this many minutes")


def gpu_lease_asset(catalog: Catalog, platform: Platform, takers: Collection[dg.AssetKey]) -> dg.AssetsDefinition:
    """The lease: alone a hold, in a run with one of `takers` a plan, because those take the card themselves."""

    @dg.asset(
        key=GPU_LEASE,
        deps=[serving.LLAMA_SWAP],
        group_name=GROUP,
        description=first_paragraph(__doc__),
        kinds={"gpu"},
        code_version="2",
        check_specs=[dg.AssetCheckSpec(RESTORED.name, asset=GPU_LEASE, description=CHECKS[RESTORED.name])],
    )
    def gpu_lease(context: dg.AssetExecutionContext, config: HoldConfig) -> dg.MaterializeResult:
        ask = Hold(catalog=catalog, minutes=config.minutes)
        if not context.job_def.asset_layer.selected_asset_keys.isdisjoint(takers):
            return _planned(context, run_task(context, platform, ask.model_copy(update={"dry_run": True}), Previewed))
        return _held(context, run_task(context, platform, ask, Held))

    return gpu_lease


def _planned(context: dg.AssetExecutionContext, found: Previewed) -> dg.MaterializeResult:
    for line in found.lines:
        context.log.info(f"gpu lease: {line}")
    if found.obstacles:
        raise dg.Failure(
            "the card cannot be taken, and nothing was scaled:\n" + "\n".join(found.obstacles), allow_retries=False
        )
    return dg.MaterializeResult(
        metadata={
            "taken": False,
            "held_by": found.held_by or "nobody",
            "plan": dg.MetadataValue.md("\n".join(f"* {line}" for line in found.lines)),
            "token": found.token,
        },
        check_results=[_restored(True, {"taken": False})],
    )


def _held(context: dg.AssetExecutionContext, held: Held) -> dg.MaterializeResult:
    if held.ended_by != "time":
        context.log.warning(f"gpu lease: given back before its time: {held.says}")
    tenants = {name: "not touched" if found is None else found for name, found in held.tenants.items()}
    return dg.MaterializeResult(
        metadata={
            "taken": True,
            "held_by": held.holder,
            "token": held.token,
            "seconds": held.seconds,
            "ended_by": held.ended_by,
            "ended": held.says,
            "tenants": tenants,
            "put_back": list(held.left),
        },
        check_results=[_restored(True, {"taken": True})],
    )


def _restored(passed: bool, facts: dict[str, bool]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(asset_key=GPU_LEASE, check_name=RESTORED.name, passed=passed, metadata=facts)
