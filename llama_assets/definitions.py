"""The list of what exists. Nothing runs here, and nothing is decided: see `assets` for what, `automation` for when."""

from __future__ import annotations

import dagster as dg

from llama_assets.assets import benchmark
from llama_assets.assets.engine import engine_checks
from llama_assets.assets.gguf import gguf_assets, gguf_checks
from llama_assets.assets.gpu import gpu_lease_asset
from llama_assets.assets.huggingface import huggingface_assets, huggingface_checks
from llama_assets.assets.serving import engine_asset, llama_swap_asset, serving_checks
from llama_assets.automation import conditions, hashed_again, schedules, sensors
from llama_assets.catalog import Catalog
from llama_assets.platforms import Platform, open_platform
from llama_assets.settings import Settings


def build_defs(catalog: Catalog, platform: Platform) -> dg.Definitions:
    """Everything that exists for one catalog on one platform; tests hand in their own two."""
    when = conditions(catalog)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        *huggingface_assets(catalog),
        *gguf_assets(catalog, platform),
        engine_asset(catalog, platform),
        llama_swap_asset(catalog, platform),
        gpu_lease_asset(catalog, platform, takers=benchmark.keys(catalog)),
        benchmark.benchmark_assets(catalog, platform),
    ]
    return dg.Definitions(
        assets=dg.map_asset_specs(
            lambda spec: spec.replace_attributes(automation_condition=when[spec.key]) if spec.key in when else spec,
            assets,
        ),
        asset_checks=[
            *huggingface_checks(catalog, platform),
            *gguf_checks(catalog, platform, hashed_again(catalog)),
            *serving_checks(catalog, platform),
            *engine_checks(catalog, platform),
        ],
        sensors=sensors(catalog, platform),
        schedules=schedules(catalog, platform),
        # One process per run: the heavy work is in tasks, and a step then hears SIGTERM in the ordinary way.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads: the catalog and platform of this environment."""
    platform = open_platform(Settings.read())
    return build_defs(platform.catalog(), platform)
