"""How each model answers your photos: every selected model is an arm of one session, under one lease.

Arms take turns, so they meet the same noise; a model that cannot be measured fails its own asset only, and one that is
quarantined is skipped. Here: the subsettable multi_asset and its checks. Not here: asking (`bench`), the card (`gpu`),
judging (`verdict`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

import dagster as dg

from llama_assets.assets import candidates, gguf, versions
from llama_assets.assets import verdict as verdicts
from llama_assets.assets.described import first_paragraph
from llama_assets.assets.gpu import GPU_LEASE
from llama_assets.assets.verdict import verdict_result, verdict_spec
from llama_assets.bench.question import Question
from llama_assets.bench.rows import is_engine_arm
from llama_assets.catalog import Catalog, EngineImage, Model
from llama_assets.pipes import may_skip, run_task
from llama_assets.platforms import Platform
from llama_assets.tasks.messages import ArmResult, Benchmark, Benchmarked, Judge, Judged, Postponed

GROUP = "benchmark"
POOL = "gpu"
AUTOMATIC_TAG = "llama-assets/automatic"
"""On runs that no person asked for; a run of any sensor or schedule is one, too."""
ASKS_AGAIN_TAG = "llama-assets/asks-again"
"""On runs of the sensor `automation`: it asks again for what may not have the card yet, so they do not wait for it."""
POSTPONED_UNTIL = "postponed_until"
ANSWERED = "answered_an_image"
VALID_RATE = "schema_valid_rate"
LATENCY = "latency_against_history"
IMAGE = "image_is_pinned"
SERVABLE = "servable"
CHECKS = {
    ANSWERED: "The model answered at least one photo with something.",
    VALID_RATE: "At least nine in ten answers are valid by the question's schema.",
    LATENCY: "The 95th percentile of seconds is at most a quarter above the median of the last five sessions.",
    IMAGE: "The engine's pod that answered ran the pinned image, by the digest that its node told.",
    SERVABLE: "The model is not quarantined: sessions in a row did not fail to load it.",
}
LEAST_VALID = 0.9
MOST_SLOWER = 1.25
SESSIONS_BACK = 5


def key(model: str) -> dg.AssetKey:
    """`benchmark/<model>`."""
    return dg.AssetKey(["benchmark", model])


def keys(catalog: Catalog) -> list[dg.AssetKey]:
    """Every benchmark of the catalog."""
    return [key(model.id) for model in catalog.models]


def benchmark_assets(catalog: Catalog, platform: Platform) -> dg.AssetsDefinition:
    """All benchmarks and the verdicts over them, one a question, as one step."""
    asked = catalog.benchmark.questions

    @dg.multi_asset(
        name="vision_benchmark",
        can_subset=True,
        pool=POOL,
        specs=[
            *(_spec(catalog, model, platform) for model in catalog.models),
            *(verdict_spec(catalog, name, keys(catalog)) for name in asked),
        ],
        check_specs=[
            dg.AssetCheckSpec(name, asset=key(model.id), description=says)
            for model in catalog.models
            for name, says in CHECKS.items()
        ],
    )
    def vision_benchmark(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        arms = [model.id for model in catalog.models if key(model.id) in context.selected_asset_keys]
        selected = [name for name in asked if verdicts.key(name) in context.selected_asset_keys]
        if not arms:
            for name in selected:
                judged = run_task(context, platform, Judge(catalog=catalog, question_name=name), Judged)
                yield verdict_result(judged.verdict, judged.session, name)
            return
        further = {name: Question.load(files).to_json() for name, files in asked.items()}
        question, automatic = further.pop(""), is_automatic(context.run.tags)
        request = Benchmark(
            catalog=catalog.only(arms),
            question=question,
            further=further,
            automatic=automatic,
            asks_again=automatic and context.run.tags.get(ASKS_AGAIN_TAG) == "true",
        )
        measured = candidates.measured(context, catalog, platform, request)
        may_skip(context)
        if measured.postponed is not None:
            _postpone(context, arms, measured.postponed)
            return
        if platform.candidates == "started" and any(one.action == "promote" for one in measured.settled):
            candidates.apply_what_is_current(context, catalog, platform)
        yield from (
            _result(context, arm, found, measured, platform.engine_image(catalog))
            for arm, found in measured.arms.items()
            if found.failed is None
        )
        kept_out = [arm for arm in arms if arm in measured.quarantined]
        for arm in kept_out:
            context.log.warning(f"{key(arm).to_user_string()} is skipped: not measured, {measured.quarantined[arm]}")
            yield _servable(arm, f"not measured, {measured.quarantined[arm]}")
        if measured.verdict is not None:
            context.log.info("\n" + measured.verdict.text)
            if "" in selected:
                yield verdict_result(measured.verdict, measured.session)
        for name, found in measured.further.items():
            if found.verdict is not None:
                context.log.info(f"question {name}\n{found.verdict.text}")
                if name in selected:
                    yield verdict_result(found.verdict, found.session, name)
        failed = {arm: found.failed for arm, found in measured.arms.items() if found.failed is not None}
        if kept_out == arms and not automatic:
            failed = {"nothing was measured": _only_quarantined(arms)}
        if failed:
            raise dg.Failure("\n".join(f"{arm}: {why}" for arm, why in failed.items()), allow_retries=False)

    return vision_benchmark


def is_automatic(tags: Mapping[str, str]) -> bool:
    """Did nobody ask for the run with these tags?"""
    return tags.get(AUTOMATIC_TAG) == "true" or not {"dagster/schedule_name", "dagster/sensor_name"}.isdisjoint(tags)


@dataclass(frozen=True)
class Postponement:
    """That a benchmark was asked for and may not have had the card before `until`. `storage_id` grows."""

    storage_id: int
    until: datetime


def last_postponement(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Postponement | None:
    """The newest one of a benchmark; None if it was measured since, or never postponed."""
    observed = instance.fetch_observations(asset, limit=1).records
    found = observed[0].asset_observation if observed else None
    until = found.metadata.get(POSTPONED_UNTIL) if found else None
    if until is None:
        return None
    measured = instance.fetch_materializations(asset, limit=1).records
    if measured and measured[0].storage_id > observed[0].storage_id:
        return None
    return Postponement(observed[0].storage_id, datetime.fromtimestamp(float(str(until.value)), UTC))


def _postpone(context: dg.AssetExecutionContext, arms: Sequence[str], found: Postponed) -> None:
    """Written down in Dagster, where the condition reads it: the ledger lies on a volume that only tasks have."""
    context.log.warning(
        f"{', '.join(arms)}: skipped, nothing was measured: {found.why}. Sensor `automation` asks for it again then, "
        "if it is on"
    )
    said: dict[str, dg.MetadataValue[Any]] = {
        POSTPONED_UNTIL: dg.MetadataValue.timestamp(found.until),
        "why": dg.MetadataValue.text(found.why),
    }
    for arm in arms:
        context.log_event(dg.AssetObservation(key(arm), metadata=said))


def _spec(catalog: Catalog, model: Model, platform: Platform) -> dg.AssetSpec:
    return dg.AssetSpec(
        key(model.id),
        deps=[gguf.key(model.id), GPU_LEASE],
        group_name=GROUP,
        description=first_paragraph(__doc__),
        kinds={"llamacpp"},
        code_version=versions.of_answers(catalog, model, platform.engine_image(catalog), platform.tried_image(catalog)),
        skippable=True,
    )


def _result(
    context: dg.AssetExecutionContext, arm: str, found: ArmResult, measured: Benchmarked, image: EngineImage | None
) -> dg.MaterializeResult:
    picture = (
        {"latency": dg.MetadataValue.md(f"![latency](data:image/png;base64,{found.picture_png})")}
        if found.picture_png
        else {}
    )
    photos = {"photos": dg.MetadataValue.table([dg.TableRecord(row) for row in found.photos])} if found.photos else {}
    return dg.MaterializeResult(
        asset_key=key(arm),
        metadata={
            **found.figures,
            "session": measured.session,
            "fingerprint": found.fingerprint or "",
            **_candidate(arm, measured),
            **_further(arm, measured),
            **picture,
            **photos,
        },
        check_results=[
            *_checks(context, arm, found),
            _image_check(arm, found.engine_image, image),
            _servable(arm, ""),
        ],
    )


def _candidate(model: str, measured: Benchmarked) -> dict[str, str]:
    """What became of the model's candidates, if it had one in this session: files or arguments, and the engine."""
    said: dict[str, str] = {}
    for one in measured.settled:
        if one.model == model:
            name = "engine_candidate" if is_engine_arm(one.arm) else "candidate"
            said |= {name: one.arm, f"{name}_decision": one.action, f"{name}_reason": one.reason}
    return said


