"""What reaches a receiver on loopback, from checks and runs of a real Dagster instance."""

from __future__ import annotations

import json
import re
from pathlib import Path

import dagster as dg
import pytest

from llama_assets import catalog as catalogs
from llama_assets.alerts import AlertLimits
from llama_assets.automation import telling
from llama_assets.automation.telling import Teller, tell_of_failed_runs, tell_of_red_checks
from llama_assets.cli import main
from llama_assets.definitions import build_defs
from llama_assets.platforms import local
from llama_assets.settings import Settings
from tests.alerts.receiver import LoopbackReceiver, receiver
from tests.docs.reference import leaves

__all__ = ["receiver"]

LIMITS = AlertLimits(timeout_s=5, attempts=1, kept=4)
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
NAMES = [f"m{n}" for n in range(8)]


@dg.multi_asset_check(
    specs=[
        *(dg.AssetCheckSpec(name, asset=["gguf", m]) for m in NAMES for name in ("sha256", "mood")),
        dg.AssetCheckSpec("followed", asset=["huggingface", "m0", "candidate"]),
    ],
    can_subset=True,
)
def checked():
    yield from ()
    raise RuntimeError("the pod is gone")


@dg.asset(key_prefix="gguf")
def broken():
    raise dg.Failure("the file https://me:pw@cdn/x?Signature=abc is gone\nand more of it", allow_retries=False)


@dg.asset(key_prefix="gguf")
def buggy():
    raise ValueError("the token hf_secret is not good")


@dg.asset(key_prefix="gguf")
def fine():
    return None


DEFS = dg.Definitions(assets=[broken, buggy, fine, *(dg.AssetSpec(["gguf", m]) for m in NAMES)], asset_checks=[checked])


class Ticks:
    """A sensor, ticked by hand."""

    def __init__(self, make, receiver: LoopbackReceiver, instance: dg.DagsterInstance | None = None) -> None:
        settings = Settings(alert_url=receiver.url, ui_url="http://ui:3000/", hf_token="hf_secret")
        self.instance = instance or dg.DagsterInstance.ephemeral()
        self.sensor, self.cursor, self.skipped = make(Teller.of(settings, LIMITS)), None, ""

    def tick(self) -> None:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, definitions=DEFS)
        said = self.sensor.evaluate_tick(context)
        assert not said.asset_events and not said.run_requests
        self.cursor, self.skipped = said.cursor, said.skip_message

    def result(self, passed: bool, model="m0", check="sha256", severity=ERROR, says="bytes differ", stage="gguf"):
        evaluation = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey([stage, *model.split("/")]),
            check_name=check,
            passed=passed,
            severity=severity,
            description=says,
            metadata={},
        )
        self.instance.report_runless_asset_event(evaluation)


def test_a_red_check_is_told_once_with_thing_state_command_and_link_and_again_when_it_is_well(receiver):
    ticks = Ticks(tell_of_red_checks, receiver)
    ticks.result(True)
    ticks.tick()
    assert receiver.got == [] and ticks.skipped == "nothing new: 0 red"
    ticks.result(False)
    ticks.tick()
    assert receiver.texts == [
        ":red_circle: *llama-assets: gguf/m0: sha256 is red*\nbytes differ\n"
        "Next: `llama-assets store verify m0 --repair` fetches damaged files again\n"
        "http://ui:3000/assets/gguf/m0?view=checks"
    ]
    ticks.result(False, says="still")
    ticks.tick()
    assert len(receiver.got) == 1 and ticks.skipped == "nothing new: 1 red"
    ticks.result(True, says="")
    ticks.tick()
    ticks.tick()
    assert len(receiver.got) == 2
    assert receiver.texts[1].startswith(":white_check_mark: *llama-assets: gguf/m0: sha256 is well again*")


def test_a_warning_is_never_told_and_an_error_that_becomes_one_is_told_to_be_one(receiver):
    ticks = Ticks(tell_of_red_checks, receiver)
    ticks.result(False, severity=WARN)
    ticks.tick()
    assert receiver.got == []
    ticks.result(False)
    ticks.tick()
    ticks.result(False, severity=WARN)
    ticks.tick()
    assert "is no longer an error, and still a warning" in receiver.texts[1] and "Next" not in receiver.texts[1]


def test_what_a_person_is_to_correct_is_named_as_the_catalog_has_it(receiver):
    ticks = Ticks(tell_of_red_checks, receiver)
    ticks.result(False, stage="huggingface", model="m0/candidate", check="followed")
    ticks.tick()
    assert "huggingface/m0/candidate: followed" in receiver.texts[0]
    assert "correct `m0.candidate` in the catalog" in receiver.texts[0]


def test_a_check_of_no_command_of_its_own_names_where_to_look(receiver):
    ticks = Ticks(tell_of_red_checks, receiver)
    ticks.result(False, check="mood")
    ticks.tick()
    assert "look at check `mood` of `gguf/m0` in the Dagster UI" in receiver.texts[0]


def test_what_was_red_before_anybody_was_to_be_told_is_told_at_the_first_tick(receiver):
    ticks = Ticks(tell_of_red_checks, receiver)
    ticks.result(False)
    ticks.cursor = None
    ticks.tick()
    assert len(receiver.got) == 1


