"""Tasks `download` and `store`: what opens the model volume, and what it says in answer.

A failed update is an answer and not an error while an older verified set is current: that one stays served, and the
answer says why it is not the new one. Not here: how bytes are brought (`download`), what the store promises (`store`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_assets.catalog import Model
from llama_assets.store import BadHeader, Published, Refused, Store, StoreError, in_words
from llama_assets.tasks.messages import Download, Downloaded, FileFacts, FileFault, Inspect, Inspected, ModelFiles

if TYPE_CHECKING:
    from llama_assets.tasks.work import Work


def download_task(work: Work) -> Downloaded:
    """Bring what the followed revision selects here.

    Raises:
        DownloadFailed: and no earlier verified set is current either.
    """
    from llama_assets.tasks.download import DownloadFailed, download

    model = Download.model_validate(work.task.request).model
    store = work.platform.store()
    try:
        done = download(work.platform.hub(), store, model, say=work.say)
    except DownloadFailed as error:
        kept = _current(store, model)
        if kept is None:
            raise
        work.say(f"{model.id}: {kept.fingerprint[:12]} stays current and served: {error.why}")
        return _kept(kept, model, str(error))
    if not done.promoted:
        kept = store.current(model.id)
        if kept is None:
            raise Refused(model.id, done.fingerprint, done.held_back)
        return _kept(kept, model, f"{done.fingerprint[:12]} is not promoted: {done.held_back}")
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
        says = [fault.says for fault in faults[model.id]] or ["sha256, header and projector are good"]
        for line in says:
            work.say(f"{model.id}: {files.fingerprint[:12]}, {in_words(files.bytes)} read again: {line}")
    return Inspected(
        current={model.id: _files(files) for model, files in found.items()},
        faults={name: says for name, says in faults.items() if says},
    )


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
