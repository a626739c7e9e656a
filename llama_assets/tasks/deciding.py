"""A person decides: promote or reject a candidate by hand, release what is quarantined.

Requests of kind `store` with an `action`, done where the model volume is (`housekeeping` hands them on), and their
answers, which word themselves for people. Not here: what automation decides (`policy.promotion`, `tasks.candidates`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from llama_assets.launch import TaskKind
from llama_assets.store import NotPublished, Store, short
from llama_assets.tasks.candidates import candidate
from llama_assets.tasks.messages import Answer, Request

if TYPE_CHECKING:
    from llama_assets.tasks.work import Work


class Undecidable(RuntimeError):
    """There is nothing of that kind to decide on."""

    exit_status = 1


class Decide(Request):
    """Make a set current, refused or not, or never promote it. `fingerprint` is its beginning; None: the candidate."""

    kind: ClassVar[TaskKind] = "store"
    action: Literal["promote", "reject"]
    model: str
    fingerprint: str | None = None
    why: str = ""


class Release(Request):
    """Forget a model's failed loads, so that it is served and measured again."""

    kind: ClassVar[TaskKind] = "store"
    action: Literal["release"] = "release"
    model: str


class Decided(Answer):
    """What a person decided. `before` was current until then; `changed` is false where it was so already."""

    action: Literal["promote", "reject"]
    model: str
    fingerprint: str
    before: str | None
    changed: bool

    def lines(self) -> Iterator[str]:
        """For people."""
        name, as_before = short(self.fingerprint), "" if self.changed else " (as before)"
        if self.action == "reject":
            yield f"{self.model}: {name} is refused{as_before}; to undo it: llama-assets promote {self.model} {name}"
            return
        yield f"{self.model}: {name} is current{as_before}"
        if self.changed and self.before:
            yield f"to undo it: llama-assets rollback {self.model}"


class Released(Answer):
    """How many failed loads were forgotten."""

    model: str
    loads: int

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.loads:
            yield f"{self.model}: {self.loads} failed loads are forgotten; it is served and measured again"
        else:
            yield f"{self.model}: no failed load was noted"


def decide_task(work: Work) -> Decided:
    """Do what a person decided.

    Raises:
        Undecidable: there is no candidate, or what is to be rejected is current.
        StoreError
    """
    request, store = Decide.model_validate(work.task.request), work.platform.store()
    current = store.current(request.model)
    before = current.fingerprint if current else None
    if request.action == "promote":
        name, changed = _promoted(store, request, before)
    else:
        name, changed = _rejected(store, request, before)
    store.trials(request.model).forget("undecided", name)
    return Decided(action=request.action, model=request.model, fingerprint=name, before=before, changed=changed)


def release_task(work: Work) -> Released:
    """Forget failed loads, of candidates too. Raises StoreError."""
    model = Release.model_validate(work.task.request).model
    trials = work.platform.store().trials(model)
    return Released(model=model, loads=sum(len(trials.forget("loads", name)) for name in trials.all("loads")))


def _promoted(store: Store, request: Decide, before: str | None) -> tuple[str, bool]:
    name = store.find(request.model, request.fingerprint) if request.fingerprint else _candidate(store, request.model)
    store.get(request.model, name)
    store.allow(request.model, name)  # a person's word is the newer one
    store.promote(request.model, name)
    return name, name != before


def _rejected(store: Store, request: Decide, before: str | None) -> tuple[str, bool]:
    try:
        name = store.find(request.model, request.fingerprint or _candidate(store, request.model))
    except NotPublished:
        if not re.fullmatch("[0-9a-f]{64}", request.fingerprint or ""):
            raise
        name = str(request.fingerprint)  # one that is not here yet may be rejected by its whole name
    if name == before:
        model = request.model
        raise Undecidable(f"{short(name)} of {model} is current; `llama-assets rollback {model}` goes back from it")
    known = name in store.refused(request.model)
    if not known or request.why:
        store.refuse(request.model, name, request.why or "rejected by hand")
    return name, not known


def _candidate(store: Store, model: str) -> str:
    found = candidate(store, model)
    tried = [name for name, reasons in store.standing(model).items() if "tried" in reasons and "current" not in reasons]
    if found is None and tried:
        return tried[0]
    if found is None:
        raise Undecidable(f"{model} has no candidate; `llama-assets store list` shows the fingerprints there are")
    return found.fingerprint
