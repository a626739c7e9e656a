"""What is tried is served while it is measured: candidates in the engine's configuration, its pod from another image.

A benchmark's steps here: have the engine serve what is due; ask the task; as long as it says that what is left of the
session is for an engine from another image, make the pod from that and ask again; in the end, whatever happened, apply
what is current, from the chosen image. Killed in between, the next benchmark or `llama_swap` does that, and the session
goes on where it was. Not here: which candidates are due (`tasks.candidates`), the order of a session (`bench.plan`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

from llama_assets.assets.serving import LLAMA_SWAP, apply_config, inspected, said_plainly
from llama_assets.catalog import Catalog
from llama_assets.pipes import run_task
from llama_assets.platforms import Platform
from llama_assets.tasks.messages import Benchmark, Benchmarked, Inspected, Settled

AFTERWARDS = "afterwards"


def measured(
    context: dg.AssetExecutionContext, catalog: Catalog, platform: Platform, request: Benchmark
) -> Benchmarked:
    """The benchmark's answer, once nothing of it is left to ask of any engine."""
    with _served(context, catalog, platform, request) as served:
        answer = run_task(context, platform, request, Benchmarked)
        settled = answer.settled
        for part in range(2, 1_000):
            wanted = answer.engine_wanted
            if wanted is None:
                return answer.model_copy(update={"settled": _once(*settled, *answer.settled)})
            if served is None or wanted == served.image:
                raise dg.Failure(f"session {answer.session} wants the engine from {wanted}, and that is what there was")
            trouble = served.roll(wanted)
            update = {"engine_image": wanted, "engine_trouble": trouble}
            answer = run_task(context, platform, request.model_copy(update=update), Benchmarked, f"part-{part}")
            settled += answer.settled
    raise dg.Failure(f"session {answer.session} does not end")


def apply_what_is_current(context: dg.AssetExecutionContext, catalog: Catalog, platform: Platform) -> None:
    """An observation, not a materialization of `llama_swap`: what is downstream of it has just been measured."""
    found = inspected(context, catalog, platform, part=AFTERWARDS)
    applied = apply_config(context, catalog, platform, found)
    names = {model: files.fingerprint for model, files in found.current.items()}
    context.log.info(f"{applied.where}: {'written' if applied.changed else 'unchanged'}, serves what is current")
    said = {"config_hash": applied.config.hash, "where": applied.where, "state": applied.state}
    context.log_event(dg.AssetObservation(LLAMA_SWAP, metadata={**said, "current": dg.MetadataValue.json(names)}))


@dataclass
class _Served:
    """What the engine serves while a benchmark measures; `image` is what its pod is made from."""

    context: dg.AssetExecutionContext
    catalog: Catalog
    platform: Platform
    found: Inspected
    due: frozenset[str]
    image: str | None

    def roll(self, wanted: str) -> str:
        """Make its pod from this image, with the same configuration; returns why one that is tried does not come up."""
        from llama_assets.engine import NotRolledOut

        tried = self.platform.tried_image(self.catalog)
        if tried is None or tried.reference != wanted:
            tried = None  # the chosen one
        try:
            applied = apply_config(self.context, self.catalog, self.platform, self.found, self.due, tried)
        except dg.Failure as failure:
            if tried is None or not isinstance(failure.__cause__, NotRolledOut):
                raise
            self.image = wanted
            return str(failure.__cause__)
        self.image = wanted
        self.context.log.info(f"what is left of the session is for the engine from {wanted}; {applied.state}")
        return ""


@contextlib.contextmanager
def _served(
    context: dg.AssetExecutionContext, catalog: Catalog, platform: Platform, request: Benchmark
) -> Iterator[_Served | None]:
    """Where the engine reads what it serves: have it serve the candidates of these models, and afterwards what is
    current then. None where nothing is tried.
    """  # fmt: skip
    if platform.candidates != "listed":
        yield None
        return
    served: _Served | None = None
    chosen = platform.engine_image(catalog)
    listed = catalog.automation.promotion == "on_verdict" or any(model.candidate for model in catalog.models)
    if listed or platform.tried_image(catalog):
        found = inspected(context, catalog, platform, request.automatic)
        arms = {model.id for model in request.catalog.models}
        due = frozenset(one.model for one in found.candidates if one.due and one.model in arms)
        if due:
            applied = apply_config(context, catalog, platform, found, due)
            context.log.info(f"candidates of {', '.join(sorted(due))} are served to be measured; {applied.state}")
            served = _Served(context, catalog, platform, found, due, chosen.reference if chosen else None)
    with said_plainly():
        left = platform.left_image(catalog) if served is None else None
    if left:
        context.log.warning(f"a benchmark that was killed left the engine at {left}")
        apply_what_is_current(context, catalog, platform)
    try:
        yield served
    finally:
        if served is not None:
            apply_what_is_current(context, catalog, platform)


def _once(*settled: Settled) -> tuple[Settled, ...]:
    """What the last task said of each arm."""
    return tuple({one.arm: one for one in settled}.values())
