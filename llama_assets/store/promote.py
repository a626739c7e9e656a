"""Which published set is current: steps 7 and 8 of the order of writes in `publish`, and the way back.

Here: `current`, `promotions.json` (what replaced what), refusing, going back. Not here: when to promote (`policy`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from llama_assets.store.blobs import Blobs
from llama_assets.store.errors import AlreadyCurrent, Damaged, NotPublished, NoWayBack, Refused
from llama_assets.store.folders import sync_folder
from llama_assets.store.lists import Lists
from llama_assets.store.publish import Published, Sets, replace_text, writing


class Current:
    """`<root>/models/*/current` and the record of promotions beside it."""

    def __init__(self, sets: Sets, blobs: Blobs, lists: Lists, at: Callable[[str], None]) -> None:
        self._sets, self._blobs, self._lists, self._at = sets, blobs, lists, at

    def promote(self, model: str, fingerprint: str) -> Published:
        """Make a published set current. Readers of the old one are undisturbed; it stays as `previous`.

        Raises:
            NotPublished: there is no such set. Refused: it was rejected or rolled back. Damaged: a blob is not whole.
            Busy, Unusable
        """
        with self._sets.locked():
            return self._promote(self._promotable(model, fingerprint))

    def current(self, model: str) -> Published | None:
        """What is served, or would be; None before the first promotion. Raises Damaged."""
        fingerprint = self.name(model)
        try:
            return self._sets.load(model, fingerprint) if fingerprint else None
        except NotPublished as error:
            link = self._sets.folder / model / "current"
            raise Damaged(link, f"leads to {fingerprint}, which is gone", f"materialize gguf/{model} again") from error

    def previous(self, model: str) -> Published | None:
        """What `current` replaced, None if it was the first or that set is gone. Raises Damaged."""
        fingerprint = self.previous_name(model)
        return self._sets.load(model, fingerprint) if fingerprint else None

    def published(self) -> dict[str, Published]:
        """Every model's `current`, by model. Raises Damaged."""
        found = ((model, self.current(model)) for model in self._sets.models())
        return {model: current for model, current in found if current is not None}

    def name(self, model: str) -> str | None:
        """The fingerprint `current` names."""
        try:
            return (self._sets.folder / model / "current").readlink().name
        except FileNotFoundError:
            return None

    def previous_name(self, model: str) -> str | None:
        """What the newest note about `current` says it replaced, if that is still here."""
        current = self.name(model)
        after = [note["after"] for note in self._notes(model) if note["fingerprint"] == current]
        return after[-1] if after and after[-1] in self._sets.names(model) else None

    def refuse(self, model: str, fingerprint: str, why: str) -> None:
        """List a fingerprint as never to be promoted by automation. It may be one that was never here."""
        with self._sets.locked():
            self._lists.put("refused", model, fingerprint, why)

    def allow(self, model: str, fingerprint: str) -> None:
        """Take a fingerprint off the list, by a person's wish."""
        with self._sets.locked():
            self._lists.drop("refused", model, fingerprint)

    def refused(self, model: str) -> dict[str, str]:
        """Fingerprint -> why it is refused."""
        return self._lists.read("refused", model)

    def rollback(self, model: str, why: str, to: str | None) -> Published:
        """Refuse what is current and promote what `way_back` says.

        The refusal is written first: killed in between, the bad set is still current but nothing promotes it again,
        and the next rollback ends the work. Where there is no way back nothing is written.

        Raises:
            NotPublished, NoWayBack, AlreadyCurrent, Refused, Damaged
        """
        with self._sets.locked():
            back = self.way_back(model, to)
            current = self.name(model)
            assert current is not None, "a way back begins at a current set"
            self._lists.put("refused", model, current, why)
            return self._promote(back)

    def way_back(self, model: str, to: str | None = None) -> Published:
        """What a rollback would make current: `to`, else what current replaced, else the newest set promoted before
        that is whole and not refused.

        Raises:
            NotPublished: the model has no current set, or none named `to`. NoWayBack: nothing else may be served.
            AlreadyCurrent, Refused, Damaged: `to` is current, is refused, or is not whole.
        """  # fmt: skip
        current = self.name(model)
        if current is None:
            raise NotPublished(model)
        if to == current:
            raise AlreadyCurrent(model, current)
        if to is not None:
            return self._promotable(model, to)
        obstacles: dict[str, str] = {}
        for name in dict.fromkeys(self._earlier(model)):
            if name == current:
                continue
            try:
                return self._promotable(model, name)
            except NotPublished:
                continue
            except (Refused, Damaged) as error:
                obstacles[name] = f"refused: {error.why}" if isinstance(error, Refused) else "damaged"
        raise NoWayBack(model, current, obstacles)

    def replaced_at(self, model: str) -> dict[str, float]:
        """When each set that was current was last replaced, in Unix seconds. Raises Damaged."""
        return {note["after"]: note["at"] for note in self._notes(model) if note["after"]}

    def _earlier(self, model: str) -> Iterator[str]:
        """What was current before, latest first. A note whose promotion was killed names what was current, too."""
        for note in reversed(self._notes(model)):
            if note["after"]:
                yield note["after"]

    def _promotable(self, model: str, fingerprint: str) -> Published:
        published = self._sets.load(model, fingerprint)
        if (why := self.refused(model).get(fingerprint)) is not None:
            raise Refused(model, fingerprint, why)
        for part in published.parts:
            if not self._blobs.has(part.sha256, part.size):
                problem = "is damaged" if self._blobs.path(part.sha256).exists() else "is gone"
                raise Damaged(self._blobs.path(part.sha256), problem, f"materialize gguf/{model} again")
        return published

    def _promote(self, published: Published) -> Published:
        before = self.name(published.model)
        if before != published.fingerprint:
            self._move(published.model, published.fingerprint, before)
        return published

    def _move(self, model: str, fingerprint: str, before: str | None) -> None:
        folder = self._sets.folder / model
        notes = [*self._notes(model), {"fingerprint": fingerprint, "after": before, "at": time.time()}]
        with writing(folder):
            replace_text(folder / "promotions.json", json.dumps(notes, indent=1))
            self._at("promotion noted")
            link = folder / ".current.tmp"
            link.unlink(missing_ok=True)
            link.symlink_to(fingerprint)
            link.replace(folder / "current")
            sync_folder(folder)
        self._at("promoted")

    def _notes(self, model: str) -> list[dict[str, Any]]:
        path = self._sets.folder / model / "promotions.json"
        try:
            notes = json.loads(path.read_text(encoding="utf-8"))
            return [{"fingerprint": note["fingerprint"], "after": note["after"], "at": note["at"]} for note in notes]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            way_out = "remove it: only which set came before `current` is forgotten"
            raise Damaged(path, f"cannot be read ({error!r})", way_out) from error
