"""Work that must not be done under somebody's lease waits here, and says for whom.

For who does not take the card but would disturb its holder: a new configuration of the engine, a rollback, garbage
collection. In comes any lease. Not here: taking it (`lease.py`), what is done afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from llama_assets.gpu.record import HeldByOther, Lease, LeaseTimes


def wait_until_free(
    lease: Lease,
    work: str,
    times: LeaseTimes,
    say: Callable[[str], None] = print,
    pause: Callable[[float], object] = time.sleep,
) -> float:
    """Seconds waited until nobody who lives has the card. `work` is what waits, for the sentence.

    A holder that was not seen to renew for its lifetime is dead: what it left is the reaper's, not ours.

    Raises:
        HeldByOther: it was held for `times.wait_s`.
    """
    began = renewed = time.monotonic()
    told: tuple[int, str | None] | None = None
    last: str | None = None
    while True:
        record, held = lease.status()
        now = time.monotonic()
        if not held:
            return now - began
        if (record.token, record.holder) != told:
            told, last, renewed = (record.token, record.holder), record.renewed_at, now
            purpose = record.purpose or "no purpose given"
            say(f"{work} waits for {record.holder} ({purpose}), {times.wait_s:.0f} s at most")
        if record.renewed_at != last:
            last, renewed = record.renewed_at, now
        if record.lifetime_s and now - renewed >= record.lifetime_s:
            say(f"{work}: {record.holder} did not renew for {record.lifetime_s:.0f} s and is dead; going on")
            return now - began
        if now - began >= times.wait_s:
            raise HeldByOther(record, now - began)
        pause(times.look_again_s)
