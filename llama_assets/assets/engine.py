"""What a registry says of the engine's image: the checks `available` and `newest` of asset `engine`.

Reported daily by the sensor `engine_image`; executed, they look now. Here: the checks, and how the pinned image is
reported as the data version of `engine`. Not here: looking (`engine.image`), when (`automation`), `engine` (`serving`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from llama_assets.assets.last_said import is_news, last_report
from llama_assets.assets.serving import ENGINE
from llama_assets.catalog import Catalog, EngineImage
from llama_assets.platforms import Platform

if TYPE_CHECKING:
    from llama_assets.engine.image import Finding, ImageLook
    from llama_assets.registry import RegistryLimits

AVAILABLE, NEWEST = "available", "newest"
CHECKS = {
    AVAILABLE: "The engine's image can still be pulled. Red when its registry says that it is gone; a warning when the "
    "registry does not tell, for three days or for good. Looked at daily; executed, it looks now.",
    NEWEST: "The tag that the engine was pinned from has no newer digest. A warning names the line to write; nothing "
    "is upgraded by itself.",
}


def engine_checks(catalog: Catalog, platform: Platform) -> list[dg.AssetChecksDefinition]:
    """Both checks; green where the engine is no pod of ours."""

    @dg.multi_asset_check(
        name="engine_image_in_its_registry",
        specs=[dg.AssetCheckSpec(name, asset=ENGINE, description=says) for name, says in CHECKS.items()],
    )
    def engine_image_in_its_registry() -> Iterator[dg.AssetCheckResult]:
        image = platform.engine_image(catalog)
        look = look_now(image, platform).lasting() if image else None
        for name in CHECKS:
            finding: Finding | None = getattr(look, name, None)
            says = state(finding) if finding else {"passed": True, "description": "the engine is no pod of ours"}
            yield dg.AssetCheckResult(asset_key=ENGINE, check_name=name, **says)

    return [engine_image_in_its_registry]


def look_now(image: EngineImage, platform: Platform, limits: RegistryLimits | None = None) -> ImageLook:
    """Ask the image's registry. Raises nothing."""
    from llama_assets.engine.image import look_at_image
    from llama_assets.registry import Registry
    from llama_assets.registry_login import Logins

    settings = platform.settings
    usual = os.path.expanduser("~/.docker/config.json")  # noqa: PTH111 - raises nothing where a pod's user has no home
    logins = Logins(settings.registry_config or Path(usual))
    with Registry(limits, settings.plain_http_registry, logins) as registry:
        return look_at_image(image, registry)


def state(finding: Finding) -> dict[str, Any]:
    """What a check says, as arguments of Dagster's two classes for it."""
    severity = dg.AssetCheckSeverity.ERROR if finding.severe else dg.AssetCheckSeverity.WARN
    return {"passed": finding.good, "severity": severity, "description": finding.says}


def image_event(instance: dg.DagsterInstance, catalog: Catalog, image: EngineImage) -> dg.AssetMaterialization | None:
    """That the engine is made from this image now; None when the last report said the same.

    Its data version is the pinned digest, so that the same image under another name is nothing new; the reference where
    it is not pinned. A materialization, because conditions do not see an observation.
    """
    version = image.digest or image.reference
    if not is_news(last_report(instance, ENGINE), version):
        return None
    metadata: dict[str, Any] = {
        "kind": catalog.engine.kind,
        "image": image.reference,
        "chosen_by": image.chosen_by,
        "pinned": image.digest is not None,
    }
    return dg.AssetMaterialization(ENGINE, metadata=metadata, tags={DATA_VERSION_TAG: version})
