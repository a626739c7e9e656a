"""What is served: llama-swap's configuration, rendered from the verified files of every catalog model.

Paths hold the fingerprint, so a new file is a new configuration and the same files are the same text; nothing is
written when nothing changed. Here: `engine` and `llama_swap`. Not here: the text (`engine.config`), where it goes
(`platforms`).
"""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import dagster as dg

from llama_assets.assets import gguf
from llama_assets.assets.described import first_paragraph
from llama_assets.catalog import Catalog
from llama_assets.pipes import run_task
from llama_assets.platforms import Platform
from llama_assets.tasks.messages import Inspect, Inspected, ModelFiles

if TYPE_CHECKING:
    from llama_assets.engine import Served

GROUP = "serving"
ENGINE = dg.AssetKey("engine")
LLAMA_SWAP = dg.AssetKey("llama_swap")


def engine_asset(catalog: Catalog) -> dg.AssetSpec:
    """The engine that the catalog names; external, because nobody here builds it."""
    return dg.AssetSpec(
        ENGINE,
        group_name=GROUP,
        description="The engine that answers: its kind, and in a cluster its image, pinned by digest.",
        kinds={"llamacpp"},
        metadata={"kind": catalog.engine.kind, "image": catalog.engine.image or "none pinned"},
    )


def llama_swap_asset(catalog: Catalog, platform: Platform) -> dg.AssetsDefinition:
    """The served configuration, downstream of every model and of the engine."""

    @dg.asset(
        key=LLAMA_SWAP,
        deps=[ENGINE, *(gguf.key(model.id) for model in catalog.models)],
        group_name=GROUP,
        description=first_paragraph(__doc__),
        kinds={"yaml"},
        code_version="1",
    )
    def llama_swap(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from llama_assets.engine import config_hash, render

        found = run_task(context, platform, Inspect(models=catalog.models), Inspected)
        missing = [model.id for model in catalog.models if model.id not in found.current]
        if not found.current:
            raise dg.Failure(
                "no model has a verified file, so there is nothing to serve; materialize gguf/* first",
                allow_retries=False,
            )
        text = render([served(catalog, files) for files in found.current.values()], catalog.engine)
        applied = platform.apply_config(text)
        context.log.info(f"{applied.where}: {'written' if applied.changed else 'unchanged, not written'}")
        if missing:
            context.log.warning(f"not served, no verified file: {', '.join(missing)}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(config_hash(text)),
            metadata={
                "config": dg.MetadataValue.md(f"```yaml\n{text}\n```"),
                "config_hash": config_hash(text),
                "where": applied.where,
                "written": applied.changed,
                "served": sorted(found.current),
                "not_served": missing,
            },
        )

    return llama_swap


def served(catalog: Catalog, files: ModelFiles) -> "Served":
    """A model's verified files as the engine is told of them."""
    from llama_assets.engine import Served

    return Served(
        catalog.model(files.model), files.fingerprint, PurePosixPath(files.model_file), PurePosixPath(files.mmproj_file)
    )
