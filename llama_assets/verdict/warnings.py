"""The flaws that rows or a session file show: each check's rule, its figures, what it does to the verdict.

A check yields `Finding`s: with an effect it is a warning, without one the check was quiet. Thresholds were set so that
all of them together fire in at most 4 % of clean interleaved sessions (autocorrelation 0.3, 100 photos). Not here: how
a finding is said (`warning_texts`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from llama_assets.bench.question import Question, judge_answer
from llama_assets.bench.rows import Row, incumbent_of, is_engine_arm

from . import statistics
from .compare import Paired, rate
from .evidence import Arm, Evidence, Flags
from .judgement import Code, Effect, Figures, Lease, ModelFigures
from .statistics import RULES, Rules

CODES: tuple[Code, ...] = get_args(Code)


@dataclass(frozen=True)
class Thresholds:
    """From where on a check warns; shares are fractions."""

    drift_p: float = 0.005  # divided by the number of series tested
    drift_shift: float = 1.05  # ratio over the arm
    cold_ratio: float = 2.0  # first answer of a load against the arm's median
    cold_lone_ratio: float = 1.3  # by which a single first answer must exceed the next slowest
    disturbed_ratio: float = 1.5  # of three answers in a row against the arm's median
    disturbed_run: int = 3
    disturbed_spreads: float = 2.5  # standard deviations it must exceed too
    marked_share: float = 0.10  # of an arm's rows; above it what is left is no sample of an undisturbed card
    tied_seats: float = 0.8  # of the top N drawn by lot
    idle_share: float = 0.10
    idle_s: float = 60.0


THRESHOLDS = Thresholds()
JSON_TYPES = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(frozen=True)
class Finding:
    """What one check found. Without an effect it found nothing, and the figures say what it looked at."""

    code: Code
    model: str | None
    figures: Figures
    effect: Effect | None = None


@dataclass(frozen=True)
class Drift:
    """The clearest straight line in an arm: its p, the limit p is held against, the shift (log) along the arm."""

    p: float
    limit: float
    shift: float

    def fires(self, thresholds: Thresholds = THRESHOLDS) -> bool:
        """Whether it is a warning."""
        return self.p < self.limit and abs(self.shift) >= math.log(thresholds.drift_shift)


# --- looked at before anything is compared ----------------------------------------------------------------------------
def hidden_loads(evidence: Evidence, thresholds: Thresholds = THRESHOLDS) -> dict[str, np.ndarray]:
    """Rows, by arm, that seem to hold a cold load nobody recorded: first of a load, slow enough, often enough.

    Only where `cold_load` is not known. Several loads: at least half of their first answers, and two, take more than
    twice the arm's median. One load an arm: two arms show it, or it is far the slowest answer, or there is one arm.
    """
    slow: dict[str, np.ndarray] = {}
    starts: dict[str, np.ndarray] = {}
    for model, arm in evidence.arms.items():
        known = all(row.cold_load is not None for row in arm.rows)
        first = arm.load_starts[arm.counted[arm.load_starts]] if arm.counted.any() and not known else np.zeros(0, int)
        median = np.median(arm.seconds[arm.counted]) if arm.counted.any() else np.nan
        starts[model], slow[model] = first, first[arm.seconds[first] > thresholds.cold_ratio * median]
    shown = sum(len(rows) > 0 for rows in slow.values())
    found = {}
    for model, rows in slow.items():
        several = len(starts[model]) > 1
        if several and len(rows) >= max(2, len(starts[model]) / 2):
            found[model] = starts[model]
        elif (
            not several and len(rows) and (shown > 1 or len(slow) == 1 or _lone(evidence.arms[model], rows, thresholds))
        ):
            found[model] = rows
    return found


def _lone(arm: Arm, rows: np.ndarray, thresholds: Thresholds) -> bool:
    top = np.sort(arm.seconds[arm.counted])[-2:]
    return len(top) == 2 and arm.seconds[rows[0]] == top[1] > thresholds.cold_lone_ratio * top[0]


def drifts(evidence: Evidence, thresholds: Thresholds = THRESHOLDS) -> dict[str, Drift]:
    """Per arm the clearest trend of its seconds, of its seconds against the other arms' at the same photo, per token.

    A photo's own effect on seconds is noise to this test: the last two take most of it out.
    """
    series: dict[str, list[np.ndarray]] = {}
    by_photo = {model: _by_photo(evidence, arm) for model, arm in evidence.arms.items()}
    for model, arm in evidence.arms.items():
        own = arm.log_seconds
        others = [by_photo[m][arm.photo] for m, other in evidence.arms.items() if m != model and other.counted.any()]
        candidates = [own, *([own - np.mean(others, axis=0)] if others else []), _per_token(arm)]
        finite = [x[np.isfinite(x)] for x in candidates]
        series[model] = [x for x in finite if len(x) >= RULES.fewest_photos]
    tested = sum(len(found) for found in series.values())
    clearest = {}
    for model, found in series.items():
        if found:
            trends = [statistics.trend(x) for x in found]
            firing = [t for t in trends if abs(t.shift) >= math.log(thresholds.drift_shift)]
            best = min(firing or trends, key=lambda t: t.p)
            clearest[model] = Drift(best.p, thresholds.drift_p / tested, best.shift)
    return clearest


def _per_token(arm: Arm) -> np.ndarray:
    """Log seconds a token; without the engine's own seconds, what the number of tokens leaves unexplained of ours."""
    with np.errstate(divide="ignore", invalid="ignore"):
        per_token = np.log(np.where(arm.counted, arm.generation / arm.tokens, np.nan))
        tokens = np.log(np.where(arm.counted, arm.tokens, np.nan))
    if np.isfinite(per_token).any():
        return per_token
    known = np.isfinite(tokens)
    if known.sum() < RULES.fewest_photos or np.ptp(tokens[known]) == 0:
        return np.full(len(arm.rows), np.nan)
    own = arm.log_seconds
    slope, level = np.polyfit(tokens[known], own[known], 1)
    left: np.ndarray = own - slope * tokens - level
    return left


