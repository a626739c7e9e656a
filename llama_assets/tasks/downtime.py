"""The ledger of who had the card when: `<results>/downtime.jsonl`, a line an event, read back from disk each time.

    asked    somebody is about to take the card; counts from here until the next line says when it was really had
    taken    it is ours since `since`; tenants began to go then
    still    about each minute, so that a holder that was killed counts to its last line and one lifetime more
    given    it is back; `whole`: the work was done to its end. Without `counted` the card was never had

Every lease of the tasks is in it, `automatic` or a person's. Appended and synced before anything relies on it.
Not here: what the numbers allow (`policy.windows`).
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Literal

Event = Literal["asked", "taken", "still", "given"]
SESSIONS_BACK = 5


class LedgerError(RuntimeError):
    """The ledger cannot be written, so nobody would know what automation used of the day."""

    exit_status = 1

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path} cannot be written ({error.strerror or error}), and no automatic lease is taken that it does not "
            "hold; make room or correct its rights. A person's run goes on without it"
        )


@dataclass(frozen=True)
class Use:
    """One lease as the ledger has it. `end` of one that is open is its last line plus a lifetime."""

    of: str
    lease: str
    purpose: str
    automatic: bool
    begin: datetime
    end: datetime
    open: bool
    whole: bool

    @property
    def seconds(self) -> float:
        """How long the card was had."""
        return (self.end - self.begin).total_seconds()


@dataclass(frozen=True)
class Ledger:
    """The file. What a process killed while writing left of a line is passed over, and `append` begins a new one."""

    path: Path

    def append(self, event: Event, of: str, at: datetime, **facts: Any) -> None:
        """One line, on disk when this returns. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"event": event, "of": of, "at": at.astimezone(UTC).isoformat(), **facts}) + "\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o664)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (("\n" if torn else "") + line).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def uses(self) -> list[Use]:
        """Every lease, in the order in which they were asked for; none when there is no file. Raises OSError."""
        try:
            text = self.path.read_text("utf-8", errors="replace")
        except FileNotFoundError:
            return []
        of: dict[str, list[dict[str, Any]]] = {}
        for line in text.splitlines():
            if (known := _line(line)) is not None:
                of.setdefault(known["of"], []).append(known)
        return [use for lines in of.values() if (use := _use(lines)) is not None]


def _line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
        return {**line, "at": datetime.fromisoformat(line["at"]), "of": str(line["of"])}
    except (ValueError, TypeError, KeyError):  # torn by a kill: what it said is lost, what came before it counts on
        return None


def _use(lines: list[dict[str, Any]]) -> Use | None:
    first, last = lines[0], lines[-1]
    if first["event"] != "asked" or last.get("counted") is False:
        return None
    taken = next((line for line in lines if line["event"] == "taken"), None)
    given = last["event"] == "given"
    end = last["at"] if given else last["at"] + timedelta(seconds=first["lifetime_s"])
    return Use(
        first["of"], first["lease"], first["purpose"], first["automatic"],
        datetime.fromisoformat(taken["since"]) if taken else first["at"], end, not given, bool(last.get("whole")),
    )  # fmt: skip


def usual_seconds(uses: Iterable[Use], purpose: str) -> float | None:
    """How long work of this purpose may still take: the median of the last whole ones, which may have been cut into
    several leases, less what has been done since; None when there was none.
    """
    wholes: list[float] = []
    since = 0.0
    for use in uses:
        if use.purpose == purpose:
            since += use.seconds
            if use.whole:
                wholes.append(since)
                since = 0.0
    return max(0.0, median(wholes[-SESSIONS_BACK:]) - since) if wholes else None


class Entry:
    """One lease being written down, `of` its name there. `trouble` is the ledger's, if a line could not be written."""

    def __init__(
        self,
        ledger: Ledger,
        now: Callable[[], datetime],
        still_s: float,
        *,
        lease: str,
        purpose: str,
        automatic: bool,
        lifetime_s: float,
    ) -> None:
        self._ledger, self._now, self._still_s = ledger, now, still_s
        self.of = uuid.uuid4().hex[:16]
        self.trouble: LedgerError | None = None
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._run, name="downtime", daemon=True)
        self._asked = {"lease": lease, "purpose": purpose, "automatic": automatic, "lifetime_s": lifetime_s}

    def asked(self) -> None:
        """Before the card is taken."""
        self._write("asked", **self._asked)
        self._beat.start()

    def taken(self, seconds_ago: float) -> None:
        """It is ours, and was `seconds_ago`."""
        self._write("taken", since=(self._now() - timedelta(seconds=seconds_ago)).astimezone(UTC).isoformat())

    def given(self, whole: bool, counted: bool = True) -> None:
        """It is back."""
        self._over.set()
        self._beat.join()
        self._write("given", whole=whole, counted=counted)

    def _write(self, event: Event, **facts: Any) -> None:
        try:
            self._ledger.append(event, self.of, self._now(), **facts)
        except OSError as error:
            self.trouble = LedgerError(self._ledger.path, error)

    def _run(self) -> None:
        while not self._over.wait(self._still_s):
            self._write("still")
