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
from llama_assets.tasks.messages import Held, Hold

GROUP = "gpu"
GPU_LEASE = dg.AssetKey("gpu_lease")


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
        code_version="1",
    )
    def gpu_lease(context: dg.AssetExecutionContext, config: HoldConfig) -> dg.MaterializeResult:
        lease = platform.lease(catalog)
        if not context.job_def.asset_layer.selected_asset_keys.isdisjoint(takers):
            record, living = lease.status()
            held_by = record.holder if living else None
            context.log.info(
                f"gpu lease: {f'held by {held_by}; the benchmark will wait' if held_by else 'free'}; {lease.plan}"
            )
            return dg.MaterializeResult(
                metadata={"taken": False, "held_by": held_by or "nobody", "plan": lease.plan, "token": record.token}
            )
        held = run_task(context, platform, Hold(catalog=catalog, minutes=config.minutes), Held)
        return dg.MaterializeResult(
            metadata={
                "taken": True,
                "plan": lease.plan,
                "token": held.token,
                "seconds": held.seconds,
                "ended_by": held.ended_by,
            }
        )

    return gpu_lease
