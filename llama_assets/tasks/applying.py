"""Serve what is current: a command asks the store which files those are, and has the platform tell the engine.

For commands, in whose process the engine is reached: in a cluster by a person's own rights. Not here: what is current
(`store`), how an engine is told (`platforms`), the same as an asset (`assets.serving`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from llama_assets.catalog import Catalog
from llama_assets.platforms import Applied, Platform
from llama_assets.tasks.asking import ask
from llama_assets.tasks.candidates import serving_by
from llama_assets.tasks.messages import Inspect, Inspected

if TYPE_CHECKING:
    from llama_assets.engine import Served


def question(platform: Platform, catalog: Catalog) -> Inspect:
    """What has to be known of the store before the engine can be told."""
    return Inspect(models=catalog.models, serving=serving_by(platform, catalog))


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


def served_by(catalog: Catalog, found: Inspected) -> list[Served]:
    """The current files, less those that are quarantined, as the engine is told of them, in the catalog's order."""
    from llama_assets.engine import Served

    return [
        Served(model, files.fingerprint, PurePosixPath(files.model_file), PurePosixPath(files.mmproj_file))
        for model in catalog.models
        if (files := found.current.get(model.id)) is not None and model.id not in found.quarantined
    ]
