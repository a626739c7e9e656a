"""What session.json says about rows: which file each arm was, what it cost to load, how long the card was lent.

Here: one reading of session.json, ours or a hand-written one beside foreign rows; what it does not say is None and is
listed as not judged. Not here: the rows (`evidence`), what follows from either (`warnings`).

FactsError
'- NotASession      the file cannot be read, or is not a JSON object
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from llama_assets.bench.ratings import Rating


class FactsError(ValueError):
    """session.json cannot be used."""

    exit_status = 2


class NotASession(FactsError):
    """`path` is no session.json."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; a session file is one JSON object with `arms` and `lease_seconds`"


@dataclass(frozen=True)
class Load:
    """One load of a model and the image that warmed it up. Seconds; `at` is None where only the cost was noted.

    `cold` is False where the model turned out to be loaded already: that costs nothing, and says nothing of a load.
    """

    model: str
    seconds: float | None
    warm_up_s: float | None = None
    at: datetime | None = None
    cold: bool = True


@dataclass(frozen=True)
class ArmFacts:
    """What was served as one arm. `raw` is all that the file says about it, for "what was fixed"."""

    mmproj: str | None = None
    engine: str | None = None
    fingerprint: str | None = None
    ended: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """A session file. `arms` are in its order, `photos` the set's names in theirs, `thumbs` paths below its folder.

    `ratings` is what a person thinks of them; a photo of which the file says neither favourite nor stars has none.
    `question` is the whole question as `bench.question.Question.to_json` writes it, if the file holds it. `watched`:
    somebody sampled who else used the engine. `unfinished`: the session says of itself that it has not ended.
    """

    id: str | None
    incumbent: str | None
    ranking_key: str | None
    lease_seconds: float | None
    loads: tuple[Load, ...] | None
    arms: Mapping[str, ArmFacts]
    photos: tuple[str, ...]
    thumbs: Mapping[str, str]
    ratings: Mapping[str, Rating]
    question: Mapping[str, Any] | None
    watched: bool
    unfinished: bool
    raw: Mapping[str, Any]

    @property
    def stopped_by_width(self) -> bool:
        """The session ended before its plan because its intervals were narrow enough."""
        stopped = self.raw.get("stopped")
        return isinstance(stopped, Mapping) and stopped.get("by") == "narrow_enough"


def read_facts(path: Path) -> Facts:
    """Read a session file.

    Raises:
        NotASession: it is not a JSON object, or cannot be read.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NotASession(path, f"cannot be read: {error}") from None
    except ValueError as error:
        raise NotASession(path, f"is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise NotASession(path, f"holds {type(raw).__name__}")
    return facts_of(raw)


def facts_of(raw: Mapping[str, Any]) -> Facts:
    """The facts in a session file's object."""
    named = _arms(raw)
    shared = _engine(raw)
    photos = _photos(raw)
    arms = {
        model: ArmFacts(
            mmproj=_precision(_text(arm, "mmproj", "mmproj_precision", "projector")),
            engine=_engine(arm) or shared,
            fingerprint=_text(arm, "fingerprint"),
            ended=_text(arm, "ended", "failed"),
            raw=arm,
        )
        for model, arm in named.items()
    }
    return Facts(
        id=_text(raw, "id", "session"),
        incumbent=_text(raw, "incumbent"),
        ranking_key=_text(raw, "ranking_key"),
        lease_seconds=_seconds(raw.get("lease_seconds")),
        loads=_loads(raw, named),
        arms=arms,
        photos=tuple(name for name, _ in photos),
        thumbs={name: thumb for name, thumb in photos if thumb},
        ratings=_ratings(raw),
        question=_question(raw),
        watched=any(raw.get(key) for key in ("running_samples", "contamination", "contamination_samples")),
        unfinished="finished" in raw and raw["finished"] is None,
        raw=raw,
    )


PRECISION = re.compile(r"(?<![A-Z0-9])(BF16|F16|F32|I?Q\d(?:_[A-Z0-9]+)*)(?![A-Z0-9])")


def _precision(told: str | None) -> str | None:
    """A projector's precision, of a file's name too: `mmproj-Qwen3VL-f16.gguf` and `F16` are one."""
    found = PRECISION.findall(told.upper()) if told else []
    return str(found[-1]) if found else told


