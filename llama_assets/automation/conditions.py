"""When an asset is asked for without a person: its condition, and the one sensor that evaluates them all.

    gguf/<m>        the Hub has other bytes than the store, of the model's own files or of those that its candidate
                    names, or a byte of the store's is another than it was, or the candidate names other files
    llama_swap      a model has other verified files, or the engine is another
    gpu_lease       a benchmark is due, so its plan is in the same run
    benchmark/<m>   other verified files, another question or engine, or the weekly tick, or the time has come that
                    a run named which might not have the card; not in quiet hours
    verdict         with any benchmark

What is due stays due until it was asked for, so what arrives while a run is under way, or in quiet hours, is not lost.
Not here: how each question is answered (`out_of_date.py`, `due.py`), what is quiet (`policy.windows`), minutes a day
(`tasks.permission` asks for them), what a run does.
"""

from __future__ import annotations

import warnings

import dagster as dg
from dagster import AutomationCondition as Condition
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._record import copy
from dagster._utils.schedules import is_valid_cron_string

from llama_assets.assets import benchmark, gguf, huggingface, verdict
from llama_assets.assets.gpu import GPU_LEASE
from llama_assets.assets.serving import ENGINE, LLAMA_SWAP
from llama_assets.automation.due import AnyDue, AssetCondition, CardMayBeTaken, PostponedUntilNow, TurnedRed
from llama_assets.automation.out_of_date import Again, OutOfDate
from llama_assets.catalog import Catalog, Model
from llama_assets.policy.windows import Rules
from llama_assets.tasks.messages import AUTOMATIC_WAIT_S

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
