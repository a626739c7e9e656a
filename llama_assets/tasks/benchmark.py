"""Task `benchmark`: photos before the lease, one session under it, the verdict after it.

Where the rooms meet: the store says what is current, the platform gives lease and engine, `bench` asks, `verdict`
judges. Steps: prepare everything that needs no card; take the card; ask; give it back; judge. Not here: any of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llama_assets.catalog import Catalog
from llama_assets.store import Published
from llama_assets.tasks.hold import holder
from llama_assets.tasks.messages import ArmResult, Benchmark, Benchmarked
from llama_assets.tasks.permission import Permission
from llama_assets.tasks.verdict import judged_session

if TYPE_CHECKING:
    from llama_assets.bench.record import Arm, Comparison
    from llama_assets.bench.session import Outcome
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
    """One session of every model asked for.

    Raises:
        PlatformError, PhotosError, QuestionError, GpuError: before anything was asked.
        NeverAllowed, LedgerError: an automatic one may not have the card.
        SessionHalted: stopped, the card was asked for, or automation's window closed.
    """
    from llama_assets.bench import photos, session
    from llama_assets.bench.plan import mirrored_plan
    from llama_assets.bench.question import Question
    from llama_assets.bench.record import Comparison

    request = Benchmark.model_validate(work.task.request)
    catalog, platform, spec = request.catalog, work.platform, request.catalog.benchmark
    question = Question.from_json(request.question)
    permission = Permission.of(work, catalog, request.automatic)
    permission.wait(_purpose(model.id for model in catalog.models))
    current, failed = _verified(work, catalog)
    if not current:
        return Benchmarked(session="", arms=failed, verdict=None)
    with photos.prepare(platform.photos(), spec.photos, spec.seed, work.say) as chosen:
        arms = list(current)
        comparison = Comparison(
            arms=tuple(_arm(catalog, published) for published in current.values()),
            question=question,
            photos=chosen,
            plan=mirrored_plan(arms, [photo.name for photo in chosen.photos], spec.blocks, spec.seed),
            catalog_hash=catalog.hash,
            max_tokens=spec.max_tokens,
            answer_timeout_s=float(spec.answer_timeout_seconds),
            incumbent=spec.incumbent if spec.incumbent in arms else None,
        )
        outcome = session.begin(platform.results, comparison, work.say)
        if outcome.complete:  # killed between the last answer and the verdict: no card is needed for the rest
            session.finish(outcome, None, None, work.say)
        else:
            outcome = _under_the_lease(work, permission, comparison, outcome.folder, list(current.values()))
    if outcome.halted:
        raise SessionHalted(outcome)
    judged = judged_session(outcome.folder) if outcome.rows else None
    images = _images(outcome.folder)
    results = {
        model: found.model_copy(update={"engine_image": images.get(model)})
        for model, found in (judged.arms if judged else {}).items()
    }
    for model, reason in outcome.ended.items():
        failed[model] = ArmResult(figures={}, fingerprint=current[model].fingerprint, failed=reason)
    results |= failed
    return Benchmarked(
        session=str(outcome.folder),
        arms={model.id: results[model.id] for model in catalog.models},
        verdict=judged.verdict if judged else None,
    )


def _images(folder: Path) -> dict[str, str | None]:
    """What answered each arm, as the session's record has it: a run may only judge what an earlier one asked."""
    from llama_assets.bench.record import Record

    arms = Record.read(folder).values["arms"]
    return {model: (arm.get("engine") or {}).get("image") for model, arm in arms.items()}


def _verified(work: Work, catalog: Catalog) -> tuple[dict[str, Published], dict[str, ArmResult]]:
    """The verified files of every model, and the models that have none."""
    store = work.platform.store()
    current: dict[str, Published] = {}
    failed: dict[str, ArmResult] = {}
    for model in catalog.models:
        published = store.current(model.id)
        if published is None:
            says = f"no verified file; materialize gguf/{model.id} first"
            failed[model.id] = ArmResult(figures={}, fingerprint=None, failed=says)
            work.say(f"{model.id}: {says}")
        else:
            current[model.id] = published
    return current, failed


def _under_the_lease(
    work: Work, permission: Permission, comparison: Comparison, folder: Path, current: Sequence[Published]
) -> Outcome:
    from llama_assets.bench import session
    from llama_assets.bench.turns import Holding
    from llama_assets.engine import Served

    catalog = permission.catalog
    lease = permission.over(work.platform.lease(catalog))
    served = [Served(catalog.model(p.model), p.fingerprint, p.model_file, p.mmproj_file) for p in current]
    with work.stop.gentle() as stopped:
        with (
            lease.take(holder(), _purpose(comparison.plan.arms), work.say) as held,
            work.platform.engine(catalog, served, folder / "engine", held.still_held, work.say) as engine,
        ):
            holding = Holding(held.token, held.still_held)
            outcome = session.run(folder, comparison, engine, holding, work.say, stopped)
            if outcome.halted and held.over:
                outcome = replace(outcome, halted=held.over)
        session.finish(outcome, held.seconds, dict(held.record.tenants), work.say)
    return outcome


def _purpose(models: Iterable[str]) -> str:
    return f"benchmark of {', '.join(models)}"


def _arm(catalog: Catalog, published: Published) -> Arm:
    from llama_assets.bench.record import Arm

    model = catalog.model(published.model)
    precision = published.facts.mmproj_file_type or model.mmproj
    facts = {
        "source": published.source,
        "file_type": published.facts.file_type,
        "architecture": published.facts.architecture,
    }
    return Arm(published.model, published.fingerprint, precision, facts)
