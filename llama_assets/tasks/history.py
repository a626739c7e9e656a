"""The history page of a results folder: what is stored of each session, and which must be judged again.

`verdict.json` beside a session's report holds its judgement; it is used as long as it has today's shape, is not older
than the rows, and says what session.json says. Both files are written by rename, so a kill between them leaves an old
page that the next one replaces. Not here: what the page shows (`verdict.history`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_assets.tasks.verdict import REPORT, NoSession, write_whole

if TYPE_CHECKING:
    from llama_assets.bench.record import Record
    from llama_assets.verdict import Judgement
    from llama_assets.verdict.history import Past

STORED = "verdict.json"
HISTORY = "history.html"
JUDGED_AT_ONCE = 20  # at a session's end; `report --history` has no bound


def store(judgement: Judgement, folder: Path) -> Path:
    """Keep a session's judgement beside its rows."""
    from llama_assets.verdict.history import stored

    return write_whole(json.dumps(stored(judgement), ensure_ascii=False) + "\n", folder / STORED)


@dataclass(frozen=True)
class History:
    """The page, and of how many sessions it is."""

    path: Path
    shown: int
    left_out: int


def write_history(
    results: Path, at_most: int | None = JUDGED_AT_ONCE, say: Callable[[str], None] | None = None
) -> History:
    """Write the page of all sessions in a results folder.

    Sessions without a stored judgement of today's shape are judged again, the newest first and `at_most` of them; the
    page names the rest. A folder that cannot be used is listed with its reason and hides no other.

    Raises:
        NoSession: there is no folder at all; nothing is written.
    """
    from llama_assets.bench.record import NotASession, newest_first
    from llama_assets.verdict.history import LeftOut, render_history

    shown: list[Past] = []
    left_out: list[LeftOut] = []

    def unreadable(error: NotASession) -> None:
        reason = f"session.json cannot be read: {error.reason}" if error.path.exists() else "it holds no session.json"
        left_out.append(LeftOut(error.path.parent.name, reason))

    left = at_most
    for record in newest_first(results, unreadable):
        found, judged = _session(record, left, say)
        left = left - 1 if judged and left is not None else left
        if isinstance(found, str):
            left_out.append(LeftOut(record.folder.name, found))
        else:
            shown.append(found)
    if not shown and not left_out:
        raise NoSession(results)
    path = write_whole(render_history(shown, left_out), results / HISTORY)
    return History(path, len(shown), len(left_out))


def _session(record: Record, left: int | None, say: Callable[[str], None] | None) -> tuple[Past | str, bool]:
    """The session or why it is not shown, and whether it was judged for that."""
    from llama_assets.verdict import judge
    from llama_assets.verdict.history import read

    folder = record.folder
    if not record.finished:
        return "unfinished: the next benchmark of the same models, question and photos continues it", False
    judged = False
    try:
        values = _stored(folder, record.values)
        if values is None:
            if left == 0:
                return "not judged again in this round; `llama-assets report --history` judges all", False
            judged = True
            if say:
                say(f"judging session {folder.name}")
            store(judge(folder), folder)
            values = json.loads((folder / STORED).read_text(encoding="utf-8"))
        return read(values, folder.name, (folder / REPORT).is_file()), judged
    except (OSError, ValueError) as error:
        return f"cannot be judged: {error}", judged


def _stored(folder: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """What is stored of a session; None where it has to be judged again."""
    from llama_assets.verdict.history import about, read

    path = folder / STORED
    rows = [*folder.glob("rows*.parquet"), *folder.glob("rows-*.jsonl")]
    try:
        if any(one.stat().st_mtime_ns > path.stat().st_mtime_ns for one in rows):
            return None
        values = json.loads(path.read_text(encoding="utf-8"))
        read(values, folder.name, report=False)
    except (OSError, ValueError):
        return None
    same = values["about"] == about(record)
    return values if same else None
