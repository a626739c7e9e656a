"""What a check or a report said last, for whoever reports or tells only what is new. Not here: what follows from it."""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
)


def shown(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation | None]:
    """The newest record of each check that has one, by one query; None where a run plans it, or died before it said
    anything.
    """  # fmt: skip
    storage = instance.event_log_storage
    newest = storage.get_latest_asset_check_execution_by_key(list(keys)) if keys else {}
    return {key: _evaluation(record) for key, record in newest.items()}


def last_said(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
    """The newest evaluation of each check that has one; a query more than `shown` for each that a run has planned.

    A run that plans a check has the newest record from then on, and for good if it dies first: that must not hide what
    was said before.
    """
    history, found = instance.event_log_storage.get_asset_check_execution_history, {}
    for key, said in shown(instance, keys).items():
        earlier = [] if said else history(key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES)
        said = said or next((_evaluation(record) for record in earlier), None)
        if said is not None:
            found[key] = said
    return found


def _evaluation(record: AssetCheckExecutionRecord) -> dg.AssetCheckEvaluation | None:
    return record.evaluation if isinstance(record.evaluation, dg.AssetCheckEvaluation) else None


def last_report(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dg.AssetMaterialization | None:
    """The newest materialization of an asset; None if there is none."""
    last = instance.get_latest_materialization_event(asset)
    return last.asset_materialization if last else None


def is_news(report: dg.AssetMaterialization | None, version: str) -> bool:
    """Is this another data version than the report has? Conditions see one that says the same again as news, too."""
    return report is None or (report.tags or {}).get(DATA_VERSION_TAG) != version
