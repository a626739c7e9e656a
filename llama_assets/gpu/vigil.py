"""What looking at a cluster's card again and again shows: a holder fell silent, tenants stay down, no reaper beats.

Comes in: one look at a time, by whoever looks about once a minute. Goes out: news, and what to remember until the next
look. A holder or a reaper is judged by whether it was seen to renew, never by two machines' clocks, and a look that
could not be taken counts for nothing. Not here: doing something about it (`reaper.py`), telling people (`automation`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from llama_assets.gpu.objects import Card, LeaseObject
from llama_assets.gpu.overview import noted_by_name
from llama_assets.gpu.workloads import Cluster


@dataclass(frozen=True)
class VigilLimits:
    """How long something may be wrong before it is said, in seconds."""

    after_lifetime_s: float = 60.0
    heart_s: float = 45.0  # it beats every 5 s
    blind_s: float = 300.0  # two looks farther apart are not a series


@dataclass(frozen=True)
class Look:
    """What one look showed. `down` are the workloads with a note, by name; None when they may not be seen."""

    lease: LeaseObject | None
    heart: str | None
    down: tuple[str, ...] | None
    heart_matters: bool = True

    @property
    def holder(self) -> str | None:
        """Who is named."""
        return self.lease.holder if self.lease else None

    def __str__(self) -> str:
        down = "" if not self.down else f"; with a note: {', '.join(self.down)}"
        if self.lease is None or self.lease.holder is None:
            return f"free{down}"
        purpose = self.lease.purpose or "no purpose given"
        return f"held by {self.lease.holder} ({purpose}) since {self.lease.acquired_at}{down}"


@dataclass(frozen=True)
class News:
    """What a look added. `changed`: who has the card, or what it took, is not what it was at the look before.

    `good` is None while two looks are wanted to know; `turned` when it is not what it was.
    """

    changed: bool
    good: bool | None
    turned: bool
    troubles: tuple[str, ...]


@dataclass(frozen=True)
class Vigil:
    """What is remembered between looks. Times are seconds by the looker's own clock."""

    at_s: float | None = None
    state: str = ""
    renewal: str = ""
    renewal_since_s: float = 0.0
    heart: str | None = None
    heart_since_s: float = 0.0
    heart_beat: bool = False
    left_since_s: float | None = None
    good: bool | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | None) -> Vigil:
        """Read what `to_json` wrote; what is something else (another version's) is a vigil that begins."""
        try:
            return cls(**json.loads(text or "{}"))
        except (TypeError, ValueError):
            return cls()

    def blind(self) -> Vigil:
        """After a look that could not be taken: what was silent before may have spoken meanwhile."""
        return replace(self, at_s=None)

    def see(self, look: Look, now_s: float, limits: VigilLimits = VigilLimits()) -> tuple[Vigil, News]:
        """One look more."""
        series = self.at_s is not None and now_s - self.at_s <= limits.blind_s
        renewal = repr((look.lease.uid, look.lease.token, look.holder, look.lease.renewed_at)) if look.lease else ""
        renewal_since_s = self.renewal_since_s if series and renewal == self.renewal else now_s
        heart_since_s = self.heart_since_s if series and look.heart == self.heart else now_s
        beat = series and look.heart is not None and (self.heart_beat or look.heart != self.heart)
        left = bool(look.down) and look.holder is None
        left_since_s = (self.left_since_s if series and self.left_since_s is not None else now_s) if left else None
        troubles = tuple(
            _troubles(look, limits, now_s - renewal_since_s, now_s - heart_since_s, now_s - (left_since_s or now_s))
        )
        good = False if troubles else True if beat or not look.heart_matters else None
        state = repr((look.lease and (look.lease.token, look.holder), look.down))
        seen = Vigil(
            now_s, state, renewal, renewal_since_s, look.heart, heart_since_s, beat, left_since_s,
            self.good if good is None else good,
        )  # fmt: skip
        return seen, News(state != self.state, good, good is not None and good != self.good, troubles)


def look(cluster: Cluster, card: Card, heart_matters: bool = True) -> Look:
    """One look, by reads of named objects only: who may list Deployments sees what every owner wrote into them.

    A note on a workload that is not the card's is the reaper's to report; it lists.

    Raises:
        KubeError: the Lease or the heart may not be read, or the API server does not answer.
    """
    lease, heart = cluster.read_lease(), cluster.heart()
    noted, unknown = noted_by_name(cluster, card.workloads)
    down = None if unknown and not noted else tuple(f"{seen.ref} at {seen.replicas} ({seen.label})" for seen in noted)
    return Look(lease, heart, down, heart_matters)


def _troubles(look: Look, limits: VigilLimits, silent_s: float, still_s: float, left_s: float) -> list[str]:
    found = []
    patience_s = (look.lease.lifetime_s if look.lease else 0.0) + limits.after_lifetime_s
    down = "what it took may still be down" if look.down is None else f"still down: {', '.join(look.down)}"
    if look.holder and silent_s >= patience_s and look.down != ():
        found.append(f"{look.holder} has the card and has not renewed for {silent_s:.0f} s; {down}")
    if left_s >= patience_s:
        found.append(f"nobody has had the card for {left_s:.0f} s; {down}")
    if look.heart_matters and still_s >= limits.heart_s:
        beat = f"its last beat is {look.heart}" if look.heart else "it has never beaten"
        found.append(f"no reaper beats ({beat}): nobody gives the card back if a holder dies")
    if found:
        found.append(
            "`llama-assets lease status` shows more; `llama-assets reap --once` puts back what a dead holder left"
        )
    return found
