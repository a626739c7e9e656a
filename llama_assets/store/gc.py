"""Garbage: which sets, blobs and leftovers of the store nobody needs, and taking them away.

Here: a plan that says what, why and how many bytes, and its execution. Not here: who is using a set; the running
engine's fingerprints are handed in.

Kept whatever is asked: each model's current and previous set, the one that a rollback would serve, the newest set
published after current (a candidate that waits for its verdict), the set that the catalog's candidate names and nobody
refused, sets that a person pinned, sets in use, blobs of a kept set, blobs that a process is writing, and parts and
unpublished blobs younger than `abandoned_s`, from which an interrupted download goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llama_assets.store.blobs import Blobs, StoreLimits
from llama_assets.store.errors import Busy, NotPublished, NoWayBack, in_words
from llama_assets.store.folders import sync_folder
from llama_assets.store.lists import Lists
from llama_assets.store.locks import Locks
from llama_assets.store.promote import Current
from llama_assets.store.publish import Sets, writing


@dataclass(frozen=True)
class Item:
    """One thing that may go, or that stays. `bytes` is what removing it frees: a set itself is only names."""

    kind: Literal["set", "blob", "part", "leftover"]
    path: Path
    why: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.kind} {self.path.name}: {self.why}, {in_words(self.bytes)}"


@dataclass(frozen=True)
class Plan:
    """What may go, in the order in which it goes, and what stays and why. `in_use`: fingerprint -> by whom."""

    remove: tuple[Item, ...]
    keep: tuple[Item, ...]
    in_use: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """What the plan frees."""
        return sum(item.bytes for item in self.remove)


class Garbage:
    """What may go from one store."""

    def __init__(
        self,
        blobs: Blobs,
        sets: Sets,
        current: Current,
        lists: Lists,
        locks: Locks,
        limits: StoreLimits,
        at: Callable[[str], None],
    ) -> None:
        self._blobs, self._sets, self._current, self._lists = blobs, sets, current, lists
        self._locks, self._limits, self._at = locks, limits, at

    def plan(self, in_use: Mapping[str, str] | Collection[str]) -> Plan:
        """Look, and remove nothing. `in_use` are the fingerprints that are served, with who does it, if known.

        Raises:
            Damaged, Busy
        """
        used = dict(in_use) if isinstance(in_use, Mapping) else dict.fromkeys(in_use, "")
        with self._sets.locked():
            return self._plan(used)

    def standing(self, model: str, in_use: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """Fingerprint -> why it stays, for each set of a model that does. Raises Damaged."""
        why: dict[str, list[str]] = {}
        before, now = self._current.previous_name(model), self._current.name(model)
        newest, back = self._candidate(model), self._way_back(model)
        for name, reason in ((now, "current"), (before, "previous"), (back, "the way back"), (newest, "candidate")):
            if name and not (reason == "the way back" and name == before):
                why.setdefault(name, []).append(reason)
        refused = self._current.refused(model)
        for name, what in self._lists.read("tried", model).items():
            if what and name not in refused:
                why.setdefault(name, []).append("tried")
        for name, wish in self._lists.read("pinned", model).items():
            why.setdefault(name, []).append(f"pinned ({wish})" if wish else "pinned")
        for name, by in in_use.items():
            why.setdefault(name, []).append(f"in use by {by}" if by else "in use")
        return {name: tuple(reasons) for name, reasons in why.items()}

    def perform(self, wanted: Plan) -> Plan:
        """Remove what the plan names and what may still go now; sets before their blobs, so no set ever lacks one.

        The plan is made anew under the store's lock: what became current, was published or is being written meanwhile
        stays. Returns what was removed, as a plan.

        Raises:
            Busy, Damaged, Unusable
        """
        agreed = {item.path for item in wanted.remove}
        with self._sets.locked():
            now = self._plan(wanted.in_use)
            removed = []
            for item in now.remove:
                if item.path in agreed and self._remove(item):
                    removed.append(item)
                    self._at("removed")
        return Plan(tuple(removed), now.keep, wanted.in_use)

    def _plan(self, in_use: Mapping[str, str]) -> Plan:
        remove, keep = list[Item](), list[Item]()
        needed, named = set[str](), set[str]()
        for model in self._sets.models():
            kept, refused = self.standing(model, in_use), self._current.refused(model)
            for published in (self._sets.load(model, fingerprint) for fingerprint in self._sets.names(model)):
                held = {part.sha256 for part in published.parts}
                named |= held
                if reasons := kept.get(published.fingerprint):
                    needed |= held
                    keep.append(Item("set", published.folder, ", ".join(reasons), published.bytes))
                else:
                    why = refused.get(published.fingerprint)
                    why = f"refused: {why}" if why is not None else "not current, previous, pinned, in use or candidate"
                    remove.append(Item("set", published.folder, why, 0))
            remove += _leftovers(self._sets.folder / model)
        for item, stays in self._files(needed, named):
            (keep if stays else remove).append(item)
        return Plan(tuple(remove), tuple(keep), in_use)

    def _candidate(self, model: str) -> str | None:
        """The newest set that is newer than current and not refused; none if that one was current since it is here.

        What the catalog tries beside it is no news of the followed revision.
        """
        aside = {*self._current.refused(model), *self._lists.read("tried", model)}
        current = self._current.current(model)
        replaced = self._current.replaced_at(model)
        since = current.published_at if current else 0.0
        newer = (self._sets.load(model, name) for name in self._sets.names(model) if name not in aside)
        candidates = [published for published in newer if published.published_at > since]
        newest = max(candidates, key=lambda published: published.published_at, default=None)
        if newest is None or newest.published_at <= replaced.get(newest.fingerprint, 0.0):
            return None
        return newest.fingerprint

    def _way_back(self, model: str) -> str | None:
        """What a rollback would serve: not what was refused, which previous may be."""
        try:
            return self._current.way_back(model).fingerprint
        except (NotPublished, NoWayBack):
            return None

    def _files(self, needed: set[str], named: set[str]) -> Iterator[tuple[Item, bool]]:
        """Each file among the blobs, with whether it stays. `needed`: sets that stay have it; `named`: any set has."""
        folder = self._blobs.folder
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.suffix == ".damaged":  # goes with its blob
                if not path.with_suffix("").exists():
                    yield Item("leftover", path, "says that a blob is damaged, which is gone", 0), False
                continue
            sha256, is_part = path.name.removesuffix(".part"), path.suffix == ".part"
            kind: Literal["part", "blob"] = "part" if is_part else "blob"
            try:
                found = path.stat()
            except FileNotFoundError:
                continue  # a download gave the part its name just now
            idle_s = time.time() - found.st_mtime
            if sha256 in needed and not is_part:
                yield Item(kind, path, "belongs to a set that stays", found.st_size), True
            elif holder := self._locks.holder(sha256):
                yield Item(kind, path, f"{holder} is writing it", found.st_size), True
            elif sha256 in named and not is_part:
                yield Item(kind, path, "only sets that go have it", found.st_size), False
            elif idle_s < self._limits.abandoned_s:
                yield Item(kind, path, "a download may go on from it", found.st_size), True
            else:
                why = f"no set has it and nobody wrote it for {idle_s / 3600:.0f} hours"
                yield Item(kind, path, why, found.st_size), False

    def _remove(self, item: Item) -> bool:
        """Whether it was removed; a blob that somebody took up meanwhile is not."""
        with writing(item.path):
            if item.kind in ("set", "leftover"):
                _remove_names(item)
                return True
            name = item.path.name.removesuffix(".part")
            try:
                with self._locks.held(name, item.path.name, 0.0, lambda _: None):
                    item.path.unlink(missing_ok=True)
                    if item.kind == "blob":
                        self._blobs.forget_damage(name)
            except Busy:
                return False
            return True


def _leftovers(folder: Path) -> list[Item]:
    found = sorted(folder.glob(".*.tmp"))
    return [Item("leftover", path, "left by a process that was killed while publishing", 0) for path in found]


def _remove_names(item: Item) -> None:
    aside = item.path
    if item.kind == "set":  # away under its name in one step: a folder with a fingerprint's name is whole
        aside = item.path.with_name(f".{item.path.name}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        item.path.rename(aside)
        sync_folder(item.path.parent)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    else:
        aside.unlink()
