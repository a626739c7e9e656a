"""When an asset is asked for without a person: its condition, and the one sensor that evaluates them all.

    gguf/<m>        the Hub has other bytes than the store, of the model's own files or of those that its candidate
                    names, or a byte of the store's is another than it was, or the candidate names other files
    llama_swap      a model has other verified files, or the engine is another
    gpu_lease       a benchmark is due, so its plan is in the same run
    benchmark/<m>   other verified files, another question or engine, or the weekly tick, or the time has come that
                    a run named which might not have the card; not in quiet hours
    verdict         with any benchmark

What is due stays due until it was asked for: the versions an asset was last asked for with are compared with those
there are. So one that arrives while a run is under way, or in quiet hours, is not lost, and the same bytes again are
nothing.
Not here: what is quiet (`policy.windows`), minutes a day (`tasks.permission` asks for them), what a run does.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg
from dagster import AutomationCondition as Condition
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    extract_data_version_from_entry,
    get_input_data_version_tag,
)
from dagster._core.definitions.declarative_automation.automation_context import AutomationContext
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from dagster._core.storage.event_log.base import AssetRecord
from dagster._record import copy
from dagster._utils.schedules import is_valid_cron_string

from llama_assets.assets import benchmark, gguf, huggingface, verdict
from llama_assets.assets.gpu import GPU_LEASE
from llama_assets.assets.serving import ENGINE, LLAMA_SWAP
from llama_assets.catalog import Catalog, Model
from llama_assets.policy.windows import Rules
from llama_assets.tasks.messages import AUTOMATIC_WAIT_S

Context = AutomationContext[dg.AssetKey]
Result = dg.AutomationResult[dg.AssetKey]
AssetCondition = dg.AutomationCondition[Any]

NAME = "automation"
EVERY_SECONDS = 60
THE_SWITCH = (
    "The switch for automation, off at first. On: new files on the Hub are fetched, checked, served and measured by "
    "themselves, and every model is measured again weekly. Measuring takes the card: in a cluster your tenants are "
    "scaled to 0 for as long, outside of quiet hours and within the minutes a day that the catalog's `automation` "
    "allows. Off: nothing is asked for; what is running goes on."
)
SCHEDULE_TAGS = {
    benchmark.AUTOMATIC_TAG: "true",
    # Run monitoring ends a run after six hours; one that waits for its hours and minutes may take two days longer.
    "dagster/max_runtime": str(round(AUTOMATIC_WAIT_S) + 6 * 3600),
}
RUN_TAGS = {**SCHEDULE_TAGS, benchmark.ASKS_AGAIN_TAG: "true"}


class NoSuchTime(ValueError):
    """The catalog's cron fields are five, and mean nothing."""

    exit_status = 1

    def __init__(self, key: str, cron: str) -> None:
        super().__init__(
            f"automation.{key} = {cron!r} of the catalog: cron knows no such time; write minute, hour, day, month and "
            "weekday, e.g. `0 3 * * 0` for Sundays at three"
        )


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


async def _running(context: Context) -> bool:
    view, key = context.asset_graph_view, context.key
    whole = view.get_full_subset(key=key)
    return not (await view.compute_run_in_progress_subset(key=key, from_subset=whole)).is_empty


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


def conditions(catalog: Catalog) -> dict[dg.AssetKey, AssetCondition]:
    """The condition of each asset that may be asked for without a person. Raises NoSuchTime."""
    _checked("weekly_benchmark", catalog.automation.weekly_benchmark)
    rules = Rules.of(catalog.automation)
    found: dict[dg.AssetKey, AssetCondition] = {}
    for model in catalog.models:
        found[gguf.key(model.id)] = _files(model, rules)
        found[benchmark.key(model.id)] = _benchmark(catalog, model.id, rules)
    found[LLAMA_SWAP] = _serving(catalog, rules)
    found[GPU_LEASE] = AnyDue(tuple((key, found[key]) for key in benchmark.keys(catalog)))
    for key in verdict.keys(catalog):
        found[key] = Condition.any_deps_match(Condition.will_be_requested()).with_label("with any benchmark")
    return found


