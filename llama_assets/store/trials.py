"""What was tried of a model's sets and has not come to an end: inconclusive verdicts, loads that failed.

Here: `models/<id>/trials.json`, a small record beside `refused`, written only when there is something to remember and
taken away when nothing is left. Not here: what follows from it (`policy.promotion`), verdicts that decided something
(their session holds them).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from llama_assets.store.errors import Damaged
from llama_assets.store.folders import make_folder
from llama_assets.store.publish import replace_text, writing

Kind = Literal["undecided", "loads"]


@dataclass(frozen=True)
class Trial:
    """One session that settled nothing of a candidate, or in which something could not be loaded. `at` is ISO 8601."""

    session: str
    why: str
    at: str


class Trials:
    """One model's record. `undecided` is by fingerprint, `loads` by what was loaded how (`policy.loading_key`)."""

    def __init__(self, folder: Path, locked: Callable[[], AbstractContextManager[None]]) -> None:
        self._path, self._locked = folder / "trials.json", locked

    def of(self, kind: Kind, name: str) -> tuple[Trial, ...]:
        """The trials of one name, oldest first. Raises Damaged."""
        return self._read()[kind].get(name, ())

    def all(self, kind: Kind) -> dict[str, tuple[Trial, ...]]:
        """Every name's trials. Raises Damaged."""
        return self._read()[kind]

    def add(self, kind: Kind, name: str, trial: Trial) -> int:
        """Remember one more, once a session; returns how many there are. Raises Damaged, Busy, Unusable."""
        with self._locked():
            found = self._read()
            known = tuple(one for one in found[kind].get(name, ()) if one.session != trial.session)
            found[kind][name] = (*known, trial)
            self._write(found)
        return len(found[kind][name])

    def forget(self, kind: Kind, name: str) -> tuple[Trial, ...]:
        """Forget a name's trials; returns what was forgotten. Raises Damaged, Busy, Unusable."""
        if name not in self._read()[kind]:
            return ()
        with self._locked():
            found = self._read()
            gone = found[kind].pop(name, ())
            self._write(found)
        return gone

    def _read(self) -> dict[Kind, dict[str, tuple[Trial, ...]]]:
        try:
            said = json.loads(self._path.read_text(encoding="utf-8"))
            undecided, loads = (
                {str(name): tuple(Trial(**one) for one in trials) for name, trials in said[kind].items()}
                for kind in ("undecided", "loads")
            )
        except FileNotFoundError:
            return {"undecided": {}, "loads": {}}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            way_out = "remove it: only what was tried in vain is forgotten"
            raise Damaged(self._path, f"cannot be read ({error!r})", way_out) from error
        return {"undecided": undecided, "loads": loads}

    def _write(self, found: dict[Kind, dict[str, tuple[Trial, ...]]]) -> None:
        with writing(self._path):
            if not any(found.values()):
                self._path.unlink(missing_ok=True)
                return
            make_folder(self._path.parent)
            said = {
                kind: {name: [asdict(one) for one in trials] for name, trials in of.items()}
                for kind, of in found.items()
            }
            replace_text(self._path, json.dumps(said, indent=1) + "\n")
