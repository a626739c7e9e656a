"""Repair: fetch again what is gone or damaged of a model's current set, from the commit it came from, and only that.

The followed revision may have moved since; its files are a download's matter. While nothing can be fetched, what is
current stays so and is served as well as it can be. Not here: finding damage (`store`), bringing bytes (`download`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llama_assets.catalog import Model
from llama_assets.hub import Hub, HubError
from llama_assets.store import NotPublished, NoWayBack, Published, Store, in_words, short
from llama_assets.tasks.download import DownloadFailed, download

Say = Callable[[str], None]


@dataclass(eq=False)
class RepairFailed(Exception):
    """Damaged files cannot be fetched again. `way_out` is what a person can do."""

    model: str
    what: str
    why: str
    way_out: str

    exit_status = 1

    def __str__(self) -> str:
        return f"{self.model}: {self.what}, and cannot be fetched again: {self.why}\n  {self.way_out}"


def repair(hub: Hub, store: Store, model: Model, say: Say) -> None:
    """Bring what is missing of `current` here; nothing to do where nothing is.

    Raises:
        RepairFailed: what is current is as it was.
        NotPublished: the model has no current set.
    """
    current = store.current(model.id)
    if current is None:
        raise NotPublished(model.id)
    if not store.missing(current):
        return
    say(f"{damage(store, current)}; fetching that again from {current.source}")
    try:
        repo, _, commit = current.source.rpartition("@")
        if current.fingerprint in store.tried(model.id):
            model = model.as_tried()
        found = hub.resolve(model, commit) if repo == model.repo else None
        if found is None or found.fingerprint != current.fingerprint:
            raise _failed(
                store, current, f"it came from {current.source or 'elsewhere'}, the catalog selects others now"
            )
        download(hub, store, model, promotion="on_verdict", commit=commit, say=say)  # current already: nothing moves
    except HubError as error:
        raise _failed(store, current, str(error)) from error
    except DownloadFailed as error:
        raise _failed(store, current, error.why) from error


def damage(store: Store, published: Published) -> str:
    """What of a set is gone or damaged, in words; empty where nothing is known to be."""
    missing = {part.sha256: part for part in store.missing(published)}.values()
    if not missing:
        return ""
    roles = " and ".join(dict.fromkeys(part.role for part in missing))
    size = in_words(sum(part.size for part in missing))
    return f"{published.model} {short(published.fingerprint)}: {roles} ({size}) is gone or damaged"


def advice(store: Store, published: Published) -> str:
    """What to do about a damaged set that cannot be fetched again."""
    model = published.model
    try:
        back = store.way_back(model)
    except (NotPublished, NoWayBack):
        return f"it is served as well as it can be; no earlier fingerprint of {model} is here to go back to"
    return (
        f"it is served as well as it can be; `llama-assets rollback {model}` serves {short(back.fingerprint)} instead"
    )


def _failed(store: Store, current: Published, why: str) -> RepairFailed:
    what = damage(store, current).partition(": ")[2]
    return RepairFailed(f"{current.model} {short(current.fingerprint)}", what, why, advice(store, current))
