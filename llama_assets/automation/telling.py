"""The sensors `tell_of_red_checks` and `tell_of_failed_runs`: what needs a person reaches one, once.

Both exist only where LLAMA_ASSETS_ALERT_URL is set. A check is told when it turns red and when it is well again, a run
when it failed; nobody is told of warnings, of runs that were cancelled, or the same twice. What the receiver does not
take waits in the cursor for the next tick. Here: what is told, and what to do next. Not here: sending (`alerts`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import dagster as dg
from dagster._core.event_api import EventLogCursor, EventLogRecord

from llama_assets.alerts import AlertLimits, Message, Outbox, Receiver
from llama_assets.assets.last_said import last_said
from llama_assets.platforms import Platform
from llama_assets.settings import Settings

EVERY_SECONDS = 60
MOST_AT_ONCE = 5  # more in one tick have one cause, and are one message
RUNS_A_TICK = 20
NAMED_IN_A_COMMAND = 4
LIMITS = AlertLimits(attempts=2)  # a tick has a minute, and the next one tries again

MATERIALIZE = "dagster asset materialize -m llama_assets.definitions --select"
FETCH = f"`{MATERIALIZE} 'gguf/{{model}}'` fetches and checks it again"
# What to do when a check is red, by its name; {asset} and {model} are filled in.
NEXT: Mapping[str, str] = {
    "followed": "`llama-assets doctor` says what the Hub answers; accept the repo's terms, or correct `{model}` in the "
    "catalog. What is served stays as it is",
    "updated": f"{FETCH}; the older file is served meanwhile",
    "sha256": "`llama-assets store verify {model} --repair` fetches damaged files again",
    "header": FETCH,
    "projector": f"correct mmproj of `{{model}}` in the catalog, then {FETCH}",
    "servable": "`llama-assets engine status` says what is served; correct `{model}` in the catalog, or when the cause "
    "is gone `llama-assets quarantine release {model}`",
    "restored": "`llama-assets lease status` says who has the card, `llama-assets reap --once` puts back what a dead "
    "holder took",
    "available": "pin an image that is there (engine.image of the catalog, or LLAMA_ASSETS_ENGINE_IMAGE), then "
    "`llama-assets engine apply`",
    "answered_an_image": "`llama-assets engine status`, then `llama-assets report` for what was answered",
    "image_is_pinned": "`llama-assets engine status` says which image runs",
}
OTHERWISE = "look at check `{check}` of `{asset}` in the Dagster UI; `llama-assets doctor` looks at all the rest"


def telling_sensors(platform: Platform, limits: AlertLimits = LIMITS) -> list[dg.SensorDefinition]:
    """Both sensors where somebody is to be told; none else."""
    teller = Teller.of(platform.settings, limits)
    return [tell_of_red_checks(teller), tell_of_failed_runs(teller)] if teller else []


@dataclass(frozen=True)
class Teller:
    """To whom, with links to which UI, and what is never told."""

    receiver: Receiver
    ui: str | None
    secrets: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings, limits: AlertLimits = LIMITS) -> Teller | None:
        """As the environment says; None where nobody is to be told."""
        url = settings.alert_url
        if url is None:
            return None
        secrets = (url, settings.hf_token, settings.engine_api_key)
        return cls(
            Receiver(url.get_secret_value(), settings.alert_format, limits),
            settings.ui_url,
            tuple(secret.get_secret_value() for secret in secrets if secret),
        )

    def link(self, path: str) -> str:
        """The page of the UI, if it is known where that is."""
        return f"{self.ui}/{path}" if self.ui else ""

    def tell(self, context: dg.SensorEvaluationContext, waiting: Outbox, messages: Sequence[Message]) -> Outbox:
        """Send what waited and what is new, oldest first; gives what still waits."""
        limits = self.receiver.limits
        clean = [message.cleaned(self.secrets, limits.said_characters) for message in self._together(messages)]
        return waiting.with_more(clean, limits.kept).delivered(self.receiver, context.log.warning)

    def _together(self, messages: Sequence[Message]) -> Sequence[Message]:
        if len(messages) <= MOST_AT_ONCE:
            return messages
        good = all(message.good for message in messages)
        return [Message(_digest(messages), _listed(messages), messages[0].todo, self.link("overview"), good)]


def _digest(messages: Sequence[Message]) -> str:
    return f"{len(messages)} things at once"


def _listed(messages: Sequence[Message]) -> str:
    """The things, and the first one's state: what happens to many at once has one cause."""
    return f"{'; '.join(message.thing for message in messages)}. The first: {messages[0].state}"


