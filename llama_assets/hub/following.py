"""What looking at followed repos again and again shows: whose bytes changed, and who cannot be followed since when.

Comes in: one look at the catalog's models at a time, by whoever looks every few minutes. Goes out: news, and what to
remember until the next look. A look that failed leaves the last good revision as it is, and nobody is asked before the
time that a Retry-After named. Not here: how one looks (`revisions.py`), telling people (`automation`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from llama_assets.catalog import Model
from llama_assets.hub.errors import HubDown, HubError, NotAHub, NotAsked, RateLimited, SplitIncomplete
from llama_assets.hub.revisions import Hub, Revision, watch_all

VERSION = 1
_NAMED = 3  # of models in a line


@dataclass(frozen=True)
class FollowLimits:
    """The numbers of a look, in seconds. What may pass by itself is told when it has lasted as long and as often."""

    look_s: float = 15.0  # nobody is asked later in a look
    lasts_s: float = 3600.0
    lasts_looks: int = 3
    longest_rest_s: float = 86400.0  # a longer Retry-After is obeyed for so long; also the end of a clock set back


FOLLOW_LIMITS = FollowLimits()


@dataclass(frozen=True)
class Failing:
    """Why a model cannot be followed. `kind` is the error's name, `since_s` (unix) the first of `looks` in a row.

    `passing`: waiting may help. What does not pass wants a person.
    """

    kind: str
    says: str
    since_s: float
    looks: int
    passing: bool

    def lasts(self, now_s: float, limits: FollowLimits = FOLLOW_LIMITS) -> bool:
        """Whether it is to be told: at once what does not pass, the rest when it has not passed."""
        long = now_s - self.since_s >= limits.lasts_s and self.looks >= limits.lasts_looks
        return long or not self.passing

    @classmethod
    def of(cls, error: HubError, now_s: float, before: Failing | None = None) -> Failing:
        """One more look that failed; the model was last followed before `before` began.

        What does not pass stays what is wrong while a Hub that is away hides whether it is mended.
        """
        passing = error.transient or isinstance(error, HubDown | NotAHub | SplitIncomplete)
        if before is None:
            return cls(type(error).__name__, str(error), now_s, 1, passing)
        if passing and not before.passing:
            return replace(before, looks=before.looks + 1)
        return cls(type(error).__name__, str(error), before.since_s, before.looks + 1, passing)


@dataclass(frozen=True)
class Followed:
    """What is remembered of one model; times are unix seconds.

    `revision` is the last good one, also while the model is failing; `asked` is what the catalog named at that time.
    """

    asked: tuple[str | None, ...] = ()
    revision: Revision | None = None
    failing: Failing | None = None
    not_before_s: float = 0.0
    looked_s: float = 0.0
    let_in: bool = False


@dataclass(frozen=True)
class Moved:
    """A model whose selected bytes are others than those remembered. `old` None: none are remembered."""

    model: Model
    old: Revision | None
    new: Revision


@dataclass(frozen=True)
class News:
    """What a look added. `good`, `failed` and `resting` (not asked before a unix time) are all the catalog's models."""

    changed: tuple[Moved, ...]
    good: tuple[str, ...]
    failed: Mapping[str, Failing]
    resting: Mapping[str, float]

    def __str__(self) -> str:
        """For the one who reads what a look came to: a line."""
        return "; ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        if self.good:
            changed = ", ".join(moved.model.id for moved in self.changed)  # few, and each is news
            yield f"{_count(len(self.good))} looked at, {f'changed: {changed}' if changed else 'nothing changed'}"
        kinds: dict[str, list[tuple[str, Failing]]] = {}
        for name, failing in self.failed.items():
            kinds.setdefault(failing.kind, []).append((name, failing))
        for several in kinds.values():
            name, failing = several[0]
            more = f" (and {len(several) - 1} more)" if len(several) > 1 else ""
            since = f" (since {_clock(failing.since_s)}, look {failing.looks})" if failing.looks > 1 else ""
            yield f"{name}{more}: {failing.says.splitlines()[0]}{since}"
        for until_s in sorted(set(self.resting.values())):
            names = [name for name, its in self.resting.items() if its == until_s]
            named = ", ".join(names) if len(names) <= _NAMED else _count(len(names))
            yield f"not asked before {_clock(until_s)}, as the Hub wished: {named}"


