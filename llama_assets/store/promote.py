"""Which published set is current: steps 7 and 8 of the order of writes in `publish`, and what may not be promoted.

Here: `current`, `promotions.json` (what replaced what), `refused`, going back. Not here: when to promote (`policy`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from llama_assets.store.blobs import Blobs
from llama_assets.store.errors import Damaged, NotPublished, Refused
from llama_assets.store.folders import make_folder, sync_folder
from llama_assets.store.publish import Published, Sets, replace_text, writing


class Current:
    """`<root>/models/*/current` and the two records beside it."""

    def __init__(self, sets: Sets, blobs: Blobs, at: Callable[[str], None]) -> None:
        self._sets, self._blobs, self._at = sets, blobs, at

    def promote(self, model: str, fingerprint: str) -> Published:
        """Make a published set current. Readers of the old one are undisturbed; it stays as `previous`.

        Raises:
            NotPublished: there is no such set. Refused: it was rejected or rolled back. Damaged: a blob is gone.
            Busy, Unusable
        """
        with self._sets.locked():
            published = self._sets.load(model, fingerprint)
            if (why := self.refused(model).get(fingerprint)) is not None:
                raise Refused(model, fingerprint, why)
            for part in published.parts:
                if not self._blobs.has(part.sha256, part.size):
                    raise Damaged(self._blobs.path(part.sha256), "is gone", f"materialize gguf/{model} again")
            before = self.name(model)
            if before != fingerprint:
                self._move(model, fingerprint, before)
        return published

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
        folder = self._sets.path(model, fingerprint).parent
        with self._sets.locked():
            make_folder(folder)
            self._write_refused(model, {**self.refused(model), fingerprint: why})

    def allow(self, model: str, fingerprint: str) -> None:
        """Take a fingerprint off the list, by a person's wish."""
        with self._sets.locked():
            refused = self.refused(model)
            if refused.pop(fingerprint, None) is not None:
                self._write_refused(model, refused)

    def refused(self, model: str) -> dict[str, str]:
        """Fingerprint -> why it is refused: a line each in the file `refused`."""
        try:
            text = (self._sets.folder / model / "refused").read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        return {name: why for name, _, why in (line.partition(" ") for line in text.splitlines()) if name}

    def rollback(self, model: str, why: str) -> Published:
        """Refuse what is current and promote what it replaced.

        The refusal is written first: killed in between, the bad set is still current but nothing promotes it again,
        and the next rollback ends the work.

        Raises:
            NotPublished: nothing to go back to. Refused: that one was refused, too.
        """
        current, before = self.name(model), self.previous_name(model)
        if current is None:
            raise NotPublished(model)
        if before is None:
            raise NotPublished(model, "before the current one", self._sets.names(model))
        self.refuse(model, current, why)
        return self.promote(model, before)

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

    def _write_refused(self, model: str, refused: dict[str, str]) -> None:
        folder = self._sets.folder / model
        with writing(folder):
            replace_text(
                folder / "refused", "".join(f"{name} {' '.join(why.split())}\n" for name, why in refused.items())
            )
