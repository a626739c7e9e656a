"""The evidence: rows as arrays by arm, in the order they were asked.

Here: which rows belong together, their order and what is known of it, which count in the seconds. A value that is not
known is NaN in an array. Not here: what follows from them (`compare`, `warnings`).

    order    `position`, else `started_at`, else the order in the files (then it is taken on trust, and said so)
    counted  answered, with seconds, not marked by the session, without a cold load
    valid    fits the schema; an error and a cut answer are not valid, never missing
    score    the ranking key's value where it is a number of the right type; never coerced
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llama_assets.bench.question import Question, judge_answer
from llama_assets.bench.rows import Row

from .facts import Facts, Load

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
OrderFrom = Literal["position", "started_at", "files"]


@dataclass(frozen=True)
class Arm:
    """One model's rows as arrays of equal length, in the order asked. `photo` indexes `Evidence.photos`."""

    model: str
    rows: tuple[Row, ...]
    photo: NDArray[np.int64]
    order: Floats  # comparable between arms where `Evidence.turns_known`
    started: Floats  # seconds since the session's first row
    seconds: Floats
    ok: Flags
    counted: Flags
    valid: Floats
    parsed: Floats
    score: Floats
    tokens: Floats
    generation: Floats
    block: Floats
    load_starts: NDArray[np.int64]  # rows that came first after another arm had the card: where a load may hide

    @property
    def log_seconds(self) -> Floats:
        """Natural logarithm of seconds; NaN where a row is not counted."""
        return np.log(np.where(self.counted, self.seconds, np.nan))

    def flag(self, read: Callable[[Row], bool]) -> Flags:
        """A boolean array over the rows."""
        return np.array([read(row) for row in self.rows], dtype=bool)


@dataclass(frozen=True)
class Evidence:
    """Everything a judgement is made of. `arms` are in the order first asked.

    `photos` are in the session's order where it is known, `numbers` what each is called where its name stays private.
    """

    session: str | None
    other_sessions: tuple[str, ...]
    photos: tuple[str, ...]
    numbers: tuple[int, ...]
    arms: Mapping[str, Arm]
    order_from: OrderFrom
    turns_known: bool
    blocks: int | None
    repeated: int  # rows of a photo that its arm had answered before; left out
    facts: Facts | None
    question: Question | None
    ranking_key: str | None

    @property
    def loads(self) -> tuple[Load, ...] | None:
        """Recorded loads; None where nobody recorded them."""
        return self.facts.loads if self.facts else None

    def without(self, model: str, rows: NDArray[np.int64]) -> Evidence:
        """The same evidence with these rows of an arm not counted."""
        counted = self.arms[model].counted.copy()
        counted[rows] = False
        return replace(self, arms={**self.arms, model: replace(self.arms[model], counted=counted)})


def gather(rows: Sequence[Row], facts: Facts | None = None, question: Question | None = None) -> Evidence:
    """Sort rows into arms. Of several sessions the newest is taken; the others are named in `other_sessions`."""
    session, others, kept = _newest(rows)
    kept, repeated = _once(kept)
    times = _numbers([None if row.started_at is None else row.started_at.timestamp() for row in kept])
    order, order_from, turns_known = _order(kept, times)
    by_model: dict[str, list[int]] = {}
    for index in np.argsort(order, kind="stable").tolist():
        by_model.setdefault(kept[index].model, []).append(index)
    if facts and order_from == "files":
        by_model = {m: by_model[m] for m in [*facts.arms, *by_model] if m in by_model}
    asked = dict.fromkeys(kept[index].photo for indices in by_model.values() for index in indices)
    known = {photo: place for place, photo in enumerate(facts.photos if facts else (), 1)}
    photos = tuple(sorted(asked, key=lambda photo: known.get(photo, len(known) + 1)) if known else asked)
    starts = _load_starts(kept, order, turns_known)
    number = {photo: index for index, photo in enumerate(photos)}
    key = question.ranking_key if question else facts.ranking_key if facts else None
    started = times - np.min(times, initial=np.inf, where=np.isfinite(times))
    arms = {
        model: _arm(
            model, [kept[i] for i in indices], order[indices], started[indices], starts[indices], number, key, question
        )
        for model, indices in by_model.items()
    }
    blocks = {row.block for row in kept if row.block is not None}
    return Evidence(
        session=session or (facts.id if facts else None),
        other_sessions=others,
        photos=photos,
        numbers=tuple(known.get(photo, len(known) + place) for place, photo in enumerate(photos, 1)),
        arms=arms,
        order_from=order_from,
        turns_known=turns_known,
        blocks=len(blocks) or None,
        repeated=repeated,
        facts=facts,
        question=question,
        ranking_key=key,
    )