def _by_photo(evidence: Evidence, arm: Arm) -> np.ndarray:
    values = np.full(len(evidence.photos), np.nan)
    values[arm.photo] = arm.log_seconds
    return values


# --- the checks, each on its own --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Seen:
    """What the checks look at."""

    evidence: Evidence
    incumbent: str
    models: Mapping[str, ModelFigures]
    series: Sequence[Paired]
    drifts: Mapping[str, Drift]
    hidden: Mapping[str, np.ndarray]
    lease: Lease | None
    rules: Rules = RULES
    thresholds: Thresholds = THRESHOLDS


def look(seen: Seen) -> list[Finding]:
    """Every check once: what made a verdict impossible first, then what stops a recommendation, then the rest."""
    order = {effect: rank for rank, effect in enumerate(get_args(Effect))}
    found = [finding for check in CHECKS for finding in check(seen)]
    return sorted(found, key=lambda f: (order.get(f.effect, len(order)), CODES.index(f.code)))


def wrong_typed_field(seen: Seen) -> Iterator[Finding]:
    """Answers that are JSON but hold a field of another type than the schema asks for; never coerced.

    Without the schema: of another type than two thirds of all answers hold there, or no number under the ranking key.
    """
    question = seen.evidence.question
    of_arms = _by_most(seen.evidence) if question is None else _by_schema(seen.evidence, question)
    found = False
    for model, wrong in of_arms.items():
        fields = Counter(field for one in wrong for field in sorted(one))
        if fields:
            found = True
            figures = _rate(np.array([bool(one) for one in wrong], dtype=float))
            figures |= {"field": fields.most_common(1)[0][0], "fields": len(fields)}
            figures["against"] = "most answers" if question is None else "the schema"
            yield Finding("wrong_typed_field", model, figures, "none")
    if question is not None and not found:
        yield Finding("wrong_typed_field", None, {"count": 0})


def _by_schema(evidence: Evidence, question: Question) -> dict[str, list[frozenset[str]]]:
    """By arm and row, fields of an answer that are of another type than the schema's."""

    def odd(row: Row) -> frozenset[str]:
        if row.answer_json is None or row.schema_valid is True:
            return frozenset()
        problems = judge_answer(row.answer_json, question).problems
        return frozenset(problem.field or "the answer" for problem in problems if problem.keyword == "type")

    return {model: [odd(row) for row in arm.rows] for model, arm in evidence.arms.items()}


def _by_most(evidence: Evidence) -> dict[str, list[frozenset[str]]]:
    """The same without a schema, from what the answers hold themselves; an absent or null field is no type.

    Many answers hold the same fields of the same types, so it is these that are compared.
    """
    shapes = {model: [_types(row) for row in arm.rows] for model, arm in evidence.arms.items()}
    alike = Counter(one for arm in shapes.values() for one in arm)
    types: dict[str, Counter[str]] = {}
    for one, rows in alike.items():
        for field, kind in one:
            types.setdefault(field, Counter())[kind] += rows
    usual = {}
    for field, kinds in types.items():
        kind, held = kinds.most_common(1)[0]
        if 3 * held >= 2 * kinds.total() and kinds.total() >= RULES.fewest_photos:
            usual[field] = kind
    if evidence.ranking_key in types:
        usual[evidence.ranking_key] = "number"
    odd = {one: frozenset(field for field, kind in one if usual.get(field, kind) != kind) for one in alike}
    return {model: [odd[one] for one in arm] for model, arm in shapes.items()}


