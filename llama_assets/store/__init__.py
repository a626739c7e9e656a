"""The store: the model volume. Verified GGUF files by content, sets of them by fingerprint, one of them current.

In come bytes with the sha256 they should have (from `hub`, joined by `tasks/download`) and promotions (from
`policy`). Out go `Published` sets, whose files an engine serves. It knows no Hub, no engine and no Dagster; what is in
use is handed to gc.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType

from llama_assets.store import verify as _verify
from llama_assets.store.blobs import Blobs, BlobWriter, Part, StoreLimits
from llama_assets.store.errors import (
    AlreadyCurrent,
    BadHeader,
    BadSet,
    Busy,
    Damaged,
    NoSpace,
    NotPublished,
    NoWayBack,
    Refused,
    StoreError,
    Unusable,
    WrongBytes,
    in_words,
    short,
)
from llama_assets.store.footprint import Footprint, footprint
from llama_assets.store.gc import Garbage, Item, Plan
from llama_assets.store.header import Fit
from llama_assets.store.lists import Lists
from llama_assets.store.locks import Locks
from llama_assets.store.promote import Current
from llama_assets.store.publish import STEPS, Facts, Published, Sets
from llama_assets.store.trials import Trial, Trials
from llama_assets.store.verify import Fault

__all__ = [
    "STEPS",
    "AlreadyCurrent",
    "BadHeader",
    "BadSet",
    "BlobWriter",
    "Busy",
    "Damaged",
    "Facts",
    "Fault",
    "Fit",
    "Footprint",
    "Item",
    "NoSpace",
    "NoWayBack",
    "NotPublished",
    "Part",
    "Plan",
    "Published",
    "Refused",
    "Store",
    "StoreError",
    "StoreLimits",
    "Trial",
    "Trials",
    "Unusable",
    "WrongBytes",
    "in_words",
    "short",
]

_DEFAULTS = StoreLimits()
ROLES = ("model", "mmproj")


class Store:
    """The volume at `root`. Opening it touches nothing; folders are made when something is written.

    `at` is called with each of STEPS once it is durable, and with "removed" for each thing that gc took; a test kills
    the process there.
    """

    def __init__(self, root: Path, limits: StoreLimits = _DEFAULTS, at: Callable[[str], None] = lambda _: None) -> None:
        self.root, self.limits = root.absolute(), limits
        self._locks = locks = Locks(self.root, limits.look_every_s)
        self._blobs = Blobs(self.root, locks, limits, at)
        self._sets = Sets(self.root, self._blobs, locks, limits, at)
        self._lists = Lists(self._sets)
        self._current = Current(self._sets, self._blobs, self._lists, at)
        self._garbage = Garbage(self._blobs, self._sets, self._current, self._lists, locks, limits, at)

    def has(self, sha256: str, size: int) -> bool:
        """Whether the whole blob of `size` bytes is here and not known to be damaged. Nothing is read."""
        return self._blobs.has(sha256, size)

    def arrived(self, part: Part) -> int:
        """Bytes of this part that are here already, whole or not."""
        return self._blobs.arrived(part)

    def blob(
        self, part: Part, say: Callable[[str], None] = lambda _: None, name: str = ""
    ) -> AbstractContextManager[BlobWriter]:
        """The only writer of this blob; waiting for another says for whom. `name` is what people call the file.

        Raises (on entering):
            Busy, Unusable
        """
        return self._blobs.writer(part, say, name)

    def check_space(self, parts: Iterable[Part], reserve_bytes: int) -> None:
        """Whether what is missing of the whole set fits, with `reserve_bytes` to spare.

        Raises:
            NoSpace
        """
        self._blobs.check_space(parts, reserve_bytes)

    def publish(
        self, model: str, fingerprint: str, parts: Sequence[Part], context: int | None = None, source: str = ""
    ) -> Published:
        """Check the headers and publish the set, while its blobs are held. Does not move `current`.

        Raises:
            BadSet, BadHeader, Damaged, Busy, Unusable
        """
        return self._sets.publish(model, fingerprint, parts, context, source)

    def get(self, model: str, fingerprint: str) -> Published:
        """A published set. Raises NotPublished, Damaged."""
        return self._sets.load(model, fingerprint)

    def find(self, model: str, beginning: str) -> str:
        """The one published fingerprint that begins so, six characters or more. Raises NotPublished."""
        found = [name for name in self.sets(model) if name == beginning or name.startswith(beginning)]
        if len(found) != 1 or (len(beginning) < 6 and found != [beginning]):
            raise NotPublished(model, beginning, self.sets(model))
        return found[0]

    def models(self) -> list[str]:
        """Every model that has anything here."""
        return self._sets.models()

    def sets(self, model: str) -> list[str]:
        """Every published fingerprint of a model."""
        return self._sets.names(model)

    def promote(self, model: str, fingerprint: str) -> Published:
        """Make a published set current; what it replaces stays as previous.

        Raises:
            NotPublished, Refused, Damaged, Busy, Unusable
        """
        return self._current.promote(model, fingerprint)

    def rollback(self, model: str, why: str = "rolled back", to: str | None = None) -> Published:
        """Refuse what is current and make current what `way_back` says, in one turn. Else nothing is written.

        Raises:
            NotPublished, NoWayBack, AlreadyCurrent, Refused, Damaged, Busy, Unusable
        """
        return self._current.rollback(model, why, to)

    def way_back(self, model: str, to: str | None = None) -> Published:
        """What a rollback would serve: `to`, else previous, else the newest promoted before that may be served.

        Raises:
            NotPublished, NoWayBack, AlreadyCurrent, Refused, Damaged
        """
        return self._current.way_back(model, to)

    def current(self, model: str) -> Published | None:
        """What is served, or would be; None before the first promotion. Raises Damaged."""
        return self._current.current(model)

    def previous(self, model: str) -> Published | None:
        """What current replaced (N-1). Raises Damaged."""
        return self._current.previous(model)

    def published(self) -> dict[str, Published]:
        """Every model's current, by model. Raises Damaged."""
        return self._current.published()

    def refuse(self, model: str, fingerprint: str, why: str = "rejected") -> None:
        """Never promote this fingerprint, until `allow`."""
        self._current.refuse(model, fingerprint, why)

    def allow(self, model: str, fingerprint: str) -> None:
        """Take a fingerprint off the refused list."""
        self._current.allow(model, fingerprint)

    def refused(self, model: str) -> dict[str, str]:
        """Fingerprint -> why it is refused."""
        return self._current.refused(model)

    def footprint(self, published: Published) -> Footprint:
        """What a set asks of a card's memory. Raises BadHeader, Damaged."""
        blobs = {role: [self._blobs.path(p.sha256) for p in published.parts if p.role == role] for role in ROLES}
        try:
            return footprint(blobs["model"], blobs["mmproj"][0])
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise Damaged(published.folder, problem, f"materialize gguf/{published.model} again") from error

    def trials(self, model: str) -> Trials:
        """What was tried of the model's sets and settled nothing. Raises StoreError for a name that is no model's."""
        return Trials(self._sets.path(model, "any").parent, self._sets.locked)

    def tried(self, model: str) -> dict[str, str]:
        """Fingerprint -> what the catalog's candidate named it by; empty words for what it named once, and no more.

        None of them is the followed revision's, so none is a `candidate`; the one that has words stays, unless refused.
        """
        return self._lists.read("tried", model)

    def note_tried(self, model: str, listed: Mapping[str, str]) -> None:
        """These and no others were named by the catalog's candidate. Raises Busy, Unusable."""
        if dict(listed) != self.tried(model):
            with self._sets.locked():
                self._lists.replace("tried", model, dict(listed))

    def pin(self, model: str, fingerprint: str, why: str = "") -> None:
        """Keep a published set, whatever becomes of it, until `unpin`. Raises NotPublished, Damaged, Busy, Unusable."""
        with self._sets.locked():
            self._sets.load(model, fingerprint)
            self._lists.put("pinned", model, fingerprint, why)

    def unpin(self, model: str, fingerprint: str) -> bool:
        """Whether it was pinned; it is not any more. Raises Busy, Unusable."""
        with self._sets.locked():
            return self._lists.drop("pinned", model, fingerprint)

    def pinned(self, model: str) -> dict[str, str]:
        """Fingerprint -> why it is pinned."""
        return self._lists.read("pinned", model)

    def standing(self, model: str, in_use: Mapping[str, str] = MappingProxyType({})) -> dict[str, tuple[str, ...]]:
        """Fingerprint -> why it stays: current, previous, the way back, candidate, tried, pinned, in use.

        Raises:
            Damaged
        """
        return self._garbage.standing(model, in_use)

    def verify(self, model: str, tick: Callable[[int], None] = lambda _: None) -> list[Fault]:
        """Read every file of `current` again and hash it. Empty is good; a damaged blob is from then on not here.

        Raises:
            NotPublished: the model has no current set.
        """
        return _verify.verify(self._blobs, self._locks, self._served(model), tick)

    def missing(self, published: Published) -> tuple[Part, ...]:
        """Parts of a set that are gone, have another size, or are known to be damaged. Nothing is read."""
        return tuple(part for part in published.parts if not self.has(part.sha256, part.size))

    def files(self) -> list[Path]:
        """Every blob, and every beginning of one (`.part`)."""
        return self._blobs.files()

    def free(self) -> int:
        """Bytes that may still be written on the volume. Raises Unusable."""
        return self._blobs.free()

    def read_headers(self, model: str, context: int | None = None) -> Facts:
        """What the headers of `current` say now; quick, the tensors are not read.

        Raises:
            NotPublished: the model has no current set. Damaged: a file is gone.
            BadHeader: a file is not what it should be, or holds less than `context` tokens.
        """
        return self._sets.read_headers(self._served(model).parts, context)

    def warm(self, model: str) -> int:
        """Ask the kernel to read `current` into memory; returns the bytes asked for. Raises NotPublished."""
        return _verify.warm(self._blobs, self._served(model))

    def plan_gc(self, in_use: Mapping[str, str] | Collection[str] = ()) -> Plan:
        """What may go. `in_use` are the fingerprints that are served, with who does it, if known. Raises Damaged."""
        return self._garbage.plan(in_use)

    def gc(self, plan: Plan) -> Plan:
        """Remove what the plan names and what may still go now; returns what was removed. Raises Busy, Unusable."""
        return self._garbage.perform(plan)

    def _served(self, model: str) -> Published:
        published = self.current(model)
        if published is None:
            raise NotPublished(model)
        return published
