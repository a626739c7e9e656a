"""The note on a workload: what to restore, as the value of one label.

`r1.s0.t7.3fa9c2d1` = found 1 replica, set 0, under token 7 (the Lease's leaseTransitions), by this holder. A label,
because `kubectl rollout undo` brings a removed annotation back. Its holder is named because tokens start again when
somebody deletes the Lease. Not here: who may write or undo a note (`lease.py`).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

LABEL = "llama-assets.io/lease"
FORM = re.compile(r"r(\d+)\.s(\d+)\.t(\d+)\.([0-9a-f]{8})")


@dataclass(frozen=True)
class Note:
    """`found` and `set` are replicas, `holder` is the 8 hex digits that end the holder's identity."""

    found: int
    set: int
    token: int
    holder: str

    def __str__(self) -> str:
        return f"r{self.found}.s{self.set}.t{self.token}.{self.holder}"

    @classmethod
    def parse(cls, text: str) -> Note:
        """Read what `str` wrote. Raises ValueError when it is something else."""
        match = FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a note of the form r1.s0.t7.3fa9c2d1")
        found, set_, token, holder = match.groups()
        return cls(int(found), int(set_), int(token), holder)


def identity(name: str) -> str:
    """A holderIdentity that no other process has, from a name that people know."""
    return f"{name}/{secrets.token_hex(4)}"


def holder_id(identity: str) -> str:
    """The part of a holderIdentity that a note bears."""
    return identity.rpartition("/")[2]
