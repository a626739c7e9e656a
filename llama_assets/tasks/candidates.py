"""Candidates: the arms of a session beside what is current, and what becomes of them after its verdict.

Here: which arms there are (current, the newest fingerprint that waits for its verdict, what the catalog tries, less
what is quarantined), and settling a finished session: promote, reject or wait, and which loads failed. A decision is
written to session.json before it is carried out and marked there afterwards, so a process killed in between leaves work
that the next one ends.
Not here: what to decide (`policy.promotion`), measuring (`bench`), judging (`verdict`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_assets.bench.rows import ENGINE_TRIED, candidate_arm, is_engine_arm
from llama_assets.catalog import Automation, Catalog, Model, Tried
from llama_assets.platforms import Platform
from llama_assets.policy.promotion import (
    Decision,
    Measured,
    advise,
    advise_engine,
    decide,
    is_due,
    is_quarantined,
    loading_key,
)
from llama_assets.store import Published, Store, Trial, short
from llama_assets.tasks.messages import Serving, Settled

if TYPE_CHECKING:
    from llama_assets.bench.record import Record
    from llama_assets.verdict import Judgement

Say = Callable[[str], None]
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
        return self.of is not None and _is_files(self.tried)


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


def unsettled(results: Path) -> Path | None:
    """The newest session of the question that decides, if it is finished and a decision of it was not carried out."""
    from llama_assets.bench.record import newest_first

    for record in newest_first(results):
        if record.question_name:
            continue
        open_arms = [arm for arm in _candidates(record) if not (record.arm(arm).get("decided") or {}).get("done")]
        return record.folder if record.finished and open_arms else None
    return None


def settle(
    store: Store, automation: Automation, folder: Path, judgement: Judgement | None, say: Say
) -> tuple[Settled, ...]:
    """Carry out what a finished session says: decisions on its candidates, and which arms could not be loaded.

    Called again, it ends what was begun and decides nothing twice.

    Raises:
        StoreError, NotASession
    """
    from llama_assets.bench.record import Record

    record = Record.read(folder)
    _note_loads(store, record)
    _advise_on_engine(automation, record, judgement)
    settled = tuple(_settle(store, automation, record, judgement, arm) for arm in _candidates(record))
    for one in settled:
        say(f"{one.arm}: {one.action}: {one.reason}")
    return settled


def _settle(store: Store, automation: Automation, record: Record, judgement: Judgement | None, arm: str) -> Settled:
    facts = record.arm(arm)
    of, fingerprint, session = facts["candidate_of"], facts["fingerprint"], record.folder.name
    decided = facts.get("decided")
    if decided is None and not _is_files(facts.get("tried") or {}):
        decision = advise(_measured(judgement, arm, facts), automation.promote_on, _change(of, facts["tried"]))
        decided = facts["decided"] = {**asdict(decision), "done": True}
        record.write()
    elif decided is None:
        decision = _overtaken(store, of, fingerprint, record) or _decision(store, automation, record, judgement, arm)
        reason = decision.reason
        if decision.action == "promote" and facts.get("tried"):
            reason += f"; {_change(of, facts['tried'])}"
        decided = {"action": decision.action, "word": decision.word, "reason": reason, "done": False}
        facts["decided"] = decided
        record.write()  # before it is done: a process killed now leaves what the next one has to do
    if not decided["done"]:
        trials = store.trials(of)
        if decided["action"] == "promote":
            trials.forget("undecided", fingerprint)
            store.promote(of, fingerprint)
        elif decided["action"] == "reject":
            trials.forget("undecided", fingerprint)
            if fingerprint not in store.refused(of):
                store.refuse(of, fingerprint, f"{decided['reason']} (session {session})")
        else:
            trials.add("undecided", fingerprint, Trial(session, decided["reason"], _now()))
        decided["done"] = True
        record.write()
    return Settled(
        arm=arm, model=of, fingerprint=fingerprint, session=session,
        action=decided["action"], word=decided["word"], reason=decided["reason"],
    )  # fmt: skip


def _advise_on_engine(automation: Automation, record: Record, judgement: Judgement | None) -> None:
    """What becomes of another engine's image, once for all the arms that tried it. Nothing is left to be done then."""
    arms = {arm: record.arm(arm) for arm in _candidates(record) if is_engine_arm(arm)}
    open_arms = {arm: facts for arm, facts in arms.items() if facts.get("decided") is None}
    if not open_arms:
        return
    (image,) = {facts["tried"][ENGINE_IMAGE] for facts in arms.values()}
    change = (
        f"write `{ENGINE_IMAGE}: {image}` in the catalog, or in LLAMA_ASSETS_ENGINE_IMAGE where that chooses it, and "
        "take `engine.candidate_image` out"
    )
    found = {arm: _measured(judgement, arm, facts) for arm, facts in arms.items()}
    for arm, decision in advise_engine(found, automation.promote_on, change).items():
        if arm in open_arms:
            arms[arm]["decided"] = {**asdict(decision), "done": True}
    record.write()


