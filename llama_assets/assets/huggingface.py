"""The revision of each model's repo on the Hub that the catalog follows.

External: nothing is run here. A revision is reported when one was found whose selected bytes changed, by the sensor
`huggingface_revisions` or by a download, so that what lies downstream is stale exactly when there is something new to
fetch. Here: the assets, their check, and how a report is written. Not here: looking (`hub`), when (`automation`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from llama_assets.assets.described import first_paragraph
from llama_assets.catalog import Catalog, Model
from llama_assets.hub import HubError, HubLimits, Revision, watch_all
from llama_assets.hub.following import Failing
from llama_assets.platforms import Platform

GROUP = "huggingface"
FOLLOWED = "followed"
CHECKS = {
    FOLLOWED: "The Hub gives us what the catalog follows. Red at once when a person is needed: repo, revision or file "
    "gone or renamed, gated, forbidden. A warning when the Hub has been away for an hour. Executed, it looks now."
}
# One try: who looks often looks again, and a tick of Dagster's may not take long.
LOOK_LIMITS = HubLimits(api_timeout_s=8.0, stall_s=6.0, attempts=1)


def key(model: str) -> dg.AssetKey:
    """`huggingface/<model>`."""
    return dg.AssetKey(["huggingface", model])


def check_key(model: str) -> dg.AssetCheckKey:
    """Its check `followed`."""
    return dg.AssetCheckKey(key(model), FOLLOWED)


def huggingface_assets(catalog: Catalog) -> list[dg.AssetSpec]:
    """One external asset per catalog model."""
    return [_spec(model) for model in catalog.models]


def huggingface_checks(catalog: Catalog, platform: Platform) -> list[dg.AssetChecksDefinition]:
    """Whether each model can be followed: the sensor says it when that changes, and whoever executes it asks now."""

    @dg.multi_asset_check(
        name="huggingface_followed",
        specs=[dg.AssetCheckSpec(FOLLOWED, asset=key(m.id), description=CHECKS[FOLLOWED]) for m in catalog.models],
        can_subset=True,
    )
    def followed(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        keys = context.op_execution_context.selected_asset_check_keys
        models = [model for model in catalog.models if check_key(model.id) in keys]
        for name, found in watch_all(platform.hub(LOOK_LIMITS), models, {}).items():
            failing = Failing.of(found, time.time()) if isinstance(found, HubError) else None
            revision = None if isinstance(found, HubError) else found.revision
            yield dg.AssetCheckResult(asset_key=key(name), check_name=FOLLOWED, **followed_state(revision, failing))

    return [followed]


def followed_state(revision: Revision | None, failing: Failing | None) -> dict[str, Any]:
    """What the check says, as arguments of Dagster's two classes for it. `revision` is the last good one."""
    known: dict[str, Any] = {"revision": revision.commit} if revision else {}
    if failing is None:
        says = f"{revision.repo} at {revision.commit} ({revision.followed})" if revision else ""
        return {"passed": True, "description": says, "metadata": known}
    severity = dg.AssetCheckSeverity.WARN if failing.passing else dg.AssetCheckSeverity.ERROR
    metadata = {"error": failing.kind, "since": dg.MetadataValue.timestamp(failing.since_s), **known}
    return {"passed": False, "severity": severity, "description": failing.says, "metadata": metadata}


def _spec(model: Model) -> dg.AssetSpec:
    return dg.AssetSpec(
        key(model.id),
        group_name=GROUP,
        description=first_paragraph(__doc__),
        kinds={"huggingface"},
        metadata={
            "repo": model.repo,
            "revision": model.revision,
            "url": dg.MetadataValue.url(f"https://huggingface.co/{model.repo}"),
        },
    )


def revision_event(
    instance: dg.DagsterInstance,
    model: Model,
    commit: str,
    fingerprint: str,
    size: int,
    changed: Callable[[], Sequence[str]] = tuple,
) -> dg.AssetMaterialization | None:
    """That the followed revision selects these bytes (`size` in all); None when the last report said the same.

    A materialization and not an observation: only the former makes `gguf/<m>` stale and is seen by conditions. They see
    one that says the same again, too, so there must be none. `changed` is asked for a sentence a file if it is news.
    """
    last = instance.get_latest_materialization_event(key(model.id))
    known = last.asset_materialization.tags if last and last.asset_materialization else None
    if known and known.get(DATA_VERSION_TAG) == fingerprint:
        return None
    metadata: dict[str, Any] = {"revision": commit, "fingerprint": fingerprint, "repo": model.repo, "bytes": size}
    if says := changed():
        metadata["changed"] = "\n".join(says)
    return dg.AssetMaterialization(key(model.id), metadata=metadata, tags={DATA_VERSION_TAG: fingerprint})


def report_revision(context: dg.AssetExecutionContext, model: Model, commit: str, fingerprint: str, size: int) -> None:
    """Report what a download resolved, from within its step."""
    event = revision_event(context.instance, model, commit, fingerprint, size)
    if event is not None:
        context.instance.report_runless_asset_event(event)
    # Dagster read its parents' versions when the step began; what was fetched is what has been reported just now, and
    # without this the asset would be stale from the moment it is made.
    context.op_execution_context.get_step_execution_context().wipe_input_asset_version_info(key(model.id))