def hashed_again(catalog: Catalog) -> AssetCondition:
    """When the checks of a model's files are executed by themselves: disks forget, though nothing was downloaded. No
    card is needed. Raises NoSuchTime.
    """  # fmt: skip
    cron, zone = _checked("verify", catalog.automation.verify), catalog.automation.time_zone
    tick: AssetCondition = Condition.cron_tick_passed(cron, zone)
    due = tick.since_last_handled().with_label(f"hashed again: {cron} ({zone})")
    return due & ~Condition.any_deps_missing() & ~Condition.any_deps_in_progress()


def _checked(key: str, cron: str) -> str:
    """The catalog knows no Dagster, and no cron."""
    if not is_valid_cron_string(cron):
        raise NoSuchTime(key, cron)
    return cron


def _files(model: Model, rules: Rules) -> AssetCondition:
    followed = tuple(huggingface.keys(model))
    tried = len(followed) > 1
    red = (gguf.UPDATED, gguf.CANDIDATE_HERE) if tried else (gguf.UPDATED,)
    other = OutOfDate(
        followed, rules, Again("%F %H", 24), with_code=tried, needs_no_card=True, label="the Hub has other bytes",
        red=tuple(dg.AssetCheckKey(gguf.key(model.id), name) for name in red),
    )  # fmt: skip
    damaged = TurnedRed(dg.AssetCheckKey(gguf.key(model.id), gguf.SHA256), label="a byte on disk is another")
    return (other | damaged) & ~Condition.in_progress()


def _serving(catalog: Catalog, rules: Rules) -> AssetCondition:
    files = tuple(gguf.key(model.id) for model in catalog.models)
    other = OutOfDate((ENGINE, *files), rules, Again("%F %H", 3), with_code=True, label="other files or engine")
    return other & ~Condition.in_progress()


def _benchmark(catalog: Catalog, model: str, rules: Rules) -> AssetCondition:
    other = OutOfDate(
        (gguf.key(model),), rules, Again("%F", 2), with_code=True, needs_card=True,
        label="other files, question or engine",
    )  # fmt: skip
    automation = catalog.automation
    tick: AssetCondition = Condition.cron_tick_passed(automation.weekly_benchmark, automation.time_zone)
    weekly = tick.since_last_handled().with_label(f"weekly: {automation.weekly_benchmark} ({automation.time_zone})")
    return (
        (other | weekly | PostponedUntilNow())
        & Condition.all_deps_blocking_checks_passed()
        & ~Condition.asset_matches(gguf.key(model), Condition.missing() | Condition.in_progress())
        & ~Condition.asset_matches(LLAMA_SWAP, Condition.in_progress())
        & ~Condition.in_progress()
        & CardMayBeTaken(rules)
    )


class WithEveryCheck(dg.AutomationConditionSensorDefinition):
    """Asks for the checks of the assets that it asks for, all of them.

    Dagster's own leaves out those that are steps of their own as soon as an asset brings one with it: files would be
    fetched, and never verified.
    """

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> SensorExecutionData:
        """As Dagster does; a run without a list of checks has every check of its assets."""
        found = super().evaluate_tick(context)
        requests = [one.with_replaced_attrs(asset_check_keys=None) for one in found.run_requests or ()]
        return copy(found, run_requests=requests)


def automation_sensor(catalog: Catalog, every_seconds: int = EVERY_SECONDS) -> dg.AutomationConditionSensorDefinition:
    """The one switch: everything automatic that costs anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # of use_user_code_server: a condition of our own needs it
        return WithEveryCheck(
            NAME,
            target=dg.AssetSelection.assets(*conditions(catalog)),
            description=THE_SWITCH,
            default_status=dg.DefaultSensorStatus.STOPPED,
            minimum_interval_seconds=every_seconds,
            run_tags=RUN_TAGS,
            use_user_code_server=True,
        )


def weekly_benchmark(catalog: Catalog) -> dg.ScheduleDefinition:
    """Every benchmark in one run, for people who want to see it in the list of schedules."""
    return dg.ScheduleDefinition(
        name="weekly_benchmark",
        cron_schedule=catalog.automation.weekly_benchmark,
        execution_timezone=catalog.automation.time_zone,
        target=dg.AssetSelection.assets(GPU_LEASE, *benchmark.keys(catalog), *verdict.keys(catalog)),
        tags=SCHEDULE_TAGS,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Every model measured in one session, weekly; quiet hours and minutes a day hold for it. Off at "
        "first. Use this or the sensor `automation`, not both: the sensor does the same, and more.",
    )
