"""What an answer that is no JSON is instead: thinking, a loop, garbage, a refusal.

Here: rules on the text alone, so that answers measured anywhere can be sorted; each is bounded, and a guess whose rule
stands beside it. Not here: fences, prose, cut JSON and the schema (`question`), what follows for an arm (`canary`,
`verdict`).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

OddKind = Literal["thinking", "loop", "garbage", "refusal"]
Odd = tuple[OddKind, str]

# The marks around thinking in the templates of Qwen, DeepSeek, gpt-oss and Mistral.
THINKING = re.compile(r"</?think(ing)?>|<\|channel\|>|\[/?THINK\]", re.IGNORECASE)

LONGEST_PERIOD = 120  # characters; longer ones are whole sentences told again, which a text may have twice
FEWEST_REPEATS = 4
FEWEST_REPEATED = 80  # characters; `----` and `...` are no loop
TAIL = LONGEST_PERIOD * FEWEST_REPEATS + 40  # what is looked at, and the end that a token limit may have torn

HEAD = 2000  # characters looked at for garbage
FEWEST_FOR_GARBAGE = 8
UNREADABLE_SHARE = 0.1
RUN_SHARE = 0.5
MANY_SCRIPTS = 4
FEWEST_LETTERS = 2  # of a script, for it to count: one is a symbol or a name

LONGEST_REFUSAL = 600
REFUSAL_HEAD = 160
# How models decline, in the languages they are mostly asked in. A guess by words: a caption that says "I cannot" and
# stands alone would be taken for one.
REFUSAL = re.compile(
    r"\b(i['’]?m (very |so )?sorry|i am (very |so )?sorry|i (can(no|['’])t|can not|am unable to|['’]?m unable to"
    r"|won['’]t|will not) |as an ai\b|es tut mir leid|tut mir leid|ich kann (leider |das |dir |ihnen )*(nicht|kein)"
    r"|je suis désolée?|je ne peux pas|lo siento|no puedo|mi dispiace|non posso|desculpe|não posso|het spijt me"
    r"|ik kan (helaas )?(niet|geen)|przepraszam|nie mogę|извините|я не могу)"
    r"|抱歉|对不起|對不起|我无法|我無法|我不能|申し訳|できません|죄송합니다|할 수 없습니다",
    re.IGNORECASE,
)


def odd(text: str) -> Odd | None:
    """The kind and a sentence, in the order: thinking, garbage, loop, refusal; None for a text that is none of them."""
    if found := THINKING.search(text):
        return "thinking", f"thinking stands in the answer ({found.group()})"
    if why := garbage(text):
        return "garbage", why
    if why := loop(text):
        return "loop", why
    if why := _refusal(text):
        return "refusal", why
    return None


def loop(text: str) -> str | None:
    """The text ends in a piece of at most 120 characters told four times or more, 80 characters or more in all.

    A piece told with a number that counts up is not found.
    """
    tail = text[-TAIL:]
    if len(tail) < FEWEST_REPEATED:
        return None
    for period in range(1, min(LONGEST_PERIOD, len(tail) // FEWEST_REPEATS) + 1):
        same = period
        while same < len(tail) and tail[-1 - same] == tail[-1 - same + period]:
            same += 1
        if same >= max(FEWEST_REPEATED, FEWEST_REPEATS * period):
            piece = tail[-period:]
            shown = repr(piece if period <= 30 else piece[:29] + "…")
            return f"it ends in {shown} told {same // period} times or more"
    return None


def garbage(text: str) -> str | None:
    """A tenth of it cannot be read, or half of it is one sign, or letters of four scripts are mixed.

    Cannot be read: U+FFFD, control, private and unassigned characters. One sign: one run of 20 or more that is no space
    (a blank answer that goes on is a loop). Chinese, Japanese kana and Hangul count as one script. A broken quant and
    an engine too old for an architecture write so, fluently and without an error.
    """
    head = text[:HEAD]
    if len(head.strip()) < FEWEST_FOR_GARBAGE:
        return None
    unreadable = sum(
        sign == "\ufffd" or (unicodedata.category(sign) in ("Cc", "Co", "Cn", "Cs") and sign not in "\n\r\t")
        for sign in head
    )
    if unreadable >= UNREADABLE_SHARE * len(head):
        return f"{unreadable} of {len(head)} characters cannot be read"
    longest = max(re.finditer(r"(\S)\1{19,}", head), key=lambda run: len(run.group()), default=None)
    if longest and len(longest.group()) >= RUN_SHARE * len(head):
        return f"it is {longest.group(1)!r} again and again"
    scripts = _scripts(head)
    if len(scripts) >= MANY_SCRIPTS:
        return f"letters of {len(scripts)} scripts are mixed ({', '.join(sorted(scripts))})"
    return None


def _scripts(text: str) -> set[str]:
    if text.isascii():
        return set()
    letters: dict[str, int] = {}
    for sign in text:
        if sign.isalpha():
            script = unicodedata.name(sign, "unknown").split(" ", 1)[0].lower()
            script = "cjk" if script in ("cjk", "hiragana", "katakana", "hangul", "halfwidth", "fullwidth") else script
            letters[script] = letters.get(script, 0) + 1
    return {script for script, count in letters.items() if count >= FEWEST_LETTERS}


def _refusal(text: str) -> str | None:
    if len(text) > LONGEST_REFUSAL or "{" in text:
        return None
    found = REFUSAL.search(text[:REFUSAL_HEAD])
    return f"it declines ({found.group().strip()!r})" if found else None
