"""What an arm's answers are worth, row by row: answered, complete, and the class of each failure.

Here: the reading of a row; what it does not say is NaN, None or not counted, never guessed. Not here: rates and their
intervals (`compare`), the classes themselves (`bench.question`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from llama_assets.bench.question import FAILURES, Question, failure
from llama_assets.bench.rows import Row

from .evidence import Arm, Floats
from .facts import ArmFacts


def answered(arm: Arm) -> Floats:
    """1 where the engine answered, 0 for an error or a time-out, NaN where no status is known."""
    return _flags(None if row.status is None else row.status == "ok" for row in arm.rows)


def complete(arm: Arm) -> Floats:
    """1 where an answer ended by itself, 0 where it was cut at the limit of tokens or never came, else NaN."""
    return _flags(_complete(row) for row in arm.rows)


def enforced(facts: ArmFacts | None) -> bool | None:
    """Whether the session's probe found that the engine holds a schema; None where nobody tried."""
    canary = facts.raw.get("canary") if facts else None
    found = canary.get("enforced") if isinstance(canary, dict) else None
    return found if isinstance(found, bool) else None


def failures(arm: Arm, question: Question | None) -> dict[str, int]:
    """Rows without a valid answer by class, in the order of `FAILURES`."""
    found = Counter(
        kind
        for row, valid in zip(arm.rows, arm.valid, strict=True)
        if valid != 1 and (kind := _failure(row, question)) is not None
    )
    return {kind: found[kind] for kind in FAILURES if found[kind]}


def _failure(row: Row, question: Question | None) -> str | None:
    text = row.answer_text if row.answer_text is not None else row.answer_json
    return failure(text, question, row.status, row.finish_reason, row.completion_tokens)


def _complete(row: Row) -> bool | None:
    if row.status in ("error", "timeout"):
        return False
    return None if row.finish_reason is None else row.finish_reason != "length"


def _flags(values: Iterable[bool | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