def _arms(raw: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    arms = raw.get("arms", raw.get("models"))
    if isinstance(arms, Mapping):
        return {str(model): arm if isinstance(arm, Mapping) else {} for model, arm in arms.items()}
    if isinstance(arms, Sequence) and not isinstance(arms, str):
        named = [arm if isinstance(arm, Mapping) else {"model": arm} for arm in arms]
        return {str(name): arm for arm in named if (name := _text(arm, "model", "id", "name")) is not None}
    return {}


def _engine(holder: Mapping[str, Any]) -> str | None:
    """Image and build as one text: two arms with the same text were answered by the same engine."""
    engine = holder.get("engine")
    if isinstance(engine, str):
        return engine
    parts = [holder.get("engine_image"), holder.get("engine_build"), holder.get("image"), holder.get("build")]
    if isinstance(engine, Mapping):
        parts += [engine.get(key) for key in ("kind", "image", "binary", "build", "version")]
    told = [str(part) for part in parts if part]
    return ", ".join(told) or None


def _loads(raw: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> tuple[Load, ...] | None:
    """Loads beside the arms, or under each arm; None where the file says nothing about loads."""
    found: list[Load] = []
    told = "loads" in raw and isinstance(raw["loads"], Mapping | list | None)
    beside = raw.get("loads") or ()
    if isinstance(beside, Mapping):  # model -> one or several
        beside = [(model, entry) for model, of in beside.items() for entry in (of if isinstance(of, list) else [of])]
    else:
        beside = [(None, entry) for entry in (beside if isinstance(beside, list) else ())]
    found += [_load(entry, model) for model, entry in beside]
    for model, arm in arms.items():
        entries = arm.get("loads", arm.get("cold_load_seconds"))
        told = told or entries is not None
        listed = entries if isinstance(entries, Sequence) else [] if entries is None else [entries]
        found += [_load(entry, model) for entry in listed]
    return tuple(found) if told else None


def _load(entry: Any, model: str | None) -> Load:
    if not isinstance(entry, Mapping):
        return Load(model or "", _seconds(entry))
    return Load(
        model=_text(entry, "model", "arm") or model or "",
        seconds=_seconds(entry.get("seconds", entry.get("load_seconds"))),
        warm_up_s=_seconds(entry.get("warm_up_seconds", entry.get("warmup_seconds"))),
        at=_time(entry.get("started_at", entry.get("at"))),
        cold=entry.get("cold") is not False,
    )


def _photos(raw: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    listed = raw.get("photos")
    found: list[tuple[str, str | None]] = []
    for entry in listed if isinstance(listed, list) else ():
        name = _text(entry, "name", "photo") if isinstance(entry, Mapping) else str(entry)
        if name is not None:
            found.append((name, _text(entry, "thumb", "thumbnail") if isinstance(entry, Mapping) else None))
    return found


def _ratings(raw: Mapping[str, Any]) -> dict[str, Rating]:
    """Never coerced: a favourite that is no boolean, and stars that are no integer of 1 to 5, are not known."""
    found: dict[str, Rating] = {}
    listed = raw.get("photos")
    for entry in listed if isinstance(listed, list) else ():
        name = _text(entry, "name", "photo") if isinstance(entry, Mapping) else None
        if name is None:
            continue
        favourite, stars = entry.get("favourite"), entry.get("stars")
        graded = isinstance(stars, int) and not isinstance(stars, bool) and 1 <= stars <= 5
        rating = Rating(favourite if isinstance(favourite, bool) else None, stars if graded else None)
        if rating != Rating():
            found[name] = rating
    return found


def _question(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = raw.get("question")
    whole = ("prompt", "schema", "structured_output")  # a question need not rank
    if not isinstance(found, Mapping) or not all(found.get(key) for key in whole):
        return None
    return {"ranking_key": None, **found}


def _text(holder: Mapping[str, Any], *names: str) -> str | None:
    return next((str(holder[name]) for name in names if isinstance(holder.get(name), str | int) and holder[name]), None)


def _seconds(value: Any) -> float | None:
    """From 0, and finite: JSON's readers take `Infinity`, `NaN` and integers of any size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= sys.float_info.max else None


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