def _only_quarantined(arms: Sequence[str]) -> str:
    """What a person is told who asked for nothing else; automation's run is green, and the check `servable` red."""
    commands = " and ".join(f"`llama-assets quarantine release {arm}`" for arm in arms)
    return f"{', '.join(arms)} {'is' if len(arms) == 1 else 'are'} quarantined; {commands} lets the engine try again"


def _further(arm: str, measured: Benchmarked) -> dict[str, float | str]:
    """What the model answered to the further questions, under their names."""
    said: dict[str, float | str] = {}
    for name, found in measured.further.items():
        said |= {f"{name}/{figure}": value for figure, value in found.figures.get(arm, {}).items()}
        if arm in found.failed:
            said[f"{name}/failed"] = found.failed[arm]
    return said


def _servable(arm: str, quarantined: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key(arm), check_name=SERVABLE, passed=not quarantined, severity=dg.AssetCheckSeverity.ERROR,
        description=quarantined or "the engine loaded it",
    )  # fmt: skip


def _checks(context: dg.AssetExecutionContext, arm: str, found: ArmResult) -> Iterator[dg.AssetCheckResult]:
    ok, valid, p95 = (found.figures.get(name) for name in ("ok", "schema_valid_rate", "latency_p95_s"))
    yield _check(arm, ANSWERED, bool(ok), {"ok": ok or 0})
    yield _check(arm, VALID_RATE, valid is not None and valid >= LEAST_VALID, {} if valid is None else {"rate": valid})
    history = _history(context, arm)
    if p95 is None or not history:
        yield _check(arm, LATENCY, True, {"sessions": len(history)})
    else:
        usual = median(history)
        slower = p95 / usual
        yield _check(arm, LATENCY, slower <= MOST_SLOWER, {"p95_s": p95, "usual_s": usual, "ratio": slower})