def _types(row: Row) -> tuple[tuple[str, str], ...]:
    answer = row.answer
    if not isinstance(answer, dict):
        return ()
    return tuple([(field, JSON_TYPES[type(value)]) for field, value in answer.items() if value is not None])


def ties_at_top(seen: Seen) -> Iterator[Finding]:
    """Four fifths of the top N or more drawn by lot from a group of at least 2 N: the ranking is not one."""
    ties = {model: figures.tie for model, figures in seen.models.items() if figures.tie}
    top = seen.rules.top_n
    flat = {
        model: tie
        for model, tie in ties.items()
        if tie.group >= 2 * top and tie.seats >= seen.thresholds.tied_seats * top
    }
    for model, tie in flat.items():
        figures = {"score": tie.score, "group": tie.group, "seats": tie.seats, "top_n": top}
        yield Finding("ties_at_top", model, figures, "none")
    if ties and not flat:
        model, tie = max(ties.items(), key=lambda item: item[1].group)
        yield Finding("ties_at_top", model, {"score": tie.score, "group": tie.group, "seats": tie.seats, "top_n": top})


def drift(seen: Seen) -> Iterator[Finding]:
    """A straight line through an arm that noise does not explain, of 5 % or more over the arm."""
    firing = {model: d for model, d in seen.drifts.items() if d.fires(seen.thresholds)}
    for model, found in firing.items():
        pairs = [s for s in seen.series if model in (s.a, s.b) and s.n >= seen.rules.fewest_for_interval]
        leverage = max((s.leverage for s in pairs), default=None)
        gaps = [float(np.median(s.d)) for s in pairs]
        figures = {
            "shift": math.expm1(found.shift),
            "p": found.p,
            "p_limit": found.limit,
            "leverage": leverage,
            "can_move": None if leverage is None else math.expm1(abs(found.shift) * leverage),
            "smallest_gap": abs(math.expm1(min(gaps, key=abs))) if gaps else None,
        }
        widened = leverage is not None and leverage > seen.rules.free_leverage
        yield Finding("drift", model, figures, "interval_widened" if widened else "none")
    if seen.drifts and not firing:
        model, found = max(seen.drifts.items(), key=lambda item: abs(item[1].shift))
        yield Finding("drift", model, {"shift": math.expm1(found.shift), "p": found.p, "p_limit": found.limit})


def autocorrelation(seen: Seen) -> Iterator[Finding]:
    """Answers that follow each other resemble each other so much that few photos are left in effect."""
    found = [(s.b, s.n, s.r) for s in seen.series]
    if not found:
        arm = seen.evidence.arms[seen.incumbent]
        own = arm.log_seconds[arm.counted]
        r = float(statistics.lag1(statistics.winsorised(own, seen.rules.trim))) if len(own) else 0.0
        found = [(arm.model, len(own), r)]
    found = [(model, n, r) for model, n, r in found if n >= seen.rules.fewest_photos]
    high = [(model, n, r) for model, n, r in found if r > statistics.autocorrelation_limit(n)]
    for model, n, r in high:
        figures = {"r": r, "limit": statistics.autocorrelation_limit(n), "photos": n}
        figures["effective"] = float(statistics.effective_n(n, r))
        slow = bool(seen.series) and r >= seen.rules.slow_noise
        yield Finding("autocorrelation", model, figures, "inconclusive" if slow else "interval_widened")
    if found and not high:
        model, n, r = max(found, key=lambda item: item[2])
        yield Finding("autocorrelation", model, {"r": r, "limit": statistics.autocorrelation_limit(n), "photos": n})


def cold_load_in_sample(seen: Seen) -> Iterator[Finding]:
    """A model was loaded for a row, by the row's own word or by its seconds; such rows are left out of the seconds."""
    found = False
    for model, arm in seen.evidence.arms.items():
        told = np.flatnonzero(arm.flag(lambda row: row.cold_load is True) & arm.ok & np.isfinite(arm.seconds))
        rows = np.union1d(told, seen.hidden.get(model, np.zeros(0, int))).astype(int)
        median = seen.models[model].latency_p50_s
        if len(rows) and median:
            found = True
            slowest = float(arm.seconds[rows].max())
            figures = {"rows": len(rows), "slowest_s": slowest, "median_s": median, "times": slowest / median}
            with_them = np.r_[arm.seconds[arm.counted], arm.seconds[rows]]
            figures["mean_rises"] = float(with_them.mean() / arm.seconds[arm.counted].mean() - 1)
            figures["recorded"] = len(told)
            yield Finding("cold_load_in_sample", model, figures, "rows_left_out")
    if not found:
        loads = seen.evidence.loads
        yield Finding("cold_load_in_sample", None, {"loads": None if loads is None else len(loads)})


