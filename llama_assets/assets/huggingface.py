"""The revision of each model's repo on the Hub that the catalog follows.

External: nothing is run here. A revision is reported when one was found whose selected bytes changed, by the sensor
`huggingface_revisions` or by a download, so that what lies downstream is stale exactly when there is something new to
fetch. Files that a model's `candidate` names are followed likewise, as an asset of their own: `huggingface/<m>` stays
the model's own. Here: the assets, their check, and how a report is written. Not here: looking (`hub`), when
(`automation`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from llama_assets.assets.described import first_paragraph
from llama_assets.assets.last_said import is_news, last_report
from llama_assets.catalog import Catalog, Model
from llama_assets.hub import Hub, HubError, HubLimits, Revision, watch_all
from llama_assets.hub.following import Failing
from llama_assets.platforms import Platform
from llama_assets.tasks.changes import changed_files
from llama_assets.tasks.trying import followed as followed_models

GROUP = "huggingface"
FOLLOWED = "followed"
CHECKS = {
    FOLLOWED: "The Hub gives us what the catalog follows. Red at once when a person is needed: repo, revision or file "
    "gone or renamed, gated, forbidden. A warning when the Hub has been away for an hour. Executed, it looks now and "
    "reports what it finds."
}
HEADERS_S = 60.0
# One try: who looks often looks again, and a tick of Dagster's may not take long.
LOOK_LIMITS = HubLimits(api_timeout_s=6.0, stall_s=6.0, attempts=1)


def key(model: str) -> dg.AssetKey:
    """`huggingface/<model>`; for `<model>@candidate`, which is what the catalog tries, `huggingface/<model>/candidate`:
    Dagster makes names of outputs of an asset's, which may hold no `@`.
    """  # fmt: skip
    return dg.AssetKey(["huggingface", *model.split("@")])


def keys(model: Model) -> list[dg.AssetKey]:
    """All that is followed for a model: its own files, and its candidate's where it names other ones."""
    return [key(one.id) for one in followed_models([model])]


def check_key(model: str) -> dg.AssetCheckKey:
    """Its check `followed`."""
    return dg.AssetCheckKey(key(model), FOLLOWED)


def huggingface_assets(catalog: Catalog) -> list[dg.AssetSpec]:
    """One external asset per catalog model, and one for other files that it tries."""
    return [_spec(model) for model in followed_models(catalog.models)]


def huggingface_checks(catalog: Catalog, platform: Platform) -> list[dg.AssetChecksDefinition]:
    """Whether each model can be followed: the sensor says it when that changes, and whoever executes it asks now."""
    by_name = {model.id: model for model in followed_models(catalog.models)}

    @dg.multi_asset_check(
        name="huggingface_followed",
        specs=[dg.AssetCheckSpec(FOLLOWED, asset=key(name), description=CHECKS[FOLLOWED]) for name in by_name],
        can_subset=True,
    )
    def followed(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        keys, hub = context.op_execution_context.selected_asset_check_keys, platform.hub(LOOK_LIMITS)
        models = [model for model in by_name.values() if check_key(model.id) in keys]
        for name, found in watch_all(hub, models, {}).items():
            if isinstance(found, HubError):
                state = followed_state(None, Failing.of(found, time.time()))
            else:
                state = followed_state(found.revision, None)
                _report_look(context.instance, hub, by_name[name], found.revision)
            yield dg.AssetCheckResult(asset_key=key(name), check_name=FOLLOWED, **state)

    return [followed]


def _report_look(instance: dg.DagsterInstance, hub: Hub, model: Model, now: Revision) -> None:
    """Report what a look found, with what changed since the last report."""

    def changed() -> Sequence[str]:
        last = last_report(instance, key(model.id))
        if last is None or "revision" not in last.metadata:
            return ()
        try:
            before = hub.resolve(model, str(last.metadata["revision"].value))
        except HubError as error:
            return (f"what was there before is not known: {str(error).splitlines()[0]}",)
        return changed_files(hub, before, now, time.monotonic() + HEADERS_S)

    event = revision_event(instance, model, now.commit, now.fingerprint, now.bytes, changed)
    if event is not None:
        instance.report_runless_asset_event(event)


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
    if not is_news(last_report(instance, key(model.id)), fingerprint):
        return None
    metadata: dict[str, Any] = {"revision": commit, "fingerprint": fingerprint, "repo": model.repo, "bytes": size}
    if says := changed():
        metadata["changed"] = "\n".join(says)
    return dg.AssetMaterialization(key(model.id), metadata=metadata, tags={DATA_VERSION_TAG: fingerprint})


def report_revision(context: dg.AssetExecutionContext, model: Model, commit: str, fingerprint: str, size: int) -> None:
    """Report what a download resolved, from within its step; not over what somebody found while the step ran, which is
    newer: it stays news, and the download is to be asked for again.
    """  # fmt: skip
    asset, step = key(model.id), context.op_execution_context.get_step_execution_context()
    record = context.instance.get_latest_materialization_event(asset)
    began = step.maybe_fetch_and_get_input_asset_version_info(asset)
    event = revision_event(context.instance, model, commit, fingerprint, size)
    if event is not None:
        if record is not None and (began is None or record.timestamp > began.timestamp):
            return
        context.instance.report_runless_asset_event(event)
    # Dagster read its parents' versions when the step began; what was fetched is what has been reported just now, and
    # without this the asset would be stale from the moment it is made.
    step.wipe_input_asset_version_info(asset)
