"""The condition that most of automation waits for: what an asset is made from is another version than it was made from.

Versions are compared with those it was last asked for with, so what is due stays due until it was asked for, and the
same bytes again are nothing. Not here: of which assets and what else has to hold (`conditions.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    extract_data_version_from_entry,
    get_input_data_version_tag,
)
from dagster._core.definitions.declarative_automation.automation_context import AutomationContext
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from dagster._core.storage.event_log.base import AssetRecord

from llama_assets.assets import benchmark
from llama_assets.policy.windows import Rules

Context = AutomationContext[dg.AssetKey]
Result = dg.AutomationResult[dg.AssetKey]


@dataclass(frozen=True)
class Again:
    """A run that failed or was cut is asked for again, `times` times: once a `period`, which is a day or an hour."""

    period: str
    """As strftime writes it."""
    times: int


@dataclass(frozen=True)
class OutOfDate(dg.AutomationCondition[dg.AssetKey]):
    """True while what an asset is made from has another version than it was made from and was last asked for with.

    A version counts once it is verified: the blocking checks passed on it. The first look after the sensor was turned
    on asks for nothing, and what there was then does not become due by itself; unless the asset `needs_no_card`: that
    is brought up to date with the second look.
    """

    inputs: tuple[dg.AssetKey, ...]
    rules: Rules
    again: Again
    with_code: bool = False
    needs_no_card: bool = False
    red: tuple[dg.AssetCheckKey, ...] = ()
    """Checks of the asset itself that say, while one failed, that it was not made from its inputs after all."""
    needs_card: bool = False
    """A run of it that was postponed was no try."""
    label: str = "out of date"

    @property
    def name(self) -> str:
        """How it is stored."""
        return "out_of_date"

    @property
    def description(self) -> str:
        """What a person reads."""
        code = " or the asset's own code version" if self.with_code else ""
        named = ", ".join(key.to_user_string() for key in self.inputs)
        return f"another verified version of {named}{code} than it was made from and last asked for with"

    def get_label(self) -> str:
        """What a person reads in the tree."""
        return self.label

    def get_node_unique_id(self, *, parent_unique_id: Any, index: Any, target_key: Any) -> str:  # noqa: ARG002
        """The same wherever it stands in the tree, so that another tree does not forget what was asked for."""
        return f"{self.name}/{target_key.to_user_string() if target_key else ''}"

    async def evaluate(self, context: Context) -> Result:  # type: ignore[override]
        """Compare, and remember."""
        made = await _materialized(context, context.key)
        now = await self._versions(context)
        if context.cursor is None:
            handled = {} if self.needs_no_card else now
            return self._result(context, False, Memory(handled, now, put_off=self._put_off(context)))
        memory = Memory(**json.loads(context.cursor))
        asked = context.get_previous_requested_subset(context.key)
        if asked is not None and not asked.is_empty and context.previous_evaluation_time is not None:
            memory = memory.asked(self._period(context.previous_evaluation_time))
        memory = memory.put_off_at(self._put_off(context))
        tags = _made_with(made)
        handled = {**memory.handled, **{of: version for of, version in now.items() if tags.get(of) == version}}
        changed = any(version not in (handled.get(of), tags.get(of)) for of, version in now.items())
        memory = replace(memory, handled=handled, seen=now)
        if changed:
            return self._result(context, True, replace(memory, tries=0))
        if await _running(context):
            return self._result(context, False, memory)
        if all(tags.get(of) == version for of, version in now.items()) and not await self._failed(context):
            return self._result(context, False, replace(memory, tries=0))
        again = 0 < memory.tries <= self.again.times and memory.period != self._period(context.evaluation_time)
        return self._result(context, again, memory)

    def _result(self, context: Context, due: bool, memory: Memory) -> Result:
        subset = context.candidate_subset if due else context.get_empty_subset()
        return dg.AutomationResult(context, subset, cursor=json.dumps(memory.__dict__))

    def _put_off(self, context: Context) -> int:
        found = benchmark.last_postponement(context.asset_graph_view.instance, context.key) if self.needs_card else None
        return found.storage_id if found else 0

    def _period(self, moment: Any) -> str:
        return str(moment.astimezone(self.rules.zone).strftime(self.again.period))

    async def _versions(self, context: Context) -> dict[str, str]:
        """The version of each input that is there and verified."""
        found: dict[str, str] = {}
        for key in self.inputs:
            entry = await _materialized(context, key)
            version = entry and extract_data_version_from_entry(entry)
            if entry is not None and version is not None and await _verified(context, key, entry.timestamp):
                found[key.to_user_string()] = version.value
        if self.with_code and (code := context.asset_graph.get(context.key).code_version):
            found[CODE_VERSION_TAG] = code
        return found

    async def _failed(self, context: Context) -> bool:
        view, key = context.asset_graph_view, context.key
        whole = view.get_full_subset(key=key)
        if not (await view.compute_execution_failed_subset(key=key, from_subset=whole)).is_empty:
            return True
        records = [await AssetCheckExecutionRecord.gen(view, check) for check in self.red]
        return any(record is not None and record.status == Status.FAILED for record in records)


@dataclass(frozen=True)
class Memory:
    """What `OutOfDate` knows from tick to tick: versions asked for, versions of the last look, tries since a change,
    and the last postponement.
    """

    handled: Mapping[str, str]
    seen: Mapping[str, str]
    tries: int = 0
    period: str = ""
    put_off: int = 0

    def put_off_at(self, storage_id: int) -> Memory:
        """What was asked for last was not tried, if this postponement is news."""
        if storage_id <= self.put_off:
            return self
        return replace(self, tries=max(0, self.tries - 1), put_off=storage_id)

    def asked(self, period: str) -> Memory:
        """The asset was asked for with what was seen."""
        return replace(self, handled={**self.handled, **self.seen}, tries=self.tries + 1, period=period)


async def _materialized(context: Context, key: dg.AssetKey) -> Any:
    record = await AssetRecord.gen(context.asset_graph_view, key)
    return record.asset_entry.last_materialization if record else None


def _made_with(entry: Any) -> dict[str, str]:
    """The versions an asset was made from, by its inputs' names; Dagster notes them when a step ends."""
    if entry is None or entry.asset_materialization is None:
        return {}
    prefix = get_input_data_version_tag(dg.AssetKey(["x"])).removesuffix("x")
    return {tag.removeprefix(prefix): value for tag, value in (entry.asset_materialization.tags or {}).items()}


async def _verified(context: Context, key: dg.AssetKey, since: float) -> bool:
    """Did every blocking check of this asset pass on what was materialized at `since`?"""
    graph = context.asset_graph
    for check in graph.get_check_keys_for_assets({key}):
        if graph.get(check).blocking:
            record = await AssetCheckExecutionRecord.gen(context.asset_graph_view, check)
            if record is None or record.status != Status.SUCCEEDED or record.event is None:
                return False
            if record.event.timestamp < since:
                return False
    return True


async def _running(context: Context) -> bool:
    view, key = context.asset_graph_view, context.key
    whole = view.get_full_subset(key=key)
    return not (await view.compute_run_in_progress_subset(key=key, from_subset=whole)).is_empty
