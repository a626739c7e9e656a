"""When: sensors, conditions, schedules. Nothing here does work; it reports what happened elsewhere, or asks for runs.

A file a sensor; `conditions.py` stands on `out_of_date.py` and `due.py`. Add a sensor when something outside of Dagster
should be seen in it. Not here: what is allowed when (`policy`), what a run does (`assets`, `tasks`).
"""

from __future__ import annotations

import dagster as dg

from llama_assets.automation.conditions import automation_sensor, conditions, hashed_again, weekly_benchmark
from llama_assets.automation.engine_image import engine_image_sensor
from llama_assets.automation.garbage import collect_garbage
from llama_assets.automation.gpu_lease import gpu_lease_sensor
from llama_assets.automation.revisions import huggingface_revisions
from llama_assets.automation.telling import telling_sensors
from llama_assets.catalog import Catalog
from llama_assets.platforms import ClusterPlatform, Platform

__all__ = ["conditions", "hashed_again", "schedules", "sensors"]


def sensors(catalog: Catalog, platform: Platform) -> list[dg.SensorDefinition]:
    """The sensors of this platform. On one machine the kernel gives the card back: no lease to watch there."""
    found = [huggingface_revisions(catalog, platform), automation_sensor(catalog)]
    if isinstance(platform, ClusterPlatform):
        found.append(gpu_lease_sensor(catalog, platform))
    if image := platform.engine_image(catalog):
        found.append(engine_image_sensor(catalog, platform, image))
    return [*found, *telling_sensors(platform)]


def schedules(catalog: Catalog, platform: Platform) -> list[dg.ScheduleDefinition]:
    """The schedules, off at first."""
    return [weekly_benchmark(catalog), collect_garbage(catalog, platform)]