def _newest(rows: Sequence[Row]) -> tuple[str | None, tuple[str, ...], list[Row]]:
    """The newest session by its first row's time, else by its id, else the last in the files."""
    ids = list(dict.fromkeys(row.session for row in rows if row.session is not None))
    if len(ids) < 2:
        return (ids[0] if ids else None), (), list(rows)
    begins: dict[str, str] = {}
    for row in rows:
        if row.session is not None and row.started_at is not None:
            at = row.started_at.isoformat()
            begins[row.session] = min(begins.get(row.session, at), at)
    newest = max(ids, key=lambda session: (begins.get(session, ""), session))
    return newest, tuple(i for i in ids if i != newest), [row for row in rows if row.session == newest]


def _once(rows: list[Row]) -> tuple[list[Row], int]:
    seen: set[tuple[str, str]] = set()
    kept = [row for row in rows if (key := (row.model, row.photo)) not in seen and not seen.add(key)]  # type: ignore[func-returns-value]
    return kept, len(rows) - len(kept)


def _order(rows: list[Row], times: Floats) -> tuple[Floats, OrderFrom, bool]:
    """One number a row that sorts the session; whether it also says how the arms took turns."""
    positions = _numbers([row.position for row in rows])
    several = len({row.model for row in rows}) > 1
    if len(rows) and not np.isnan(positions).any():
        own = several and len(np.unique(positions)) < len(positions)  # each arm counts for itself
        if not own:
            return positions, "position", True
        if np.isnan(times).any():
            return positions, "position", False
    if len(rows) and not np.isnan(times).any():
        ranks = np.argsort(np.argsort(times, kind="stable"), kind="stable").astype(float)
        return ranks, "started_at", True
    return np.arange(len(rows), dtype=float), "files", False


def _load_starts(rows: Sequence[Row], order: Floats, turns_known: bool) -> Flags:
    """Which rows came first after another arm had the card.

    Arms that take turns photo by photo load for nearly every row, and their seconds say so all alike; then, and where
    nothing says how they took turns, only an arm's first row is told from its others (and the first of a block).
    """
    models = np.unique([row.model for row in rows], return_inverse=True)[1]
    sequence = np.argsort(order, kind="stable")
    starts = np.zeros(len(rows), dtype=bool)
    changed = np.r_[True, np.diff(models[sequence]) != 0]
    if turns_known and changed.sum() * 3 <= len(rows):
        starts[sequence[changed]] = True
        return starts
    blocks = _numbers([row.block for row in rows])
    for model in range(models.max() + 1):
        own = sequence[models[sequence] == model]
        starts[own[0]] = True
        if not turns_known and np.isfinite(blocks[own]).all():
            starts[own[1:]] |= np.diff(blocks[own]) != 0
    return starts


def _arm(
    model: str,
    rows: list[Row],
    order: Floats,
    started: Floats,
    starts: Flags,
    number: Mapping[str, int],
    key: str | None,
    question: Question | None,
) -> Arm:
    seconds = _numbers([row.seconds for row in rows])
    ok = np.array([not row.failed for row in rows], dtype=bool)
    known = np.isfinite(seconds) & (np.nan_to_num(seconds) > 0)
    clean = np.array([row.marked is None and row.cold_load is not True for row in rows], dtype=bool)
    return Arm(
        model=model,
        rows=tuple(rows),
        photo=np.array([number[row.photo] for row in rows], dtype=np.int64),
        order=order,
        started=started,
        seconds=seconds,
        ok=ok,
        counted=ok & known & clean,
        valid=_numbers([_valid(row) for row in rows]),
        parsed=_numbers([row.parsed for row in rows]),
        score=_numbers([_score(row, key, question) for row in rows]),
        tokens=_numbers([row.completion_tokens for row in rows]),
        generation=_numbers([row.generation_seconds for row in rows]),
        block=_numbers([row.block for row in rows]),
        load_starts=np.flatnonzero(starts),
    )


def _numbers(values: Sequence[float | int | bool | None]) -> Floats:
    return np.array(values, dtype=float)  # None becomes NaN


def _valid(row: Row) -> bool | None:
    if row.failed or row.finish_reason == "length":
        return False
    return row.schema_valid


def _score(row: Row, key: str | None, question: Question | None) -> float | None:
    """The ranking key's value; None where it is missing, of another type, or out of the schema's range."""
    if key is None or row.answer_json is None:
        return None
    answer: Any = json.loads(row.answer_json)
    value = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if question and row.schema_valid is not True:
        problems = judge_answer(row.answer_json, question).problems
        return None if any(problem.field == key for problem in problems) else float(value)
    return float(value)
