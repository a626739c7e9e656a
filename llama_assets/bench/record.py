"""session.json: what is compared, under which conditions, and what happened beside the rows.

Written whole by rename at the start (`finished` is null: a killed session can be found and continued), after each load,
and at the end. Seconds throughout; times are ISO 8601, UTC.

    session id   started ended finished   client_version   catalog_hash   identity
    incumbent ranking_key   question_name   max_tokens answer_timeout_seconds
    question {prompt, schema, ranking_key, structured_output, hash, prompt_hash, schema_hash}
    arms {model: {fingerprint, mmproj, engine {kind, build...}, canary {passed, reason...}, ended, ended_by, ...}}
    photo_set {hash, seed, source {kind: folder | immich, ...}, left_out [{name, reason}]}
    photos [{name, sha256, width, height, thumb: "thumbs/1.jpg"; favourite, stars where the source knows of ratings}]
    blocks {count, seed, photos [n of each], order [[model...]...]}
    loads [{model, why, started_at, position, seconds, cold, warm_up_seconds, error}]
    contamination [{at, until, model, what, found, mib, why} | {at, position, model, found}]   running_samples
    watch {looks, failed, every_seconds, foreign_mib}   memory {peak_mib {model: MiB}, total_mib, idle_mib}
    stopped {by, why, at, position}
    leases [{token, started_at, seconds, changes [{at, workload, became, replicas}], left [sentence]}]
    lease_seconds   lease_efficiency   tenants

`contamination` is what was seen of others, `what`: model, load, memory or tenant; `watch` and `memory` are there where
the engine could be looked at, `memory` where it says what the card holds. `stopped` is why the session was done before
its plan, else null; `by` is narrow_enough or lease_minutes. `ended` of an arm is why it was ended early, else null;
`ended_by` is load, canary, crashes or timeouts. `why` of a load: turn, crash, retry or unloaded (by others). `decided`
of a candidate: action, word, reason, done. A lease's `changes` are when a workload was set, its pods gone, it ready
again; `left` is what became of each. `position` is the row that came next. `lease_seconds` is null as long as one of
the leases' seconds is not known.

RecordError
|- NotASession       the folder's session.json cannot be read
'- AnotherSession    it was made from other models, photos or questions
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from .photos import Photo, PhotoSet
from .plan import Plan
from .question import Question

SESSION = "session.json"
THUMBS = "thumbs"
EndedBy = Literal["load", "canary", "crashes", "timeouts"]
StoppedBy = Literal["narrow_enough", "lease_minutes"]


@dataclass(frozen=True)
class Arm:
    """One model of a session. `mmproj` is the projector's precision; `facts` go to session.json as they are.

    `engine` names the engine that is to answer it, where arms of one session are answered by different ones.
    """

    model: str
    fingerprint: str
    mmproj: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    engine: str = ""


@dataclass(frozen=True)
class Comparison:
    """What a session compares. `plan` names exactly these arms and photos; `name` is the question's, if it has one."""

    arms: tuple[Arm, ...]
    question: Question
    photos: PhotoSet
    plan: Plan
    catalog_hash: str
    max_tokens: int
    answer_timeout_s: float
    incumbent: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.plan.arms != tuple(arm.model for arm in self.arms):
            raise ValueError(f"the plan asks {self.plan.arms}, the arms are {tuple(arm.model for arm in self.arms)}")
        if {name for block in self.plan.blocks for name in block} != {photo.name for photo in self.photos.photos}:
            raise ValueError("the plan asks other photos than the set holds")

    def engine_of(self, model: str) -> str:
        """Which engine is to answer this arm; empty: whichever is there."""
        return next(arm.engine for arm in self.arms if arm.model == model)

    @property
    def identity(self) -> str:
        """sha256 hex over all that must be equal for an unfinished session to be continued."""
        parts: dict[str, Any] = {
            "catalog": self.catalog_hash,
            "arms": [[arm.model, arm.fingerprint] for arm in self.arms],
            "question": self.question.hash,
            "photos": self.photos.hash,
            "plan": [len(self.plan.blocks), self.plan.seed],
            "asked": [self.max_tokens, self.answer_timeout_s],
        }
        if self.name:
            parts["name"] = self.name
        if any(arm.engine for arm in self.arms):
            parts["engines"] = [arm.engine for arm in self.arms]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class RecordError(ValueError):
    """A session folder cannot be used."""

    exit_status = 2


class NotASession(RecordError):
    """`path` is no session.json."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path} cannot be continued: {self.reason}; move its folder away to start anew"


class AnotherSession(RecordError):
    """The folder holds another comparison."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(folder)

    def __str__(self) -> str:
        return (
            f"{self.folder} compares something else: its catalog, files, question or photos differ. "
            "Only an equal session is continued; start a new one"
        )


