"""What a check or a report said last, for whoever reports or tells only what is new. Not here: what follows from it."""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.asset_check_execution_record import COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES


def last_said(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
    """The newest evaluation of each check that has one; one query, and one more for each that a run has planned.

    A run that plans a check has the newest record from then on, and for good if it dies first: its `evaluation` is a
    plan without a result, and must not hide what was said before.
    """
    storage, found = instance.event_log_storage, {}
    for key, record in storage.get_latest_asset_check_execution_by_key(list(keys)).items() if keys else ():
        completed = COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
        if record.status not in completed:
            earlier = storage.get_asset_check_execution_history(key, limit=1, status=completed)
            if not earlier:
                continue
            record = earlier[0]
        if isinstance(record.evaluation, dg.AssetCheckEvaluation):
            found[key] = record.evaluation
    return found


def last_report(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dg.AssetMaterialization | None:
    """The newest materialization of an asset; None if there is none."""
    last = instance.get_latest_materialization_event(asset)
    return last.asset_materialization if last else None


def is_news(report: dg.AssetMaterialization | None, version: str) -> bool:
    """Is this another data version than the report has? Conditions see one that says the same again as news, too."""
    return report is None or (report.tags or {}).get(DATA_VERSION_TAG) != version
