"""Task `store`, where it has an `action`: list, gc, rollback, pin. Opens the model volume, and looks at the sessions.

Here: the store's answers as messages, and which sets an unfinished session still needs. Not here: the promises
(`store`), the words (`tasks.keeping`), what current files are and whether they are right (`tasks.store`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llama_assets.store import Item, Published, Store, StoreError
from llama_assets.tasks.deciding import decide_task, release_task
from llama_assets.tasks.keeping import (
    Collect,
    Collected,
    Kept,
    ListStore,
    Pin,
    Pinned,
    RollBack,
    RolledBack,
    Stored,
    StoredModel,
    StoredSet,
)
from llama_assets.tasks.messages import Answer, Inspected
from llama_assets.tasks.store import store_task

if TYPE_CHECKING:
    from llama_assets.tasks.work import Work

RESUMED_WITHIN_S = 7 * 24 * 3600.0
"""An unfinished session that nobody went on with for so long does not keep files any more."""


def keeping_task(work: Work) -> Answer:
    """What the request's `action` says. Raises StoreError."""
    actions: dict[str, Callable[[Work], Answer]] = {
        "list": _list, "gc": _collect, "rollback": _roll_back, "pin": _pin,
        "promote": decide_task, "reject": decide_task, "release": release_task,
    }  # fmt: skip
    return actions[work.task.request["action"]](work)


def unfinished(results: Path, within_s: float = RESUMED_WITHIN_S) -> dict[str, str]:
    """Fingerprint -> the session that was cut and would go on with it."""
    from llama_assets.bench.record import SESSION, NotASession, Record

    found: dict[str, str] = {}
    for path in (results / "sessions").glob(f"*/{SESSION}"):
        try:
            record = Record.read(path.parent)
        except NotASession:
            continue
        if not record.finished and time.time() - path.stat().st_mtime < within_s:
            arms = record.values.get("arms") or {}
            found |= {arm["fingerprint"]: f"unfinished session {path.parent.name}" for arm in arms.values()}
    return found


def _list(work: Work) -> Stored:
    request, store = ListStore.model_validate(work.task.request), work.platform.store()
    in_use = {**unfinished(work.platform.results), **request.in_use}
    sizes = [(path, path.stat().st_size) for path in store.files()]
    partial = sum(size for path, size in sizes if path.suffix == ".part")
    models = {model: _stored(store, model, in_use) for model in store.models()}
    return Stored(models=models, bytes=sum(size for _, size in sizes), partial_bytes=partial, free_bytes=store.free())


def _stored(store: Store, model: str, in_use: dict[str, str]) -> StoredModel:
    stays = store.standing(model, in_use)
    found = [store.get(model, name) for name in store.sets(model)]
    found.sort(key=lambda published: published.published_at, reverse=True)
    named = {reason: name for name, reasons in stays.items() for reason in reasons}
    return StoredModel(
        current=named.get("current"),
        previous=named.get("previous"),
        candidate=named.get("candidate"),
        refused=store.refused(model),
        pinned=store.pinned(model),
        sets=tuple(_set(store, one, stays.get(one.fingerprint, ())) for one in found),
    )


def _set(store: Store, published: Published, stays: tuple[str, ...] = ()) -> StoredSet:
    return StoredSet(
        fingerprint=published.fingerprint,
        stays=stays,
        refused=store.refused(published.model).get(published.fingerprint),
        bytes=published.bytes,
        source=published.source,
        published_at=published.published_at,
        missing=tuple(dict.fromkeys(part.role for part in store.missing(published))),
    )


def _collect(work: Work) -> Collected:
    request, store = Collect.model_validate(work.task.request), work.platform.store()
    plan = store.plan_gc({**unfinished(work.platform.results), **request.in_use})
    done = plan if request.dry_run else store.gc(plan)
    return Collected(
        dry_run=request.dry_run,
        removed=tuple(_kept(item) for item in done.remove),
        kept=tuple(_kept(item) for item in done.keep),
        bytes=done.bytes,
    )


def _kept(item: Item) -> Kept:
    model = item.path.parent.name if item.kind == "set" else None
    return Kept(
        kind=item.kind, name=item.path.name, model=model, path=str(item.path), why=item.why, bytes=item.bytes
    )  # fmt: skip


def _roll_back(work: Work) -> RolledBack:
    request, store = RollBack.model_validate(work.task.request), work.platform.store()
    model, to = request.model, request.to and store.find(request.model, request.to)
    before = store.current(model)
    cut_off = before and before.fingerprint != request.served and request.served in store.refused(model)
    if before and request.served and cut_off and to in (None, before.fingerprint):
        refused, now, moved = request.served, before, False
    else:
        now = store.way_back(model, to) if request.dry_run else store.rollback(model, request.why, to)
        assert before is not None, "there is a way back from what is current only"
        refused, moved = before.fingerprint, True
    return RolledBack(
        dry_run=request.dry_run,
        moved=moved,
        model=model,
        refused=refused,
        now=_set(store, now),
        inspected=_inspected(work, request),
    )


def _inspected(work: Work, request: RollBack) -> Inspected | None:
    """What another model has wrong must not hide that this one is rolled back: who goes on asks again, and is told."""
    if request.inspect is None or request.dry_run:
        return None
    try:
        return store_task(work.asked(request.inspect))
    except StoreError as error:
        work.say(str(error))
        return None


def _pin(work: Work) -> Pinned:
    request, store = Pin.model_validate(work.task.request), work.platform.store()
    model, pinned = request.model, store.pinned(request.model)
    if request.keep:
        name = store.find(model, request.fingerprint)
        store.pin(model, name, request.why)
        return Pinned(model=model, fingerprint=name, pinned=True, changed=name not in pinned)
    listed = [name for name in pinned if name.startswith(request.fingerprint)]  # it may be gone from the store
    name = listed[0] if len(listed) == 1 else store.find(model, request.fingerprint)
    return Pinned(model=model, fingerprint=name, pinned=False, changed=store.unpin(model, name))