class Record:
    """The session.json of one folder, in memory as `values`; `write` makes it last."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values = folder, values

    @classmethod
    def read(cls, folder: Path) -> Record:
        """What the folder holds.

        Raises:
            NotASession
        """
        path = folder / SESSION
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NotASession(path, str(error)) from None
        if not isinstance(values, dict) or "identity" not in values:
            raise NotASession(path, "it is not the record of a session of ours")
        return cls(folder, values)

    @classmethod
    def begin(cls, folder: Path, comparison: Comparison, now: datetime) -> Record:
        """A new record, not yet written."""
        question = comparison.question
        photos = [_photo(photo, n) for n, photo in enumerate(comparison.photos.photos, 1)]
        hashes = {"hash": question.hash, "prompt_hash": question.prompt_hash, "schema_hash": question.schema_hash}
        chosen = comparison.photos
        photo_set = {
            "hash": chosen.hash,
            "seed": chosen.seed,
            "source": dict(chosen.source),
            "left_out": [{"name": one.name, "reason": one.reason} for one in chosen.left_out],
        }
        values: dict[str, Any] = {
            "session": folder.name,
            "id": folder.name,
            "started": stamp(now),
            "ended": None,
            "finished": None,
            "client_version": version("llama-assets"),
            "catalog_hash": comparison.catalog_hash,
            "identity": comparison.identity,
            "incumbent": comparison.incumbent,
            "ranking_key": question.ranking_key,
            "question_name": comparison.name,
            "question": question.to_json() | hashes,
            "arms": {arm.model: _arm(arm) for arm in comparison.arms},
            "photo_set": photo_set,
            "photos": photos,
            "blocks": comparison.plan.to_json(),
            "max_tokens": comparison.max_tokens,
            "answer_timeout_seconds": comparison.answer_timeout_s,
            "loads": [],
            "stopped": None,
            "contamination": [],
            "running_samples": 0,
            "leases": [],
            "lease_seconds": None,
            "lease_efficiency": None,
            "tenants": None,
        }
        return cls(folder, values)

    @property
    def question_name(self) -> str:
        """The question's name in the catalog; empty for the one that every catalog has."""
        return str(self.values.get("question_name") or "")

    @property
    def finished(self) -> bool:
        """The session has ended and its rows are in Parquet."""
        return self.values.get("finished") is not None

    @property
    def stopped(self) -> bool:
        """The session was done before its plan: what is left of it is not asked any more."""
        return bool(self.values.get("stopped"))

    def arm(self, model: str) -> dict[str, Any]:
        """What is written of one arm; change it in place."""
        found: dict[str, Any] = self.values["arms"][model]
        return found

    def ended(self) -> dict[str, str]:
        """Arms that were ended early, and why."""
        return {model: arm["ended"] for model, arm in self.values["arms"].items() if arm.get("ended")}

    def write(self) -> None:
        """Replace session.json, whole or not at all."""
        written = self.folder / (SESSION + ".tmp")
        with written.open("w", encoding="utf-8") as file:
            json.dump(self.values, file, ensure_ascii=False, indent=1, default=str)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(self.folder / SESSION)


def newest_first(
    results: Path, unreadable: Callable[[NotASession], None] = lambda _: None, at_most: int | None = None
) -> Iterator[Record]:
    """Every session below `results`, the newest first, or of the newest `at_most` folders only.

    `unreadable` hears of a folder whose record cannot be read, or is not there.
    """
    folders = sorted((path for path in (results / "sessions").glob("*") if path.is_dir()), reverse=True)
    for folder in folders[:at_most]:
        try:
            record = Record.read(folder)
        except NotASession as error:
            unreadable(error)
            continue
        yield record


def stamp(at: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _photo(photo: Photo, number: int) -> dict[str, Any]:
    rating = photo.rating
    return {
        "name": photo.name,
        "sha256": photo.sha256,
        "width": photo.width,
        "height": photo.height,
        "thumb": f"{THUMBS}/{number}.jpg",
    } | ({"favourite": rating.favourite, "stars": rating.stars} if rating is not None else {})


def _arm(arm: Arm) -> dict[str, Any]:
    written: dict[str, Any] = dict(arm.facts)
    return written | {
        "fingerprint": arm.fingerprint,
        "mmproj": arm.mmproj,
        "engine": None,
        "canary": None,
        "ended": None,
        "ended_by": None,
    }


def plain(about: Any) -> dict[str, Any]:
    """A dataclass as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(about), default=str))
    return values
