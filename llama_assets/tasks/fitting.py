"""Before the card is taken: which arms cannot fit on it. A candidate is rejected for that, a current model left out.

Joins the store's headers, what earlier sessions measured and the catalog's card with `policy.fit`. Not here: the
judgement itself, measuring.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from llama_assets.catalog import Catalog
from llama_assets.policy.fit import Peak, fit
from llama_assets.store import Store
from llama_assets.tasks.candidates import Contender
from llama_assets.tasks.messages import Settled

SESSIONS_BACK = 100
"""Older folders are not looked through for a peak."""


@dataclass(frozen=True)
class Fitting:
    """The arms that may be tried, why the others are not, and the candidates that were rejected for it."""

    arms: tuple[Contender, ...]
    too_large: dict[str, str]
    rejected: tuple[Settled, ...]


def fitting(
    store: Store, catalog: Catalog, arms: Sequence[Contender], say: Callable[[str], None], results: Path
) -> Fitting:
    """Judge every arm by what it took in an earlier session of `results`, else by its headers; refuse candidates that
    cannot fit. Raises StoreError.
    """  # fmt: skip
    too_large: dict[str, str] = {}
    peaks = measured_peaks(results, {one.key for one in arms}) if catalog.gpu.memory_gib is not None else {}
    for one in arms:
        arguments = (*catalog.engine.arguments, *one.model.arguments)
        found = fit(
            store.footprint(one.published), one.model.context, arguments, catalog.engine.gpu_layers,
            catalog.gpu.memory_gib, peaks.get(one.key),
        )  # fmt: skip
        if found.fits is False:
            too_large[one.arm] = found.why
        if catalog.gpu.memory_gib is not None:
            say(f"{one.arm}: {found.why}")
    kept = tuple(one for one in arms if one.arm not in too_large and one.of not in too_large)
    rejected = tuple(_rejected(store, one, too_large[one.arm]) for one in arms if one.of and one.arm in too_large)
    return Fitting(kept, {arm: why for arm, why in too_large.items() if "@" not in arm}, rejected)


def measured_peaks(results: Path, keys: Collection[str]) -> dict[str, Peak]:
    """What arms with these loading keys took: the same files, told to the same engine in the same way. The newest
    finished session that measured an arm counts.
    """  # fmt: skip
    from llama_assets.bench.record import newest_first

    found: dict[str, Peak] = {}
    for record in newest_first(results, at_most=SESSIONS_BACK):
        if found.keys() >= set(keys):
            break
        memory = record.values.get("memory")
        if not record.finished or not memory:
            continue
        for arm, mib in memory["peak_mib"].items():
            key = record.values["arms"].get(arm, {}).get("loading_key")
            if key in keys and mib is not None:
                found.setdefault(key, Peak(float(mib), memory.get("idle_mib"), record.folder.name))
    return found


def _rejected(store: Store, one: Contender, why: str) -> Settled:
    model, fingerprint = one.published.model, one.published.fingerprint
    if one.is_files:  # else its files may be those that are current, and fit with other arguments
        store.trials(model).forget("undecided", fingerprint)
        store.refuse(model, fingerprint, why)
    return Settled(
        arm=one.arm, model=model, fingerprint=fingerprint, session="", action="reject", word="inconclusive", reason=why
    )
