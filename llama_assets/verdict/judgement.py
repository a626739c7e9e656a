"""What a judgement says, as values: the shape of `judge --json`.

Here: frozen values and their JSON. None is "not known". Rates and levels are fractions; in a pair `a` is the incumbent
and `b` the candidate, seconds are the ratio b / a, valid answers the difference b - a. Not here: how they are found
(`compare`, `warnings`), how they are said (`sentences`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from .evidence import Evidence
from .statistics import Word

Metric = Literal["seconds", "valid_answers"]
TruthName = Literal["favourites", "stars"]
Effect = Literal["inconclusive", "no_recommendation", "interval_widened", "rows_left_out", "none"]
EFFECTS: tuple[Effect, ...] = ("inconclusive", "no_recommendation", "interval_widened", "rows_left_out", "none")
Code = Literal[
    "wrong_typed_field",
    "ties_at_top",
    "drift",
    "autocorrelation",
    "cold_load_in_sample",
    "mixed_mmproj",
    "mixed_engine",
    "leased_idle",
    "too_few_rows",
    "contaminated",
    "truncated_answers",
    "errors",
]
Figures = Mapping[str, float | int | str | None]


@dataclass(frozen=True)
class Rate:
    """Answers of a kind with the 95 % Wilson interval of their rate."""

    count: int | None
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Tie:
    """Where the top N ends: the score there, photos that share it, seats left for them."""

    score: float
    group: int
    seats: int


@dataclass(frozen=True)
class ModelFigures:
    """One arm, described. Nothing here is a verdict. `counted` rows are in the seconds.

    What an answer is worth, a step at a time, each of all rows: `http_ok` (answered at all), `complete` (and ended by
    itself), `parsed_rate` (and is JSON), `schema_valid` (and fits the schema). `enforced` is whether the engine held a
    schema that no model would follow freely (the session's probe). `failures` counts the rows that gave no valid
    answer by the class of their failure (`bench.question.FAILURES`), in that order, without those of which nothing is
    known.
    """

    rows: int
    ok: int
    parsed: int | None
    schema_valid: Rate
    http_ok: Rate
    complete: Rate
    parsed_rate: Rate
    enforced: bool | None
    failures: Mapping[str, int]
    latency_p50_s: float | None
    latency_p95_s: float | None
    counted: int
    tokens_per_second: float | None
    completion_tokens_p50: float | None
    cold_load_s: float | None
    loads: int | None
    tie: Tie | None
    mmproj: str | None
    engine: str | None
    fingerprint: str | None


@dataclass(frozen=True)
class Pair:
    """A candidate against the incumbent on one metric; the verdict is b's.

    `low` and `high` are the interval at `level`, which a better or worse is read from; `low_90` and `high_90` the one
    that equivalence of seconds is read from. `allowance` is the ratio that a drift may have made, and is inside both.
    """

    a: str
    b: str
    metric: Metric
    estimate: float | None
    low: float | None
    high: float | None
    level: float
    low_90: float | None
    high_90: float | None
    n: int
    verdict: Word
    photos_needed: int | None
    note: str | None
    allowance: float | None = None


@dataclass(frozen=True)
class Ranking:
    """Whether two arms rank the photos alike; `tie_group_*` is the number of photos tied at the end of the top N."""

    a: str
    b: str
    n: int
    tau_b: float | None
    low: float | None
    high: float | None
    top_n: int
    expected_overlap: float | None
    chance_overlap: float | None
    tie_group_a: int | None
    tie_group_b: int | None


@dataclass(frozen=True)
class TruthFigures:
    """One arm's scores against what a person likes, over the photos that have both. Positives are favourites, or photos
    of four stars or more.

    `auc` is the chance that a positive has the higher score, `low` and `high` its interval at `level`. `hits` are
    positives in the top N and `average_precision` is at N, each the mean over ties drawn by lot; `chance` and
    `chance_average_precision` are what a blind order gives, `p` its chance of as many hits. `tau_b` is against stars.
    """

    n: int
    positives: int
    auc: float | None
    low: float | None
    high: float | None
    level: float
    average_precision: float | None
    chance_average_precision: float | None
    top_n: int
    hits: float | None
    chance: float | None
    p: float | None
    tau_b: float | None
    tau_b_low: float | None
    tau_b_high: float | None


@dataclass(frozen=True)
class TruthPair:
    """A candidate's AUC minus the incumbent's on the same photos; the verdict is b's, and none below ten positives."""

    a: str
    b: str
    truth: TruthName
    n: int
    positives: int
    difference: float | None
    low: float | None
    high: float | None
    level: float
    verdict: Literal["better", "worse", "inconclusive"] | None
    note: str | None


@dataclass(frozen=True)
class Truths:
    """Every arm against one truth. `photos` were rated so, `positives` of them favourites or of four stars and more."""

    photos: int
    positives: int
    models: Mapping[str, TruthFigures]
    pairs: tuple[TruthPair, ...]


@dataclass(frozen=True)
class Warned:
    """A flaw that the rows or the session show, what it did to the verdict, and what to do about it."""

    code: Code
    model: str | None
    detail: str
    figures: Figures
    effect: Effect
    todo: str


@dataclass(frozen=True)
class Quiet:
    """A check that found nothing, with the figure it looked at."""

    code: Code
    detail: str
    figures: Figures


@dataclass(frozen=True)
class NotJudged:
    """A question that these rows cannot answer, why, and what would."""

    question: str
    why: str
    would_take: str


@dataclass(frozen=True)
class Recommendation:
    """The model to serve, by the printed rule. It is not the verdict."""

    model: str
    reason: str


@dataclass(frozen=True)
class Lease:
    """Where the leased seconds went; `efficiency` is the share spent answering, loading and warming up."""

    seconds: float
    answering_s: float
    loading_s: float
    warm_up_s: float
    neither_s: float
    efficiency: float


@dataclass(frozen=True)
class SessionFigures:
    """What was compared."""

    id: str | None
    photos: int
    blocks: int | None
    leverage: float | None
    lease: Lease | None


@dataclass(frozen=True)
class Judgement:
    """Everything `judge --json` prints, and the evidence it was made of (for figures, never printed)."""

    models: Mapping[str, ModelFigures]
    pairs: tuple[Pair, ...]
    ranking: tuple[Ranking, ...]
    warnings: tuple[Warned, ...]
    quiet: tuple[Quiet, ...]
    not_judged: tuple[NotJudged, ...]
    incumbent: str
    recommendation: Recommendation | None
    session: SessionFigures
    truth: Mapping[TruthName, Truths]
    evidence: Evidence = field(repr=False, compare=False)

    @property
    def stops(self) -> tuple[Warned, ...]:
        """Warnings that stop a recommendation."""
        return tuple(warned for warned in self.warnings if warned.effect == "no_recommendation")

    @property
    def exit_status(self) -> int:
        """1 when a warning stops the recommendation, else 0."""
        return 1 if self.stops else 0

    @property
    def candidates(self) -> tuple[str, ...]:
        """Every model but the incumbent."""
        return tuple(model for model in self.models if model != self.incumbent)

    def pair(self, b: str, metric: Metric) -> Pair | None:
        """The candidate's pair on a metric; None where it could not be made."""
        return next((pair for pair in self.pairs if (pair.b, pair.metric) == (b, metric)), None)

    def to_json(self) -> dict[str, Any]:
        """JSON values only: no NaN, no numpy numbers."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "evidence"}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(below) for below in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
