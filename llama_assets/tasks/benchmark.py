"""Task `benchmark`: photos before the lease, a session of each question under it, the verdicts after it.

Where the rooms meet: the store says what is current, the platform gives lease and engine, `bench` asks, `verdict`
judges. Steps: prepare everything that needs no card; take the card; ask; give it back; judge. One lease is one image of
the engine: where another one is tried, a task asks what the image that is there is to answer, and its answer names the
next. Not here: any of these, making the engine's pod from another image (`assets.candidates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llama_assets.catalog import Catalog
from llama_assets.tasks.candidates import Contender, Lineup, lineup, serving_by
from llama_assets.tasks.fitting import fitting
from llama_assets.tasks.measuring import Engines, Measuring, purpose
from llama_assets.tasks.messages import Answered, ArmResult, Benchmark, Benchmarked, Postponed
from llama_assets.tasks.permission import NotYet, Permission
from llama_assets.tasks.settling import settle, unsettled
from llama_assets.tasks.verdict import JudgedSession, judged_session

if TYPE_CHECKING:
    from llama_assets.bench.question import Question
    from llama_assets.bench.session import Outcome
    from llama_assets.tasks.messages import Serving
    from llama_assets.tasks.work import Work


class SessionHalted(RuntimeError):
    """The session stopped before its end; what was answered is kept and the next run goes on from there."""

    exit_status = 1

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(
            f"session {outcome.folder.name}: {outcome.halted} with {outcome.left} questions left; "
            f"{outcome.rows} answers are kept, and the next run of the same benchmark goes on from there"
        )


def benchmark_task(work: Work) -> Benchmarked:
    """One session of every model asked for, for each question; or when it is to be asked for again.

    Raises:
        PlatformError, PhotosError, QuestionError, GpuError: before anything was asked.
        NeverAllowed, LedgerError: an automatic one may not have the card.
        SessionHalted: stopped, the card was asked for, or automation's window closed.
    """
    from llama_assets.bench.question import Question

    request = Benchmark.model_validate(work.task.request)
    catalog = request.catalog
    asked = {"": request.question, **request.further}
    questions = {name: Question.from_json(values) for name, values in asked.items()}
    answered = _left_behind(work, catalog, questions)
    if answered is not None:
        return answered
    permission = Permission.of(work, catalog, request.automatic, request.asks_again)
    try:
        permission.wait(purpose(model.id for model in catalog.models))
        return _sessions(work, permission, questions, request)
    except NotYet as found:
        postponed = Postponed(until=found.begin, why=found.why)
        return Benchmarked(session="", arms={}, verdict=None, postponed=postponed)


def _sessions(work: Work, permission: Permission, questions: Mapping[str, Question], request: Benchmark) -> Benchmarked:
    catalog, automatic = permission.catalog, permission.automatic
    store, serving = work.platform.store(), serving_by(work.platform, catalog)
    found = lineup(store, catalog.models, serving, automatic)
    fits = fitting(store, catalog, found.arms, work.say, work.platform.results)
    left_out = {**_missing(found), **_failed(fits.too_large)}
    _say_who_is_left_out(work, found, left_out)
    if catalog.engine.candidate_image and serving.tried_image is None:
        why = "it is the one that is chosen" if serving.image else "the engine is no pod of ours"
        work.say(f"engine.candidate_image is not tried: {why}")
    if fits.arms:
        engines = _engines(serving, request, fits.arms)
        outcomes = Measuring(work, permission, questions, fits.arms, engines).outcomes()
        for outcome in outcomes.values():
            if outcome.halted:
                raise SessionHalted(outcome)
        if wanted := next((outcome.wants for outcome in outcomes.values() if not outcome.complete), ""):
            session = str(outcomes[""].folder)
            return Benchmarked(session=session, arms={}, verdict=None, settled=fits.rejected, engine_wanted=wanted)
        answer = _judged_and_settled(work, catalog, outcomes[""].folder)
        further = {name: _answered(outcome.folder) for name, outcome in outcomes.items() if name}
        answer = answer.model_copy(update={"further": further})
    else:
        answer = Benchmarked(session="", arms={}, verdict=None)
    beside = {"settled": (*fits.rejected, *answer.settled), "quarantined": dict(found.quarantined)}
    return answer.model_copy(update={"arms": {**answer.arms, **left_out}, **beside})


def _engines(serving: Serving, request: Benchmark, contenders: Sequence[Contender]) -> Engines:
    if all(one.image is None for one in contenders):
        return Engines()
    chosen = str(serving.image)
    return Engines(chosen, request.engine_image or chosen, request.engine_trouble)


def _left_behind(work: Work, catalog: Catalog, questions: Mapping[str, Question]) -> Benchmarked | None:
    """Ends what a killed process left of the newest session: a candidate that was measured and not decided on.

    Its answer is this one's, where it asked the same of the same models: then no card is needed. Further questions
    were asked before anything is decided; where one of them was not, it is asked now.
    """
    from llama_assets.bench.record import Record

    folder = unsettled(work.platform.results)
    if folder is None:
        return None
    work.say(f"session {folder.name} was finished and not acted on; that is done first")
    answer = _judged_and_settled(work, catalog, folder)
    values = Record.read(folder).values
    same = (values["catalog_hash"], values["question"]["hash"]) == (catalog.hash, questions[""].hash)
    if not same or set(answer.arms) != {model.id for model in catalog.models} or len(questions) > 1:
        return None
    return answer


def _judged_and_settled(work: Work, catalog: Catalog, folder: Path) -> Benchmarked:
    """The verdict over a finished session, and what follows from it for candidates."""
    from llama_assets.bench.record import Record

    judged = _judgement_of(folder)
    judgement = judged.judgement if judged else None
    settled = settle(work.platform.store(), catalog.automation, folder, judgement, work.say)
    record, results = Record.read(folder).values["arms"], dict(judged.arms) if judged else {}
    for arm, facts in record.items():
        if facts.get("ended"):
            results[arm] = ArmResult(figures={}, fingerprint=facts["fingerprint"], failed=facts["ended"])
        elif arm in results:
            image = (facts.get("engine") or {}).get("image")
            results[arm] = results[arm].model_copy(update={"engine_image": image})
    promoted = {one.model: one.arm for one in settled if one.action == "promote"}
    return Benchmarked(
        session=str(folder),
        arms={
            model.id: results[promoted.get(model.id, model.id)]
            for model in catalog.models
            if promoted.get(model.id, model.id) in results
        },
        verdict=judged.verdict if judged else None,
        settled=settled,
    )


def _say_who_is_left_out(work: Work, found: Lineup, left_out: dict[str, ArmResult]) -> None:
    for model, arm in left_out.items():
        work.say(f"{model}: {arm.failed}")
    for arm_name, why in found.quarantined.items():
        work.say(f"{arm_name} is not measured, {why}")
    for one in found.waiting:
        why = f"{one.tries} tries settled nothing" if one.tries else "the engine is not ours to tell what to serve"
        work.say(f"{one.arm} is not measured, {why}: it waits for a person (`llama-assets candidates`)")


def _missing(found: Lineup) -> dict[str, ArmResult]:
    return _failed({model: f"no verified file; materialize gguf/{model} first" for model in found.missing})


def _failed(reasons: Mapping[str, str]) -> dict[str, ArmResult]:
    return {model: ArmResult(figures={}, fingerprint=None, failed=why) for model, why in reasons.items()}


def _judgement_of(folder: Path) -> JudgedSession | None:
    from llama_assets.bench.rows import NoRows

    try:
        return judged_session(folder)
    except NoRows:  # no arm could be loaded: nothing to compare, and each arm says why
        return None


def _answered(folder: Path) -> Answered:
    """The verdict over a finished session of a further question."""
    from llama_assets.bench.record import Record

    judged = _judgement_of(folder)
    return Answered(
        session=str(folder),
        figures={arm: dict(found.figures) for arm, found in judged.arms.items()} if judged else {},
        failed=Record.read(folder).ended(),
        verdict=judged.verdict if judged else None,
    )
