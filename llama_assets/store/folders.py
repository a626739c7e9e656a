"""Folders of the store, made and changed so that a power cut forgets nothing. Not here: what is in them."""

from __future__ import annotations

import os
from pathlib import Path

from llama_assets.store.errors import Unusable


def make_folder(folder: Path) -> None:
    """Make a folder of the store, durably.

    Raises:
        Unusable: the volume does not let us.
    """
    if folder.is_dir():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise Unusable(folder, error.strerror or str(error)) from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