def _change(model: str, tried: Mapping[str, Any]) -> str:
    return f"write it under models.{model} in the catalog and take `candidate` out: {json.dumps(tried)}"


def _is_files(tried: Mapping[str, Any]) -> bool:
    """Whether it is files alone that are tried; what else is tried only a person can write where it is read."""
    return tried.keys() <= FILES


def _overtaken(store: Store, of: str, fingerprint: str, record: Record) -> Decision | None:
    """A person was quicker than the session: then its verdict moves nothing."""
    current, refused = store.current(of), store.refused(of)
    if fingerprint in refused:
        return Decision("reject", "inconclusive", f"it was refused meanwhile: {refused[fingerprint]}")
    if current is not None and current.fingerprint == fingerprint:
        return Decision("promote", "inconclusive", "it was promoted meanwhile")
    if current is None or current.fingerprint != record.arm(of)["fingerprint"]:
        now = short(current.fingerprint) if current else "nothing"
        return Decision("wait", "inconclusive", f"{now} became current meanwhile, and it was measured against another")
    return None


def _decision(store: Store, automation: Automation, record: Record, judgement: Judgement | None, arm: str) -> Decision:
    facts = record.arm(arm)
    before = store.trials(facts["candidate_of"]).of("undecided", facts["fingerprint"])
    tries = len({trial.session for trial in before} | {record.folder.name})
    return decide(_measured(judgement, arm, facts), automation.promote_on, tries)


def _measured(judgement: Judgement | None, arm: str, facts: Mapping[str, Any]) -> Measured:
    found = Measured(ended=facts.get("ended"), ended_by=facts.get("ended_by"))
    if judgement is None:
        return found
    on_seconds, on_valid = judgement.pair(arm, "seconds"), judgement.pair(arm, "valid_answers")
    mine = (arm, facts["candidate_of"], None)
    return replace(
        found,
        seconds=on_seconds.verdict if on_seconds else None,
        valid_answers=on_valid.verdict if on_valid else None,
        stopped_by=tuple(dict.fromkeys(w.code for w in judgement.stops if w.model in mine)),
        photos_needed=on_seconds.photos_needed if on_seconds else None,
    )


def _note_loads(store: Store, record: Record) -> None:
    """Remember arms that could not be loaded, forget it of those that could."""
    for arm, facts in record.values["arms"].items():
        model, key = facts.get("candidate_of") or arm, facts.get("loading_key")
        if key is None:
            continue
        if facts.get("ended_by") == "load" and facts.get("canary") is None:
            store.trials(model).add("loads", key, Trial(record.folder.name, str(facts["ended"]), _now()))
        elif facts.get("canary") is not None:
            store.trials(model).forget("loads", key)


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


def _candidates(record: Record) -> list[str]:
    return [arm for arm, facts in record.values["arms"].items() if facts.get("candidate_of")]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
