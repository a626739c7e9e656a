"""Candidates: the arms of a session beside what is current.

What is current, the newest fingerprint that waits for its verdict, what the catalog tries of files, arguments and the
engine's image, less what is quarantined; and what was said of them so far. Not here: what becomes of them after a
verdict (`settling`), bringing their files (`trying`), measuring (`bench`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_assets.bench.rows import ENGINE_TRIED, candidate_arm
from llama_assets.catalog import Catalog, Model, Tried
from llama_assets.platforms import Platform
from llama_assets.policy.promotion import is_due, is_quarantined, loading_key
from llama_assets.store import Published, Store, short
from llama_assets.tasks.messages import Serving

TRIED = "candidate"  # the same place in the name of what the catalog tries
FILES = frozenset(Tried.model_fields) - {"arguments", "context"}
ENGINE_IMAGE = "engine.image"
SESSIONS_BACK = 100
"""Older folders are not looked through for what was said."""


@dataclass(frozen=True)
class Contender:
    """One arm. `model` is as the engine is told of it: its id is the arm's name, and a candidate has no alias.

    `of` is the model that it is a candidate for, None for what is current. `tries` are the sessions that settled
    nothing of it so far, `last` what the newest of them said.
    """

    arm: str
    model: Model
    published: Published
    key: str
    of: str | None = None
    tries: int = 0
    last: str = ""
    tried: Mapping[str, Any] = field(default_factory=dict)
    """What the catalog says of it, as it would be written there."""
    image: str | None = None
    """The engine's image that is to answer it; None: the chosen one."""

    @property
    def is_tried(self) -> bool:
        """It is what the catalog tries, and no news of the followed revision."""
        return self.of is not None and self.arm.endswith(f"@{TRIED}")

    @property
    def is_files(self) -> bool:
        """It is other files and nothing else, so that a verdict on it can promote or refuse them."""
        return self.of is not None and is_files(self.tried)


@dataclass(frozen=True)
class Lineup:
    """What there is of some models. `due` are the candidates that are to be measured, `waiting` those that a person has
    to decide on, `quarantined` why an arm is kept out, by its name.
    """  # fmt: skip

    current: tuple[Contender, ...]
    due: tuple[Contender, ...]
    waiting: tuple[Contender, ...]
    missing: tuple[str, ...]
    quarantined: Mapping[str, str]

    @property
    def arms(self) -> tuple[Contender, ...]:
        """What is current, each followed by its candidates; behind them those of another engine, so that in mirrored
        blocks the arms of one engine follow each other.
        """  # fmt: skip
        here = [one for one in self.due if one.image is None]
        told = [one for now in self.current for one in (now, *(c for c in here if c.of == now.arm))]
        return (*told, *(one for one in self.due if one.image is not None))


def serving_by(platform: Platform, catalog: Catalog) -> Serving:
    """How this platform serves this catalog's models."""
    image, tried = platform.engine_image(catalog), platform.tried_image(catalog)
    return Serving(
        engine=catalog.engine,
        automation=catalog.automation,
        image=image.reference if image else None,
        tried_image=tried.reference if tried else None,
        ours=platform.candidates != "never",
    )


def lineup(store: Store, models: Sequence[Model], serving: Serving, automatic: bool) -> Lineup:
    """Look into the store. `automatic`: a candidate that was tried often enough waits for a person; so do all where the
    engine is somebody else's, and cannot be told to serve one.

    Raises:
        Damaged
    """
    current: list[Contender] = []
    candidates: list[Contender] = []
    missing: list[str] = []
    quarantined: dict[str, str] = {}
    for model in models:
        published = store.current(model.id)
        if published is None:
            missing.append(model.id)
            continue
        found = [(current, _contender(published, model, serving))]
        if (tried := _tried(store, published, model, serving)) is not None:
            found.append((candidates, tried))
        if serving.automation.promotion == "on_verdict" and (newer := candidate(store, model.id)) is not None:
            found.append((candidates, _candidate(store, newer, model, serving)))
        if serving.tried_image is not None:
            found.append((candidates, _on_engine(published, model, serving, serving.tried_image)))
        for where, one in found:
            if why := quarantine(store, one, serving.automation.quarantine_after):
                quarantined[one.arm] = why
            else:
                where.append(one)
    measured = {one.arm for one in current}
    candidates = [one for one in candidates if one.of in measured]  # else there is nothing to compare it with
    due = tuple(one for one in candidates if serving.ours and is_due(one.tries, automatic))
    waiting = tuple(one for one in candidates if one not in due)
    return Lineup(tuple(current), due, waiting, tuple(missing), quarantined)