@dataclass(frozen=True)
class Following:
    """What is remembered between looks at one hub. `not_before_s`: when the hub wants to be asked again, by anyone."""

    endpoint: str
    models: Mapping[str, Followed] = field(default_factory=dict)
    not_before_s: float = 0.0

    def to_json(self) -> str:
        """One line of JSON, some 700 bytes a model."""
        models = {
            name: {
                "asked": one.asked,
                "revision": one.revision.as_json() if one.revision else None,
                "failing": vars(one.failing) if one.failing else None,
                "not_before_s": one.not_before_s,
                "looked_s": one.looked_s,
                "let_in": one.let_in,
            }
            for name, one in self.models.items()
        }
        known = {"version": VERSION, "endpoint": self.endpoint, "not_before_s": self.not_before_s, "models": models}
        return json.dumps(known)

    @classmethod
    def from_json(cls, text: str | None, endpoint: str) -> Following:
        """Read what `to_json` wrote; what is something else (another version's, damaged) is a following that begins.

        Of another hub only the revisions are believed: a mirror has the same commits, and its own limits.
        """
        try:
            known = json.loads(text or "{}")
            if known.get("version") != VERSION:
                return cls(endpoint)
            models = {str(name): _followed(one) for name, one in known["models"].items()}
            if known["endpoint"] == endpoint:
                return cls(endpoint, models, float(known["not_before_s"]))
            return cls(endpoint, {name: Followed(one.asked, one.revision) for name, one in models.items()})
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(endpoint)

    def look(
        self, hub: Hub, models: Sequence[Model], now_s: float, limits: FollowLimits = FOLLOW_LIMITS
    ) -> tuple[Following, News]:
        """One look more, at whom may be asked now; those first who were not asked for longest. Raises nothing."""
        known = {model.id: self.models.get(model.id) or Followed() for model in models}
        rest = {
            name: min(until_s, now_s + limits.longest_rest_s)
            for name, one in known.items()
            if (until_s := max(one.not_before_s, self.not_before_s)) > now_s
        }
        due = sorted((m for m in models if m.id not in rest), key=lambda model: known[model.id].looked_s)
        same = {m.id: known[m.id] for m in due if known[m.id].asked == _asked(m)}  # else its files are to be named anew
        found = watch_all(
            hub,
            due,
            {name: one.revision for name, one in same.items() if one.revision},
            let_in={name for name, one in same.items() if one.let_in},
            until=time.monotonic() + limits.look_s,
        )
        changed, failed, hub_rests_s = [], {}, self.not_before_s
        for model in due:
            before, answer = known[model.id], found[model.id]
            if isinstance(answer, HubError):
                failed[model.id] = Failing.of(answer, now_s, before.failing)
                until_s = now_s + answer.retry_after_s if answer.retry_after_s else 0.0
                if isinstance(answer, RateLimited | NotAsked):  # the limit is the hub's, for all that it holds
                    hub_rests_s, until_s = max(hub_rests_s, until_s), 0.0
                looked_s = before.looked_s if isinstance(answer, NotAsked) else now_s
                known[model.id] = replace(before, failing=failed[model.id], not_before_s=until_s, looked_s=looked_s)
                continue
            now = answer.revision
            if before.revision is None or before.revision.fingerprint != now.fingerprint:
                changed.append(Moved(model, before.revision, now))
            known[model.id] = Followed(_asked(model), now, looked_s=now_s, let_in=answer.gated)
        good = tuple(model.id for model in models if model.id not in failed and model.id not in rest)
        return Following(self.endpoint, known, hub_rests_s), News(tuple(changed), good, failed, rest)


def _asked(model: Model) -> tuple[str | None, ...]:
    """All that says which files a model means."""
    return model.repo, model.revision, model.quant, model.file, model.mmproj, model.mmproj_file


def _followed(value: Mapping[str, Any]) -> Followed:
    revision, failing = value["revision"], value["failing"]
    return Followed(
        tuple(value["asked"]),
        Revision.from_json(revision) if revision else None,
        Failing(**failing) if failing else None,
        float(value["not_before_s"]),
        float(value["looked_s"]),
        bool(value["let_in"]),
    )


def _count(models: int) -> str:
    return "1 model" if models == 1 else f"{models} models"


def _clock(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
