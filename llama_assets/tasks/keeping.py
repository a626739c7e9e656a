"""What the store is asked besides files to serve: what is in it, going back, keeping a set, what may go.

Requests of kind `store` with an `action`, and their answers, which word themselves for people. Not here: doing it
(`tasks.housekeeping`), what it means (`store`), what an engine makes of it (`platforms`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from llama_assets.launch import TaskKind
from llama_assets.store import in_words, short
from llama_assets.tasks.messages import Answer, Inspect, Inspected, Message, Request


def in_use(served: Mapping[str, str]) -> dict[str, str]:
    """Fingerprint -> by whom, of name -> fingerprint as the engine's configuration says it."""
    return {fingerprint: f"the engine's configuration, as {name}" for name, fingerprint in served.items()}


class ListStore(Request):
    """Everything the store holds. `in_use`: fingerprint -> by whom."""

    kind: ClassVar[TaskKind] = "store"
    action: Literal["list"] = "list"
    in_use: dict[str, str] = Field(default_factory=dict)


class Collect(Request):
    """Take away what nobody needs; with `dry_run` only say what that is. `in_use`: fingerprint -> by whom."""

    kind: ClassVar[TaskKind] = "store"
    action: Literal["gc"] = "gc"
    in_use: dict[str, str] = Field(default_factory=dict)
    dry_run: bool = False


class RollBack(Request):
    """Refuse what is current and go back: to the fingerprint that begins with `to`, else to the one before.

    `served` is what the engine's configuration serves of the model, if that is known: where that is refused already, an
    earlier rollback was cut off before the engine heard of it, and nothing is moved again. `inspect` is asked of the
    store afterwards, so that telling the engine needs no second task.
    """

    kind: ClassVar[TaskKind] = "store"
    action: Literal["rollback"] = "rollback"
    model: str
    to: str | None = None
    why: str = "rolled back"
    served: str | None = None
    inspect: Inspect | None = None
    dry_run: bool = False


class Pin(Request):
    """Keep the set whose fingerprint begins so, whatever becomes of it; or, with `keep` false, no longer."""

    kind: ClassVar[TaskKind] = "store"
    action: Literal["pin"] = "pin"
    model: str
    fingerprint: str
    keep: bool = True
    why: str = ""


class StoredSet(Message):
    """One verified set. `stays` are the reasons why gc keeps it; `refused` is why it is never promoted, if it is not.

    `bytes` counts blobs that other sets share, too. `missing` are roles of files that are gone or damaged.
    """

    fingerprint: str
    stays: tuple[str, ...]
    refused: str | None
    bytes: int
    source: str
    published_at: float
    missing: tuple[str, ...]

    def __str__(self) -> str:
        refused = f"refused ({self.refused})" if self.refused is not None else ""
        missing = f"{' and '.join(self.missing)} gone or damaged" if self.missing else ""
        standing = ", ".join([*self.stays, *filter(None, (refused, missing))]) or "nothing needs it: gc takes it"
        return f"{short(self.fingerprint)}  {in_words(self.bytes):>8}  {self.source or 'unknown source'}  {standing}"


class StoredModel(Message):
    """What the store holds of one model. `refused` and `pinned` name also fingerprints that are not here any more."""

    current: str | None
    previous: str | None
    candidate: str | None
    refused: dict[str, str]
    pinned: dict[str, str]
    sets: tuple[StoredSet, ...]


class Stored(Answer):
    """Everything. `bytes` is what the files take, `partial_bytes` of it what downloads began; `free_bytes` the room."""

    models: dict[str, StoredModel]
    bytes: int
    partial_bytes: int
    free_bytes: int

    def lines(self) -> Iterator[str]:
        """For people."""
        for name, model in self.models.items():
            yield name if model.sets else f"{name}: no verified file; materialize gguf/{name}"
            yield from (f"  {one}" for one in model.sets)
            here = {one.fingerprint for one in model.sets}
            gone = {listed: why for listed, why in model.refused.items() if listed not in here}
            yield from (f"  {short(listed)}  not here  refused ({why})" for listed, why in gone.items())
        begun = f", {in_words(self.partial_bytes)} of it begun downloads" if self.partial_bytes else ""
        yield f"{in_words(self.bytes)} in all{begun}; {in_words(self.free_bytes)} free"


class Kept(Message):
    """One thing in the store: what it is, why it goes or stays, and what removing it would free."""

    kind: Literal["set", "blob", "part", "leftover"]
    name: str
    model: str | None
    path: str
    why: str
    bytes: int

    def __str__(self) -> str:
        named = f"{self.model} {short(self.name)}" if self.model else short(self.name)
        size = f", {in_words(self.bytes)}" if self.bytes else ""
        return f"{self.kind} {named}: {self.why}{size}"


class Collected(Answer):
    """What went, or with `dry_run` would go, and what stays. `bytes` is what that frees."""

    dry_run: bool
    removed: tuple[Kept, ...]
    kept: tuple[Kept, ...]
    bytes: int

    def lines(self) -> Iterator[str]:
        """For people; blobs of sets that stay are not told one by one."""
        stays = [one for one in self.kept if one.kind != "blob" or "belongs to" not in one.why]
        yield from (f"stays: {one}" for one in stays)
        yield from (f"{'would go' if self.dry_run else 'gone'}: {one}" for one in self.removed)
        if self.removed:
            yield f"{in_words(self.bytes)} {'would be ' if self.dry_run else ''}freed"
        else:
            yield "nothing may go"


class RolledBack(Answer):
    """What is current now, or with `dry_run` would be, and what was refused for it. `moved` is false where an earlier
    rollback had done it and only the engine had not heard of it. `inspected` is there if it was asked for.
    """  # fmt: skip

    dry_run: bool
    moved: bool
    model: str
    refused: str
    now: StoredSet
    inspected: Inspected | None = None

    def lines(self) -> Iterator[str]:
        """For people."""
        now, refused = short(self.now.fingerprint), short(self.refused)
        if self.dry_run:
            yield f"{self.model}: {now} ({in_words(self.now.bytes)}) would be current, {refused} refused"
        elif self.moved:
            yield f"{self.model}: {now} is current; {refused} is refused, and stays on the volume"
        else:
            yield f"{self.model}: {now} is current already and {refused} refused; only the engine had not heard of it"
        yield f"to undo it: llama-assets promote {self.model} {refused}"


class Pinned(Answer):
    """Whether it is pinned now, and whether that is new."""

    model: str
    fingerprint: str
    pinned: bool
    changed: bool

    def lines(self) -> Iterator[str]:
        """For people."""
        state = "is pinned: gc keeps it" if self.pinned else "is not pinned"
        yield f"{self.model} {short(self.fingerprint)} {state}{'' if self.changed else ' (as before)'}"
