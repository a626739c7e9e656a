"""What these rows cannot answer, why, and what would: it stands before the evidence in every report.

Here: the questions, in the order of their weight. Not here: warnings, which are about what the rows do show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .evidence import Evidence
from .formats import listed, plural, signed, signed_points, span
from .ground_truth import SIDES
from .judgement import NotJudged, Pair, Ranking, TruthName, TruthPair, Truths, Warned

TURNS = "arms that take turns, in four mirrored blocks or more"
P95_PHOTOS = 400


def not_judged(
    evidence: Evidence,
    pairs: Sequence[Pair],
    ranking: Sequence[Ranking],
    warnings: Sequence[Warned],
    truth: Mapping[TruthName, Truths],
) -> tuple[NotJudged, ...]:
    """Every open question. The first is what rows alone can never say, unless a person's ratings said it."""
    forced = {w.model: w.code for w in warnings if w.effect == "inconclusive"}
    found = [
        *_better_scores(evidence, truth),
        *(_open_pair(pair, forced) for pair in pairs if pair.verdict == "inconclusive"),
        *_arms(evidence),
        *_order(evidence),
        *_requests(evidence),
        *_validity(evidence),
        *_ranks(evidence, ranking),
        *_session(evidence),
    ]
    photos = len(evidence.photos)
    if 0 < photos < P95_PHOTOS:
        why = f"{plural(photos, 'photo')} give a 95th percentile that only describes; no verdict is read from it"
        found.append(NotJudged("The slow tail (p95)", why, f"{P95_PHOTOS} photos or more"))
    return tuple(found)


def _better_scores(evidence: Evidence, truth: Mapping[TruthName, Truths]) -> Iterator[NotJudged]:
    """Answered where a pair has a word, or where there is one arm and its figures; else why not."""
    question = "Which model scores photos better"
    if not truth:
        yield NotJudged(
            question,
            "no ratings or favourites of yours came with these photos; agreement between models is not quality",
            "your own favourites or star ratings of these photos, at least 10 of them",
        )
    elif not any(figures.n for one in truth.values() for figures in one.models.values()):
        why = "you rated photos, but no arm has a score for one of them"
        yield NotJudged(question, why, "answers that hold the ranking key, with `--question` or `--session`")
    elif not any(pair.verdict for one in truth.values() for pair in one.pairs) and len(evidence.arms) > 1:
        told = listed([f"{SIDES[name][0][1]}: {one.positives} of {one.photos} rated" for name, one in truth.items()])
        yield NotJudged(
            question, f"too few of either side ({told})", "at least 10 that you like, and 10 that you do not"
        )
    else:
        opened = [pair for one in truth.values() for pair in one.pairs if pair.verdict == "inconclusive"]
        yield from (_open_truth(pair) for pair in opened)


def _open_truth(pair: TruthPair) -> NotJudged:
    low, high = pair.low or 0.0, pair.high or 0.0
    return NotJudged(
        f"Whether {pair.b} scores photos better than {pair.a}, by your {pair.truth}",
        f"the interval of the difference of AUC holds 0 ({signed(low)} to {signed(high)})",
        "more rated photos: with 10 that you like, only a gap of 0.2 to 0.3 is found",
    )


def _open_pair(pair: Pair, forced: Mapping[str | None, str]) -> NotJudged:
    on_seconds = pair.metric == "seconds"
    question = (
        f"Whether {pair.b} takes less time than {pair.a}"
        if on_seconds
        else f"Whether {pair.b} gives fewer valid answers"
    )
    code = forced.get(pair.b) or forced.get(pair.a) if on_seconds else None
    if code:
        return NotJudged(question, f"`{code}` allows no verdict", "what that warning says")
    if pair.estimate is None or pair.low is None or pair.high is None:
        return NotJudged(question, f"{plural(pair.n, 'photo')} answered by both", "30 photos that both arms answer")
    if not on_seconds:
        run = f"{signed_points(pair.low)} to {signed_points(pair.high)} points"
        return NotJudged(question, f"the interval holds 0 and leaves the 5-point margin ({run})", "more photos")
    why = f"the interval holds no change and leaves the 5 % margin ({span(pair.low, pair.high)})"
    if pair.allowance:
        return NotJudged(question, why, TURNS)
    return NotJudged(question, why, f"{many(pair)}, if the difference is as large as it looks and the noise stays")


def many(pair: Pair) -> str:
    """`about 220 photos`, or `more than 1,000 photos`."""
    if pair.photos_needed is None:
        return "more photos"
    return f"about {pair.photos_needed:,} photos" if pair.photos_needed <= 1000 else "more than 1,000 photos"


