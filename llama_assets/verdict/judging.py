"""From files to a judgement: read, sort into arms, look for flaws, compare, recommend.

Here: the order of these steps and the rule of the recommendation. It works on rows measured anywhere; what they do not
carry is listed as not judged. Not here: the steps themselves.

JudgingError
|- NoSuchArm        --incumbent names a model that has no rows
'- NoRatedPhoto     --ratings names no photo that the rows hold
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

from llama_assets.bench.question import BadSchema, Question
from llama_assets.bench.ratings import Rating
from llama_assets.bench.rows import NoRows, Row, incumbent_of, is_engine_arm, read_rows

from .compare import described, lease, paired, ranking, seconds_pair, valid_pair
from .evidence import Evidence, gather
from .facts import Facts, read_facts
from .formats import count
from .ground_truth import truths
from .judgement import Judgement, Metric, ModelFigures, Pair, Quiet, Recommendation, SessionFigures, Warned
from .statistics import RULES, Rules
from .unjudged import not_judged
from .warning_texts import worded
from .warnings import THRESHOLDS, Seen, Thresholds, drifts, hidden_loads, look, too_marked

SESSION_FILE = "session.json"
OTHER_LEASES = "each engine had leases of its own, whose differences are part of this"


class JudgingError(ValueError):
    """The rows cannot be judged as asked."""

    exit_status = 2


class NoSuchArm(JudgingError):
    """The incumbent that was asked for has no rows."""

    def __init__(self, incumbent: str, arms: Sequence[str]) -> None:
        self.incumbent, self.arms = incumbent, tuple(arms)
        super().__init__(incumbent, arms)

    def __str__(self) -> str:
        return f"no row of incumbent {self.incumbent!r}; the rows are of {', '.join(self.arms)}"


class NoRatedPhoto(JudgingError):
    """Ratings that were asked for name no photo of the rows."""

    def __init__(self, rated: str, asked: str) -> None:
        self.rated, self.asked = rated, asked
        super().__init__(rated, asked)

    def __str__(self) -> str:
        return (
            f"no photo that the rows hold is rated: ratings name {self.rated!r}, rows {self.asked!r}; "
            "a photo's name there is its path below the folder of photos"
        )


def judge(
    paths: Path | Sequence[Path],
    session: Path | None = None,
    question: Question | None = None,
    incumbent: str | None = None,
    catalog_incumbent: str | None = None,
    say: Callable[[str], None] | None = None,
    ratings: Mapping[str, Rating] | None = None,
) -> Judgement:
    """Judge a session folder, finished or not, or files that together hold the arms.

    `session` is the session.json of the rows; in a session folder its own is read. The incumbent is `incumbent`, else
    what the session file says, else `catalog_incumbent`, else the first arm; a candidate for a model that is an arm
    itself (`m@...`) is compared with that model, unless `incumbent` was asked for. The question is `question`, else the
    one that the session file holds; `ratings` by photo replace those of the session file. `say` hears what reading the
    rows has to tell.

    Raises:
        bench.rows.RowsError: the files are not rows.
        bench.question.QuestionError: the session file's question is none.
        facts.NotASession: the session file cannot be read.
        NoSuchArm: `incumbent` has no rows.
        NoRatedPhoto: `ratings` name photos, and none that the rows hold.
    """
    given = [paths] if isinstance(paths, Path) else list(paths)
    beside = [path / SESSION_FILE for path in given if (path / SESSION_FILE).is_file()]
    file = session or (beside[0] if beside else None)
    facts = read_facts(file) if file else None
    if question is None and facts and facts.question:
        try:
            question = Question.from_json(facts.question)
        except BadSchema as error:
            raise BadSchema(error.where, error.reason, file) from None
    with _collector_paused():
        rows = read_rows(given, question, say)
        if not rows:
            raise NoRows(given[0])
        if ratings:
            _known(ratings, rows, say)
        return judge_rows(rows, facts, question, incumbent, catalog_incumbent, ratings=ratings)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Rows hold no cycles, and looking through 300,000 of them for one, again and again, is a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _known(ratings: Mapping[str, Rating], rows: Sequence[Row], say: Callable[[str], None] | None) -> None:
    asked = {row.photo for row in rows}
    strangers = [photo for photo in ratings if photo not in asked]
    if len(strangers) == len(ratings):
        raise NoRatedPhoto(strangers[0], rows[0].photo)
    if strangers and say:
        say(f"{count(len(strangers))} of {count(len(ratings))} ratings are of photos that the rows do not hold")


def judge_rows(
    rows: Sequence[Row],
    facts: Facts | None = None,
    question: Question | None = None,
    incumbent: str | None = None,
    catalog_incumbent: str | None = None,
    rules: Rules = RULES,
    thresholds: Thresholds = THRESHOLDS,
    ratings: Mapping[str, Rating] | None = None,
) -> Judgement:
    """The same, of rows at hand. There must be at least one row."""
    rules = rules.stopped() if facts and facts.stopped_by_width else rules
    evidence = gather(rows, facts, question)
    against = _incumbent(evidence, incumbent, catalog_incumbent)
    hidden = hidden_loads(evidence, thresholds)
    for model, indices in hidden.items():
        evidence = evidence.without(model, indices)
    trends = drifts(evidence, thresholds)
    candidates = [model for model in evidence.arms if model != against]
    own = {model: incumbent_of(model, evidence.arms) if incumbent is None else None for model in candidates}
    series = [paired(evidence, own[model] or against, model, rules) for model in candidates]
    models = {model: described(evidence, model, rules) for model in [against, *candidates]}
    held = lease(evidence)
    seen = Seen(evidence, against, models, series, trends, hidden, held, rules, thresholds)
    found = [worded(finding) for finding in look(seen)]
    warnings = tuple(x for x in found if isinstance(x, Warned))
    pairs: list[Pair] = []
    for one in series:
        marked = any(too_marked(evidence.arms[model], thresholds) for model in (one.a, one.b))
        stopped = marked or any(w.effect == "inconclusive" and w.model == one.b for w in warnings)
        moved = max(
            (abs(trends[m].shift) for m in (one.a, one.b) if m in trends and trends[m].fires(thresholds)), default=0.0
        )
        notes = tuple(_differs(w) for w in warnings if w.effect == "no_recommendation" and w.model == one.b)
        if is_engine_arm(one.b) and one.a == incumbent_of(one.b, evidence.arms):
            notes = (*notes, OTHER_LEASES)
        pairs.append(seconds_pair(one, len(series), moved, stopped, notes, rules))
        valid = valid_pair(evidence, one.a, one.b, len(series), rules)
        pairs += [valid] if valid else []
    rated = ratings if ratings is not None else evidence.facts.ratings if evidence.facts else {}
    truth = truths(evidence, rated, [(one.a, one.b) for one in series], rules)
    ranks = tuple(r for a, b in combinations(models, 2) if (r := ranking(evidence, a, b, rules)))
    return Judgement(
        models=models,
        pairs=tuple(pairs),
        ranking=ranks,
        warnings=warnings,
        quiet=tuple(x for x in found if isinstance(x, Quiet)),
        not_judged=not_judged(evidence, pairs, ranks, warnings, truth),
        incumbent=against,
        recommendation=recommended(models, pairs, warnings, against),
        session=SessionFigures(
            id=evidence.session,
            photos=len(evidence.photos),
            blocks=evidence.blocks,
            leverage=max((one.leverage for one in series if one.n), default=None),
            lease=held,
        ),
        truth=truth,
        evidence=evidence,
    )


def _incumbent(evidence: Evidence, asked: str | None, catalog: str | None) -> str:
    if asked is not None and asked not in evidence.arms:
        raise NoSuchArm(asked, list(evidence.arms))
    told = [asked, evidence.facts.incumbent if evidence.facts else None, catalog]
    return next((model for model in told if model is not None and model in evidence.arms), next(iter(evidence.arms)))


def _differs(warned: Warned) -> str:
    return "projector differs" if warned.code == "mixed_mmproj" else "engine differs"


def recommended(
    models: dict[str, ModelFigures], pairs: Sequence[Pair], warnings: Sequence[Warned], incumbent: str
) -> Recommendation | None:
    """The rule, with its reason. None where a warning stops it, or where there is nothing to compare.

    Serve the candidate with the least time among those better on seconds and better or equivalent on valid answers, or
    better on valid answers and equivalent on seconds; else keep the incumbent. A candidate that was compared with
    another arm than the incumbent is for `policy.promotion` to decide.
    """
    if any(w.effect == "no_recommendation" for w in warnings) or len(models) < 2:
        return None
    by: dict[tuple[str, Metric], Pair] = {(pair.b, pair.metric): pair for pair in pairs if pair.a == incumbent}
    good: list[tuple[float, str, str]] = []
    for model in models:
        on_seconds, on_valid = by.get((model, "seconds")), by.get((model, "valid_answers"))
        if on_seconds is None or on_valid is None or on_seconds.estimate is None:
            continue
        words = {on_seconds.verdict, on_valid.verdict}
        if "better" in words and words <= {"better", "equivalent"}:
            reason = f"{on_seconds.verdict} on seconds, {on_valid.verdict} on valid answers"
            good.append((on_seconds.estimate, model, reason))
    if good:
        _, model, reason = min(good)
        return Recommendation(model, reason)
    return Recommendation(incumbent, _why_not(by))


def _why_not(by: dict[tuple[str, Metric], Pair]) -> str:
    """What a candidate that is better on one metric lacks on the other."""
    for (model, metric), pair in by.items():
        if pair.verdict == "better":
            other = by.get((model, "valid_answers" if metric == "seconds" else "seconds"))
            name = {"seconds": "seconds", "valid_answers": "valid answers"}
            lacks = (
                f"{other.verdict} on {name[other.metric]}" if other else "whether its answers are valid is not known"
            )
            return f"{model} is better on {name[metric]}, but {lacks}"
    return "no candidate is better on seconds or on valid answers"
