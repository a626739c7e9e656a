"""A benchmark's sessions: prepared, asked one after the other under one lease, noted down.

Comes in: who is to answer, what is asked, which image of the engine is here. Goes out: where each question's session
stands. Photos are read and sessions begun before the card is taken; under the lease nothing is done but asking; what
the lease cost is written after it. One lease is one image: what is left for another one is left. Not here: who
contends (`tasks.candidates`), a question (`bench`), what a session says (`tasks.benchmark`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llama_assets.catalog import Catalog, EngineImage
from llama_assets.tasks.candidates import Contender, facts_of
from llama_assets.tasks.courtesy import courteous, write_down
from llama_assets.tasks.hold import holder
from llama_assets.tasks.permission import HeldInTime, Permission

if TYPE_CHECKING:
    from llama_assets.bench.photos import PhotoSet
    from llama_assets.bench.question import Question
    from llama_assets.bench.record import Arm, Comparison
    from llama_assets.bench.session import Outcome
    from llama_assets.bench.turns import Holding, StopRule
    from llama_assets.engine import Processes, SwapClient
    from llama_assets.tasks.work import Work

E = TypeVar("E")


@dataclass(frozen=True)
class Engines:
    """Which images of the engine answer a session: the `chosen` one, and `here` what its pod is made from now.

    Both are empty where no other image is tried. `trouble` is why there is no pod of the one that is here.
    """

    chosen: str = ""
    here: str = ""
    trouble: str = ""

    @property
    def tried(self) -> EngineImage | None:
        """The one that is here, if it is not the chosen one."""
        return None if self.here == self.chosen else EngineImage(self.here, "engine.candidate_image of the catalog")


@dataclass(frozen=True)
class Measuring:
    """What is asked of whom; `outcomes` asks it. `questions` are by name, the one that every catalog has bears none."""

    work: Work
    permission: Permission
    questions: Mapping[str, Question]
    contenders: Sequence[Contender]
    engines: Engines

    def outcomes(self) -> dict[str, Outcome]:
        """Where each question's session stands afterwards, by the question's name.

        Raises:
            PlatformError, PhotosError, GpuError: before anything was asked.
        """
        from llama_assets.bench import photos, session

        work, spec = self.work, self.permission.catalog.benchmark
        with photos.prepare(work.platform.photos(), spec.photos, spec.seed, work.say) as chosen:
            comparisons = [self._comparison(name, question, chosen) for name, question in self.questions.items()]
            begun = session.begin_all(work.platform.results, comparisons, work.say)
            outcomes = {comparison.name: outcome for comparison, outcome in zip(comparisons, begun, strict=True)}
            for outcome in begun:
                if outcome.complete:  # killed between the last answer and the verdict
                    session.finish(outcome, None, None, work.say)
            left = [one for one in comparisons if not outcomes[one.name].complete]
            if not left or outcomes[left[0].name].wants not in ("", self.engines.here):
                return outcomes  # no card is needed, or not with this engine
            if self.engines.trouble:
                without = self._given_up(outcomes[left[0].name].folder, left[0], self.engines.trouble)
                if without.complete:
                    session.finish(without, None, None, work.say)
                return outcomes | {left[0].name: without}
            return outcomes | self._under_the_lease({outcomes[one.name].folder: one for one in left})

    def _comparison(self, name: str, question: Question, photos: PhotoSet) -> Comparison:
        from llama_assets.bench.plan import mirrored_plan
        from llama_assets.bench.record import Comparison

        catalog, spec = self.permission.catalog, self.permission.catalog.benchmark
        asked = [
            one for one in self.contenders if not name or one.image is None
        ]  # an engine is decided on by the first
        arms = [one.arm for one in asked]
        return Comparison(
            arms=tuple(self._arm(one) for one in asked),
            question=question,
            photos=photos,
            plan=mirrored_plan(arms, [photo.name for photo in photos.photos], spec.blocks, spec.seed),
            catalog_hash=catalog.hash,
            max_tokens=spec.max_tokens,
            answer_timeout_s=float(spec.answer_timeout_seconds),
            incumbent=spec.incumbent if spec.incumbent in arms else None,
            name=name,
        )

    def _arm(self, one: Contender) -> Arm:
        from llama_assets.bench.record import Arm

        precision = one.published.facts.mmproj_file_type or one.model.mmproj
        return Arm(one.arm, one.published.fingerprint, precision, facts_of(one), one.image or self.engines.chosen)

    def _under_the_lease(self, begun: Mapping[Path, Comparison]) -> dict[str, Outcome]:
        """One session after the other, until all have ended, one was halted or wants another engine; each bears its
        own part of the lease. `begun` are the sessions' folders.
        """  # fmt: skip
        work, catalog = self.work, self.permission.catalog
        card = courteous(work.platform, catalog, work.say)
        lease = self.permission.over(card)
        rules = {comparison.name: _stop_rule(catalog, comparison) for comparison in begun.values()}
        arms = next(iter(begun.values())).plan.arms
        with work.stop.gentle() as stopped:
            with lease.take(holder(), purpose(arms), work.say) as held:
                ran, seconds = self._asked(begun, rules, held, stopped)
            self._noted(ran, seconds, held)
            write_down(card, begun)
        return ran

    def _asked(
        self,
        begun: Mapping[Path, Comparison],
        rules: Mapping[str, StopRule],
        held: HeldInTime,
        stopped: threading.Event,
    ) -> tuple[dict[str, Outcome], list[float]]:
        """What became of each session that was begun under this lease, and how many seconds it took."""
        from llama_assets.bench import session
        from llama_assets.bench.turns import Holding

        holding = Holding(held.token, held.still_held, lambda: held.disturbed)
        ran: dict[str, Outcome] = {}
        seconds: list[float] = []
        with ExitStack() as stack:
            may_fail = self.engines.tried is not None
            opened = self._engine(next(iter(begun)) / "engine", held)
            engine, trouble = _up(stack, opened, lambda: may_fail and not stopped.is_set() and held.still_held())
            for folder, comparison in begun.items():
                began = time.monotonic()
                if engine is None:
                    outcome = self._given_up(folder, comparison, trouble, holding)
                else:
                    rule, here = rules[comparison.name], self.engines.here
                    outcome = session.run(
                        folder, comparison, engine, holding, self.work.say, stopped, rule=rule, answering=here
                    )
                seconds.append(time.monotonic() - began)
                ran[comparison.name] = replace(outcome, halted=outcome.halted and (held.over or outcome.halted))
                if not outcome.complete:
                    break
        return ran, seconds

    def _engine(self, logs: Path, held: HeldInTime) -> AbstractContextManager[Processes | SwapClient]:
        from llama_assets.engine import Served

        sets = [(one.model, one.published) for one in self.contenders]
        told = [Served(model, p.fingerprint, p.model_file, p.mmproj_file) for model, p in sets]
        catalog, work = self.permission.catalog, self.work
        return work.platform.engine(catalog, told, logs, held.still_held, work.say, self.engines.tried)

    def _noted(self, ran: Mapping[str, Outcome], seconds: Sequence[float], held: HeldInTime) -> None:
        """What the lease cost each session, once it is given back: the first one bears the taking and the giving."""
        from llama_assets.bench import session

        around = held.seconds - sum(seconds)
        workloads = {"changes": [asdict(change) for change in held.changes], "left": list(held.left)}
        tenants = dict(held.record.tenants)
        for place, (outcome, its_own) in enumerate(zip(ran.values(), seconds, strict=True)):
            whole = its_own + (around if place == 0 else 0.0)
            session.finish(outcome, whole, tenants, self.work.say, told=workloads, disturbed=held.disturbed)

    def _given_up(self, folder: Path, comparison: Comparison, trouble: str, holding: Holding | None = None) -> Outcome:
        """Without the arms of an engine that does not come up: the others do not depend on it."""
        from llama_assets.bench import session

        self.work.say(f"the arms of {self.engines.here} are given up: {trouble}")
        return session.give_up(folder, comparison, self.engines.here, trouble, holding)


def purpose(arms: Iterable[str]) -> str:
    """What the card is wanted for, as the lease says it."""
    return f"benchmark of {', '.join(arms)}"


def _up(stack: ExitStack, opened: AbstractContextManager[E], may_fail: Callable[[], bool]) -> tuple[E | None, str]:
    """The engine once it answers; or None, and why it does not, where that may be so."""
    from llama_assets.engine import NotRolledOut, Unreachable

    try:
        return stack.enter_context(opened), ""
    except (NotRolledOut, Unreachable) as error:
        if not may_fail():
            raise
        return None, str(error)


def _stop_rule(catalog: Catalog, comparison: Comparison) -> StopRule:
    """When a session has enough. The rule is the verdict's; a session knows only that it has one."""
    from llama_assets.bench.turns import StopRule

    percent, minutes = catalog.benchmark.stop_when_interval_percent, catalog.benchmark.lease_minutes
    enough = None
    if percent is not None:
        from llama_assets.verdict import narrow_enough

        enough = narrow_enough(comparison.incumbent, percent)
    return StopRule(enough, None if minutes is None else 60.0 * minutes)