def mixed_mmproj(seen: Seen) -> Iterator[Finding]:
    """Projectors of different precision: more than the model differs, and rows cannot part the two."""
    yield from _mixed(seen, "mixed_mmproj", {model: figures.mmproj for model, figures in seen.models.items()})


def mixed_engine(seen: Seen) -> Iterator[Finding]:
    """Different engine images or builds, likewise. Arms that try another engine, each against its own model, are to
    have one among themselves, and all others one.
    """  # fmt: skip
    told = {model: figures.engine for model, figures in seen.models.items()}
    tried = [one.b for one in seen.series if is_engine_arm(one.b) and one.a == incumbent_of(one.b, told)]
    others = {model: engine for model, engine in told.items() if model not in tried}
    if not tried:
        yield from _mixed(seen, "mixed_engine", told)
        return
    found = list(_mixed(seen, "mixed_engine", others))
    first = next((model for model in tried if told[model] is not None), tried[0])
    for model in tried:
        if told[model] not in (None, told[first]):
            found.append(
                Finding("mixed_engine", model, {"here": told[model], "incumbent": told[first]}, "no_recommendation")
            )
    warned = [one for one in found if one.effect is not None]
    yield from warned
    own = told.get(seen.incumbent)
    if not warned and None not in told.values() and own is not None:
        yield Finding("mixed_engine", None, {"here": own, "tried": told[first]})


def _mixed(seen: Seen, code: Code, told: Mapping[str, str | None]) -> Iterator[Finding]:
    if code == "mixed_mmproj":  # a candidate for a model is its files as a whole, the projector among them
        told = {model: what for model, what in told.items() if incumbent_of(model, told) is None}
    own = told.get(seen.incumbent)
    if len(told) < 2 or own is None:
        return
    odd = [model for model in told if told[model] not in (None, own)]
    for model in odd:
        yield Finding(code, model, {"here": told[model], "incumbent": own}, "no_recommendation")
    if not odd and None not in told.values():
        yield Finding(code, None, {"here": own})


def leased_idle(seen: Seen) -> Iterator[Finding]:
    """Leased seconds in which the card neither answered nor loaded, while its owner was down."""
    lease, thresholds = seen.lease, seen.thresholds
    if lease is None:
        return
    share = lease.neither_s / lease.seconds
    figures = {"idle_s": lease.neither_s, "lease_s": lease.seconds, "share": share, "efficiency": lease.efficiency}
    idle = share > thresholds.idle_share and lease.neither_s > thresholds.idle_s
    yield Finding("leased_idle", None, figures, "none" if idle else None)


def too_few_rows(seen: Seen) -> Iterator[Finding]:
    """Fewer than 30 common photos, or fewer than 10 photos' worth of independent noise."""
    rules = seen.rules
    found = [(s.b, s.n, s.effective) for s in seen.series]
    found = found or [(seen.incumbent, seen.models[seen.incumbent].counted, math.inf)]
    fired = False
    for model, n, effective in found:
        figures: dict[str, float | int | str | None] = {"photos": n, "fewest": rules.fewest_photos}
        if n < rules.fewest_photos:
            fired = True
            yield Finding("too_few_rows", model, figures, "inconclusive")
        elif effective < rules.fewest_effective:
            fired = True
            figures |= {"effective": effective, "fewest_effective": rules.fewest_effective}
            yield Finding("too_few_rows", model, figures, "inconclusive")
    if not fired:
        yield Finding("too_few_rows", None, {"photos": min(n for _, n, _ in found), "fewest": rules.fewest_photos})


