"""The verified model files of each catalog model: the GGUF and its vision projector, from one commit of its repo.

Materializing one resolves the followed revision, fetches what it selects, checks it and makes it current; if anything
fails the old files stay current and served. Here: the asset, its checks, its metadata. Not here: how to fetch
(`tasks.download`), what verified means (`store`).
"""

from collections.abc import Iterator
from typing import Literal

import dagster as dg

from llama_assets.assets import huggingface, versions
from llama_assets.assets.described import first_paragraph
from llama_assets.catalog import Catalog, Model
from llama_assets.pipes import run_task
from llama_assets.platforms import Platform
from llama_assets.store import short
from llama_assets.tasks.messages import Download, Downloaded, Inspect, Inspected
from llama_assets.tasks.trying import followed

GROUP = "gguf"
POOL = "download"
UPDATED = "updated"
CANDIDATE_HERE = "candidate_here"
SHA256 = "sha256"
CHECKS = {
    SHA256: "Every byte of the current files, hashed again, gives the sha256 that the Hub named.",
    "header": "The GGUF headers are whole, every tensor lies inside its file, and the context fits the model.",
    "projector": "The vision projector is one, and its width is the model's.",
}


def key(model: str) -> dg.AssetKey:
    """`gguf/<model>`."""
    return dg.AssetKey(["gguf", model])


def gguf_assets(catalog: Catalog, platform: Platform) -> list[dg.AssetsDefinition]:
    """One asset per catalog model."""
    return [_asset(model, catalog.automation.promotion, platform) for model in catalog.models]


def gguf_checks(catalog: Catalog, platform: Platform, when: dg.AutomationCondition) -> list[dg.AssetChecksDefinition]:
    """Three blocking checks per model, in one step, on the files that would be served; by themselves `when` it is."""
    return [_checks(model, when, platform) for model in catalog.models]


def selection_without(model: str) -> str:
    """What to materialize when one model cannot be had, in Dagster's selection syntax."""
    return f'not (key:"gguf/{model}" or key:"benchmark/{model}")'


def _asset(model: Model, promotion: Literal["at_once", "on_verdict"], platform: Platform) -> dg.AssetsDefinition:
    _, *tried = followed([model])

    @dg.asset(
        key=key(model.id),
        deps=huggingface.keys(model),
        group_name=GROUP,
        pool=POOL,
        description=first_paragraph(__doc__),
        kinds={"gguf"},
        code_version=versions.of_files(model),
        metadata={"repo": model.repo, "quant": model.quant or model.file, "mmproj": model.mmproj or model.mmproj_file},
        check_specs=[
            dg.AssetCheckSpec(
                UPDATED,
                asset=key(model.id),
                description="The files are those of the followed revision, not an older one kept.",
            ),
            *(
                dg.AssetCheckSpec(
                    CANDIDATE_HERE,
                    asset=key(model.id),
                    description="The files that the catalog's `candidate` names are here, beside the model's own.",
                )
                for _ in tried
            ),
        ],
    )
    def gguf(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        try:
            request = Download(model=model, promotion=promotion)
            found = run_task(context, platform, request, Downloaded)
        except dg.Failure as failure:
            # What serves all models lies downstream of each: say how to go on without this one.
            says = f"{failure.description}\nto run the rest: --select '{selection_without(model.id)}'"
            raise dg.Failure(says, allow_retries=False) from None
        if found.update_error is None and found.revision:
            own = found.followed
            huggingface.report_revision(context, model, found.revision, own.fingerprint, own.bytes)
        if tried and (other := found.tried_version):
            huggingface.report_revision(context, tried[0], other.revision, other.fingerprint, other.bytes)
        if found.tried_error:
            context.log.warning(f"the candidate that the catalog names is not to be had: {found.tried_error}")
        return dg.MaterializeResult(
            # A candidate is news for what lies downstream: its benchmark decides which of the two is served.
            data_version=dg.DataVersion(found.followed.fingerprint),
            metadata=_metadata(found),
            check_results=[_updated(model, found), *(_candidate_here(model, found) for _ in tried)],
        )

    return gguf


def _metadata(found: Downloaded) -> dict[str, dg.MetadataValue]:
    files = [
        dg.TableRecord({"role": f.role, "part": f.part, "bytes": f.bytes, "sha256": f.sha256})
        for f in found.current.files
    ]
    known = {
        "revision": dg.MetadataValue.text(found.revision) if found.revision else None,
        "candidate": dg.MetadataValue.text(found.candidate.fingerprint) if found.candidate else None,
        "tried": dg.MetadataValue.text(found.tried.fingerprint) if found.tried else None,
        "tried_error": dg.MetadataValue.text(found.tried_error) if found.tried_error else None,
        "architecture": dg.MetadataValue.text(found.current.architecture) if found.current.architecture else None,
        "context_length": dg.MetadataValue.int(found.current.context_length) if found.current.context_length else None,
    }
    return {
        "repo": dg.MetadataValue.text(found.repo),
        "fingerprint": dg.MetadataValue.text(found.current.fingerprint),
        "bytes": dg.MetadataValue.int(found.current.bytes),
        "fetched_bytes": dg.MetadataValue.int(found.fetched_bytes),
        "seconds": dg.MetadataValue.float(found.seconds),
        "files": dg.MetadataValue.table(files),
        **{name: value for name, value in known.items() if value is not None},
    }


def _updated(model: Model, found: Downloaded) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key(model.id),
        check_name=UPDATED,
        passed=found.update_error is None,
        severity=dg.AssetCheckSeverity.ERROR,
        description=found.update_error or f"{model.repo} at {found.revision}{_waiting(found)}",
    )


def _candidate_here(model: Model, found: Downloaded) -> dg.AssetCheckResult:
    """A warning at most: what is served does not depend on it. What is not to be brought (refused, the model's own
    files) lacks nothing.
    """  # fmt: skip
    says = f"{short(found.tried.fingerprint)} is here" if found.tried else "there is nothing to bring"
    return dg.AssetCheckResult(
        asset_key=key(model.id),
        check_name=CANDIDATE_HERE,
        passed=not found.tried_failed,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.tried_error or says,
    )


def _waiting(found: Downloaded) -> str:
    if found.candidate is None:
        return ""
    if found.held_back:
        return f"; {short(found.candidate.fingerprint)} is not promoted: {found.held_back}"
    names = short(found.candidate.fingerprint), short(found.current.fingerprint)
    return "; {} is a candidate and waits for its verdict, {} is served meanwhile".format(*names)


def _checks(model: Model, when: dg.AutomationCondition, platform: Platform) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"gguf_{model.id.replace('-', '_').replace('.', '_')}_files",
        specs=[
            dg.AssetCheckSpec(
                name, asset=key(model.id), blocking=True, description=says, automation_condition=when
            )  # one step: all three or none
            for name, says in CHECKS.items()
        ],
        pool=POOL,
    )
    def files(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        found = run_task(context, platform, Inspect(models=(model,), verify=True), Inspected)
        faults = found.faults.get(model.id, ())
        for name in CHECKS:
            says = [fault.says for fault in faults if fault.check == name]
            yield dg.AssetCheckResult(
                asset_key=key(model.id), check_name=name, passed=not says, description="; ".join(says) or CHECKS[name]
            )

    return files
