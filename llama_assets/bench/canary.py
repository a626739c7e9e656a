"""A canary for each arm: a few cheap answers that show a hopeless one before it costs an hour of a lent card.

Here: whether the model answers at all, keeps its thinking to itself, stops by itself, is fast enough, whether pictures
reach it (`sight`), and whether the engine really holds it to a schema: the probe's only legal answer is a word that no
model would say freely, because engines fall back to free text without a word. Not here: loading (`session`), scores
(`verdict`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from .asking import Ask, Reply
from .causes import Cause, of_answer, of_gpu, too_old
from .failures import THINKING, loop
from .question import Question, judge_answer
from .sight import Sight, asks, compared

PROBE_WORD = "vexilquorn-83"
BLIND = (
    "the picture does not reach the model: a red and a blue one leave the same chances for the next word; "
    "a damaged projector, or one that its engine does not use"
)


@dataclass(frozen=True)
class CanaryLimits:
    """What counts as hopeless."""

    probe_max_tokens: int = 64
    tokens_per_second: float = 1.0  # fewer is a model beside the GPU, or on one without a path for it
    least_tokens: int = 8  # fewer tell nothing about speed
    ask_s: float = 25.0  # longest for one of its two requests with a photo
    sight_s: float = 5.0  # longest for one of its two single tokens: together all four stay within a minute


@dataclass(frozen=True)
class Canary:
    """What the canary saw. `reason` is why the arm is hopeless, None when it is not; None elsewhere is "not known".

    `cause` is the reason in one word, `gpu` what the engine's log says of it.
    """

    reason: str | None
    answered: bool | None = None
    stopped_by_itself: bool | None = None
    tokens_per_second: float | None = None
    enforced: bool | None = None
    cause: Cause | None = None
    sight: Sight | None = None
    gpu: str | None = None

    @property
    def passed(self) -> bool:
        """The arm goes on."""
        return self.reason is None


class Unanswered(Exception):
    """A request of the canary failed; `reply` says how. The caller treats it like any crash or time-out."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(reply.error)


@cache
def probe() -> Question:
    """The question with one legal answer, which nobody would give unasked."""
    word = {"type": "string", "enum": [PROBE_WORD]}
    number = {"type": "integer", "const": 83}
    return Question(
        prompt="Say in one plain sentence what this photo shows.",
        schema={
            "type": "object",
            "properties": {"word": word, "number": number},
            "required": ["word", "number"],
            "additionalProperties": False,
        },
        ranking_key="number",
    )


def request(question: Question, image_jpeg: bytes, max_tokens: int, timeout_s: float) -> Ask:
    """The question about one photo, with the schema held as the question says."""
    by_grammar = question.structured_output == "grammar"
    return Ask(
        prompt=question.prompt,
        image_jpeg=image_jpeg,
        max_tokens=max_tokens,
        timeout_s=timeout_s,
        grammar=question.grammar if by_grammar else None,
        json_schema=None if by_grammar else question.schema,
    )


@dataclass(frozen=True)
class Served:
    """What is known of the arm without asking: its file's architecture, the engine's build, its server's log."""

    architecture: str | None = None
    build: str | None = None
    log: str = ""


UNKNOWN = Served()


def examine(
    warm_up: Reply,
    asked: Ask,
    ask: Callable[[Ask], Reply],
    question: Question,
    limits: CanaryLimits,
    served: Served = UNKNOWN,
) -> Canary:
    """Judge an arm by what is served, by the answer to its warm-up image and by a probe of the schema.

    Asks three to four more times: one or two with the photo, `limits.ask_s` each at most, and two for a single token.

    Raises:
        Unanswered: a request failed.
    """
    seen = Canary(None, answered=bool(warm_up.text.strip()), tokens_per_second=_speed(warm_up, limits))
    seen = replace(seen, gpu=of_gpu(served.log))
    if found := _at_sight(seen, warm_up, limits, served):
        return replace(seen, cause=found[0], reason=found[1])
    within = min(asked.timeout_s, limits.ask_s)
    again = replace(asked, timeout_s=within)
    cut = warm_up.finish_reason == "length" and _answer(ask, again).finish_reason == "length"
    seen = replace(seen, stopped_by_itself=not cut)
    if cut:
        told = f"; {why}" if (why := loop(warm_up.text)) else ""
        reason = f"it does not end an answer within {asked.max_tokens} tokens{told}"
        return replace(seen, cause="broken" if told else "length", reason=reason)
    shown = asks(min(asked.timeout_s, limits.sight_s))
    seen = replace(seen, sight=compared(ask(shown[0]), ask(shown[1])))
    if seen.sight and seen.sight.reached is False:
        return replace(seen, cause="projector", reason=BLIND)
    probing = replace(probe(), structured_output=question.structured_output)
    answer = _answer(ask, request(probing, asked.image_jpeg, limits.probe_max_tokens, within)).text
    seen = replace(seen, enforced=judge_answer(answer, probing).schema_valid)
    if not seen.enforced:
        held = "grammar" if question.structured_output == "grammar" else "response_format"
        reason = f"its engine does not hold the schema ({held}): the probe got {_short(answer)}"
        return replace(seen, cause="schema", reason=reason)
    return seen


def _at_sight(seen: Canary, warm_up: Reply, limits: CanaryLimits, served: Served) -> tuple[Cause, str] | None:
    """What needs no further question; causes before what they cause."""
    if why := too_old(served.architecture, served.build):
        return "engine_too_old", why
    if not seen.answered:
        spent = f" after {warm_up.completion_tokens} tokens" if warm_up.completion_tokens else ""
        return "thinking", f"its answer is empty{spent}: it may think where nobody reads it"
    if leak := THINKING.search(warm_up.text):
        return "thinking", f"its thinking leaks into the answer ({leak.group()})"
    if warm_up.reasoning.strip():
        return "thinking", f"it thinks although that is switched off ({len(warm_up.reasoning)} characters)"
    if seen.tokens_per_second is not None and seen.tokens_per_second < limits.tokens_per_second:
        slow = f"{seen.tokens_per_second:.2g} tokens/s are fewer than {limits.tokens_per_second:g}"
        told = f"its engine says: {seen.gpu}" if seen.gpu else "are all its layers on the GPU?"
        return "offload", f"it is too slow: {slow}; {told}"
    return of_answer(warm_up.text)


def to_json(seen: Canary) -> dict[str, Any]:
    """For session.json."""
    return {
        "passed": seen.passed,
        "reason": seen.reason,
        "answered": seen.answered,
        "stopped_by_itself": seen.stopped_by_itself,
        "tokens_per_second": seen.tokens_per_second,
        "enforced": seen.enforced,
        "cause": seen.cause,
        "gpu": seen.gpu,
        "sight": None if seen.sight is None else asdict(seen.sight),
    }


def _answer(ask: Callable[[Ask], Reply], asked: Ask) -> Reply:
    reply = ask(asked)
    if reply.status != "ok":
        raise Unanswered(reply)
    return reply


def _speed(reply: Reply, limits: CanaryLimits) -> float | None:
    """Tokens a second after the first one, as llama.cpp counts them; None where too few were written to tell."""
    if not reply.completion_tokens or reply.completion_tokens < limits.least_tokens or not reply.generation_seconds:
        return None
    return (reply.completion_tokens - 1) / reply.generation_seconds


def _short(text: str) -> str:
    return json.dumps(text if len(text) <= 60 else text[:59] + "…", ensure_ascii=False)
