"""The other conditions of our own: a check turned red, the card may be had, a moment that a run named, any of several.

Each is one question about one asset; what it remembers from look to look is its cursor. Not here: which assets wait for
which of them (`conditions.py`), versions (`out_of_date.py`), what is quiet (`policy.windows`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

from llama_assets.assets import benchmark
from llama_assets.automation.out_of_date import Context, Result
from llama_assets.policy.windows import Rules

AssetCondition = dg.AutomationCondition[Any]


@dataclass(frozen=True)
class TurnedRed(dg.AutomationCondition[dg.AssetKey]):
    """True when a check of the asset turns red, until the asset was asked for; again only once it was green.

    Making the asset is what mends it. Where that fails, `OutOfDate` asks again, as for any run that failed.
    """

    check: dg.AssetCheckKey
    label: str = "turned red"

    @property
    def name(self) -> str:
        """How it is stored."""
        return "turned_red"

    @property
    def description(self) -> str:
        """What a person reads."""
        return f"check {self.check.name} is red, and nothing was asked for since it was green"

    def get_label(self) -> str:
        """What a person reads in the tree."""
        return self.label

    def get_node_unique_id(self, *, parent_unique_id: Any, index: Any, target_key: Any) -> str:  # noqa: ARG002
        """As `OutOfDate`."""
        return f"{self.name}/{self.check.to_user_string()}"

    async def evaluate(self, context: Context) -> Result:  # type: ignore[override]
        """Remembers whether it was red at the last look, and whether that was asked for."""
        memory = json.loads(context.cursor) if context.cursor else {"red": False, "asked": False}
        asked = context.get_previous_requested_subset(context.key)
        if memory["red"] and asked is not None and not asked.is_empty:
            memory["asked"] = True
        record = await AssetCheckExecutionRecord.gen(context.asset_graph_view, self.check)
        if record is not None and record.status == Status.FAILED:
            memory["red"] = True
        elif record is not None and record.status == Status.SUCCEEDED:  # a run that only plans it says nothing yet
            memory = {"red": False, "asked": False}
        due = memory["red"] and not memory["asked"]
        subset = context.candidate_subset if due else context.get_empty_subset()
        return dg.AutomationResult(context, subset, cursor=json.dumps(memory))


@dataclass(frozen=True)
class CardMayBeTaken(dg.AutomationCondition[dg.AssetKey]):
    """True outside of quiet hours, by the time of the evaluation. What is due waits and goes on afterwards."""

    rules: Rules = field(hash=False)

    @property
    def name(self) -> str:
        """How it is stored."""
        return "card_may_be_taken"

    @property
    def description(self) -> str:
        """What a person reads."""
        hours = ", ".join(f"{begin:%H:%M}-{end:%H:%M}" for begin, end in self.rules.quiet)
        return f"not in quiet hours {hours} ({self.rules.zone.key})" if hours else "no quiet hours are set"

    def get_label(self) -> str:
        """What a person reads in the tree."""
        return f"card may be taken: {self.description}"

    @property
    def requires_cursor(self) -> bool:
        """It remembers nothing."""
        return False

    def evaluate(self, context: Context) -> Result:
        """By the wall clock of the catalog's zone."""
        quiet = self.rules.quiet_at(context.evaluation_time)
        return dg.AutomationResult(context, context.get_empty_subset() if quiet else context.candidate_subset)


@dataclass(frozen=True)
class PostponedUntilNow(dg.AutomationCondition[dg.AssetKey]):
    """True once the time has come that a run named which might not have had the card, until that is asked for.

    A run ends rather than wait for long, because it would keep the pool `gpu`. Whatever it was asked for, it is asked
    for again: the weekly tick and a new version are over with the first asking.
    """

    @property
    def name(self) -> str:
        """How it is stored."""
        return "postponed_until_now"

    @property
    def description(self) -> str:
        """What a person reads."""
        return "a run ended because it might not have the card, and the time that it named has come"

    def get_label(self) -> str:
        """What a person reads in the tree."""
        return "postponed until now"

    def get_node_unique_id(self, *, parent_unique_id: Any, index: Any, target_key: Any) -> str:  # noqa: ARG002
        """As `OutOfDate`."""
        return f"{self.name}/{target_key.to_user_string() if target_key else ''}"

    def evaluate(self, context: Context) -> Result:
        """Remembers which postponement was there at the last look, and which was asked for."""
        memory = json.loads(context.cursor) if context.cursor else {"seen": 0, "asked": 0}
        asked = context.get_previous_requested_subset(context.key)
        if asked is not None and not asked.is_empty:
            memory["asked"] = memory["seen"]
        found = benchmark.last_postponement(context.asset_graph_view.instance, context.key)
        memory["seen"] = found.storage_id if found else 0
        due = found is not None and found.storage_id > memory["asked"] and found.until <= context.evaluation_time
        subset = context.candidate_subset if due else context.get_empty_subset()
        return dg.AutomationResult(context, subset, cursor=json.dumps(memory))


@dataclass(frozen=True)
class AnyDue(dg.AutomationCondition[dg.AssetKey]):
    """True when any of these assets, which lie downstream, is due: what they need comes into the same run."""

    of: tuple[tuple[dg.AssetKey, AssetCondition], ...] = field(hash=False)

    @property
    def name(self) -> str:
        """How it is stored."""
        return "any_due"

    @property
    def description(self) -> str:
        """What a person reads."""
        return f"due: any of {', '.join(key.to_user_string() for key, _ in self.of)}"

    def get_label(self) -> str:
        """What a person reads in the tree."""
        return "a benchmark is due"

    @property
    def children(self) -> list[AssetCondition]:
        """Each one's own condition."""
        return [condition for _, condition in self.of]

    async def evaluate(self, context: Context) -> Result:  # type: ignore[override]
        """Each one's own condition, on its own key."""
        results = []
        for index, (key, condition) in enumerate(self.of):
            whole = context.asset_graph_view.get_full_subset(key=key)
            child = context.for_child_condition(condition, child_indices=[index], candidate_subset=whole)
            results.append(await child.evaluate_async())
        due = any(not result.true_subset.is_empty for result in results)
        subset = context.candidate_subset if due else context.get_empty_subset()
        return dg.AutomationResult(context, subset, child_results=results)
