"""Courtesy to Immich in a task: around whichever lease it takes, and written into the sessions that were under it.

Not here: what is paused and how it is never forgotten (`gpu/queues.py`), whether there is a key (`platforms`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from llama_assets.gpu.queues import CourteousLease

if TYPE_CHECKING:
    from llama_assets.catalog import Catalog
    from llama_assets.gpu import Lease
    from llama_assets.platforms import Platform


def courteous(platform: Platform, catalog: Catalog, say: Callable[[str], None]) -> Lease:
    """The platform's lease, with Immich's queues waiting meanwhile where an administrator's key is set."""
    lease = platform.lease(catalog)
    courtesy = platform.courtesy(catalog, say)
    return lease if courtesy is None else CourteousLease(lease, courtesy)


def write_down(lease: Lease, folders: Iterable[Path]) -> None:
    """What was done around the lease, into session.json of each session under it: `courtesy`, an entry a lease."""
    from llama_assets.bench.record import Record

    if isinstance(lease, CourteousLease) and lease.told is not None:
        for folder in folders:
            record = Record.read(folder)
            record.values.setdefault("courtesy", []).append(lease.told.as_dict())
            record.write()
