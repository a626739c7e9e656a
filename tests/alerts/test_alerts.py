"""A message as a receiver gets it, over real HTTP, and what becomes of it while the receiver does not take it."""

from __future__ import annotations

import json

import pytest

from llama_assets.alerts import AlertLimits, Message, NotAccepted, NotDelivered, Outbox, Receiver
from tests.alerts.receiver import LoopbackReceiver, receiver

__all__ = ["receiver"]

LIMITS = AlertLimits(timeout_s=5, first_wait_s=0.01, longest_wait_s=1)
MESSAGE = Message(
    "gguf/qwen: updated is red", "a <b> & café", "`llama-assets doctor`", "http://ui:3000/assets/gguf/qwen"
)


def to(receiver: LoopbackReceiver, form="slack") -> Receiver:
    return Receiver(receiver.url, form, LIMITS)


def test_slack_gets_one_text_with_thing_state_next_command_and_link(receiver):
    to(receiver).send(MESSAGE)
    assert receiver.paths == ["/services/T0/s3cret"] and receiver.headers[0]["Content-Type"] == "application/json"
    (got,) = receiver.got
    assert got == {
        "text": ":red_circle: *llama-assets: gguf/qwen: updated is red*\na &lt;b&gt; &amp; café\n"
        "Next: `llama-assets doctor`\nhttp://ui:3000/assets/gguf/qwen"
    }


def test_ntfy_gets_the_topic_the_title_and_where_a_tap_leads(receiver):
    Receiver(f"http://user:pass@{receiver.host}/below/photos?since=1", "ntfy", LIMITS).send(MESSAGE)
    assert receiver.paths == ["/below/?since=1"] and receiver.headers[0]["Authorization"].startswith("Basic ")
    (got,) = receiver.got
    assert got["topic"] == "photos" and got["title"] == MESSAGE.title and got["message"] == MESSAGE.text
    assert got["priority"] == 4 and got["tags"] == ["red_circle"] and got["click"] == MESSAGE.link
    Receiver(f"http://{receiver.host}/photos", "ntfy", LIMITS).send(Message("it", "is well again", good=True))
    assert receiver.got[1]["tags"] == ["white_check_mark"] and "click" not in receiver.got[1]


def test_a_busy_receiver_is_asked_again_and_one_that_refuses_is_not(receiver):
    receiver.answers = [(503, "", {}), (429, "", {"Retry-After": "0"})]
    assert to(receiver).send(MESSAGE) == "127.0.0.1 answered 200 (ok)" and receiver.heard == 3
    receiver.answers = [(429, "", {"Retry-After": "60"})]
    with pytest.raises(NotDelivered, match="429"):
        to(receiver).send(MESSAGE)
    receiver.answers = [(404, "no_service", {})]
    with pytest.raises(NotDelivered, match=r"answered 404 \(no_service\)") as caught:
        to(receiver).send(MESSAGE)
    assert receiver.heard == 5 and "llama-assets alerts test" in str(caught.value)
    receiver.answers = [(400, json.dumps({"error": "invalid_payload"}), {})]
    with pytest.raises(NotAccepted, match="invalid_payload"):
        to(receiver).send(MESSAGE)


def test_no_error_quotes_the_address(receiver):
    receiver.down = True
    with pytest.raises(NotDelivered) as caught:
        to(receiver).send(MESSAGE)
    assert "s3cret" not in str(caught.value) and "s3cret" not in repr(to(receiver))
    receiver.close()
    with pytest.raises(NotDelivered, match="does not answer") as caught:
        to(receiver).send(MESSAGE)
    assert "s3cret" not in str(caught.value) and caught.value.__cause__ is None
    with pytest.raises(NotDelivered) as caught:
        Receiver("http://host:s3cret/", limits=LIMITS).send(MESSAGE)
    assert "s3cret" not in str(caught.value)


def test_what_was_not_delivered_waits_in_order_and_outlives_the_process(receiver):
    said: list[str] = []
    receiver.down = True
    outbox = Outbox().with_more([Message("a", "1"), Message("b", "2")], kept=5).delivered(to(receiver), said.append)
    assert [one.thing for one in outbox.waiting] == ["a", "b"] and receiver.heard == LIMITS.attempts
    assert said == [f"2 kept, 127.0.0.1 answered 503 (down); {NotDelivered.way_out}"]
    receiver.down = False
    again = Outbox.from_dict(json.loads(json.dumps(outbox.as_dict())))
    assert again == outbox
    assert again.with_more([Message("c", "3")], kept=5).delivered(to(receiver), said.append) == Outbox()
    assert [text.split("*")[1] for text in receiver.texts] == [f"llama-assets: {thing}" for thing in "abc"]


def test_the_oldest_are_dropped_and_the_next_message_says_how_many(receiver):
    outbox = Outbox().with_more([Message(str(n), "down") for n in range(8)], kept=5)
    outbox = outbox.with_more([Message("8", "down")], kept=5)
    assert [one.thing for one in outbox.waiting] == ["4", "5", "6", "7", "8"] and outbox.dropped == 4
    assert outbox.delivered(to(receiver), print) == Outbox()
    assert "4 earlier messages could not be delivered" in receiver.texts[0]
    assert not any("earlier messages" in text for text in receiver.texts[1:])


def test_a_message_that_nobody_takes_does_not_stop_the_next(receiver):
    said: list[str] = []
    receiver.answers = [(413, "too big", {})]
    outbox = Outbox((Message("a", "1"), Message("b", "2")))
    assert outbox.delivered(to(receiver), said.append) == Outbox()
    assert len(receiver.got) == 1 and "too big" in said[0] and "llama-assets: a" in said[0]


def test_a_message_holds_no_secret_and_is_no_longer_than_one_reads():
    state = (
        "could not get https://cdn.host/a/b?Signature=abc&Key=d: 403; GET https://me:pw@git.host/x#frag, "
        "with hf_token and hf_token_long"
    )
    clean = Message("it", state, "`todo`").cleaned(["hf_token", "hf_token_long", ""], 600).state
    assert clean == "could not get https://cdn.host/a/b 403; GET https://git.host/x with *** and ***"
    assert len(Message("it", "x" * 900).cleaned([], 600).state) == 600
