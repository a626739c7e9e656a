"""The revision of each model's repo on the Hub that the catalog follows.

External: nothing is run here. A revision is reported when a download resolves one whose selected bytes changed, so that
what lies downstream is stale exactly when there is something new to fetch.
"""

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from llama_assets.assets.described import first_paragraph
from llama_assets.catalog import Catalog, Model

GROUP = "huggingface"


def key(model: str) -> dg.AssetKey:
    """`huggingface/<model>`."""
    return dg.AssetKey(["huggingface", model])


def huggingface_assets(catalog: Catalog) -> list[dg.AssetSpec]:
    """One external asset per catalog model."""
    return [_spec(model) for model in catalog.models]


def _spec(model: Model) -> dg.AssetSpec:
    return dg.AssetSpec(
        key(model.id),
        group_name=GROUP,
        description=first_paragraph(__doc__),
        kinds={"huggingface"},
        metadata={
            "repo": model.repo,
            "revision": model.revision,
            "url": dg.MetadataValue.url(f"https://huggingface.co/{model.repo}"),
        },
    )


def report_revision(context: dg.AssetExecutionContext, model: Model, commit: str, fingerprint: str) -> None:
    """Say that the followed revision selects these bytes; silent when the last report said the same.

    A materialization and not an observation: only the former makes `gguf/<m>` stale and is seen by conditions.
    """
    last = context.instance.get_latest_materialization_event(key(model.id))
    known = last.asset_materialization.tags if last and last.asset_materialization else {}
    if known.get(DATA_VERSION_TAG) != fingerprint:
        context.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                key(model.id),
                metadata={"revision": commit, "fingerprint": fingerprint, "repo": model.repo},
                tags={DATA_VERSION_TAG: fingerprint},
            )
        )
    # Dagster read its parents' versions when the step began; what was fetched is what has been reported just now, and
    # without this the asset would be stale from the moment it is made.
    context.op_execution_context.get_step_execution_context().wipe_input_asset_version_info(key(model.id))
