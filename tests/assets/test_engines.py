"""Another image of the engine, tried in the graph: the pod is rolled between the parts of a session, and put back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_assets.assets import versions
from llama_assets.assets.benchmark import key
from llama_assets.catalog import Catalog, EngineImage
from llama_assets.engine import NotRolledOut, Served
from llama_assets.launch import Task
from llama_assets.platforms import Applied
from llama_assets.tasks.messages import Answer, Benchmarked, Candidate, Inspected, Settled
from tests.assets.test_candidates import MODEL, OLD, Graph, Listing
from tests.assets.test_graph import arm, checks, failures, files, materialized, verdict

ONE, OTHER = (f"e/e@sha256:{digit * 64}" for digit in "12")
ARM = f"{MODEL}@engine"


class Rolling(Listing):
    """A platform whose engine is a pod; `rolled` are the images it was made from, one after the other."""

    rolled: list[str]
    broken: str

    def engine_image(self, catalog: Catalog) -> EngineImage | None:
        return catalog.engine.chosen_image()

    def tried_image(self, catalog: Catalog) -> EngineImage | None:
        return catalog.engine.tried_image()

    def left_image(self, catalog: Catalog) -> str | None:
        chosen = str(catalog.engine.chosen_image().reference)
        return self.rolled[-1] if self.rolled and self.rolled[-1] != chosen else None

    def apply_config(
        self, catalog: Catalog, served: Sequence[Served], *more: Any, tried: EngineImage | None = None, **_: Any
    ) -> Applied:
        self.rolled.append((tried or catalog.engine.chosen_image()).reference)
        if tried and self.broken:
            raise NotRolledOut("the engine", 900.0, self.broken)
        return super().apply_config(catalog, served, *more)


class Rolled(Graph):
    """The graph over it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.candidate, self.rolled, self.broken = None, [], ""
        engine = self.catalog.engine.model_copy(update={"image": ONE, "candidate_image": OTHER})
        self.catalog = self.catalog.model_copy(update={"engine": engine})

    @property
    def platform(self) -> Rolling:
        plain = super().platform
        platform = Rolling(plain.name, plain.settings, plain.launcher)
        object.__setattr__(platform, "rolled", self.rolled)
        object.__setattr__(platform, "broken", self.broken)
        return platform

    def inspected(self) -> Inspected:
        found = super().inspected()
        if self.catalog.engine.candidate_image is None:
            return found
        beside = Candidate(arm=ARM, model=MODEL, files=files(MODEL, OLD), due=True, tries=0, last="")
        return found.model_copy(update={"candidates": (beside,)})

    def in_parts(self, *wanted: str) -> None:
        """The benchmark's tasks want these images, one after the other, and then it is done."""
        left = list(wanted)

        def reply(_: Task) -> Answer:
            if left:
                return Benchmarked(session="/s/1", verdict=None, arms={}, engine_wanted=left.pop(0))
            settled = Settled(
                arm=ARM, model=MODEL, fingerprint=OLD, session="1", action="recommend", word="better", reason="because"
            )
            measured = arm().model_copy(update={"engine_image": ONE})
            return Benchmarked(session="/s/1", verdict=verdict(), arms={MODEL: measured}, settled=(settled,))

        self.tasks.replies["benchmark"] = reply

    def parts(self) -> list[tuple[str | None, str]]:
        """Image and trouble that each benchmark task was told of."""
        asked = [task.request for task in self.tasks.asked if task.kind == "benchmark"]
        return [(request["engine_image"], request["engine_trouble"]) for request in asked]


@pytest.fixture
def graph(tmp_path: Path) -> Rolled:
    return Rolled(tmp_path)


def test_the_pod_is_made_from_each_image_that_the_session_wants_and_from_the_chosen_one_in_the_end(
    graph: Rolled,
) -> None:
    graph.serve()
    graph.in_parts(OTHER, ONE, OTHER, ONE)
    before, rolled = graph.config.read_bytes(), len(graph.rolled)
    result = graph.benchmark()
    assert result.success, failures(result)
    assert graph.rolled[rolled:] == [ONE, OTHER, ONE, OTHER, ONE, ONE]
    assert graph.parts() == [(None, ""), (OTHER, ""), (ONE, ""), (OTHER, ""), (ONE, "")]
    steps = [(task.kind, task.step) for task in graph.tasks.asked]
    assert len(set(steps)) == len(steps), "each is a task of its own, and none follows another one's Job"
    metadata = materialized(result)[f"benchmark/{MODEL}"]
    assert (metadata["engine_candidate"].value, metadata["engine_candidate_decision"].value) == (ARM, "recommend")
    assert checks(result)[f"benchmark/{MODEL}:image_is_pinned"], "the model's own arm is of the chosen image"
    assert graph.config.read_bytes() == before


@pytest.mark.parametrize("ends", ["a failure", "a postponement"])
def test_however_a_part_ends_the_chosen_image_is_put_back(graph: Rolled, ends: str) -> None:
    graph.in_parts(OTHER)
    first = graph.tasks.replies["benchmark"]
    later = Benchmarked.model_validate(
        {
            "session": "",
            "arms": {},
            "verdict": None,
            "postponed": {"until": "2026-11-24T00:00:00Z", "why": "it is quiet"},
        }
    )
    end: Answer | str = "the lease was lost" if ends == "a failure" else later
    graph.tasks.replies["benchmark"] = lambda task: end if task.request["engine_image"] else first(task)
    result = graph.benchmark()
    assert result.success == (ends == "a postponement") and graph.rolled == [ONE, OTHER, ONE]
    if ends == "a postponement":
        assert graph.instance.fetch_observations(key(MODEL), limit=1).records


def test_a_pod_that_does_not_become_ready_is_told_to_the_task_and_ends_no_run(graph: Rolled) -> None:
    graph.broken = "CrashLoopBackOff"
    graph.in_parts(OTHER, ONE)
    result = graph.benchmark()
    assert result.success, failures(result)
    (_, trouble) = graph.parts()[1]
    assert "CrashLoopBackOff" in trouble and graph.rolled[-1] == ONE


def test_what_a_killed_run_left_is_put_back_by_the_next_benchmark_though_nothing_is_tried_any_more(
    graph: Rolled,
) -> None:
    graph.rolled.append(OTHER)  # killed while it measured
    engine = graph.catalog.engine.model_copy(update={"candidate_image": None})
    graph.catalog = graph.catalog.model_copy(update={"engine": engine})
    graph.in_parts()
    assert graph.benchmark().success and graph.rolled == [OTHER, ONE]


def test_a_task_that_wants_what_it_has_is_an_error_and_no_endless_run(graph: Rolled) -> None:
    graph.in_parts(ONE)
    assert "that is what there was" in failures(graph.benchmark())


def test_naming_another_image_is_a_reason_to_measure_and_none_to_serve_anew(graph: Rolled) -> None:
    catalog, model = graph.catalog, graph.catalog.models[0]
    image, tried = catalog.engine.chosen_image(), catalog.engine.tried_image()
    engine = catalog.engine.model_copy(update={"candidate_image": None})
    without = catalog.model_copy(update={"engine": engine})
    assert versions.of_answers(catalog, model, image, tried) != versions.of_answers(without, model, image)
    assert versions.of_serving(catalog, image) == versions.of_serving(without, image)
    assert versions.of_answers(catalog, model, image, None) == versions.of_answers(without, model, image), "not ours"
