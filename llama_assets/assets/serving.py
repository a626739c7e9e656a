"""What is served: llama-swap's configuration, rendered from the verified files of every catalog model.

Paths hold the fingerprint, so a new file is a new configuration and the same files are the same text; nothing is
written when nothing changed. In a cluster it is a ConfigMap, a Deployment and a Service, and on an exclusive card they
are applied and not started: the lease starts them. Here: `engine` and `llama_swap`, with their checks. Not here: the
text (`engine.config`), where it goes (`platforms`).
"""

import contextlib
import hashlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import dagster as dg

from llama_assets.assets import gguf, versions
from llama_assets.assets.described import first_paragraph
from llama_assets.catalog import Catalog, EngineImage
from llama_assets.pipes import run_task
from llama_assets.platforms import Platform
from llama_assets.tasks import applying
from llama_assets.tasks.messages import Inspected

if TYPE_CHECKING:
    from llama_assets.platforms import Applied

GROUP = "serving"
ENGINE = dg.AssetKey("engine")
LLAMA_SWAP = dg.AssetKey("llama_swap")
CHECKS = {
    "pinned": "The engine's image is named by its digest, so that tomorrow's engine is the one that was measured.",
    "drift": "Nobody else set fields of the engine's Deployment, ConfigMap or Service, and all three are there.",
}


def engine_asset(catalog: Catalog, platform: Platform) -> dg.AssetSpec:
    """The engine that catalog and settings name; external, because nobody here builds it."""
    image = platform.engine_image(catalog)
    return dg.AssetSpec(
        ENGINE,
        group_name=GROUP,
        description="The engine that answers: its kind, and in a cluster its image, pinned by digest.",
        kinds={"llamacpp"},
        metadata={
            "kind": catalog.engine.kind,
            "image": image.reference if image else "no pod of ours",
            "chosen_by": image.chosen_by if image else "",
            "pinned": image is not None and image.digest is not None,
        },
    )


def llama_swap_asset(catalog: Catalog, platform: Platform) -> dg.AssetsDefinition:
    """The served configuration, downstream of every model and of the engine."""

    @dg.asset(
        key=LLAMA_SWAP,
        deps=[ENGINE, *(gguf.key(model.id) for model in catalog.models)],
        group_name=GROUP,
        description=first_paragraph(__doc__),
        kinds={"yaml"},
        code_version=versions.of_serving(catalog, platform.engine_image(catalog)),
    )
    def llama_swap(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        found = inspected(context, catalog, platform)
        missing = [model.id for model in catalog.models if model.id not in found.current]
        kept_out = [model for model in found.current if model in found.quarantined]
        applied = apply_config(context, catalog, platform, found)
        context.log.info(
            f"{', '.join(applied.changed) or applied.where}: {'written' if applied.changed else 'unchanged'}"
        )
        context.log.info(applied.state)
        if missing:
            context.log.warning(f"not served, no verified file: {', '.join(missing)}")
        for model in kept_out:
            context.log.warning(f"{model} is not served, {found.quarantined[model]}")
        text, image = applied.config.text, platform.engine_image(catalog)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(_version(applied.config.hash, image.reference if image else "")),
            metadata={
                "config": dg.MetadataValue.md(f"```yaml\n{text}\n```"),
                "litellm": dg.MetadataValue.md(f"```yaml\n{applied.config.gateway}\n```"),
                "config_hash": applied.config.hash,
                "where": applied.where,
                "written": bool(applied.changed),
                "state": applied.state,
                "image": str(image) if image else "no pod of ours",
                "served": sorted(set(found.current) - set(kept_out)),
                "not_served": [*missing, *kept_out],
            },
        )

    return llama_swap


def serving_checks(catalog: Catalog, platform: Platform) -> list[dg.AssetChecksDefinition]:
    """Is the engine's image pinned; did somebody else write what is ours?"""

    @dg.asset_check(asset=ENGINE, name="pinned", description=CHECKS["pinned"])
    def pinned() -> dg.AssetCheckResult:
        image = platform.engine_image(catalog)
        says = str(image) if image else "the engine is no pod of ours"
        good = image is None or image.digest is not None
        return dg.AssetCheckResult(passed=good, severity=dg.AssetCheckSeverity.WARN, description=says)

    @dg.asset_check(asset=LLAMA_SWAP, name="drift", description=CHECKS["drift"])
    def drift() -> dg.AssetCheckResult:
        with said_plainly():
            found = [str(one) for one in platform.engine_drift(catalog)]
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(found) or CHECKS["drift"],
        )

    return [pinned, drift]


def _version(config_hash: str, image: str) -> str:
    """Another image answers differently from the same configuration."""
    return hashlib.sha256(f"{config_hash} {image}".encode()).hexdigest() if image else config_hash


@contextlib.contextmanager
def said_plainly() -> Iterator[None]:
    """An error that owns its sentence, as Dagster shows it: without a traceback, and not tried again."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "exit_status"):
            raise
        raise dg.Failure(str(error), allow_retries=False) from error


def inspected(
    context: dg.AssetExecutionContext, catalog: Catalog, platform: Platform, automatic: bool = False, part: str = ""
) -> Inspected:
    """What the store holds of every model, with candidates and what is quarantined. `part` as in `run_task`."""
    return run_task(context, platform, applying.question(platform, catalog, automatic), Inspected, part)


def apply_config(
    context: dg.AssetExecutionContext,
    catalog: Catalog,
    platform: Platform,
    found: Inspected,
    candidates_of: Collection[str] = (),
    tried: EngineImage | None = None,
) -> "Applied":
    """Apply what is current and not quarantined, in the catalog's order, and behind it candidates of some models; the
    engine's pod is made from the chosen image, or from the one that is `tried`.

    Nothing else lists a candidate, so whoever applies without any takes out what a killed benchmark left.
    """
    files = applying.served_by(catalog, found, candidates_of)
    if not files:
        why = "; ".join(f"{model} is {says}" for model, says in found.quarantined.items())
        raise dg.Failure(
            f"no model can be served: {why}"
            if why
            else "no model has a verified file, so there is nothing to serve; materialize gguf/* first",
            allow_retries=False,
        )
    with said_plainly():
        return platform.apply_config(catalog, files, context.log.info, tried=tried)
