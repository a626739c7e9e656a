"""One simulated year of leaving it alone: what automation downloaded, measured, promoted, and what it cost the tenants.

A change upstream each fortnight, of any kind; the hub down one day in ten; the Hub and the conditions are looked at
every three hours. Once each it has what needs a person: a gated repo, a flipped bit, files that the engine cannot load
any more, a tenant that is not restored; a webhook on loopback is told. What is played and what is real stands in
`simulation.py`. The numbers that matter are promises: no lease in quiet hours, no day over its minutes, the ledger on
disk equal to what the tenants saw, nothing told twice.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import time_machine
from pydantic import SecretStr

from figures.measuring import Goal, How, line
from figures.simulation import PlayedClock, PlayedPlatform, platform
from figures.told import Told
from llama_assets import catalog as catalogs
from llama_assets.assets.gpu import GPU_LEASE, RESTORED
from llama_assets.automation.conditions import RUN_TAGS, conditions
from llama_assets.catalog import Catalog
from llama_assets.definitions import build_defs
from llama_assets.demo.hub import LoopbackHub
from llama_assets.demo.models import REPOS, repo_files
from llama_assets.demo.photos import draw_photos
from llama_assets.settings import Settings
from llama_assets.tasks.downtime import Ledger
from llama_assets.tasks.permission import LEDGER

BEGIN = datetime(2027, 1, 1, tzinfo=UTC)
DAYS, QUICK_DAYS = 365, 2
DAYS_OF_IT = "FIGURE_DAYS"  # fewer, to see that it goes on; the line says how many
STEP = timedelta(hours=3)
SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
AUTOMATION = {
    "time_zone": "Europe/Berlin",
    "weekly_benchmark": "0 3 * * 0",
    "quiet_hours": ("07:00-23:00",),
    "tenant_downtime_minutes_a_day": 45,
    "poll_minutes": 180,
    "promotion": "on_verdict",
}
# What happens upstream, as often as it is written here; the number is the pace of new files, None: they never load.
UPSTREAM: tuple[tuple[str, float | None], ...] = (
    *[("new bytes", pace) for pace in (0.8, 0.85, 0.9, 1.0, 1.0, 1.0, 1.1, 1.2, 1.3, None)],
    *[("readme", 1.0)] * 5, *[("another quant", 1.0)] * 4, *[("renamed", 1.0)] * 3, *[("gated for a week", 1.0)] * 2,
)  # fmt: skip


@dataclass
class Year:
    """The world, and what is counted in it."""

    catalog: Catalog
    hub: LoopbackHub
    played: PlayedPlatform
    clock: PlayedClock
    cache: Path
    say: Callable[[str], None]
    counts: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    due: list[tuple[datetime, Callable[[], None]]] = field(default_factory=list)

    def plan(self, days: int, chance: random.Random) -> None:
        """Put what will happen into the calendar."""
        kinds = list(UPSTREAM)
        chance.shuffle(kinds)
        for number, day in enumerate(range(7, days, 14)):
            kind, pace = kinds[number % len(kinds)]
            model = chance.choice(self.catalog.models)
            at = BEGIN + timedelta(days=day, hours=chance.randrange(24))
            self.due.append((at, lambda repo=model.repo, kind=kind, pace=pace: self.happens(repo, kind, pace)))
        for day in range(days):
            if chance.random() < 0.1:
                morning = BEGIN + timedelta(days=day)
                self.due += [(morning, self.hub_goes), (morning + timedelta(days=1) - STEP / 2, self.hub.start)]
        self.due.sort(key=lambda each: each[0])

    def trouble(self, dagster: Dagster) -> None:
        """Put into the calendar what needs a person, one of each kind; the person comes weeks later, if at all."""
        first, second, third = (model for model in self.catalog.models)
        happens: list[tuple[float, Callable[[], None]]] = [
            (4, lambda: self.happens(second.repo, "gated for a week", 1.0)),
            (8, lambda: self.flip_a_bit(first.id)),
            (9, lambda: self.cannot_be_loaded(third.id)),
            (12, lambda: dagster.tenant(False, "immich/immich-machine-learning stays at 0: nobody has the card")),
            (12.5, lambda: dagster.tenant(True, "free")),
            (60, lambda: self.is_released(third.id)),
        ]
        self.due += [(BEGIN + timedelta(days=day), what) for day, what in happens]
        self.due.sort(key=lambda each: each[0])

    def flip_a_bit(self, model: str) -> None:
        """Of what is current, on disk; the monthly look finds it."""
        published = self.played.store().current(model)
        assert published is not None
        with published.model_file.resolve().open("r+b") as file:
            file.seek(-1, 2)
            last = file.read(1)[0]
            file.seek(-1, 2)
            file.write(bytes([last ^ 1]))
        self.counts["bits flipped"] += 1

    def cannot_be_loaded(self, model: str) -> None:
        """The engine loads its current files no more."""
        published = self.played.store().current(model)
        assert published is not None
        self.played.pace[published.fingerprint] = None
        self.counts["models that cannot be loaded any more"] += 1

    def is_released(self, model: str) -> None:
        """A person mended what kept the engine from it, and says so."""
        store = self.played.store()
        published, trials = store.current(model), store.trials(model)
        assert published is not None
        self.played.pace[published.fingerprint] = 1.0
        self.counts["failed loads that a person had forgotten"] += sum(
            len(trials.forget("loads", name)) for name in list(trials.all("loads"))
        )

    def hub_goes(self) -> None:
        """For a day."""
        self.hub.stop()
        self.counts["days the hub was down"] += 1

    def happens(self, repo: str, kind: str, pace: float | None) -> None:
        """One change upstream."""
        self.counts["changes upstream"] += 1
        self.counts[f"upstream: {kind}"] += 1
        self.versions[repo] += 1
        number = self.versions[repo]
        quant = next(name for name in REPOS[repo].models if "Q4_K_M" in name)
        if kind == "new bytes":
            self.push(repo, number, pace)
        elif kind == "readme":
            self.hub.push(repo, {"README.md": f"version {number}"})
        elif kind == "another quant":
            self.hub.push(repo, {quant.replace("Q4_K_M", "Q5_K_M"): b"GGUF" + bytes([number])})
        elif kind == "renamed":
            old = self.names[repo]
            new = f"v{number}-{quant}"
            self.hub.push(repo, {new: self.files[repo][quant]}, remove=(old,))
            self.names[repo] = new
        else:
            self.hub.gate(repo, allowed=["hf_friend"])
            self.due.append((self.clock.now() + timedelta(days=7), lambda: self.hub.open(repo)))
            self.due.sort(key=lambda each: each[0])

    def push(self, repo: str, seed: int, pace: float | None) -> None:
        """New bytes of the selected files."""
        files = repo_files(repo, self.cache, seed)
        quant = next(name for name in files if "Q4_K_M" in name)
        old = self.names.get(repo)
        served = {(old or name) if name == quant else name: path for name, path in files.items()}
        self.hub.push(repo, served)
        self.files[repo] = files
        self.names.setdefault(repo, quant)
        for model in self.catalog.models:
            if model.repo == repo:
                self.played.pace[self.played.hub().resolve(model).fingerprint] = pace

    names: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, Path]] = field(default_factory=dict)


class Dagster:
    """The daemon's part: sensors and conditions at the played time, and the runs that they ask for."""

    def __init__(self, year: Year) -> None:
        self.year = year
        self.defs = build_defs(year.catalog, year.played)
        self.instance = dg.DagsterInstance.ephemeral()
        self.graph = self.defs.resolve_asset_graph()
        self.job = self.defs.resolve_implicit_global_asset_job_def()
        self.targets = dg.AssetSelection.assets(*conditions(year.catalog))
        self.cursor: Any = None
        self.cursors: dict[str, str | None] = {}
        self.evaluations = 0

    def tick(self) -> None:
        """All of one look: the revisions, then what is asked for, then what is told."""
        self.sensor("huggingface_revisions")
        self.conditions()
        for name in ("tell_of_red_checks", "tell_of_failed_runs"):
            self.sensor(name)

    def conditions(self) -> None:
        """Until nothing more is asked for."""
        for _ in range(12):
            found = dg.evaluate_automation_conditions(
                self.defs, self.instance, self.targets, evaluation_time=self.year.clock.now(), cursor=self.cursor
            )
            self.cursor = found.cursor
            self.evaluations += 1
            asked = {each.key for each in found.results if not each.true_subset.is_empty}
            if not asked:
                return
            self.run(asked)
            self.year.clock.move(30)
        self.year.counts["ticks that did not come to rest"] += 1

    def tenant(self, good: bool, says: str) -> None:
        """As the sensor of a cluster reports it; here no cluster is."""
        severity = dg.AssetCheckSeverity.ERROR
        found = dg.AssetCheckEvaluation(GPU_LEASE, RESTORED.name, good, {}, severity=severity, description=says)
        self.instance.report_runless_asset_event(found)

    def sensor(self, name: str) -> None:
        """One tick of a sensor."""
        definition = next(each for each in self.defs.sensors or () if each.name == name)
        context = dg.build_sensor_context(self.instance, self.cursors.get(name), definitions=self.defs)
        found = definition.evaluate_tick(context)
        self.cursors[name] = found.cursor
        for event in found.asset_events:
            self.instance.report_runless_asset_event(event)
            self.year.counts[f"{name}: {type(event).__name__}"] += 1

    def run(self, asked: set[Any]) -> None:
        """What the daemon would launch: assets with their checks, and checks that were asked for by themselves."""
        keys = {key for key in asked if isinstance(key, dg.AssetKey)}
        checks = asked - keys
        if keys:
            checks |= dg.AssetSelection.checks_for_assets(*keys).resolve_checks(self.graph)
        subset = self.job.get_subset(asset_selection=keys, asset_check_selection=checks)
        done = subset.execute_in_process(instance=self.instance, raise_on_error=False, tags=RUN_TAGS, run_config=SILENT)
        counts = self.year.counts
        counts["runs"] += 1
        counts["failed runs"] += not done.success
        counts["postponed runs"] += any(event.is_asset_observation for event in done.all_events)
        for event in done.all_events:
            if event.is_step_materialization and event.asset_key:
                counts[f"materialized {event.asset_key.path[0]}"] += 1
        for event in done.all_node_events:
            if event.is_step_failure:
                error = event.step_failure_data.user_failure_data
                why = error.description if error else str(event.step_failure_data.error)
                self.year.say(f"{event.step_key}: {why}")
        names = "+".join(sorted(key.to_user_string() for key in keys or checks))
        self.year.say(f"{self.year.clock.now():%d %b %H:%M} {names}{'' if done.success else ' FAILED'}")


