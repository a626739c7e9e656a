"""Three lists beside each model's sets, a line each with the reason: `refused`, what is never promoted without a
person, `pinned`, what a person wants kept, and `tried`, what the catalog's `candidate` named: its line says what that
is, and nothing once the catalog names it no more. A line is `<fingerprint> <why>`.

Here: reading and writing them. Not here: obeying them (`promote`, `gc`). Whoever writes holds the store's lock.
"""

from __future__ import annotations

from typing import Literal

from llama_assets.store.folders import make_folder, sync_folder
from llama_assets.store.publish import Sets, replace_text, writing

Name = Literal["refused", "pinned", "tried"]


class Lists:
    """The lists of every model of a store."""

    def __init__(self, sets: Sets) -> None:
        self._sets = sets

    def read(self, name: Name, model: str) -> dict[str, str]:
        """Fingerprint -> why it is listed."""
        try:
            text = (self._sets.folder / model / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        return {listed: why for listed, _, why in (line.partition(" ") for line in text.splitlines()) if listed}

    def put(self, name: Name, model: str, fingerprint: str, why: str) -> None:
        """List a fingerprint, or list it for another reason. Raises StoreError, Unusable."""
        folder = self._sets.path(model, fingerprint).parent
        make_folder(folder)
        self._write(name, model, {**self.read(name, model), fingerprint: why})

    def drop(self, name: Name, model: str, fingerprint: str) -> bool:
        """Whether it was listed; it is not any more. Raises Unusable."""
        listed = self.read(name, model)
        if listed.pop(fingerprint, None) is None:
            return False
        self._write(name, model, listed)
        return True

    def replace(self, name: Name, model: str, listed: dict[str, str]) -> None:
        """List these and no others; nothing is written where that is so already. Raises Unusable."""
        if listed == self.read(name, model):
            return
        folder = self._sets.folder / model
        make_folder(folder)
        if listed:
            self._write(name, model, listed)
            return
        with writing(folder):
            (folder / name).unlink()
            sync_folder(folder)

    def _write(self, name: Name, model: str, listed: dict[str, str]) -> None:
        folder = self._sets.folder / model
        with writing(folder):
            replace_text(folder / name, "".join(f"{item} {' '.join(why.split())}\n" for item, why in listed.items()))
