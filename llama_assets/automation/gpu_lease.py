"""The sensor `gpu_lease_sensor`: who has the cluster's card, and whether what a silent holder took is back.

Not here: what the card's state means (`gpu.vigil`), putting anything back (the reaper does, without Dagster).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg

from llama_assets.assets.gpu import GPU_LEASE, RESTORED
from llama_assets.catalog import Catalog
from llama_assets.gpu import LeaseTimes
from llama_assets.gpu.vigil import Look, News, Vigil, VigilLimits, look
from llama_assets.gpu.workloads import Cluster
from llama_assets.kube import KubeError
from llama_assets.platforms import ClusterPlatform

EVERY_SECONDS = 60
VIGIL_LIMITS = VigilLimits()


def gpu_lease_sensor(
    catalog: Catalog, platform: ClusterPlatform, limits: VigilLimits = VIGIL_LIMITS
) -> dg.SensorDefinition:
    """Looks at the cluster's lease, and never writes to the cluster."""

    @dg.sensor(
        name="gpu_lease_sensor",
        description="Reports who has the card as observations of gpu_lease, and turns its check `restored` red while a "
        "silent holder's tenants stay down or no reaper beats. It looks; the reaper puts back.",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def look_at_the_lease(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before = Vigil.from_json(context.cursor)
        impatient = LeaseTimes(api_away_s=0.0)  # the next tick is the next attempt
        settings = platform.settings
        try:
            card = platform.card(catalog)
            cluster = Cluster(platform.kube, settings.namespace, catalog.gpu.lease, impatient, say=context.log.info)
            seen = look(cluster, card, heart_matters=not settings.without_reaper)
        except KubeError as error:
            return dg.SensorResult(skip_reason=str(error), cursor=before.blind().to_json())
        after, news = before.see(seen, time.time(), limits)
        events = list(_events(seen, news))
        said = "; ".join(news.troubles) or str(seen)
        return dg.SensorResult(
            asset_events=events, cursor=after.to_json(), skip_reason=None if events else f"as before: {said}"
        )

    return look_at_the_lease


def _events(seen: Look, news: News) -> Iterator[dg.AssetObservation | dg.AssetCheckEvaluation]:
    if news.changed:
        lease = seen.lease
        yield dg.AssetObservation(
            GPU_LEASE,
            description=str(seen),
            metadata={
                "held_by": seen.holder or "nobody",
                "token": lease.token if lease else 0,
                "purpose": (lease.purpose if lease and seen.holder else "") or "none",
                "with_a_note": "not to be seen by this account" if seen.down is None else list(seen.down),
            },
        )
    if news.turned:
        yield dg.AssetCheckEvaluation(
            asset_key=GPU_LEASE,
            check_name=RESTORED.name,
            passed=bool(news.good),
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(news.troubles) or str(seen),
            metadata={"state": str(seen), "troubles": list(news.troubles)},
        )
