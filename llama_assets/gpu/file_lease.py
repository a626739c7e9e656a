"""The lease of one machine: a lock file with the same record as in a cluster.

Order of a take: flock, then the record (token + 1), then the heartbeat. The kernel drops the flock when the holder
dies, however it dies, so the next taker needs no expiry: a record with a holder but no lock is a dead holder's.
Tenants run in a cluster, not on this machine; they are not touched, and the record says so.

A release is asked for by naming the token in `<lease>.release`; the holder sees it at its next beat and gives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from llama_assets.gpu.record import (
    Change,
    Disturbed,
    Ended,
    HeldByOther,
    LeaseTimes,
    Overview,
    Preview,
    Record,
    micro_time,
)


@dataclass(frozen=True)
class FileLease:
    """The lease kept in `path`. `tenants` are named in the record, with nothing done to them."""

    path: Path
    tenants: tuple[str, ...] = ()
    times: LeaseTimes = field(default_factory=LeaseTimes)

    @property
    def plan(self) -> str:
        """What taking would do, in one sentence."""
        tenants = f"tenants ({', '.join(self.tenants)})" if self.tenants else "no tenant is in the catalog, so none"
        return f"on this machine {tenants} are not touched; the lock file {self.path} keeps others of ours away"

    def status(self) -> tuple[Record, bool]:
        """The record, and whether its holder lives."""
        record = self._read()
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return record, False
        try:
            return record, record.holder is not None and not _locked(descriptor)
        finally:
            os.close(descriptor)

    def overview(self) -> Overview:
        """Who has the card, and since when; the lock says whether it lives."""
        record, living = self.status()
        if living:
            said = f"held by {record.holder} ({record.purpose}) since {record.acquired_at}, token {record.token}"
        elif record.holder:
            said = f"free: {record.holder} died with it (token {record.token}); the next taker goes on from there"
        else:
            said = f"free; last token {record.token}"
        return Overview(record, living, (said, self.plan), {"plan": self.plan})

    def preview(self, say: Callable[[str], None] = lambda _: None) -> Preview:  # noqa: ARG002 - nothing is waited for
        """What taking would do; nothing on this machine is in its way but another holder, who is waited for."""
        record, living = self.status()
        held = f"held by {record.holder} ({record.purpose}); a taker waits" if living else "free"
        return Preview(record, living, (held, self.plan))

    def release(self) -> Record:
        """Ask the living holder to give the card back; returns the record it will give. It does so at its next beat."""
        record, _ = self.status()
        self._wish.write_text(str(record.token))
        return record

    @contextlib.contextmanager
    def take(self, holder: str, purpose: str, say: Callable[[str], None] = lambda _: None) -> Iterator[HeldLease]:
        """Hold the card for the length of the block.

        Raises:
            HeldByOther: it was not free within `times.wait_s`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o664)
        try:
            self._wait(descriptor, say)
            found = self._read()
            if found.holder is not None:
                say(f"gpu lease: {found.holder} died with the card; taking over after token {found.token}")
            now = micro_time()
            record = Record(
                found.token + 1,
                holder,
                purpose,
                now,
                now,
                self.times.lifetime_s,
                tuple((name, None) for name in self.tenants),
            )
            self._write(record)
            say(f"gpu lease: taken, token {record.token}")
            held = HeldLease(self, record)
            held.start()
            try:
                yield held
            finally:
                held.stop()
                self._write(replace(held.record, holder=None, renewed_at=micro_time()))
                self._wish.unlink(missing_ok=True)
                say(f"gpu lease: given back after {held.seconds:.1f} s")
        finally:
            os.close(descriptor)

    def _wait(self, descriptor: int, say: Callable[[str], None]) -> None:
        began, told = time.monotonic(), False
        while not _locked(descriptor):
            waited = time.monotonic() - began
            if waited >= self.times.wait_s:
                raise HeldByOther(self._read(), waited)
            if not told:
                record = self._read()
                say(f"gpu lease: waiting for {record.holder} ({record.purpose}), which took it at {record.acquired_at}")
                told = True
            time.sleep(self.times.look_again_s)

    @property
    def _wish(self) -> Path:
        return self.path.with_suffix(".release")

    def wished(self, token: int) -> bool:
        """Has somebody asked for this token's release?"""
        try:
            return self._wish.read_text() == str(token)
        except FileNotFoundError:
            return False

    def _read(self) -> Record:
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return Record()
        return Record.from_json(text) if text.strip() else Record()

    def _write(self, record: Record) -> None:
        # In place, not by rename: the flock belongs to this inode. A torn record is impossible below one page.
        with open(self.path, "r+") as out:
            text = record.to_json()
            out.write(text.ljust(2048) if len(text) < 2048 else text)
            out.flush()
            os.fsync(out.fileno())


class HeldLease:
    """A lease that is ours. The heartbeat keeps the record fresh for those who look, and hears a wish for release."""

    def __init__(self, lease: FileLease, record: Record) -> None:
        self._lease = lease
        self.record = record
        self._began = time.monotonic()
        self._ended: float | None = None
        self._given = threading.Event()
        self._released = threading.Event()
        self._beat = threading.Thread(target=self._run, name="gpu-lease", daemon=True)

    @property
    def token(self) -> int:
        """Grows with every take; rows bear it."""
        return self.record.token

    @property
    def seconds(self) -> float:
        """From taking to giving back, or to now while it is held."""
        return (self._ended or time.monotonic()) - self._began

    @property
    def ended(self) -> Ended | None:
        """Somebody asked for the card; nothing else ends a lease of one machine."""
        return Ended("release", "asked to give the card back") if self._released.is_set() else None

    @property
    def changes(self) -> tuple[Change, ...]:
        """Nothing is touched."""
        return ()

    @property
    def disturbed(self) -> Disturbed | None:
        """Not known: no workload of this machine is set, and none is looked at."""
        return None

    @property
    def left(self) -> tuple[str, ...]:
        """Nothing was touched."""
        return ()

    def still_held(self) -> bool:
        """May work go on? False once somebody asked for the card."""
        return not self._released.is_set()

    def wait(self, seconds: float) -> bool:
        """Keep the card for `seconds` or until it is asked for; True when it was asked for."""
        return self._released.wait(seconds)

    def start(self) -> None:
        """Begin to beat."""
        self._beat.start()

    def stop(self) -> None:
        """End the heartbeat; no write of ours comes after this."""
        self._given.set()
        self._beat.join()
        self._ended = time.monotonic()

    def _run(self) -> None:
        next_beat = time.monotonic() + self._lease.times.beat_s
        while not self._given.wait(min(self._lease.times.look_again_s, self._lease.times.beat_s)):
            if self._lease.wished(self.record.token):
                self._released.set()
            if time.monotonic() >= next_beat:
                self.record = replace(self.record, renewed_at=micro_time())
                self._lease._write(self.record)
                next_beat = time.monotonic() + self._lease.times.beat_s


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