def _check(arm: str, name: str, passed: bool, figures: dict[str, float]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key(arm), check_name=name, passed=passed, severity=dg.AssetCheckSeverity.WARN, metadata=figures
    )


def _image_check(arm: str, ran: str | None, wanted: EngineImage | None) -> dg.AssetCheckResult:
    """A node that does not tell a digest proves nothing, and is no failure."""
    digest = (ran or "").partition("@")[2]
    if wanted is None:
        passed, says = True, "the engine is no pod of ours"
    elif wanted.digest is None:
        passed, says = False, f"{wanted}; what ran is {ran or 'not known'}"
    elif not digest:
        passed, says = True, f"not proven: the node does not tell the digest of {ran or 'what ran'}"
    else:
        passed, says = digest == wanted.digest, f"{ran} ran, {wanted.digest} is pinned"
    return dg.AssetCheckResult(
        asset_key=key(arm), check_name=IMAGE, passed=passed, severity=dg.AssetCheckSeverity.WARN, description=says
    )


def _history(context: dg.AssetExecutionContext, arm: str) -> list[float]:
    """p95 seconds of the last sessions, newest first; a session without one is passed over."""
    records = context.instance.fetch_materializations(key(arm), limit=SESSIONS_BACK).records
    values = (
        record.asset_materialization.metadata.get("latency_p95_s") for record in records if record.asset_materialization
    )
    return [float(value.value) for value in values if value is not None and value.value is not None]
