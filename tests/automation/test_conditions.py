"""What automation asks for, and when: a truth table over the real graph, its conditions and a clock of its own.

Runs are real too, over a launcher that is a function: they leave the materializations, checks and versions that
Dagster would have. A row says what happened since the last look, and what is asked for now; it is then run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from llama_assets import catalog as catalogs
from llama_assets.assets import huggingface
from llama_assets.automation.conditions import RUN_TAGS, NoSuchTime, conditions, hashed_again
from llama_assets.definitions import build_defs
from llama_assets.platforms import Platform
from llama_assets.settings import Settings
from llama_assets.tasks.messages import Benchmarked, Downloaded, FileFault, Inspected, Postponed
from tests.assets.test_graph import Tasks, files

A, B = "qwen3vl-8b", "qwen3vl-4b"
MEASURED = {"gpu_lease", "verdict"}
MONDAY = datetime(2029, 1, 1, 12, tzinfo=UTC)
SUNDAY = datetime(2029, 1, 7, tzinfo=UTC)


class World:
    """The graph, the Hub's revisions, and the clock; `tick` is one look of the sensor."""

    def __init__(self, folder, **automation):
        (folder / "questions").symlink_to(catalogs.PACKAGED.parent / "questions")
        found = catalogs.load().only([A, B])
        section = catalogs.Automation(time_zone="Europe/Berlin", weekly_benchmark="0 3 * * 0", **automation)
        self.catalog = found.model_copy(update={"automation": section})
        self.folder, self.tasks, self.instance = folder, Tasks(), dg.DagsterInstance.ephemeral()
        self.now, self.cursor = MONDAY, None
        self.hub: dict[str, str] = {}
        self.damaged: set[str] = set()
        self.meanwhile: Callable[[], None] | None = None
        answer = self.tasks.replies["benchmark"]

        def measure(task):
            happens, self.meanwhile = self.meanwhile, None
            if happens:
                happens()
            return answer(task)

        self.tasks.replies |= {"download": self._download, "store": self._store, "benchmark": measure}
        self.load()

    def load(self) -> None:
        """The code location is loaded, as after a change of the catalog or of the question."""
        settings = Settings(store=self.folder / "store", results=self.folder / "results")
        self.defs = build_defs(self.catalog, Platform("local", settings, self.tasks))

    def _download(self, task):
        model = task.request["model"]["id"]
        return Downloaded(
            current=files(model, self.hub[model]), repo="r/r", revision="c" * 40, seconds=1.0, fetched_bytes=1
        )

    def _store(self, task):
        models = [m["id"] for m in task.request["models"]]
        faults = {m: (FileFault(check="sha256", says="other bytes"),) for m in models if m in self.damaged}
        return Inspected(current={m: files(m, self.hub[m]) for m in models}, faults=faults)

    def report(self, revision: str, *models: str) -> None:
        """As the revision sensor does."""
        for model in models:
            self.hub[model] = revision * 64
            event = dg.AssetMaterialization(huggingface.key(model), tags={"dagster/data_version": revision * 64})
            self.instance.report_runless_asset_event(event)

    def run(self, *keys: str, by_hand: bool = False) -> bool:
        """The run that was asked for, or a person's."""
        wanted = [dg.AssetKey.from_user_string(key) for key in keys]
        graph = self.defs.resolve_asset_graph()
        checks = dg.AssetSelection.checks_for_assets(*wanted).resolve_checks(graph)
        job = self.defs.resolve_implicit_global_asset_job_def()
        subset = job.get_subset(asset_selection=set(wanted), asset_check_selection=set(checks))
        tags = {} if by_hand else RUN_TAGS
        return subset.execute_in_process(instance=self.instance, raise_on_error=False, tags=tags).success

    def tick(self, after: timedelta = timedelta(minutes=1), at: datetime | None = None) -> set[str]:
        """What is asked for now."""
        self.now = at or self.now + after
        found = dg.evaluate_automation_conditions(
            defs=self.defs, instance=self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = found.cursor
        keys = (subset.key for subset in found._requested_subsets)
        return {
            key.to_user_string() for key in keys if isinstance(key, dg.AssetKey)
        }  # and the checks that go with them


@dataclass(frozen=True)
class Row:
    happened: str
    do: Callable[[World], object]
    asked: set[str]
    at: datetime | None = None
    run: bool = True


def benchmark(*models: str) -> set[str]:
    return {*(f"benchmark/{model}" for model in models), *MEASURED}


def question(world: World, new: str) -> None:
    prompt = world.catalog.benchmark.question.prompt.read_text()
    changed = world.folder / "prompt.txt"
    changed.write_text(prompt + new)
    asked = world.catalog.benchmark.question.model_copy(update={"prompt": changed})
    spec = world.catalog.benchmark.model_copy(update={"question": asked})
    world.catalog = world.catalog.model_copy(update={"benchmark": spec})
    world.load()


def engine(world: World, **changed: object) -> None:
    world.catalog = world.catalog.model_copy(update={"engine": world.catalog.engine.model_copy(update=changed)})
    world.load()


def tries(world: World, **what: Any) -> None:
    models = (
        model.model_copy(update={"candidate": catalogs.Tried(**what) if what and model.id == A else None})
        for model in world.catalog.models
    )
    world.catalog = world.catalog.model_copy(update={"models": tuple(models)})
    world.load()


def damage(world: World, *models: str) -> None:
    world.damaged = set(models)


def nothing(_: World) -> None:
    pass


TABLE = [
    Row("the first look at a new instance", nothing, set()),
    Row("the Hub's revisions are reported", lambda w: w.report("1", A, B), {f"gguf/{A}", f"gguf/{B}"}),
    Row("both are fetched, checks passed", nothing, {"llama_swap", *benchmark(A, B)}),
    Row("that run has ended", nothing, set()),
    Row("the same bytes are reported again", lambda w: w.report("1", A), set()),
    Row("gguf A by hand, same bytes", lambda w: w.run(f"gguf/{A}", by_hand=True), set()),
    Row("A has a new revision", lambda w: w.report("2", A), {f"gguf/{A}"}),
    Row("A is fetched, checks passed", nothing, {"llama_swap", *benchmark(A)}),
    Row("that run has ended", nothing, set()),
    Row("A has a new revision, damaged on disk", lambda w: (w.report("3", A), damage(w, A)), {f"gguf/{A}"}),
    Row("A is fetched, sha256 failed", nothing, {f"gguf/{A}"}),
    Row("A is fetched again, sha256 failed again", nothing, set()),
    Row("B has a new revision", lambda w: w.report("3", B), {f"gguf/{B}"}),
    Row("B is fetched, checks passed", nothing, {"llama_swap", *benchmark(B)}),
    Row("A is mended, checks passed", lambda w: (damage(w), w.run(f"gguf/{A}")), benchmark(A)),  # B's run has served it
    Row("llama_swap by hand, same files", lambda w: w.run("llama_swap", by_hand=True), set()),
    Row("gpu_lease by hand", lambda w: w.run("gpu_lease", by_hand=True), set()),
    Row("Sunday 02:59 in Berlin", nothing, set(), at=SUNDAY + timedelta(hours=1, minutes=59)),
    Row("Sunday 03:00 in Berlin", nothing, benchmark(A, B), at=SUNDAY + timedelta(hours=2)),
    Row("that run has ended", nothing, set()),
    Row("the prompt has another line", lambda w: question(w, "\nBe brief."), benchmark(A, B)),
    Row("that run has ended", nothing, set()),
    Row("the engine has another argument", lambda w: engine(w, arguments=("-fa",)), {"llama_swap", *benchmark(A, B)}),
    Row("that run has ended", nothing, set()),
    Row("idle models are unloaded later", lambda w: engine(w, idle_unload_seconds=700), {"llama_swap"}),
    Row("the catalog tries other arguments of A", lambda w: tries(w, arguments=("-fa",)), benchmark(A)),
    Row("it does not any more", tries, benchmark(A)),
    Row("a new file, measured by hand", lambda w: (w.report("4", A), w.run(f"gguf/{A}", "llama_swap", by_hand=True),
        w.run(f"benchmark/{A}", by_hand=True)), set()),
    Row("the catalog tries another quantization of A", lambda w: tries(w, quant="Q8_0"), {f"gguf/{A}"}),
    Row("A is fetched, its own files are the same", nothing, set()),
]  # fmt: skip


def test_the_truth_table(tmp_path):
    world, lines, wrong = World(tmp_path), [], []
    for row in TABLE:
        row.do(world)
        asked = world.tick(at=row.at)
        lines.append(f"{row.happened:40} {short(asked)}")
        if asked != row.asked:
            wrong.append(f"{row.happened}: {short(asked)} instead of {short(row.asked)}")
        if asked:
            world.run(*asked)
    print("\n".join(lines))  # pytest -s shows it
    assert not wrong, "\n".join(wrong)
    told = [task.request["automatic"] for task in world.tasks.asked if task.kind == "benchmark"]
    assert told == [True] * (len(told) - 1) + [False], "all but the last were nobody's"


def short(keys: set[str]) -> str:
    return " ".join(sorted(keys)).replace(A, "A").replace(B, "B") or "-"


@pytest.fixture
def measured(tmp_path):
    """A world in which both models were measured by automation."""

    def make(**automation):
        world = World(tmp_path, **automation)
        world.tick()
        world.report("1", A, B)
        for _ in range(2):
            world.run(*world.tick(at=world.now.replace(hour=23, minute=30)))
        return world

    return make


def test_a_version_that_arrives_during_quiet_hours_or_during_a_run_waits_and_is_asked_for_once(measured):
    world = measured(quiet_hours=("07:00-23:00",))
    noon = MONDAY + timedelta(days=1)
    world.report("2", A)
    assert world.tick(at=noon) == {f"gguf/{A}"}, "a download needs no card"
    world.run(f"gguf/{A}")
    assert world.tick() == {"llama_swap"}, "nor does a configuration"
    world.run("llama_swap")
    assert world.tick(at=noon + timedelta(hours=9, minutes=59)) == set(), "22:59 in Berlin"
    during: list[set[str]] = []

    def meanwhile() -> None:
        world.report("3", A)
        during.append(world.tick())
        world.run(f"gguf/{A}")
        during.append(world.tick())
        world.run("llama_swap")
        during.append(world.tick())

    world.meanwhile = meanwhile
    asked = world.tick(at=noon + timedelta(hours=10))
    assert asked == benchmark(A)
    world.run(*asked)
    assert during == [{f"gguf/{A}"}, {"llama_swap"}, set()], "the one that runs ends first"
    asked = world.tick()
    assert asked == benchmark(A)
    world.run(*asked)
    assert world.tick() == set()


def test_a_benchmark_that_was_cut_goes_on_on_the_next_two_days_and_is_then_left_to_a_person(measured):
    world = measured()
    world.tasks.replies["benchmark"] = lambda _: "session 1: the card had to be given back, with 40 questions left"
    world.report("2", A)
    world.run(*world.tick())
    assert not world.run(*world.tick())
    nights = []
    for night in range(1, 5):
        assert world.tick() == set(), "not again on the same day"
        asked = world.tick(at=MONDAY.replace(hour=23, minute=10) + timedelta(days=night))
        nights.append(asked)
        if asked:
            world.run(*asked)
    assert nights == [benchmark(A), benchmark(A), set(), set()]
    assert world.tick(at=SUNDAY + timedelta(hours=2)) == benchmark(A, B), "weekly all the same"


def test_other_bytes_of_a_candidates_files_are_fetched_once_and_by_the_hour_while_they_cannot_be_had(tmp_path):
    world, failed, own = World(tmp_path), False, {f"gguf/{A}"}
    fetch = world.tasks.replies["download"]
    world.tasks.replies["download"] = lambda task: fetch(task).model_copy(update={"tried_failed": failed})
    tries(world, quant="Q8_0")
    world.tick()

    def asked(after: timedelta = timedelta(hours=1)) -> bool:
        """And run, if so; what lies downstream is left alone."""
        due = own & world.tick(after)
        assert not due or world.run(*due), "the model's own files do not depend on it"
        return bool(due)

    world.report("1", A, f"{A}@candidate")
    assert [asked(), asked()] == [True, False], "with both that are news"
    world.report("2", f"{A}@candidate")
    failed = True
    assert [asked(), asked(timedelta(minutes=1)), asked()] == [True, False, True], "not again in the same hour"
    failed = False
    assert [asked(), asked()] == [True, False]


class Postponing:
    """Until a moment each benchmark answers as a task does that may not have the card before; then it measures."""

    def __init__(self, world: World, until: datetime):
        self.until, self.asked, self._world, self._measure = until, [], world, world.tasks.replies["benchmark"]
        world.tasks.replies["benchmark"] = self

    def __call__(self, task):
        self.asked.append((task.request["automatic"], task.request["asks_again"]))
        if self._world.now >= self.until:
            return self._measure(task)
        why = "118 of the 120 min that automatic leases have today are used"
        return Benchmarked(session="", arms={}, verdict=None, postponed=Postponed(until=self.until, why=why))


@pytest.mark.parametrize("why", ["the weekly tick", "other files"])
def test_what_is_postponed_ends_green_and_is_asked_for_again_when_it_may_have_the_card_and_once(measured, why):
    world = measured(quiet_hours=("07:00-22:00",))
    assert world.tick() == set()
    at, models = (SUNDAY + timedelta(hours=2), (A, B)) if why == "the weekly tick" else (MONDAY.replace(hour=23), (A,))
    if why == "other files":
        world.report("2", A)
        world.run(f"gguf/{A}", "llama_swap")
    due = world.tick(at=at)
    assert due == benchmark(*models)
    until = at + timedelta(hours=23)
    card = Postponing(world, until)
    assert world.run(*due), "no failed run: nobody is to be told"
    assert card.asked == [(True, True)]
    minutes = (1, 120, 60 * 12, 60 * 23 - 1)
    assert [world.tick(at=at + timedelta(minutes=m)) for m in minutes] == [set()] * 4, (
        "not before, and not in quiet hours"
    )
    again = world.tick(at=until)
    assert again == due and world.tick() == set(), "asked for, and once"
    if why == "the weekly tick":
        assert world.run(*again) and world.tick() == set(), "it was measured"
        return
    card.until = until + timedelta(days=1)
    assert world.run(*again), "postponed once more"
    assert world.tick(at=card.until - timedelta(minutes=1)) == set()
    world.tasks.replies["benchmark"] = lambda _: "the lease was lost"
    assert not world.run(*world.tick(at=card.until)) and len(card.asked) == 2
    world.tasks.replies["benchmark"] = card
    assert world.tick() == set(), "a failure is asked for again on the next day, however often it was postponed before"
    again = world.tick(at=card.until + timedelta(days=1))
    assert again == due and world.run(*again)
    assert [world.tick(at=card.until + timedelta(days=day)) for day in (2, 3)] == [set()] * 2, "it was measured"


def test_a_benchmark_that_a_person_measured_is_not_asked_for_again_however_it_was_postponed(measured):
    world = measured()
    assert world.tick() == set()
    due = world.tick(at=SUNDAY + timedelta(hours=2))
    card = Postponing(world, world.now + timedelta(hours=3))
    world.run(*due)
    card.until = world.now
    assert world.run(*due, by_hand=True) and card.asked == [(True, True), (False, False)]
    assert world.tick(after=timedelta(hours=4)) == set()


def test_the_switch_and_the_schedule_are_off_at_first_say_what_they_do_and_mark_their_runs(tmp_path):
    world = World(tmp_path)
    repository = world.defs.get_repository_def()
    sensor = repository.get_sensor_def("automation")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED and "scaled to 0" in sensor.description
    assert sensor.run_tags["llama-assets/automatic"] == "true"
    schedule = repository.get_schedule_def("weekly_benchmark")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED and "not both" in schedule.description
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 * * 0", "Europe/Berlin")
    tick = schedule.evaluate_tick(dg.build_schedule_context(instance=world.instance, scheduled_execution_time=SUNDAY))
    assert tick.run_requests[0].tags["llama-assets/automatic"] == "true"
    job = repository.get_job(schedule.job_name)
    assert {key.to_user_string() for key in job.asset_layer.selected_asset_keys} == benchmark(A, B)


@pytest.mark.parametrize(("key", "ask"), [("weekly_benchmark", conditions), ("verify", hashed_again)])
def test_cron_fields_that_mean_nothing_are_named_when_the_graph_is_loaded(key, ask):
    found = catalogs.load()
    section = found.automation.model_copy(update={key: "61 3 * * 0"})
    with pytest.raises(NoSuchTime, match=rf"automation.{key} = '61 3 \* \* 0' of the catalog"):
        ask(found.model_copy(update={"automation": section}))


def test_a_run_that_is_asked_for_brings_every_check_of_its_assets(tmp_path):
    world, cursor = World(tmp_path), None
    repository = world.defs.get_repository_def()
    sensor = repository.get_sensor_def("automation")
    world.report("1", A)
    for _ in range(2):
        context = dg.build_sensor_context(instance=world.instance, cursor=cursor, repository_def=repository)
        tick = sensor.evaluate_tick(context)
        cursor = tick.cursor
    (request,) = tick.run_requests
    assert request.asset_selection == [dg.AssetKey(["gguf", A])]
    assert request.asset_check_keys is None, "none named is all: sha256, header and projector, too"
