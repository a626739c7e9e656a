"""When: sensors, conditions, schedules. Nothing here does work; it reports what happened elsewhere, or asks for runs.

A file a sensor. Add one when something outside of Dagster should be seen in it. Not here: what is allowed when
(`policy`), what a run does (`assets`, `tasks`).
"""

from __future__ import annotations

import dagster as dg

from llama_assets.automation.gpu_lease import gpu_lease_sensor
from llama_assets.automation.revisions import huggingface_revisions
from llama_assets.catalog import Catalog
from llama_assets.platforms import ClusterPlatform, Platform

__all__ = ["sensors"]


def sensors(catalog: Catalog, platform: Platform) -> list[dg.SensorDefinition]:
    """The sensors of this platform. On one machine the kernel gives the card back: no lease to watch there."""
    found = [huggingface_revisions(catalog, platform)]
    if isinstance(platform, ClusterPlatform):
        found.append(gpu_lease_sensor(catalog, platform))
    return found
