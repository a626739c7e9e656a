"""Files that the catalog's `candidate` names: followed and brought beside a model's own, noted in the store as tried.

They are another fingerprint of the same model, never promoted by a download. The note is what keeps the two apart: what
is in it is no news of the followed revision, what the catalog names now is kept by gc, and while one of them is current
the model's own files are not promoted over it. Not here: bringing bytes (`download`), measuring, deciding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llama_assets.bench.rows import candidate_arm
from llama_assets.catalog import Model
from llama_assets.hub import Hub, HubError, Revision
from llama_assets.store import Published, Store, StoreError, short
from llama_assets.tasks.candidates import TRIED, as_candidate
from llama_assets.tasks.download import DownloadFailed, download, tried_words


@dataclass(frozen=True)
class Brought:
    """What became of a candidate's files. `published` is None where they are not here; `why` is the reason, if any.

    `failed`: they should be here, and are not. `revision` is what was found on the Hub.
    """

    published: Published | None = None
    why: str = ""
    fetched_bytes: int = 0
    failed: bool = False
    revision: Revision | None = None


def followed(models: Iterable[Model]) -> list[Model]:
    """Whose files on the Hub are looked at: each model's, and the candidate's beside it where it names other ones."""
    beside = (
        (model, as_candidate(model, candidate_arm(model.id, TRIED)))
        if model.candidate and model.candidate.files
        else (model,)
        for model in models
    )
    return [one for several in beside for one in several]


def bring(hub: Hub, store: Store, model: Model, own: str | None, say: Callable[[str], None]) -> Brought:
    """Bring what the candidate of `model` names; nothing where it names no files. `own` is the fingerprint that the
    catalog selects for the model itself, if that is known: it is no candidate of itself.

    What goes wrong is told and not raised: the model's own files do not depend on it.
    """  # fmt: skip
    try:
        if model.candidate is None or not model.candidate.files:
            _note(store, model.id, own, None, "")
            return Brought()
        return _bring(hub, store, model, own, say)
    except (HubError, StoreError, DownloadFailed) as error:
        why = error.why if isinstance(error, DownloadFailed) else str(error)
        say(f"{model.id}: its candidate's files cannot be had; the model's own do not depend on them: {why}")
        return Brought(why=why, failed=True)


def _bring(hub: Hub, store: Store, model: Model, own: str | None, say: Callable[[str], None]) -> Brought:
    asked = model.as_tried()
    revision = hub.resolve(asked)
    name, refused = revision.fingerprint, store.refused(model.id)
    _note(store, model.id, own, name, f"{tried_words(model)}@{revision.commit}")
    if name == own:
        why = "its candidate's files are the model's own, byte for byte: take `candidate` out"
        return Brought(why=why, revision=revision)
    if name in refused and name not in store.sets(model.id):
        say(f"{model.id}: its candidate {short(name)} is not fetched, it is refused: {refused[name]}")
        return Brought(why=f"{short(name)} is refused: {refused[name]}", revision=revision)
    done = download(hub, store, asked, promotion="on_verdict", commit=revision.commit, say=say)
    why = f"refused: {refused[name]}" if name in refused else ""
    return Brought(done.published, why, done.bytes_fetched, revision=revision)


def _note(store: Store, model: str, own: str | None, name: str | None, what: str) -> None:
    """The last one named is the one with words; the others are remembered, because they never were followed."""
    before = store.tried(model)
    listed = {known: "" for known in before if known not in (own, name)}
    if name is not None and name != own:
        listed[name] = before.get(name) or what
    store.note_tried(model, listed)
