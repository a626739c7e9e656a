"""What an answer that is none is instead: a fixture of each class, and texts that only look like one."""

import json

import pytest

from llama_assets.bench.question import FAILURES, failure, judge_answer

from .driven import QUESTION

GOOD = '{"score": 7}'
BABEL = "Der Turm стоит на δρόμος עיר مدينة und weiter дом έξω"


@pytest.mark.parametrize(
    ("text", "how", "kind"),
    [
        (GOOD, {}, None),
        (" ", {}, "empty"),
        ("", {"completion_tokens": 400}, "thinking"),
        ("", {"finish_reason": "length", "completion_tokens": 400}, "thinking"),
        ("<think>The photo shows a pier", {"finish_reason": "length"}, "thinking"),
        ("<think>\n\n</think>\n" + GOOD, {}, "thinking"),
        (f"```json\n{GOOD}\n```", {}, "fenced"),
        (f"Sure! {GOOD}", {}, "prose"),
        ('{"score"', {}, "truncated"),
        (GOOD, {"finish_reason": "length"}, "truncated"),
        ("It shows a pier in the evening", {"finish_reason": "length"}, "truncated"),
        ("A pier in the evening.", {}, "not_json"),
        ('{"score": "7"}', {}, "wrong_type"),
        ('{"score": "7", "mood": "calm"}', {}, "wrong_type"),
        ('{"score": 11}', {}, "schema"),
        ("[7]", {}, "wrong_type"),
        ('{"score": 7, "tags": [' + '"beach", "sea", ' * 12, {}, "loop"),
        ('{"score": 7, "tags": [' + '"beach", "sea", ' * 12, {"finish_reason": "length"}, "loop"),
        ('{"score":' + "\n" * 300, {"finish_reason": "length"}, "loop"),
        ("A pier. " + "It is a pier, and it is a pier in the sea. " * 6 + "It is a p", {}, "loop"),
        ("G" * 120, {}, "garbage"),
        ('{"score": ' + "?" * 200, {"finish_reason": "length"}, "garbage"),
        ("\ufffd\ufffd s\x02 \ufffd\x10 pier \ufffd", {}, "garbage"),
        (BABEL, {}, "garbage"),
        ("I'm sorry, but I can't help with that.", {}, "refusal"),
        ("Es tut mir leid, dabei kann ich nicht helfen.", {}, "refusal"),
        ("抱歉，我无法分析这张图片。", {}, "refusal"),
        (None, {"status": "error"}, "error"),
        ('{"sco', {"status": "timeout"}, "error"),
        (None, {}, None),
    ],
)
def test_each_failure_of_an_answer_has_its_name(text, how, kind):
    assert failure(text, QUESTION, **how) == kind
    assert kind is None or kind in FAILURES


@pytest.mark.parametrize(
    "text",
    [
        "A row of houses. " * 3,  # three times is style
        "A pier in the evening, with people on it\n" + "-" * 30,
        "- sea\n- sea\n- sea\n- sea\n- pier\n- sea",
        "桟橋の夜景。きれいな写真です。Instagramにいいね。",  # Japanese is written in three scripts and Latin
        "Кафе «Ocean View» на берегу, 東京",
        "Two people who cannot swim sit on a pier and look at the sea. They seem to be sorry.",
        "Une jetée, le soir — très belle lumière…",
    ],
)
def test_what_only_looks_odd_is_plain_text(text):
    assert judge_answer(text).problems[0].kind == "not_json"


def test_a_caption_in_a_valid_answer_may_hold_anything():
    """Signs of thinking, loops and refusals are looked for in answers that are no JSON, so a valid one is never doubted
    for what it says."""
    for said in ("<think>", "G" * 200, "I'm sorry, I can't"):
        judged = judge_answer(json.dumps({"caption": said}))
        assert judged.parsed and judged.problems == ()


def test_without_a_question_only_the_text_is_sorted():
    assert failure('{"anything": 1}') is None
    assert failure("```\n{}\n```") == "fenced"
    assert failure(f"{GOOD}", finish_reason="length") == "truncated"


def test_a_long_answer_is_sorted_at_once():
    """Only the end and the beginning are looked at, so a megabyte of noise costs no more than a page."""
    noise = "".join(chr(97 + n * n * n // 977 % 26) for n in range(1_000_000))
    assert failure(noise) == "not_json"
