"""Settling a finished session: what its verdict says of candidates is carried out, and loads that failed are noted.

A decision is written to session.json before it is carried out and marked there afterwards, so a process killed in
between leaves work that the next one ends. Not here: who contends (`candidates`), what to decide (`policy.promotion`),
judging (`verdict`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_assets.bench.rows import is_engine_arm
from llama_assets.catalog import Automation
from llama_assets.policy.promotion import Decision, Measured, advise, advise_engine, decide
from llama_assets.store import Store, Trial, short
from llama_assets.tasks.candidates import ENGINE_IMAGE, is_files
from llama_assets.tasks.messages import Settled

if TYPE_CHECKING:
    from llama_assets.bench.record import Record
    from llama_assets.verdict import Judgement

Say = Callable[[str], None]


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
    if decided is None and not is_files(facts.get("tried") or {}):
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


def _candidates(record: Record) -> list[str]:
    return [arm for arm, facts in record.values["arms"].items() if facts.get("candidate_of")]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
