"""Promotion and quarantine as tables: what is known on the left, what is decided on the right."""

from __future__ import annotations

import pytest

from llama_assets import catalog
from llama_assets.policy.promotion import (
    Measured,
    advise,
    advise_engine,
    decide,
    is_due,
    is_quarantined,
    loading_key,
    word_of,
)

BOTH = ("better", "equivalent")


@pytest.mark.parametrize(
    ("seconds", "valid", "word"),
    [
        ("better", "better", "better"),
        ("better", "equivalent", "better"),
        ("equivalent", "better", "better"),
        ("equivalent", "equivalent", "equivalent"),
        ("better", "worse", "worse"),
        ("worse", "better", "worse"),
        ("worse", "inconclusive", "worse"),
        (None, "worse", "worse"),
        ("inconclusive", "better", "inconclusive"),
        ("better", "inconclusive", "inconclusive"),
        ("better", None, "inconclusive"),
        (None, None, "inconclusive"),
    ],
)
def test_two_verdicts_become_one_word(seconds, valid, word):
    assert word_of(Measured(seconds, valid)) == word


@pytest.mark.parametrize(
    ("word", "promote_on", "tries", "action"),
    [
        ("better", BOTH, 1, "promote"),
        ("better", ("better",), 1, "promote"),
        ("better", ("equivalent",), 1, "promote"),
        ("equivalent", BOTH, 1, "promote"),
        ("equivalent", ("better",), 1, "reject"),
        ("worse", BOTH, 1, "reject"),
        ("inconclusive", BOTH, 1, "wait"),
        ("inconclusive", BOTH, 3, "wait"),
        ("inconclusive", ("better",), 9, "wait"),
    ],
)
def test_what_becomes_of_a_candidate(word, promote_on, tries, action):
    found = decide(Measured(word, word if word != "better" else "equivalent"), promote_on, tries)
    assert (found.action, found.word) == (action, word)


@pytest.mark.parametrize(
    ("ended_by", "action", "says"),
    [
        ("canary", "reject", "its canary failed: its answer is empty"),
        ("load", "wait", "its arm was given up: its answer is empty"),
        ("crashes", "wait", "its arm was given up"),
        ("timeouts", "wait", "its arm was given up"),
    ],
)
def test_a_canary_rejects_and_other_ends_wait_whatever_its_rows_say(ended_by, action, says):
    found = decide(Measured("better", "better", ended="its answer is empty", ended_by=ended_by), BOTH, 1)
    assert found.action == action and says in found.reason


def test_rows_that_stop_a_recommendation_decide_nothing():
    found = decide(Measured("better", "better", stopped_by=("mixed_engine",)), BOTH, 1)
    assert found.action == "wait" and "mixed_engine" in found.reason


@pytest.mark.parametrize(
    ("word", "action", "says"),
    [
        ("better", "recommend", "edit the file"),
        ("worse", "reject", "take `candidate` out of the catalog"),
        ("inconclusive", "wait", "every benchmark measures it"),
    ],
)
def test_what_the_catalog_tries_is_advice(word, action, says):
    found = advise(Measured(word, word), BOTH, "edit the file")
    assert (found.action, found.word) == (action, word) and says in found.reason


def test_who_waits_is_told_what_would_settle_it_and_after_the_last_try_who_has_to_decide():
    open_one = Measured("inconclusive", "equivalent", photos_needed=240)
    first, last = decide(open_one, BOTH, 1, most_tries=3), decide(open_one, BOTH, 3, most_tries=3)
    assert "about 240 photos would settle it" in first.reason and "measures it again (1 of 3 tries)" in first.reason
    assert "waits for a person: `llama-assets promote` or `reject`" in last.reason


@pytest.mark.parametrize(
    ("tries", "automatic", "due"), [(0, True, True), (2, True, True), (3, True, False), (3, False, True)]
)
def test_automation_stops_trying_and_a_person_does_not(tries, automatic, due):
    assert is_due(tries, automatic, most_tries=3) is due


@pytest.mark.parametrize(("failures", "after", "kept_out"), [(0, 3, False), (2, 3, False), (3, 3, True), (1, 1, True)])
def test_so_many_failed_loads_in_a_row_are_a_quarantine(failures, after, kept_out):
    assert is_quarantined([object()] * failures, after) is kept_out


def test_another_fingerprint_argument_context_or_image_is_free_again():
    model, engine = catalog.load().models[0], catalog.load().engine
    keys = {
        loading_key("a" * 64, model, engine, "i@1"),
        loading_key("b" * 64, model, engine, "i@1"),
        loading_key("a" * 64, model.model_copy(update={"arguments": ("--flash-attn", "on")}), engine, "i@1"),
        loading_key("a" * 64, model.model_copy(update={"context": 512}), engine, "i@1"),
        loading_key("a" * 64, model, engine.model_copy(update={"gpu_layers": 1}), "i@1"),
        loading_key("a" * 64, model, engine, "i@2"),
    }
    assert len(keys) == 6
    renamed = model.model_copy(update={"id": "x", "aliases": ("y",)})
    assert loading_key("a" * 64, renamed, engine, "i@1") in keys, "names change nothing about loading"


@pytest.mark.parametrize(
    ("words", "actions", "says"),
    [
        (("better", "equivalent"), ("recommend", "recommend"), "edit the file"),
        (("better", "worse"), ("reject", "reject"), "one engine answers for all models, and n@engine is worse"),
        (
            ("better", "inconclusive"),
            ("wait", "wait"),
            "one engine answers for all models, and n@engine is inconclusive",
        ),
        (("inconclusive", "worse"), ("wait", "reject"), "every benchmark measures it"),
    ],
)
def test_an_engine_is_recommended_where_every_model_is_for_it(words, actions, says):
    measured = {f"{model}@engine": Measured(word, word) for model, word in zip("mn", words, strict=True)}
    found = advise_engine(measured, BOTH, "edit the file")
    assert tuple(one.action for one in found.values()) == actions
    assert tuple(one.word for one in found.values()) == words, "each keeps its own word"
    assert says in found["m@engine"].reason
