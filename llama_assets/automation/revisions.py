"""The sensor `huggingface_revisions`: have the repos moved, are our bytes others, and who cannot be followed.

One request a repo when quiet, two when its commit moved. A changed model is reported as a materialization of
`huggingface/<m>`, with what differs in its files; a model in trouble turns its own check `followed` red. Files that a
model's `candidate` names are followed beside it, as `huggingface/<m>/candidate`: their news and troubles are their own.
Not here: what a look comes to (`hub.following`), what differs (`tasks.changes`), fetching anything (`assets.gguf`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import dagster as dg

from llama_assets.assets.huggingface import (
    FOLLOWED,
    LOOK_LIMITS,
    check_key,
    followed_state,
    key,
    revision_event,
)
from llama_assets.assets.last_said import shown
from llama_assets.catalog import Catalog
from llama_assets.hub import Hub, HubLimits
from llama_assets.hub.following import FOLLOW_LIMITS, Failing, Following, FollowLimits, Moved, News
from llama_assets.platforms import Platform
from llama_assets.tasks.changes import HEADER_LIMITS, HeaderLimits, changed_files
from llama_assets.tasks.trying import followed


@dataclass(frozen=True)
class RevisionLimits:
    """What a tick may take. `tick_s`: no header is asked for later; Dagster ends a sensor's tick after 60 s."""

    tick_s: float = 28.0
    hub: HubLimits = LOOK_LIMITS
    follow: FollowLimits = FOLLOW_LIMITS
    headers: HeaderLimits = HEADER_LIMITS


LIMITS = RevisionLimits()


def huggingface_revisions(
    catalog: Catalog, platform: Platform, limits: RevisionLimits = LIMITS, clock: Callable[[], float] = time.time
) -> dg.SensorDefinition:
    """Looks at the catalog's repos. `clock` gives unix seconds."""

    @dg.sensor(
        name="huggingface_revisions",
        description="Asks the Hub whether the followed repos have moved (every automation.poll_minutes of the catalog) "
        "and reports huggingface/<m> when bytes that the catalog selects are others. On by default, because it only "
        "looks: one small request a repo, and no run. A model that cannot be followed turns its check `followed` red.",
        minimum_interval_seconds=catalog.automation.poll_minutes * 60,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def look_at_the_hub(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        hub, now_s, until = platform.hub(limits.hub), clock(), time.monotonic() + limits.tick_s
        before = Following.from_json(context.cursor, hub.endpoint)
        after, news = before.look(hub, followed(catalog.models), now_s, limits.follow)
        events: list[dg.AssetMaterialization | dg.AssetCheckEvaluation] = [
            *_revisions(context.instance, hub, news, until, limits.headers),
            *_turned(context.instance, after, news, now_s, limits.follow),
        ]
        return dg.SensorResult(asset_events=events, cursor=after.to_json(), skip_reason=str(news))

    return look_at_the_hub


def _revisions(
    instance: dg.DagsterInstance, hub: Hub, news: News, until: float, limits: HeaderLimits
) -> Iterator[dg.AssetMaterialization]:
    for moved in news.changed:
        new, what = moved.new, partial(_what_changed, hub, moved, until, limits)
        report = revision_event(instance, moved.model, new.commit, new.fingerprint, new.bytes, what)
        if report is not None:  # else a download has found and reported it before us
            yield report


def _what_changed(hub: Hub, moved: Moved, until: float, limits: HeaderLimits) -> Sequence[str]:
    return changed_files(hub, moved.old, moved.new, until, limits) if moved.old else ()


def _turned(
    instance: dg.DagsterInstance, after: Following, news: News, now_s: float, limits: FollowLimits
) -> Iterator[dg.AssetCheckEvaluation]:
    """The checks that are to say something else than they said last, to whomever they said it."""
    wanted: dict[str, Failing | None] = dict.fromkeys(news.good)
    wanted |= {name: failing for name, failing in news.failed.items() if failing.lasts(now_s, limits)}
    last = shown(instance, [check_key(name) for name in wanted])
    for name, failing in wanted.items():
        said = last.get(check_key(name))  # None, too, where somebody executes it just now or was killed at it
        if said is None or _said(said) != _state(failing):
            state = followed_state(after.models[name].revision, failing)
            yield dg.AssetCheckEvaluation(asset_key=key(name), check_name=FOLLOWED, **state)


def _state(failing: Failing | None) -> str:
    """What is worth another word: all is well, the Hub is away in whatever way, or a person has something to do."""
    return "good" if failing is None else "away" if failing.passing else failing.kind


def _said(evaluation: dg.AssetCheckEvaluation) -> object:
    """The state that an earlier word told of."""
    if evaluation.passed:
        return "good"
    error = evaluation.metadata.get("error")
    return "away" if evaluation.severity == dg.AssetCheckSeverity.WARN else error and error.value
