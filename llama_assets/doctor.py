"""Asks each room what is wrong with it, and says what to do; changes nothing.

Findings come in the order of the graph: settings, catalog, question, photos, Hub, store, engine, lease. One bad
finding does not hide the next. Not here: how a room finds out (each room's own errors say it best).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from llama_assets.catalog import Catalog
from llama_assets.platforms import Platform, open_platform
from llama_assets.settings import Settings


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `says` is the room's own sentence."""

    about: str
    good: bool
    says: str

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        indented = self.says.replace("\n", "\n" + " " * 11)
        return f"{'ok ' if self.good else 'BAD'} {self.about:<6} {indented}"


def examine(*, offline: bool = False) -> Iterator[Finding]:
    """Everything there is to say, one finding at a time. `offline` leaves out the Hub."""
    try:
        platform = open_platform(Settings.read())
    except Exception as error:
        yield _bad("env", error)
        return
    yield Finding("env", True, f"platform {platform.name}, store {platform.settings.store}, results {platform.results}")
    try:
        catalog = platform.catalog()
    except Exception as error:
        yield _bad("models", error)
        return
    yield Finding(
        "models", True, f"{len(catalog.models)} in the catalog: {', '.join(model.id for model in catalog.models)}"
    )
    looks: list[Callable[[Platform, Catalog], Iterator[Finding]]] = [_question, _photos, _store, _engine, _lease]
    for look in looks if offline else [_hub, *looks]:
        try:
            yield from look(platform, catalog)
        except Exception as error:
            yield _bad(look.__name__.strip("_")[:6], error)


def _bad(about: str, error: Exception) -> Finding:
    if not hasattr(error, "exit_status"):
        raise error
    return Finding(about, False, str(error))


def _hub(platform: Platform, catalog: Catalog) -> Iterator[Finding]:
    from llama_assets.hub import HubLimits

    hub = platform.hub(HubLimits(attempts=1))  # a person waits; what is wrong now is what is asked
    for model in catalog.models:
        try:
            revision = hub.resolve(model)
        except Exception as error:
            yield _bad("hub", error)
        else:
            files = ", ".join(file.path for file in revision.files)
            yield Finding(
                "hub",
                True,
                f"{model.id}: {model.repo}@{revision.commit[:12]} has {files}, {revision.bytes / 1e9:.2f} GB",
            )


def _question(_: Platform, catalog: Catalog) -> Iterator[Finding]:
    from llama_assets.bench.question import Question

    question = Question.load(catalog.benchmark.question)
    enforced = f"{len(question.grammar)} characters of grammar" if question.grammar else "response_format"
    yield Finding("asked", True, f"ranked by {question.ranking_key}, enforced by {enforced}")


def _photos(platform: Platform, catalog: Catalog) -> Iterator[Finding]:
    from llama_assets.bench import find_photos

    folder = platform.photos()
    found = len(find_photos(folder))
    wanted = catalog.benchmark.photos
    enough = "" if found >= wanted else f"; benchmark.photos asks for {wanted}, so all of them are used"
    yield Finding("photos", True, f"{found} in {folder}{enough}")


def _store(platform: Platform, catalog: Catalog) -> Iterator[Finding]:
    root = platform.settings.store
    store = platform.store()
    for model in catalog.models:
        current = store.current(model.id)
        says = f"fingerprint {current.fingerprint[:12]}, {current.bytes / 1e9:.2f} GB" if current else "not fetched yet"
        yield Finding("store", True, f"{model.id}: {says}")
    there = next(folder for folder in [root.absolute(), *root.absolute().parents] if folder.is_dir())
    yield Finding("store", True, f"{shutil.disk_usage(there).free / 1e9:.0f} GB free in {there}")


def _engine(platform: Platform, _: Catalog) -> Iterator[Finding]:
    yield Finding("engine", True, platform.engine_plan())


def _lease(platform: Platform, catalog: Catalog) -> Iterator[Finding]:
    lease = platform.lease(catalog)
    record, living = lease.status()
    yield Finding(
        "lease", True, f"{f'held by {record.holder} since {record.acquired_at}' if living else 'free'}; {lease.plan}"
    )
