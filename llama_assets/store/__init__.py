"""The store: the model volume. Verified GGUF files by content, sets of them by fingerprint, one of them current.

In come bytes with the sha256 they should have (from `hub`, joined by `tasks/download`) and promotions (from
`policy`). Out go `Published` sets, whose files an engine serves. It knows no Hub, no engine and no Dagster; what is in
use is handed to gc.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from llama_assets.store import verify as _verify
from llama_assets.store.blobs import Blobs, BlobWriter, Part, StoreLimits
from llama_assets.store.errors import (
    BadHeader,
    BadSet,
    Busy,
    Damaged,
    NoSpace,
    NotPublished,
    Refused,
    StoreError,
    Unusable,
    WrongBytes,
    in_words,
)
from llama_assets.store.gc import Garbage, Item, Plan
from llama_assets.store.header import Fit
from llama_assets.store.locks import Locks
from llama_assets.store.promote import Current
from llama_assets.store.publish import STEPS, Facts, Published, Sets
from llama_assets.store.verify import Fault

__all__ = [
    "STEPS",
    "BadHeader",
    "BadSet",
    "BlobWriter",
    "Busy",
    "Damaged",
    "Facts",
    "Fault",
    "Fit",
    "Item",
    "NoSpace",
    "NotPublished",
    "Part",
    "Plan",
    "Published",
    "Refused",
    "Store",
    "StoreError",
    "StoreLimits",
    "Unusable",
    "WrongBytes",
    "in_words",
]

_DEFAULTS = StoreLimits()


class Store:
    """The volume at `root`. Opening it touches nothing; folders are made when something is written.

    `at` is called with each of STEPS once it is durable; a test kills the process there.
    """

    def __init__(self, root: Path, limits: StoreLimits = _DEFAULTS, at: Callable[[str], None] = lambda _: None) -> None:
        self.root, self.limits = root.absolute(), limits
        locks = Locks(self.root, limits.look_every_s)
        self._blobs = Blobs(self.root, locks, limits, at)
        self._sets = Sets(self.root, self._blobs, locks, limits, at)
        self._current = Current(self._sets, self._blobs, at)
        self._garbage = Garbage(self._blobs, self._sets, self._current, locks, limits)

    def has(self, sha256: str, size: int) -> bool:
        """Whether the whole blob of `size` bytes is here. Nothing is read."""
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

    def sets(self, model: str) -> list[str]:
        """Every published fingerprint of a model."""
        return self._sets.names(model)

    def promote(self, model: str, fingerprint: str) -> Published:
        """Make a published set current; what it replaces stays as previous.

        Raises:
            NotPublished, Refused, Damaged, Busy, Unusable
        """
        return self._current.promote(model, fingerprint)

    def rollback(self, model: str, why: str = "rolled back") -> Published:
        """Refuse what is current and make previous current again. Raises NotPublished, Refused, Busy, Unusable."""
        return self._current.rollback(model, why)

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

    def verify(self, model: str, tick: Callable[[int], None] = lambda _: None) -> list[Fault]:
        """Read every file of `current` again and hash it. Empty is good.

        Raises:
            NotPublished: the model has no current set.
        """
        return _verify.verify(self._blobs, self._served(model), tick)

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

    def plan_gc(self, in_use: Collection[str] = ()) -> Plan:
        """What may go. `in_use` are the fingerprints a running engine serves. Raises Damaged."""
        return self._garbage.plan(in_use)

    def gc(self, plan: Plan) -> Plan:
        """Remove what the plan names and what may still go now; returns what was removed. Raises Busy, Unusable."""
        return self._garbage.perform(plan)

    def _served(self, model: str) -> Published:
        published = self.current(model)
        if published is None:
            raise NotPublished(model)
        return published
