"""What changed between two revisions of a model, file by file: a few MiB of headers are read, and nothing is kept.

Joins `hub` (first bytes of a file at a commit, by Range) and `store` (what they mean). What cannot be read, or not in
time, is said in the file's sentence: telling what changed must never stand in the way of telling that something did.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from llama_assets.hub import Change, Hub, HubError, RemoteFile, Revision, changes
from llama_assets.store import BadHeader
from llama_assets.store.difference import difference

NOUNS = {"model": "model file", "mmproj": "vision projector"}


@dataclass(frozen=True)
class HeaderLimits:
    """`first_bytes` holds the header of a vocabulary of 150,000 tokens (6.5 MB)."""

    first_bytes: int = 8 << 20
    at_once: int = 4


HEADER_LIMITS = HeaderLimits()


def changed_files(
    hub: Hub, old: Revision, new: Revision, until: float, limits: HeaderLimits = HEADER_LIMITS
) -> tuple[str, ...]:
    """A sentence for each selected file whose bytes changed. Nothing is asked after `until`, a time.monotonic()."""

    def said(change: Change) -> str:
        file = change.new or change.old
        assert file is not None, "a change has a file before or after"
        what = f"{NOUNS[change.role]} {file.path}{f' (part {file.part} of {file.parts})' if file.parts > 1 else ''}"
        if change.old is None:
            return f"{what} is new"
        if change.new is None:
            return f"{what} is not selected any more"
        before = f", before it was {change.old.path}" if change.old.path != file.path else ""
        return f"{what} was replaced{before}: {_difference(hub, old, change.old, new, change.new, until, limits)}"

    with ThreadPoolExecutor(limits.at_once) as pool:
        return tuple(pool.map(said, changes(old, new)))


def _difference(
    hub: Hub, old: Revision, before: RemoteFile, new: Revision, after: RemoteFile, until: float, limits: HeaderLimits
) -> str:
    unknown = "what differs in it is not known, because"
    if not before.size or not after.size:
        return f"{unknown} {'it is' if not after.size else 'it was'} empty"
    headers = []
    for when, revision, file in (("new", new, after), ("old", old, before)):
        if time.monotonic() >= until:
            return f"{unknown} there was no time to read its headers"
        try:
            headers.append(hub.header(revision, file, limits.first_bytes, until))
        except HubError as error:
            return f"{unknown} the {when} header cannot be read: {str(error).splitlines()[0]}"
    try:
        return str(difference(headers[1], headers[0], after.path))
    except BadHeader as error:
        return f"{unknown} a header cannot be read: {error}"
