"""Who else set fields of the engine's objects: read from the API server's own book, `metadata.managedFields`.

Pure. A field that another manager owns, alone or beside us, is drift: our next apply of it is refused, or undone by
them. Not ours to judge: the status, a scale by its own subresource (nobody can see who scaled), and what the Deployment
controller notes. Not here: reading the objects (`deployment.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

MANAGER = "llama-assets"
LEASE_MANAGER = "llama-assets-lease"  # owns spec.replicas and the note
CONTROLLERS = {"metadata.annotations.deployment.kubernetes.io/revision"}
MOST_FIELDS = 6


@dataclass(frozen=True)
class Drift:
    """One object, one field manager that is not ours, and what it owns there; no fields: the object is gone."""

    what: str
    manager: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        if not self.fields:
            return f"{self.what} is not there"
        more = len(self.fields) - MOST_FIELDS
        named = ", ".join(self.fields[:MOST_FIELDS]) + (f" and {more} more" if more > 0 else "")
        return f"{self.what}: {self.manager} set {named}"


def drift(what: str, found: Object) -> tuple[Drift, ...]:
    """Every manager but ours that owns something of this object."""
    owned: dict[str, list[str]] = {}
    for entry in found["metadata"].get("managedFields") or []:
        if entry["manager"] in (MANAGER, LEASE_MANAGER) or entry.get("subresource"):
            continue
        fields = [path for path in _paths(entry.get("fieldsV1") or {}) if path not in CONTROLLERS]
        owned.setdefault(entry["manager"], []).extend(fields)
    return tuple(Drift(what, manager, tuple(dict.fromkeys(fields))) for manager, fields in owned.items() if fields)


def owns(found: Object, manager: str, path: str) -> bool:
    """Whether `manager` applied this field."""
    return any(
        entry["manager"] == manager and entry["operation"] == "Apply" and path in _paths(entry.get("fieldsV1") or {})
        for entry in found["metadata"].get("managedFields") or []
    )


def _paths(fields: Object, above: str = "") -> Iterator[str]:
    """The leaves of fieldsV1 as `spec.template.spec.containers[engine].image`."""
    below = {key: value for key, value in fields.items() if key != "."}
    if not below and above:
        yield above
    for key, value in below.items():
        kind, _, name = key.partition(":")
        if kind == "f":
            yield from _paths(value, f"{above}.{name}".lstrip("."))
        else:  # k: an item by its key, v: by its value
            said = json.loads(name) if kind == "k" else name
            label = ",".join(map(str, said.values())) if isinstance(said, dict) else str(said)
            yield from _paths(value, f"{above}[{label}]")
