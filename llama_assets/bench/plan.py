"""Who is asked what, when: arms in mirrored blocks, the same photos in the same order for every arm of a block.

ABC CBA ABC CBA: a drift that grows evenly meets every arm alike, and two answers to one photo lie close in time. Where
an arm ends a block and begins the next, nothing is reloaded. Pure: names in, turns out.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ask:
    """One photo to ask; `block` counts from 1."""

    photo: str
    block: int


@dataclass(frozen=True)
class Turn:
    """What one arm is asked after one load."""

    model: str
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Plan:
    """The whole session. `blocks` are photo names in the order asked."""

    arms: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]
    turns: tuple[Turn, ...]
    seed: int

    @property
    def loads(self) -> int:
        """Loads if nothing crashes: blocks x arms - (blocks - 1), or 1 for one arm."""
        return len(self.turns)

    @property
    def asks(self) -> int:
        """Requests that are measured."""
        return sum(len(turn.asks) for turn in self.turns)

    def order(self, block: int) -> tuple[str, ...]:
        """The arms in the order in which block `block` (from 1) asks them."""
        return self.arms if block % 2 else self.arms[::-1]

    def to_json(self) -> dict[str, Any]:
        """For session.json."""
        numbers = range(1, len(self.blocks) + 1)
        return {
            "count": len(self.blocks),
            "seed": self.seed,
            "photos": [len(block) for block in self.blocks],
            "order": [list(self.order(number)) for number in numbers],
        }


def mirrored_plan(arms: Sequence[str], photos: Sequence[str], blocks: int, seed: int) -> Plan:
    """Deal the photos, shuffled by the seed, into `blocks` blocks that differ by at most one photo.

    The result depends on the names, not on their order in `photos`. With fewer photos than blocks there are fewer
    blocks.

    Raises:
        ValueError: no arm, no photo, no block, or a name twice.
    """
    for what, names in (("arm", arms), ("photo", photos)):
        if not names:
            raise ValueError(f"a session needs at least one {what}")
        if len(set(names)) != len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise ValueError(f"{what} {twice!r} is there twice")
    if blocks < 1:
        raise ValueError(f"blocks = {blocks}: at least 1")
    # Sorting by a hash is a shuffle that no version of Python changes.
    shuffled = sorted(photos, key=lambda name: hashlib.sha256(f"order/{seed}/{name}".encode()).digest())
    dealt = _even(shuffled, min(blocks, len(shuffled)))
    made = Plan(tuple(arms), dealt, (), seed)
    turns: list[Turn] = []
    for number, block in enumerate(dealt, 1):
        asks = tuple(Ask(photo, number) for photo in block)
        for model in made.order(number):
            if turns and turns[-1].model == model:
                turns[-1] = Turn(model, turns[-1].asks + asks)
            else:
                turns.append(Turn(model, asks))
    return Plan(made.arms, made.blocks, tuple(turns), seed)


def _even(items: Sequence[str], parts: int) -> tuple[tuple[str, ...], ...]:
    size, larger = divmod(len(items), parts)
    ends = [number * size + min(number, larger) for number in range(parts + 1)]
    return tuple(tuple(items[start:end]) for start, end in itertools.pairwise(ends))
