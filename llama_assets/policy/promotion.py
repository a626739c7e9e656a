"""Whether a candidate becomes current, is rejected, or waits; whether a model that does not load is still served.

In come verdicts, the catalog's policy and how often something was tried; out go decisions with their reasons. Not here:
reading rows (`verdict`), doing it (`store`, by `tasks`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llama_assets.catalog import Engine, Model
from llama_assets.store import short

Word = Literal["better", "worse", "equivalent", "inconclusive"]
Action = Literal["promote", "recommend", "reject", "wait"]

# An inconclusive verdict is asked again by itself; each time costs the tenants their card for a session.
MOST_TRIES = 3
EVERY_TIME = "every benchmark measures it while it is there"
WITHOUT_ENGINE = "take `engine.candidate_image` out of the catalog"


@dataclass(frozen=True)
class Measured:
    """What a session found of a candidate against what is current of the same model.

    None of a word: it could not be compared. `stopped_by` are warnings that allow no recommendation from these rows.
    `ended_by` is why its arm was given up, if it was: load, canary, crashes, timeouts; `ended` is that in a sentence.
    """

    seconds: Word | None = None
    valid_answers: Word | None = None
    stopped_by: tuple[str, ...] = ()
    photos_needed: int | None = None
    ended: str | None = None
    ended_by: str | None = None


@dataclass(frozen=True)
class Decision:
    """What becomes of a candidate. `word` is the verdict on it as a whole."""

    action: Action
    word: Word
    reason: str


def word_of(found: Measured) -> Word:
    """Both verdicts as one: worse on either is worse; better needs one, and the other equivalent or better."""
    words = {found.seconds, found.valid_answers}
    if found.ended is not None or found.stopped_by:
        return "inconclusive"
    if "worse" in words:
        return "worse"
    if None in words or "inconclusive" in words:
        return "inconclusive"
    return "better" if "better" in words else "equivalent"


def decide(found: Measured, promote_on: Collection[str], tries: int, most_tries: int = MOST_TRIES) -> Decision:
    """What becomes of a candidate after a session. `tries` are the sessions that settled nothing, this one included.

    A `better` one is promoted under every policy: whoever takes an equivalent one takes a better one.
    """
    word = word_of(found)
    if found.ended_by == "canary":
        return Decision("reject", "worse", f"its canary failed: {found.ended}")
    if word == "worse":
        return Decision("reject", word, f"worse than current: {_both(found)}")
    if word == "better" or word in promote_on:
        return Decision("promote", word, _both(found))
    if word == "equivalent":
        return Decision("reject", word, f"{_both(found)}; automation.promote_on asks for {', '.join(promote_on)}")
    again = (
        f"the next automatic benchmark measures it again ({tries} of {most_tries} tries)"
        if tries < most_tries
        else f"{tries} tries settled nothing, so it waits for a person: `llama-assets promote` or `reject`"
    )
    return Decision("wait", word, f"{_undecided(found)}; {again}")


def advise(found: Measured, promote_on: Collection[str], change: str) -> Decision:
    """The same of what the catalog tries: only a person writes there, so it is advice. `change` says what to do."""
    decided = decide(found, promote_on, tries=1)
    if decided.action == "promote":
        return Decision("recommend", decided.word, f"{decided.reason}; {change}")
    if decided.action == "wait":
        return Decision("wait", decided.word, f"{_undecided(found)}; {EVERY_TIME}")
    return Decision(
        "reject", decided.word, f"{decided.reason}; nothing is changed, take `candidate` out of the catalog"
    )


def advise_engine(found: Mapping[str, Measured], promote_on: Collection[str], change: str) -> dict[str, Decision]:
    """The same of an engine's image, by the arms that tried it: one engine answers for all models, so it is
    recommended where every one of them says so.
    """  # fmt: skip
    decided = {arm: decide(one, promote_on, tries=1) for arm, one in found.items()}
    against = {arm: one for arm, one in decided.items() if one.action != "promote"}
    told = ", ".join(f"{arm} is {one.word}" for arm, one in against.items())
    says: dict[str, Decision] = {}
    for arm, one in decided.items():
        if one.action == "wait":
            says[arm] = Decision("wait", one.word, f"{_undecided(found[arm])}; {EVERY_TIME}")
        elif one.action == "reject":
            says[arm] = Decision("reject", one.word, f"{one.reason}; nothing is changed, {WITHOUT_ENGINE}")
        elif not against:
            says[arm] = Decision("recommend", one.word, f"{one.reason}; {change}")
        else:
            rejected = any(other.action == "reject" for other in against.values())
            what = f"{one.reason}; but one engine answers for all models, and {told}"
            says[arm] = Decision(
                "reject" if rejected else "wait", one.word, f"{what}; {WITHOUT_ENGINE if rejected else EVERY_TIME}"
            )
    return says


def is_due(tries: int, automatic: bool, most_tries: int = MOST_TRIES) -> bool:
    """Whether a candidate is measured once more; a person's benchmark always does."""
    return not automatic or tries < most_tries


def _both(found: Measured) -> str:
    return f"{found.seconds} on seconds, {found.valid_answers} on valid answers"


def _undecided(found: Measured) -> str:
    if found.ended is not None:
        return f"its arm was given up: {found.ended}"
    if found.stopped_by:
        return f"these rows allow no decision ({', '.join(found.stopped_by)})"
    if None in (found.seconds, found.valid_answers):
        return "it could not be compared with what is current"
    needed = f"about {found.photos_needed}" if found.photos_needed else "more"
    needed = f"; {needed} photos would settle it (`benchmark.photos`)"
    return f"{_both(found)}{needed}"


# --- quarantine -------------------------------------------------------------------------------------------------------
def loading_key(fingerprint: str, model: Model, engine: Engine, image: str | None) -> str:
    """What a failed load is a fact about: these files, told to the engine in this way, by this image.

    Another fingerprint, argument or image is another key, and so free again.
    """
    told = [fingerprint, model.context, model.arguments, engine.arguments, engine.gpu_layers, engine.kind, image]
    return f"{short(fingerprint)}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]}"


def is_quarantined(failures: Sequence[object], after: int) -> bool:
    """Whether that many sessions in a row, without one good load between them, keep it from being served."""
    return len(failures) >= after