def measure(how: How) -> Iterator[dict[str, Any]]:
    """One year, or three weeks of it."""
    days = QUICK_DAYS if how.quick else int(os.environ.get(DAYS_OF_IT, DAYS))
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        LoopbackHub() as hub,
        Told() as told,
        time_machine.travel(BEGIN, tick=False) as traveller,
    ):
        year, dagster = _world(Path(folder), hub, told.url, PlayedClock(traveller), how)
        year.plan(days, random.Random(27))
        year.trouble(dagster)
        while (now := year.clock.now()) < BEGIN + timedelta(days=days):
            while year.due and year.due[0][0] <= now:
                year.due.pop(0)[1]()
            dagster.tick()
            traveller.move_to(max(year.clock.now(), now + STEP))
        dagster.sensor("tell_of_red_checks")
        alerts = {"alerts": told.by_kind(), "told_twice": told.repeated()}
        yield _line(how, year, dagster, days, time.perf_counter() - began, alerts)


def _world(folder: Path, hub: LoopbackHub, webhook: str, clock: PlayedClock, how: How) -> tuple[Year, Dagster]:
    packaged = catalogs.load()
    catalog = packaged.model_copy(
        update={
            "automation": packaged.automation.model_copy(update=AUTOMATION),
            "benchmark": packaged.benchmark.model_copy(update={"photos": 12 if how.quick else 40}),
        }
    )
    draw_photos(folder / "photos", 40)
    settings = Settings(
        store=folder / "store", results=folder / "results", photos=folder / "photos", hf_endpoint=hub.url,
        alert_url=SecretStr(webhook),
    )  # fmt: skip
    played, _ = platform(settings, clock)
    year = Year(catalog, hub, played, clock, folder / "cache", how.say)
    for repo in REPOS:
        year.push(repo, 0, 1.0)
    return year, Dagster(year)


