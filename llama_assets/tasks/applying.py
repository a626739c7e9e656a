"""Serve what is current: what is asked of the store for it, and which files the engine is then told of.

`apply_current` is for commands, in whose process the engine is reached: in a cluster by a person's own rights; assets
ask and apply the same in their own way (`assets.serving`). Not here: what is current (`store`), how an engine is told
(`platforms`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from llama_assets.catalog import Catalog, Model
from llama_assets.platforms import Applied, Platform
from llama_assets.tasks.asking import ask
from llama_assets.tasks.candidates import as_candidate, serving_by
from llama_assets.tasks.messages import Inspect, Inspected, ModelFiles

if TYPE_CHECKING:
    from llama_assets.engine import Served


def question(platform: Platform, catalog: Catalog, automatic: bool = False) -> Inspect:
    """What has to be known of the store before the engine can be told."""
    return Inspect(models=catalog.models, serving=serving_by(platform, catalog), automatic=automatic)


def apply_current(
    platform: Platform,
    catalog: Catalog,
    say: Callable[[str], None],
    found: Inspected | None = None,
    *,
    dry_run: bool = False,
    take_over: bool = False,
) -> tuple[Applied, dict[str, str]]:
    """Have every current model served; returns what became of it, and model -> fingerprint. `found` is the answer to
    `question`, where somebody asked it already.

    Raises:
        The store's, the engine's and the lease's errors; nothing was written, or the same call completes it.
    """
    if found is None:
        found = ask(platform, question(platform, catalog), Inspected, say)
    for model, why in found.quarantined.items():
        say(f"{model} is not served, {why}")
    served = served_by(catalog, found)
    applied = platform.apply_config(catalog, served, say, dry_run=dry_run, take_over=take_over)
    return applied, {one.model.id: one.fingerprint for one in served}


def served_by(catalog: Catalog, found: Inspected, candidates_of: Collection[str] = ()) -> list[Served]:
    """The current files, less those that are quarantined, as the engine is told of them, in the catalog's order; and
    behind them candidates of some models that are to be measured, which nothing else lists.
    """  # fmt: skip
    current = [
        _served(model, files)
        for model in catalog.models
        if (files := found.current.get(model.id)) is not None and model.id not in found.quarantined
    ]
    candidates = [
        _served(as_candidate(catalog.model(one.model), one.arm), one.files)
        for one in found.candidates
        if one.due and one.model in candidates_of
    ]
    return [*current, *candidates]


def _served(model: Model, files: ModelFiles) -> Served:
    from llama_assets.engine import Served

    return Served(model, files.fingerprint, PurePosixPath(files.model_file), PurePosixPath(files.mmproj_file))