def candidate(store: Store, model: str) -> Published | None:
    """The newest set published after what is current that is not refused and was never current. Raises Damaged."""
    for fingerprint, reasons in store.standing(model).items():
        if "candidate" in reasons and not {"current", "previous"} & set(reasons):
            return store.get(model, fingerprint)
    return None


def quarantine(store: Store, one: Contender, after: int) -> str:
    """Why an arm is not served and not measured; empty if it may be. Raises Damaged."""
    failures = store.trials(one.published.model).of("loads", one.key)
    if not is_quarantined(failures, after):
        return ""
    return (
        f"quarantined: it could not be loaded in {len(failures)} sessions in a row, the last at {failures[-1].at}: "
        f"{failures[-1].why}; other files, arguments or another engine image free it, and so does "
        f"`llama-assets quarantine release {one.published.model}`"
    )


def as_candidate(model: Model, arm: str) -> Model:
    """The model as the engine is told of a candidate: another id, none of the names that people use, and of what the
    catalog tries what it names.
    """  # fmt: skip
    told = model.as_tried() if arm.endswith(f"@{TRIED}") else model
    return told.model_copy(update={"id": arm, "aliases": (), "candidate": None})


def facts_of(one: Contender) -> dict[str, Any]:
    """What session.json keeps of an arm, so that the session can be settled from its folder alone."""
    published = one.published
    return {
        "source": published.source,
        "file_type": published.facts.file_type,
        "architecture": published.facts.architecture,
        "loading_key": one.key,
        "candidate_of": one.of,
        "tried": dict(one.tried) or None,
    }


def is_files(tried: Mapping[str, Any]) -> bool:
    """Whether it is files alone that are tried; what else is tried only a person can write where it is read."""
    return tried.keys() <= FILES


def last_said(results: Path, contenders: Sequence[Contender]) -> dict[str, str]:
    """What the newest session said of each of these that was measured in one, by its arm: of the same files, served in
    the same way by the same engine.
    """  # fmt: skip
    from llama_assets.bench.record import newest_first

    keys, found = {one.key: one.arm for one in contenders}, dict[str, str]()
    for record in newest_first(results, at_most=SESSIONS_BACK) if keys else ():
        for facts in record.values["arms"].values():
            arm, decided = keys.get(str(facts.get("loading_key"))), facts.get("decided")
            if arm is not None and decided:
                found.setdefault(arm, f"{decided['action']}: {decided['reason']} (session {record.folder.name})")
        if len(found) == len(keys):
            break
    return found


def _contender(published: Published, model: Model, serving: Serving) -> Contender:
    key = loading_key(published.fingerprint, model, serving.engine, serving.image)
    return Contender(model.id, model, published, key)


def _tried(store: Store, current: Published, model: Model, serving: Serving) -> Contender | None:
    """What the catalog tries, if there is something left to be tried of it."""
    if model.candidate is None:
        return None
    arm = candidate_arm(model.id, TRIED)
    served, files = as_candidate(model, arm), model.candidate.files
    published = _wanted(store, model.id) if files else current
    if published is None:
        return None
    beside = (model.candidate.arguments, model.candidate.context) != (None, None)
    if not beside and published.fingerprint == current.fingerprint:
        return None
    said = {**files, **({"arguments": served.arguments, "context": served.context} if beside else {})}
    trials = store.trials(model.id).of("undecided", published.fingerprint) if not beside else ()
    return Contender(
        arm, served, published, loading_key(published.fingerprint, served, serving.engine, serving.image), model.id,
        len(trials), trials[-1].why if trials else "", said,
    )  # fmt: skip


def _on_engine(current: Published, model: Model, serving: Serving, image: str) -> Contender:
    """The model as it is now, answered by another engine."""
    arm = candidate_arm(model.id, ENGINE_TRIED)
    key = loading_key(current.fingerprint, model, serving.engine, image)
    return Contender(arm, as_candidate(model, arm), current, key, model.id, tried={ENGINE_IMAGE: image}, image=image)


def _wanted(store: Store, model: str) -> Published | None:
    """The files that the catalog's candidate names, where they are here and not refused. Raises Damaged."""
    name = next((name for name, what in store.tried(model).items() if what), None)
    if name is None or name in store.refused(model) or name not in store.sets(model):
        return None
    return store.get(model, name)


def _candidate(store: Store, published: Published, model: Model, serving: Serving) -> Contender:
    arm = candidate_arm(model.id, short(published.fingerprint))
    trials = store.trials(model.id).of("undecided", published.fingerprint)
    key = loading_key(published.fingerprint, model, serving.engine, serving.image)
    return Contender(
        arm, as_candidate(model, arm), published, key, model.id, len(trials), trials[-1].why if trials else ""
    )