def _line(how: How, year: Year, dagster: Dagster, days: int, seconds: float, alerts: dict[str, Any]) -> dict[str, Any]:
    """What became of it, the promises last."""
    zone = ZoneInfo(AUTOMATION["time_zone"])  # type: ignore[arg-type]
    uses = Ledger(year.played.results / LEDGER).uses()
    seen = year.played.card.spans
    by_day: Counter[str] = Counter()
    quiet = 0
    for begin, end in seen:
        at = begin
        while at < end:
            local = at.astimezone(zone)
            by_day[f"{local:%F}"] += 1
            quiet += 7 <= local.hour < 23
            at += timedelta(seconds=1)
    written = sum(use.seconds for use in uses)
    real = sum((end - begin).total_seconds() for begin, end in seen)
    store = year.played.store()
    minutes = AUTOMATION["tenant_downtime_minutes_a_day"]
    assert isinstance(minutes, int)
    return line(
        "year",
        how,
        Goal(float(minutes), "ours"),
        "min",
        [max(by_day.values(), default=0) / 60],
        "python -m figures --year",
        days=days,
        wall_s=round(seconds),
        evaluations=dagster.evaluations,
        bytes_fetched_mb=round(sum(r.sent for r in year.hub.requests("cdn")) / 1e6, 1),
        hub_api_requests=year.hub.count("api"),
        leases=len(seen),
        downtime_hours=round(real / 3600, 2),
        seconds_in_quiet_hours=quiet,
        ledger_less_than_seen_s=round(real - written, 1),
        refused_fingerprints=sum(len(store.refused(model.id)) for model in year.catalog.models),
        counts=dict(sorted(year.counts.items())),
        **alerts,
    )
