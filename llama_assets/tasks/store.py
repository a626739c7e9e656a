"""Tasks `download` and `store`: what opens the model volume, and what it says in answer.

A failed update is an answer and not an error while an older verified set is current: that one stays served, and the
answer says why it is not the new one. Not here: how bytes are brought (`download`), what the store promises (`store`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_assets.catalog import Model
from llama_assets.store import BadHeader, Published, Refused, Store, StoreError, in_words, short
from llama_assets.tasks.messages import (
    Candidate,
    Download,
    Downloaded,
    FileFacts,
    FileFault,
    FoundVersion,
    Inspect,
    Inspected,
    ModelFiles,
)

if TYPE_CHECKING:
    from llama_assets.hub import Revision
    from llama_assets.tasks.download import Downloaded as Done
    from llama_assets.tasks.work import Work


def download_task(work: Work) -> Downloaded:
    """Bring what the followed revision selects here, and beside it what the catalog's candidate names.

    Raises:
        DownloadFailed: and no earlier verified set is current either.
    """
    from llama_assets.tasks.trying import bring

    request = Download.model_validate(work.task.request)
    model, store = request.model, work.platform.store()
    found = _own_files(work, store, request)
    own = None if found.update_error and found.candidate is None else found.followed.fingerprint
    tried = bring(work.platform.hub(), store, model, own, work.say)
    return found.model_copy(
        update={
            "tried": _files(tried.published) if tried.published else None,
            "tried_error": tried.why or None,
            "tried_failed": tried.failed,
            "tried_version": _version(tried.revision) if tried.revision else None,
            "fetched_bytes": found.fetched_bytes + tried.fetched_bytes,
        }
    )


def _version(revision: Revision) -> FoundVersion:
    return FoundVersion(revision=revision.commit, fingerprint=revision.fingerprint, bytes=revision.bytes)


def _own_files(work: Work, store: Store, request: Download) -> Downloaded:
    from llama_assets.tasks.download import DownloadFailed, download

    model = request.model
    try:
        done = download(work.platform.hub(), store, model, promotion=request.promotion, say=work.say)
    except DownloadFailed as error:
        kept = _current(store, model)
        if kept is None:
            raise
        work.say(f"{model.id}: {short(kept.fingerprint)} stays current and served: {error.why}")
        return _kept(kept, model, f"{error}{_damaged(store, kept)}")
    if not done.promoted:
        kept = store.current(model.id)
        if kept is None:
            raise Refused(model.id, done.fingerprint, done.held_back)
        unmended = _mended(work, store, model)
        if done.fingerprint not in store.refused(model.id):
            aside = done.held_back if kept.fingerprint in store.tried(model.id) else ""
            says = aside or f"it is a candidate; {short(kept.fingerprint)} is served meanwhile"
            work.say(f"{model.id}: {short(done.fingerprint)} is not promoted: {says}")
            beside = {"current": _files(kept), "candidate": _files(done.published), "held_back": aside}
            return _downloaded(done).model_copy(update={**beside, "update_error": unmended.strip() or None})
        return _kept(kept, model, f"{short(done.fingerprint)} is not promoted: {done.held_back}{unmended}")
    return _downloaded(done)


def _damaged(store: Store, kept: Published) -> str:
    from llama_assets.tasks.repair import advice, damage

    found = damage(store, kept)
    return f"\n  {found}; {advice(store, kept)}" if found else ""


def _mended(work: Work, store: Store, model: Model) -> str:
    """What is current is not what was downloaded, so its damage is fetched apart; why not, if it cannot be."""
    from llama_assets.tasks.repair import RepairFailed, repair

    try:
        repair(work.platform.hub(), store, model, work.say)
    except RepairFailed as error:
        return f"\n  {error}"
    return ""


def _downloaded(done: Done) -> Downloaded:
    return Downloaded(
        current=_files(done.published, {file.sha256: file.path for file in done.files}),
        repo=done.revision.repo,
        revision=done.revision.commit,
        seconds=done.seconds,
        fetched_bytes=done.bytes_fetched,
    )


def _kept(kept: Published, model: Model, why: str) -> Downloaded:
    """The answer when an older set stays current; its revision is the one it came from."""
    repo, _, commit = kept.source.rpartition("@")
    return Downloaded(
        current=_files(kept),
        repo=repo or model.repo,
        revision=commit or None,
        seconds=0.0,
        fetched_bytes=0,
        update_error=why,
    )


def store_task(work: Work) -> Inspected:
    """What is current of each model, and with `verify` whether its bytes still are what they were."""
    request = Inspect.model_validate(work.task.request)
    store = work.platform.store()
    found = {model: files for model in request.models if (files := store.current(model.id)) is not None}
    faults: dict[str, tuple[FileFault, ...]] = {}
    for model, files in found.items() if request.verify else ():
        faults[model.id] = _faults(store, model)
        if faults[model.id] and request.repair:
            faults[model.id] = _repaired(work, store, model, faults[model.id])
        says = [fault.says for fault in faults[model.id]] or ["sha256, header and projector are good"]
        for line in says:
            work.say(f"{model.id}: {short(files.fingerprint)}, {in_words(files.bytes)} read again: {line}")
    return Inspected(
        current={model.id: _files(files) for model, files in found.items()},
        faults={name: says for name, says in faults.items() if says},
        **_beside(store, request, work.platform.results),
    )


def _beside(store: Store, request: Inspect, results: Path) -> dict[str, Any]:
    """What is not current and yet of interest, if that was asked."""
    if request.serving is None:
        return {}
    from llama_assets.tasks.candidates import last_said, lineup

    found = lineup(store, request.models, request.serving, request.automatic)
    advised = last_said(results, [one for one in (*found.due, *found.waiting) if not one.is_files])
    candidates = tuple(
        Candidate(
            arm=one.arm, model=one.published.model, files=_files(one.published), due=one in found.due, tries=one.tries,
            last=advised.get(one.arm, one.last),
        )
        for one in (*found.due, *found.waiting)
    )  # fmt: skip
    return {"candidates": candidates, "quarantined": dict(found.quarantined)}


def _repaired(work: Work, store: Store, model: Model, faults: tuple[FileFault, ...]) -> tuple[FileFault, ...]:
    """What is still wrong after fetching again what is damaged, and why."""
    from llama_assets.tasks.repair import RepairFailed, repair

    for fault in faults:
        work.say(f"{model.id}: {fault.says}")
    try:
        repair(work.platform.hub(), store, model, work.say)
    except RepairFailed as error:
        return (FileFault(check="sha256", says=str(error)),)
    return _faults(store, model)


def _faults(store: Store, model: Model) -> tuple[FileFault, ...]:
    found = [FileFault(check="sha256", says=str(fault)) for fault in store.verify(model.id)]
    try:
        facts = store.read_headers(model.id, model.context)
    except StoreError as error:
        check = "header" if isinstance(error, BadHeader) else "sha256"
        return (*found, FileFault(check=check, says=str(error)))
    if facts.fit.fits is False:
        found.append(FileFault(check="projector", says=facts.fit.why))
    return tuple(found)


def _current(store: Store, model: Model) -> Published | None:
    try:
        return store.current(model.id)
    except StoreError:
        return None  # damaged: then there is nothing to fall back on, and the download's own error is the one to tell


def _files(published: Published, paths: dict[str, str] | None = None) -> ModelFiles:
    return ModelFiles(
        model=published.model,
        fingerprint=published.fingerprint,
        bytes=published.bytes,
        files=tuple(
            FileFacts(
                role=part.role, part=part.part, sha256=part.sha256, bytes=part.size, path=(paths or {}).get(part.sha256)
            )
            for part in published.parts
        ),
        model_file=str(published.model_file),
        mmproj_file=str(published.mmproj_file),
        architecture=published.facts.architecture,
        context_length=published.facts.context_length,
    )
