"""A session: every photo asked once of every arm, each row on disk before the next request leaves.

    1  begin    before the lease: find the unfinished session of this comparison or make one, thumbnails, session.json
    2  run      under the lease, and nothing else there: load, warm up, canary, ask; stops between two requests
    3  finish   after the lease: what the lease cost; once nothing is left to ask, Parquet, then session.json, by rename

Rows on disk are the truth: whatever process died, the next one asks only what has no row. One bad arm ends early with
its reason and the others go on. Where arms are answered by different engines, `run` asks up to the first question for
another one than there is, and `Outcome.wants` names that. Not here: the lease (`still_held` is handed in), signals
(`stop` is), serving.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from .asking import Engine, Watched
from .record import THUMBS, AnotherSession, Comparison, NotASession, Record, newest_first, stamp
from .rows import Row, RowWriter, read_rows, to_parquet
from .turns import Clock, Holding, Never, Say, SessionLimits, Stop, StopRule, Turns
from .watching import Disturbance, Watcher, noted, overlap


@dataclass(frozen=True)
class Outcome:
    """Where a session stands; nothing is left of one that was done before its plan.

    `halted` is why `run` stopped before the end: `stopped` or `lease lost`. `wants` is the engine that the next
    question is for; empty where nothing is left, or any engine will do.
    """

    folder: Path
    rows: int
    left: int
    asked_now: int = 0
    halted: str | None = None
    ended: dict[str, str] = field(default_factory=dict)
    wants: str = ""

    @property
    def complete(self) -> bool:
        """Nothing is left to ask; arms that ended early count as asked."""
        return self.left == 0


def find_unfinished(results: Path, comparison: Comparison, say: Say) -> Path | None:
    """The newest unfinished session of the same catalog, files, question, photos and plan; None if there is none."""
    return next((one.folder for one in _alike(results, comparison, say) if not one.finished), None)


def begin_all(results: Path, comparisons: Sequence[Comparison], say: Say) -> list[Outcome]:
    """One session of each comparison, as `begin`; they are run one after the other under one lease.

    Where a process was killed between two of them, those before the one it was at are not begun anew: what they found
    is at hand.
    """
    unfinished = [find_unfinished(results, comparison, lambda _: None) is not None for comparison in comparisons]
    killed_at = unfinished.index(True) if True in unfinished else 0
    return [
        (_ended_before(results, comparison, say) if place < killed_at else None) or begin(results, comparison, say)
        for place, comparison in enumerate(comparisons)
    ]


def begin(results: Path, comparison: Comparison, say: Say, clock: Clock | None = None) -> Outcome:
    """The unfinished session of this comparison, or a new one in `results/sessions/`, ready to `run`."""
    now = (clock or Clock()).now()
    folder = find_unfinished(results, comparison, say)
    if folder is None:
        folder = _new_folder(results, f"{now:%Y%m%d-%H%M%S}-{comparison.identity[:6]}")
        comparison.photos.write_thumbnails(folder / THUMBS)
        Record.begin(folder, comparison, now).write()
        say(f"session {folder.name}: {comparison.plan.asks} questions, {comparison.plan.loads} loads")
        return standing(folder, comparison)
    comparison.photos.write_thumbnails(folder / THUMBS)
    found = standing(folder, comparison)
    say(f"session {folder.name} is continued: {found.rows} answers are there, {found.left} are left")
    return found


def standing(folder: Path, comparison: Comparison) -> Outcome:
    """Where the folder's session stands, from the disk alone.

    Raises:
        NotASession, AnotherSession: the folder holds no session of this comparison.
        RowsError: its rows cannot be read.
    """
    record = _continued(folder, comparison)
    rows = read_rows(sorted(folder.glob("rows-*.jsonl")))
    return _standing(folder, comparison, record, rows)


def run(
    folder: Path,
    comparison: Comparison,
    engine: Engine,
    holding: Holding,
    say: Say,
    stop: Stop | None = None,
    clock: Clock | None = None,
    limits: SessionLimits | None = None,
    rule: StopRule | None = None,
    answering: str = "",
) -> Outcome:
    """Ask what is left to ask, or until `rule` says that it is enough; where arms name their engines, up to the first
    question that is not for `answering`.

    Call it under the lease; KeyboardInterrupt leaves whole rows and a resumable session.

    Raises:
        NotASession, AnotherSession, RowsError: as `standing`.
        InUse: another process runs this session.
    """
    record = _continued(folder, comparison)
    used, clock = limits or SessionLimits(), clock or Clock()
    with ExitStack() as stack:
        writers = {
            model: stack.enter_context(RowWriter(folder / f"rows-{model}.jsonl", say)) for model in comparison.plan.arms
        }
        watcher = None
        if isinstance(engine, Watched):
            watcher = Watcher(stack.enter_context(engine.watch()).look, clock.now, say, used.watch)
        before = sum(len(writer.rows) for writer in writers.values())
        _note_lease(record, holding, clock)
        record.write()
        turns = Turns(
            comparison=comparison,
            record=record,
            engine=engine,
            holding=holding,
            say=say,
            stop=stop or Never(),
            clock=clock,
            limits=used,
            writers=writers,
            rule=rule or StopRule(),
            watcher=watcher,
            answering=answering,
        )
        if watcher:
            watcher.start()
        try:
            halted = turns.everything()
        finally:
            if watcher:
                watcher.stop()
                _note_watch(record, watcher)
            turns.note_contamination()
            record.values["ended"] = turns.stamp()
            record.write()
        rows = [row for writer in writers.values() for row in writer.rows]
    return _standing(folder, comparison, record, rows, halted, len(rows) - before)


def give_up(
    folder: Path,
    comparison: Comparison,
    engine: str,
    why: str,
    holding: Holding | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """End the arms of an engine that does not come up, as arms that cannot be loaded. `holding` is the card, where it
    was taken for them.

    Raises:
        NotASession, AnotherSession, RowsError: as `standing`.
    """  # fmt: skip
    record, clock = _continued(folder, comparison), clock or Clock()
    if holding is not None:
        _note_lease(record, holding, clock)
    ended = record.ended()
    for arm in comparison.arms:
        if arm.engine == engine and arm.model not in ended:
            record.arm(arm.model).update(ended=f"its engine did not come up: {why}", ended_by="load")
    record.values["ended"] = stamp(clock.now())
    record.write()
    return standing(folder, comparison)


def _note_lease(record: Record, holding: Holding, clock: Clock) -> None:
    started = {"token": holding.token, "started_at": stamp(clock.now()), "seconds": None}
    record.values["leases"].append(started)
    record.values["lease_seconds"] = None


def finish(
    outcome: Outcome,
    lease_seconds: float | None,
    tenants: Any,
    say: Say,
    clock: Clock | None = None,
    told: Mapping[str, Any] | None = None,
    disturbed: Disturbance | None = None,
) -> bool:
    """Note what the lease cost; when nothing is left to ask, write Parquet and close the session. True if it is closed.

    `lease_seconds` is from taking the card to giving it back, None if nobody knows; `tenants` is written as it is,
    and so is what else is `told` of the lease. What is closed stays as it is.
    Rows since `disturbed` are marked: what others do as the last answers are made is seen when the card is given back.
    """
    record = Record.read(outcome.folder)
    if record.finished:
        return True
    values = record.values
    if values["leases"] and lease_seconds is not None:
        values["leases"][-1] |= {"seconds": lease_seconds} | dict(told or {})
    if tenants is not None:
        values["tenants"] = tenants
    known = [lease["seconds"] for lease in values["leases"]]
    values["lease_seconds"] = sum(known) if known and None not in known else None
    rows = sorted(read_rows(sorted(outcome.folder.glob("rows-*.jsonl"))), key=lambda row: row.position or 0)
    last = max((_ended(row) for row in rows if row.started_at is not None), default=None)
    if disturbed and last and disturbed.since < last:  # else nothing of this session was asked meanwhile
        values["contamination"] = noted(values["contamination"], disturbed, stamp(max(last, (clock or Clock()).now())))
    if values["lease_seconds"]:
        values["lease_efficiency"] = round(busy_seconds(values, rows) / values["lease_seconds"], 4)
    if outcome.complete:
        to_parquet(outcome.folder, _marked(rows, values["contamination"]))
        values["finished"] = stamp((clock or Clock()).now())
    record.write()
    say(
        f"session {outcome.folder.name}: {outcome.rows} answers, "
        + ("finished" if outcome.complete else f"{outcome.left} left")
    )
    return outcome.complete


def _note_watch(record: Record, watcher: Watcher) -> None:
    """What looking on cost and showed; over several leases looks add up, and the larger memory stays."""
    known = record.values.get("watch") or {"looks": 0, "failed": 0}
    record.values["watch"] = {
        "looks": known["looks"] + watcher.looks,
        "failed": known["failed"] + watcher.failed,
        "every_seconds": watcher.limits.every_s,
        "foreign_mib": watcher.limits.foreign_mib,
    }
    if memory := watcher.memory():
        before = record.values.get("memory") or {"peak_mib": {}, "idle_mib": None}
        peaks = before["peak_mib"]
        peaks |= {model: max(mib, peaks.get(model, 0.0)) for model, mib in memory["peak_mib"].items()}
        idle = memory["idle_mib"] if memory["idle_mib"] is not None else before["idle_mib"]
        record.values["memory"] = memory | {"peak_mib": peaks, "idle_mib": idle}


def _marked(rows: list[Row], seen: list[dict[str, Any]]) -> list[Row]:
    """The rows, with a mark also where a disturbance was only understood after they were on disk."""
    spans = [(_time(one["at"]), _time(one["until"]), one["why"]) for one in seen if one.get("until")]
    return [_mark(row, spans) if spans else row for row in rows]


def _mark(row: Row, spans: list[tuple[datetime, datetime, str]]) -> Row:
    if row.marked is not None or row.started_at is None:
        return row
    ended = _ended(row)
    why = [why for begin, end, why in spans if overlap(row.started_at, ended, begin, end)]
    return replace(row, marked="; ".join(dict.fromkeys(why))) if why else row


def _ended(row: Row) -> datetime:
    assert row.started_at is not None
    return row.started_at + timedelta(seconds=row.seconds or 0.0)


def _time(written: str) -> datetime:
    return datetime.fromisoformat(written)


def busy_seconds(values: dict[str, Any], rows: list[Row]) -> float:
    """Seconds answering, loading and warming up: what a lease is for."""
    loading = sum((load["seconds"] or 0) + (load["warm_up_seconds"] or 0) for load in values["loads"])
    return float(loading) + sum(row.seconds or 0 for row in rows)


def _new_folder(results: Path, name: str) -> Path:
    for number in range(100):
        folder = results / "sessions" / (name if number == 0 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{results / 'sessions' / name}: a hundred sessions in one second")


def _ended_before(results: Path, comparison: Comparison, say: Say) -> Outcome | None:
    folder = next((one.folder for one in _alike(results, comparison, say) if one.finished), None)
    if folder is None:
        return None
    say(f"session {folder.name} of the same questions had ended before; it is not asked again")
    return standing(folder, comparison)


def _alike(results: Path, comparison: Comparison, say: Say) -> Iterator[Record]:
    """Sessions of this comparison, newest first."""

    def tell(error: NotASession) -> None:
        if error.path.exists():  # a session killed before it wrote its record had asked nothing
            say(str(error))

    return (one for one in newest_first(results, tell) if one.values["identity"] == comparison.identity)


def _continued(folder: Path, comparison: Comparison) -> Record:
    record = Record.read(folder)
    if record.values["identity"] != comparison.identity:
        raise AnotherSession(folder)
    return record


def _standing(
    folder: Path, comparison: Comparison, record: Record, rows: list[Row], halted: str | None = None, asked_now: int = 0
) -> Outcome:
    asked = {(row.model, row.photo) for row in rows}
    ended = record.ended()
    asks = ((turn.model, ask.photo) for turn in comparison.plan.turns for ask in turn.asks if turn.model not in ended)
    left = [] if record.stopped else [ask for ask in asks if ask not in asked]
    wants = comparison.engine_of(left[0][0]) if left else ""
    return Outcome(folder, len(rows), len(left), asked_now, halted, ended, wants)
