"""`llama-assets alerts test` and what doctor says of alerts, as a person runs them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from llama_assets.cli import main
from tests.alerts.receiver import LoopbackReceiver, receiver

__all__ = ["receiver"]


@pytest.fixture
def told(receiver: LoopbackReceiver, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no `.env` of this machine's
    monkeypatch.setenv("LLAMA_ASSETS_ALERT_URL", receiver.url)

    def run(*arguments: str):
        return CliRunner().invoke(main, arguments)

    return run


def test_one_message_is_sent_and_the_answer_shown(told, receiver):
    done = told("alerts", "test")
    assert done.exit_code == 0 and done.output == "127.0.0.1 answered 200 (ok)\n"
    assert "llama-assets: a test" in receiver.texts[0]
    assert json.loads(told("alerts", "test", "--json").stdout)["good"] is True


def test_a_refusal_is_the_receivers_own_answer_and_exit_status_1(told, receiver):
    receiver.answers = [(403, "invalid_token", {}), (410, "channel_is_archived", {})]
    done = told("alerts", "test")
    assert done.exit_code == 1 and "answered 403 (invalid_token)" in done.output and "s3cret" not in done.output
    done = told("alerts", "test", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and not found["good"] and "channel_is_archived" in found["answer"]


def test_ntfy_is_spoken_where_it_is_set(told, receiver, monkeypatch):
    monkeypatch.setenv("LLAMA_ASSETS_ALERT_FORMAT", "ntfy")
    assert told("alerts", "test").exit_code == 0
    assert receiver.got[0]["topic"] == "s3cret" and receiver.paths == ["/services/T0/"]


def test_without_an_address_it_is_wrong_use_and_doctor_says_that_nobody_is_told(told, receiver, monkeypatch):
    def says() -> str:
        findings = json.loads(told("doctor", "--offline", "--json").stdout)["findings"]
        (found,) = (one for one in findings if one["about"] == "alerts")
        assert found["good"]
        return found["says"]

    assert says().startswith("told to 127.0.0.1 in the form of slack") and "s3cret" not in says()
    monkeypatch.delenv("LLAMA_ASSETS_ALERT_URL")
    done = told("alerts", "test")
    assert done.exit_code == 2 and "LLAMA_ASSETS_ALERT_URL is not set" in done.output
    assert says() == "nobody is told of red checks and failed runs: LLAMA_ASSETS_ALERT_URL is not set"