def test_a_run_that_planned_a_check_and_died_does_not_hide_that_it_is_red(receiver):
    ticks = Ticks(tell_of_red_checks, receiver)
    ticks.result(False)
    job = dg.Definitions.merge(
        DEFS, dg.Definitions(jobs=[dg.define_asset_job("all", dg.AssetSelection.checks(checked))])
    )
    assert not job.resolve_job_def("all").execute_in_process(instance=ticks.instance, raise_on_error=False).success
    history = ticks.instance.event_log_storage.get_asset_check_execution_history
    newest = history(dg.AssetCheckKey(dg.AssetKey(["gguf", "m0"]), "sha256"), limit=1)[0]
    assert newest.status.value == "PLANNED"
    ticks.tick()
    assert "sha256 is red" in receiver.texts[0]


def test_many_at_once_are_one_message(receiver):
    ticks = Ticks(tell_of_red_checks, receiver)
    for model in NAMES:
        ticks.result(False, model, says="the Hub says no")
    ticks.tick()
    (text,) = receiver.texts
    assert "8 things at once" in text and all(f"gguf/{model}" in text for model in NAMES) and "the Hub says no" in text


def test_a_receiver_that_is_down_breaks_no_tick_and_gets_everything_later_once(receiver):
    ticks = Ticks(tell_of_red_checks, receiver)
    receiver.down = True
    ticks.result(False)
    ticks.tick()
    assert "1 wait for the receiver" in ticks.skipped and receiver.url not in ticks.cursor
    ticks.result(True)
    ticks.tick()
    receiver.down = False
    ticks.tick()
    ticks.tick()
    assert [text.splitlines()[0].split(": ")[-1] for text in receiver.texts] == [
        "sha256 is red*",
        "sha256 is well again*",
    ]


def test_messages_are_dropped_when_too_many_wait_and_that_is_said(receiver):
    ticks = Ticks(tell_of_red_checks, receiver)
    receiver.down = True
    for passed in (False, True, False, True, False, True):
        ticks.result(passed)
        ticks.tick()
    receiver.down = False
    ticks.tick()
    assert len(receiver.got) == LIMITS.kept and "2 earlier messages could not be delivered" in receiver.texts[0]


def run(instance: dg.DagsterInstance, *names: str) -> dg.ExecuteInProcessResult:
    assets = [asset for asset in (broken, buggy, fine) if asset.key.path[-1] in names]
    return dg.materialize(assets, instance=instance, raise_on_error=False)


def test_a_failed_run_is_told_with_its_assets_reason_and_the_command_that_tries_again(receiver):
    with dg.instance_for_test() as instance:
        ticks = Ticks(tell_of_failed_runs, receiver, instance)
        run(instance, "broken")
        ticks.tick()
        assert receiver.got == [] and ticks.skipped == "failures from now on are told", "what is past is history"
        failed = run(instance, "broken", "fine").run_id
        assert run(instance, "fine").success
        ticks.tick()
        ticks.tick()
        (text,) = receiver.texts
        assert text == (
            f":red_circle: *llama-assets: run {failed[:8]} of gguf/broken, gguf/fine failed*\n"
            "the file https://cdn/x is gone\n"
            "Next: `dagster asset materialize -m llama_assets.definitions --select "
            '\'key:"gguf/broken" or key:"gguf/fine"\'` tries it again\n'
            f"http://ui:3000/runs/{failed}"
        )
        run(instance, "buggy")
        ticks.tick()
        assert "\nthe token *** is not good\n" in receiver.texts[1], "its cause, and no secret"


def test_a_cancelled_run_is_nobodys_news_and_one_that_fails_without_a_step_is(receiver):
    ticks = Ticks(tell_of_failed_runs, receiver)
    ticks.tick()
    job = DEFS.resolve_implicit_global_asset_job_def()
    cancelled, lost = (ticks.instance.create_run_for_job(job) for _ in "ab")
    ticks.instance.report_run_canceled(cancelled)
    ticks.instance.report_run_failed(lost, "the run's pod is gone")
    ticks.tick()
    (text,) = receiver.texts
    assert lost.run_id[:8] in text and "the run's pod is gone" in text
    assert "tries it again" in text and 'key:"gguf/broken"' in text


def test_failed_runs_wait_for_a_receiver_that_is_down(receiver):
    ticks = Ticks(tell_of_failed_runs, receiver)
    ticks.tick()
    receiver.down = True
    run(ticks.instance, "broken")
    ticks.tick()
    assert receiver.got == [] and len(json.loads(ticks.cursor)["outbox"]["waiting"]) == 1
    receiver.down = False
    ticks.tick()
    assert len(receiver.got) == 1


def test_both_sensors_are_there_and_run_only_where_somebody_is_to_be_told(tmp_path):
    def found(**settings):
        defs = build_defs(catalogs.load(), local(Settings(store=tmp_path, results=tmp_path, **settings)))
        return {sensor.name: sensor.default_status for sensor in defs.sensors if sensor.name.startswith("tell_")}

    assert found() == {}
    running = dg.DefaultSensorStatus.RUNNING
    assert found(alert_url="http://h/x") == {"tell_of_red_checks": running, "tell_of_failed_runs": running}


@pytest.mark.parametrize("check", telling.NEXT)
def test_each_next_command_exists_and_belongs_to_a_check_that_exists(check):
    commands = dict(leaves(main, "llama-assets"))
    said = telling.NEXT[check].format(asset="a", model="m")
    for line in re.findall(r"`(llama-assets [^`]+)`", said):
        assert any(line.startswith(command) for command in commands), line
    source = "".join(path.read_text() for path in (Path(telling.__file__).parents[1] / "assets").glob("*.py"))
    assert f'"{check}"' in source, f"no check is called {check}"
