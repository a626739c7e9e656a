"""Task `benchmark`: photos before the lease, a session of each question under it, the verdicts after it.

Where the rooms meet: the store says what is current, the platform gives lease and engine, `bench` asks, `verdict`
judges. Steps: prepare everything that needs no card; take the card; ask; give it back; judge. One lease is one image of
the engine: where another one is tried, a task asks what the image that is there is to answer, and its answer names the
next. Not here: any of these, making the engine's pod from another image (`assets.candidates`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llama_assets.catalog import Catalog
from llama_assets.tasks.candidates import Contender, Lineup, facts_of, lineup, serving_by, settle, unsettled
from llama_assets.tasks.courtesy import courteous, write_down
from llama_assets.tasks.fitting import fitting
from llama_assets.tasks.hold import holder
from llama_assets.tasks.messages import Answered, ArmResult, Benchmark, Benchmarked, Postponed
from llama_assets.tasks.permission import NotYet, Permission
from llama_assets.tasks.verdict import JudgedSession, judged_session

if TYPE_CHECKING:
    from llama_assets.bench.question import Question
    from llama_assets.bench.record import Arm, Comparison
    from llama_assets.bench.session import Outcome
    from llama_assets.bench.turns import Holding, StopRule
    from llama_assets.tasks.messages import Serving
    from llama_assets.tasks.work import Work


E = TypeVar("E")


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
        permission.wait(_purpose(model.id for model in catalog.models))
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
        outcomes = _measured(work, permission, questions, fits.arms, engines)
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


@dataclass(frozen=True)
class Engines:
    """Which images of the engine answer a session: the `chosen` one, and `here` what its pod is made from now.

    Both are empty where no other image is tried. `trouble` is why there is no pod of the one that is here.
    """

    chosen: str = ""
    here: str = ""
    trouble: str = ""


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


def _measured(
    work: Work,
    permission: Permission,
    questions: Mapping[str, Question],
    contenders: Sequence[Contender],
    engines: Engines,
) -> dict[str, Outcome]:
    """Where each question's session stands after the lease, by the question's name."""
    from llama_assets.bench import photos, session
    from llama_assets.bench.plan import mirrored_plan
    from llama_assets.bench.record import Comparison

    catalog, spec = permission.catalog, permission.catalog.benchmark
    with photos.prepare(work.platform.photos(), spec.photos, spec.seed, work.say) as chosen:
        names = [photo.name for photo in chosen.photos]
        comparisons = []
        for name, question in questions.items():
            asked = [one for one in contenders if not name or one.image is None]  # an engine is decided on by the first
            arms = [one.arm for one in asked]
            comparison = Comparison(
                arms=tuple(_arm(one, engines) for one in asked),
                question=question,
                photos=chosen,
                plan=mirrored_plan(arms, names, spec.blocks, spec.seed),
                catalog_hash=catalog.hash,
                max_tokens=spec.max_tokens,
                answer_timeout_s=float(spec.answer_timeout_seconds),
                incumbent=spec.incumbent if spec.incumbent in arms else None,
                name=name,
            )
            comparisons.append(comparison)
        begun = session.begin_all(work.platform.results, comparisons, work.say)
        outcomes = {comparison.name: outcome for comparison, outcome in zip(comparisons, begun, strict=True)}
        for outcome in begun:
            if outcome.complete:  # killed between the last answer and the verdict
                session.finish(outcome, None, None, work.say)
        left = [one for one in comparisons if not outcomes[one.name].complete]
        if not left or outcomes[left[0].name].wants not in ("", engines.here):
            return outcomes  # no card is needed, or not with this engine
        if engines.trouble:
            without = _given_up(outcomes[left[0].name].folder, left[0], engines, work)
            if without.complete:
                session.finish(without, None, None, work.say)
            return outcomes | {left[0].name: without}
        folders = [outcomes[one.name].folder for one in left]
        by_folder = dict(zip(folders, left, strict=True))
        return outcomes | _under_the_lease(work, permission, by_folder, contenders, engines)


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


def _under_the_lease(
    work: Work,
    permission: Permission,
    begun: Mapping[Path, Comparison],
    contenders: Sequence[Contender],
    engines: Engines,
) -> dict[str, Outcome]:
    """One session after the other, until all have ended, one was halted or wants another engine; each bears its own
    part of the lease.

    `begun` are the sessions' folders; what became of them is by the question's name.
    """  # fmt: skip
    from llama_assets.bench import session
    from llama_assets.bench.turns import Holding
    from llama_assets.catalog import EngineImage
    from llama_assets.engine import Served

    catalog = permission.catalog
    card = courteous(work.platform, catalog, work.say)
    lease = permission.over(card)
    sets = [(one.model, one.published) for one in contenders]
    told = [Served(model, p.fingerprint, p.model_file, p.mmproj_file) for model, p in sets]
    rules = {comparison.name: _stop_rule(catalog, comparison) for comparison in begun.values()}
    first = next(iter(begun))
    tried = (
        EngineImage(engines.here, "engine.candidate_image of the catalog") if engines.here != engines.chosen else None
    )
    ran: dict[str, Outcome] = {}
    began: list[float] = []
    with work.stop.gentle() as stopped:
        with lease.take(holder(), _purpose(begun[first].plan.arms), work.say) as held, ExitStack() as stack:
            holding = Holding(held.token, held.still_held, lambda: held.disturbed)
            opened = work.platform.engine(catalog, told, first / "engine", held.still_held, work.say, tried)
            may_fail = lambda: tried is not None and not stopped.is_set() and held.still_held()  # noqa: E731
            engine, trouble = _up(stack, opened, may_fail)
            for folder, comparison in begun.items():
                began.append(time.monotonic())
                if engine is None:
                    outcome = _given_up(folder, comparison, replace(engines, trouble=trouble), work, holding)
                else:
                    rule, here = rules[comparison.name], engines.here
                    outcome = session.run(
                        folder, comparison, engine, holding, work.say, stopped, rule=rule, answering=here
                    )
                ran[comparison.name] = replace(outcome, halted=outcome.halted and (held.over or outcome.halted))
                if not outcome.complete:
                    break
            began.append(time.monotonic())
        parts = [after - before for before, after in itertools.pairwise(began)]
        parts[0] += held.seconds - sum(parts)  # the first one bears the taking and the giving back
        for outcome, seconds in zip(ran.values(), parts, strict=True):
            workloads = {"changes": [asdict(change) for change in held.changes], "left": list(held.left)}
            tenants = dict(held.record.tenants)
            session.finish(outcome, seconds, tenants, work.say, told=workloads, disturbed=held.disturbed)
        write_down(card, begun)
    return ran


def _up(stack: ExitStack, opened: AbstractContextManager[E], may_fail: Callable[[], bool]) -> tuple[E | None, str]:
    """The engine once it answers; or None, and why it does not, where that may be so."""
    from llama_assets.engine import NotRolledOut, Unreachable

    try:
        return stack.enter_context(opened), ""
    except (NotRolledOut, Unreachable) as error:
        if not may_fail():
            raise
        return None, str(error)


def _given_up(
    folder: Path, comparison: Comparison, engines: Engines, work: Work, holding: Holding | None = None
) -> Outcome:
    """Without the arms of an engine that does not come up: the others do not depend on it."""
    from llama_assets.bench import session

    work.say(f"the arms of {engines.here} are given up: {engines.trouble}")
    return session.give_up(folder, comparison, engines.here, engines.trouble, holding)


def _stop_rule(catalog: Catalog, comparison: Comparison) -> StopRule:
    """When a session has enough. The rule is the verdict's; a session knows only that it has one."""
    from llama_assets.bench.turns import StopRule

    percent, minutes = catalog.benchmark.stop_when_interval_percent, catalog.benchmark.lease_minutes
    enough = None
    if percent is not None:
        from llama_assets.verdict import narrow_enough

        enough = narrow_enough(comparison.incumbent, percent)
    return StopRule(enough, None if minutes is None else 60.0 * minutes)


def _purpose(models: Iterable[str]) -> str:
    return f"benchmark of {', '.join(models)}"


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


def _arm(one: Contender, engines: Engines) -> Arm:
    from llama_assets.bench.record import Arm

    precision = one.published.facts.mmproj_file_type or one.model.mmproj
    return Arm(one.arm, one.published.fingerprint, precision, facts_of(one), one.image or engines.chosen)