def tell_of_red_checks(teller: Teller) -> dg.SensorDefinition:
    """Compares each check's newest result with what was told of it."""

    @dg.sensor(
        name="tell_of_red_checks",
        description="Tells whoever LLAMA_ASSETS_ALERT_URL reaches when a check turns red, and when it is well again.",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def look_at_checks(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def
        told = json.loads(context.cursor or "{}")
        red, messages = set(told.get("red", ())), []
        checks = context.repository_def.asset_graph.asset_check_keys
        for key, found in sorted(last_said(context.instance, checks).items()):
            name = _name(key)
            is_red = not found.passed and found.severity == dg.AssetCheckSeverity.ERROR
            if is_red != (name in red):
                messages.append(_of_check(teller, key, found, is_red))
                red.symmetric_difference_update({name})
        waiting = teller.tell(context, Outbox.from_dict(told.get("outbox", {})), messages)
        cursor = {"red": sorted(red & {_name(key) for key in checks}), "outbox": waiting.as_dict()}
        return dg.SensorResult(cursor=json.dumps(cursor), skip_reason=_summary(messages, waiting, f"{len(red)} red"))

    return look_at_checks


def _of_check(teller: Teller, key: dg.AssetCheckKey, found: dg.AssetCheckEvaluation, is_red: bool) -> Message:
    asset = key.asset_key.to_user_string()
    link = teller.link(f"assets/{quote(asset)}?view=checks")
    says = found.description or "no reason is given"
    if not is_red:
        state = "is well again" if found.passed else "is no longer an error, and still a warning"
        return Message(f"{asset}: {key.name} {state}", says if found.description else "", link=link, good=found.passed)
    model = ".".join(
        key.asset_key.path[1:] or key.asset_key.path
    )  # as the catalog has it: of a candidate `<model>.candidate`
    todo = NEXT.get(key.name, OTHERWISE).format(asset=asset, model=model, check=key.name)
    return Message(f"{asset}: {key.name} is red", says, todo, link)


def tell_of_failed_runs(teller: Teller) -> dg.SensorDefinition:
    """Every run that failed since the last tick, those of the command line too.

    Not Dagster's own run failure sensor: that one goes on when its function fails, so what a receiver that is down does
    not take would be lost, and it passes over runs of `dagster asset materialize`.
    """

    @dg.sensor(
        name="tell_of_failed_runs",
        description="Tells whoever LLAMA_ASSETS_ALERT_URL reaches when a run has failed, with its reason and the "
        "command that tries it again. Runs that were cancelled are nobody's news.",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def look_at_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance, told = context.instance, json.loads(context.cursor or "{}")
        failure = dg.DagsterEventType.RUN_FAILURE
        if "after" not in told:  # what failed before somebody was to be told is history
            last = instance.fetch_run_status_changes(failure, limit=1).records
            after = EventLogCursor.from_storage_id(last[0].storage_id if last else 0).to_string()
            cursor = json.dumps({"after": after, "outbox": Outbox().as_dict()})
            return dg.SensorResult(cursor=cursor, skip_reason="failures from now on are told")
        found = instance.fetch_run_status_changes(failure, limit=RUNS_A_TICK, cursor=told["after"], ascending=True)
        messages = [message for record in found.records if (message := _of_run(teller, context, record))]
        waiting = teller.tell(context, Outbox.from_dict(told["outbox"]), messages)
        cursor = json.dumps({"after": found.cursor, "outbox": waiting.as_dict()})
        return dg.SensorResult(cursor=cursor, skip_reason=_summary(messages, waiting, "no run failed"))

    return look_at_runs


def _of_run(teller: Teller, context: dg.SensorEvaluationContext, record: EventLogRecord) -> Message | None:
    """None for a run of another code location, and for one that was deleted since."""
    run = context.instance.get_run_by_id(record.run_id)
    mine = context.code_location_origin
    if run is None:
        return None
    origin = run.remote_job_origin  # a run of the command line has none
    if origin and mine and origin.repository_origin.code_location_origin.location_name != mine.location_name:
        return None
    assets = _assets(context.instance, run)
    what = ", ".join(assets[:NAMED_IN_A_COMMAND]) + (", ..." if len(assets) > NAMED_IN_A_COMMAND else "")
    again = f"`{MATERIALIZE} '{_selection(assets)}'` tries it again" if 0 < len(assets) <= NAMED_IN_A_COMMAND else ""
    return Message(
        f"run {run.run_id[:8]} of {what or run.job_name} failed",
        _why(context.instance, record),
        again or f"open run {run.run_id[:8]} in the Dagster UI and re-execute it from its failure",
        teller.link(f"runs/{run.run_id}"),
    )


def _assets(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """What the run was to make, in a fixed order."""
    selected: Iterable[dg.AssetKey] = run.asset_selection or ()
    if not selected:
        planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        events = instance.get_records_for_run(run.run_id, of_type=planned).records
        selected = (key for event in events if (key := event.asset_key))
    return sorted({key.to_user_string() for key in selected})


def _selection(assets: Sequence[str]) -> str:
    return " or ".join(f'key:"{asset}"' for asset in assets)


def _why(instance: dg.DagsterInstance, record: EventLogRecord) -> str:
    """The failure's own sentence: of the step that failed first, else of the run."""
    failed = dg.DagsterEventType.STEP_FAILURE
    steps = instance.get_records_for_run(record.run_id, of_type=failed, limit=1).records
    entry = (steps[0] if steps else record).event_log_entry
    event = entry.dagster_event
    data: Any = event.event_specific_data if event else None
    by_hand = getattr(data, "user_failure_data", None)
    error = getattr(data, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    said = (by_hand and by_hand.description) or (error and error.message) or (event and event.message) or ""
    lines = [
        line.strip() for line in re.sub(r"^(\w+\.)*\w+(Error|Exception)?: ", "", said).splitlines() if line.strip()
    ]
    return lines[0] if lines else "no reason is given"


def _summary(messages: Sequence[Message], waiting: Outbox, else_: str) -> str:
    said = "; ".join(message.thing for message in messages) or f"nothing new: {else_}"
    return f"{said}; {len(waiting.waiting)} wait for the receiver" if waiting.waiting else said


def _name(key: dg.AssetCheckKey) -> str:
    return f"{key.asset_key.to_user_string()}:{key.name}"