def _arms(evidence: Evidence) -> Iterator[NotJudged]:
    for model, facts in (evidence.facts.arms if evidence.facts else {}).items():
        if model not in evidence.arms:
            yield NotJudged(f"Anything about {model}", facts.ended or "it has no row", "an arm that answers")
    if len(evidence.arms) == 1:
        yield NotJudged("Whether another model would do better", "there is one arm", "a second arm in the same session")
    if evidence.facts and evidence.facts.unfinished:
        why = "it is not finished"
        yield NotJudged("What the rest of this session says", why, "running it again: it goes on where it stopped")
    if evidence.other_sessions:
        yield NotJudged(
            f"What {plural(len(evidence.other_sessions), 'other session')} in these files say",
            f"the newest is judged ({evidence.session}); sessions have shifts of their own",
            "judging each by itself",
        )
    if evidence.repeated:
        repeated = plural(evidence.repeated, "row")
        yield NotJudged(
            f"What {repeated} say that ask a photo again", "the first answer to a photo is counted", "one row a photo"
        )


def _order(evidence: Evidence) -> Iterator[NotJudged]:
    if evidence.order_from == "files":
        yield NotJudged(
            "Whether drift, slow noise or a cold load is in these rows",
            "they carry neither `position` nor `started_at`; the order in the files is taken for the order asked",
            "the column `position` or `started_at`",
        )
    if not evidence.turns_known and len(evidence.arms) > 1:
        why = "nothing says how the arms took turns, so a drift may pass for a difference; the interval allows for it"
        yield NotJudged(
            "Whether the arms met the same conditions", why, "`started_at`, or one `position` over all arms"
        )


def _requests(evidence: Evidence) -> Iterator[NotJudged]:
    rows = [row for arm in evidence.arms.values() for row in arm.rows]
    if all(row.status is None and row.error is None for row in rows):
        yield NotJudged(
            "Whether every request was answered", "the rows carry neither `status` nor `error`", "the column `status`"
        )
    if all(row.finish_reason is None for row in rows):
        yield NotJudged(
            "Whether an answer was cut at the limit of tokens", "why answers ended is not known", "`finish_reason`"
        )
    untimed = [
        f"{int((arm.ok & ~(arm.seconds > 0)).sum())} of {model}"
        for model, arm in evidence.arms.items()
        if (arm.ok & ~(arm.seconds > 0)).any()
    ]
    if untimed:
        why = "their `seconds` are missing or 0; the other rows are compared"
        yield NotJudged(f"How long answers took: {listed(untimed)}", why, "`seconds` in every row")


def _validity(evidence: Evidence) -> Iterator[NotJudged]:
    unknown = [model for model, arm in evidence.arms.items() if np.isnan(arm.valid).any()]
    if unknown:
        yield NotJudged(
            f"How many answers of {listed(unknown)} are valid",
            "the rows do not say, and without the question's schema nobody can; JSON is not yet a valid answer",
            "`--question`, with rows that hold the answers",
        )
    if evidence.question is None:
        yield NotJudged(
            "Whether a field has the wrong type", "the question's schema did not come with the rows", "`--question`"
        )


def _ranks(evidence: Evidence, ranking: Sequence[Ranking]) -> Iterator[NotJudged]:
    if evidence.ranking_key is None:
        yield NotJudged(
            "Whether the arms rank photos alike", "the ranking key is not known", "`--question` or `--session`"
        )
    flat = [f"{r.a} and {r.b}" for r in ranking if r.tau_b is None]
    if flat:
        why = "one of the two gave every photo the same score"
        yield NotJudged(f"Whether {listed(flat)} rank photos alike", why, "a question that tells photos apart")
    few = [f"{r.a} and {r.b}" for r in ranking if r.tau_b is not None and r.low is None]
    if few:
        why = "fewer than 30 photos have a score in both"
        yield NotJudged(f"How far {listed(few)} rank photos alike", why, "30 scored photos or more")


def _session(evidence: Evidence) -> Iterator[NotJudged]:
    facts = evidence.facts
    several = len(evidence.arms) > 1
    if several and (
        facts is None or any(facts.arms.get(m) is None or facts.arms[m].mmproj is None for m in evidence.arms)
    ):
        why = "the projector's precision is not known for every arm"
        yield NotJudged("Whether the arms had the same projector precision", why, "`--session` with `mmproj` an arm")
    if several and (
        facts is None or any(facts.arms.get(m) is None or facts.arms[m].engine is None for m in evidence.arms)
    ):
        why = "image and build are not known for every arm"
        yield NotJudged("Whether the same engine answered", why, "`--session` with the engine's image and build")
    if facts is None or facts.lease_seconds is None:
        yield NotJudged("How well the lent card was used", "the leased seconds are not known", "`lease_seconds`")
    if evidence.loads is None:
        yield NotJudged("What a cold load costs", "no load was recorded on its own", "a session that records `loads`")
    if facts is None or not facts.watched:
        why = "nothing sampled who else used it"
        yield NotJudged("Whether another program used the card", why, "a session that watches the card")