def contaminated(seen: Seen) -> Iterator[Finding]:
    """Rows that the session marked as disturbed; without marks, several slow answers in a row."""
    fired = False
    for model, arm in seen.evidence.arms.items():
        marked = int(arm.flag(lambda row: row.marked is not None).sum())
        if marked:
            fired = True
            share = marked / len(arm.rows)
            reasons = Counter(row.marked for row in arm.rows if row.marked)
            figures: dict[str, float | int | str | None] = {"marked": marked, "rows": len(arm.rows), "share": share}
            figures |= {"limit": seen.thresholds.marked_share, "reason": reasons.most_common(1)[0][0]}
            yield Finding("contaminated", model, figures, "inconclusive" if too_marked(arm) else "rows_left_out")
        elif (run := _slow_run(seen.evidence, arm, seen.thresholds)) >= seen.thresholds.disturbed_run:
            fired = True
            leased = int(all(row.lease_token is not None for row in arm.rows))
            figures = {"run": run, "times": seen.thresholds.disturbed_ratio, "leased": leased}
            yield Finding("contaminated", model, figures, "none")
    if not fired:
        facts = seen.evidence.facts
        yield Finding("contaminated", None, {"watched": int(bool(facts and facts.watched))})


def too_marked(arm: Arm, thresholds: Thresholds = THRESHOLDS) -> bool:
    """Whether so many rows of the arm are marked that the rest says nothing about an undisturbed card."""
    marked = int(arm.flag(lambda row: row.marked is not None).sum())
    return bool(marked) and marked / len(arm.rows) > thresholds.marked_share


def _slow_run(evidence: Evidence, arm: Arm, thresholds: Thresholds) -> int:
    """The longest run of successive counted answers slower than the arm's median by the ratio, and than its spread.

    Photos that are slow in every arm disturb nobody: what the other arms took for them is subtracted where that leaves
    less spread.
    """
    if not arm.counted.any():
        return 0
    own = _excess(arm)
    series = [own]
    others = [other for other in evidence.arms.values() if other is not arm and other.counted.any()]
    if others:
        by_photo = np.full((len(others), len(evidence.photos)), np.nan)
        for line, other in zip(by_photo, others, strict=True):
            line[other.photo] = _excess(other)
        known = np.isfinite(by_photo).sum(axis=0)
        shared = np.where(known > 0, np.nansum(by_photo, axis=0) / np.maximum(known, 1), 0)
        series.append(own - shared[arm.photo])
    spread, best = min(((_spread(x[arm.counted]), x[arm.counted]) for x in series), key=lambda found: found[0])
    slow: Flags = best > max(math.log(thresholds.disturbed_ratio), thresholds.disturbed_spreads * spread)
    longest = current = 0
    for flag in slow.tolist():
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest


def _excess(arm: Arm) -> np.ndarray:
    """Log seconds over the arm's median."""
    logs = arm.log_seconds
    excess: np.ndarray = logs - np.median(logs[arm.counted])
    return excess


def _spread(x: np.ndarray) -> float:
    """The standard deviation of the bulk: from the median absolute deviation, 1.4826 times it for normal values."""
    return 1.4826 * float(np.median(np.abs(x - np.median(x))))


def truncated_answers(seen: Seen) -> Iterator[Finding]:
    """Answers that ended at max_tokens: counted as not valid, never as missing."""
    fired = False
    for model, arm in seen.evidence.arms.items():
        cut = arm.flag(lambda row: row.finish_reason == "length")
        if cut.any():
            fired = True
            yield Finding("truncated_answers", model, _rate(cut.astype(float)), "none")
    known = any(row.finish_reason is not None for arm in seen.evidence.arms.values() for row in arm.rows)
    if known and not fired:
        yield Finding("truncated_answers", None, {"count": 0})


def errors(seen: Seen) -> Iterator[Finding]:
    """Requests without an answer: not valid, and out of the seconds."""
    total = 0
    for model, arm in seen.evidence.arms.items():
        total += len(arm.rows)
        if (~arm.ok).any():
            kinds = Counter((row.error or row.status or "error").split(":")[0] for row in arm.rows if row.failed)
            figures = _rate((~arm.ok).astype(float)) | {"kind": kinds.most_common(1)[0][0]}
            yield Finding("errors", model, figures, "rows_left_out")
    known = any(row.status is not None for arm in seen.evidence.arms.values() for row in arm.rows)
    if known and all(arm.ok.all() for arm in seen.evidence.arms.values()):
        yield Finding("errors", None, {"count": 0, "rows": total})


def _rate(flags: np.ndarray) -> dict[str, float | int | str | None]:
    found = rate(flags)
    return {"count": found.count, "rows": len(flags), "rate": found.rate, "low": found.low, "high": found.high}


CHECKS = (
    wrong_typed_field,
    ties_at_top,
    drift,
    autocorrelation,
    cold_load_in_sample,
    mixed_mmproj,
    mixed_engine,
    leased_idle,
    too_few_rows,
    contaminated,
    truncated_answers,
    errors,
)
