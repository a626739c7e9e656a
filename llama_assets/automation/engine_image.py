"""The sensor `engine_image`: which image the engine is made from, whether it can still be pulled, what is newer.

A registry is asked once a day, after trouble in an hour or when it says; a changed image is seen at the next tick.
Not here: what a look comes to (`engine.image`), how it is reported (`assets.engine`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from llama_assets.assets.engine import AVAILABLE, NEWEST, image_event, look_now, state
from llama_assets.assets.last_said import last_said
from llama_assets.assets.serving import ENGINE
from llama_assets.catalog import Catalog, EngineImage
from llama_assets.platforms import Platform

if TYPE_CHECKING:
    from llama_assets.engine.image import ImageLook, WatchLimits

EVERY_SECONDS = 3600


def engine_image_sensor(
    catalog: Catalog,
    platform: Platform,
    image: EngineImage,
    limits: WatchLimits | None = None,
    clock: Callable[[], float] = time.time,
) -> dg.SensorDefinition:
    """Looks at the registry of `image`, and never at the cluster. `clock` gives unix seconds."""

    @dg.sensor(
        name="engine_image",
        description="Reports the engine's image, and asks its registry daily whether it can still be pulled and "
        "whether its tag has a newer one. On by default, because it only looks; an engine is never upgraded by itself.",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def look_at_the_registry(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from llama_assets.engine.image import ImageWatch, WatchLimits
        from llama_assets.registry import RegistryLimits

        times, now_s, before = limits or WatchLimits(), clock(), ImageWatch.from_json(context.cursor)
        changed = image_event(context.instance, catalog, image)
        events: list[dg.AssetMaterialization | dg.AssetCheckEvaluation] = [changed] if changed else []
        if not before.due(image, now_s):
            hours = max(0.0, before.next_s - now_s) / 3600
            reason = None if events else f"{image.reference}: looked at; again in {hours:.0f} h"
            return dg.SensorResult(asset_events=events, cursor=before.to_json(), skip_reason=reason)
        # A tick has a minute: the next one is the next attempt.
        look = look_now(image, platform, RegistryLimits(timeout_s=6.0, attempts=1))
        after = before.after(image, look, now_s, times)
        events += _turned(context.instance, look.lasting() if after.lasts(look, now_s, times) else look)
        reason = None if events else look.trouble or "as before: " + "; ".join(_says(look))
        return dg.SensorResult(asset_events=events, cursor=after.to_json(), skip_reason=reason)

    return look_at_the_registry


def _turned(instance: dg.DagsterInstance, look: ImageLook) -> Iterator[dg.AssetCheckEvaluation]:
    """The checks that are to say something else than they said last."""
    wanted = {dg.AssetCheckKey(ENGINE, AVAILABLE): look.available, dg.AssetCheckKey(ENGINE, NEWEST): look.newest}
    said = last_said(instance, wanted)
    for key, finding in wanted.items():
        if finding and _differ(said.get(key), state(finding)):
            yield dg.AssetCheckEvaluation(asset_key=ENGINE, check_name=key.name, **state(finding))


def _differ(said: dg.AssetCheckEvaluation | None, wanted: dict[str, Any]) -> bool:
    return said is None or any(getattr(said, name) != value for name, value in wanted.items())


def _says(look: ImageLook) -> Iterator[str]:
    return (finding.says for finding in (look.available, look.newest) if finding)
