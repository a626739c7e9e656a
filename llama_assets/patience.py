"""Asking again what may be over in a moment: as often as a room's limits say, and when the other side wishes.

Comes in: a call, limits, and the root of the room's errors, which say of themselves whether they pass. Goes out: what
the call gave, or its last error as it is. Not here: what passes (each room's errors), work that goes on where it was
cut.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")


class Patience(Protocol):
    """A room's limits, as far as they are about asking again."""

    @property
    def attempts(self) -> int:
        """Tries in all."""

    @property
    def first_wait_s(self) -> float:
        """Before the second try, where nobody says how long; doubles with each further one."""

    @property
    def longest_wait_s(self) -> float:
        """Whoever wants more patience than this is not waited for: the error is told."""


class Passing(Protocol):
    """An error. `transient`: it may be over in a moment; `retry_after_s`: in how long, if the other side said."""

    transient: bool
    retry_after_s: float | None


def told_wait_s(retry_after: str) -> float | None:
    """The value of a `Retry-After`, seconds or a date (RFC 9110, 10.2.3); None where it is neither."""
    value = retry_after.strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()) if value else None
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return None


def patiently(call: Callable[[], T], limits: Patience, errors: type[Passing]) -> T:
    """Call, and call again on transient `errors`. Raises the last one as it is."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt

    def worth_it(error: BaseException) -> bool:
        return isinstance(error, errors) and error.transient and (error.retry_after_s or 0) <= limits.longest_wait_s

    def wait_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, errors) and error.retry_after_s is not None:
            return error.retry_after_s
        return min(limits.first_wait_s * 2.0 ** (state.attempt_number - 1), limits.longest_wait_s)

    tries = stop_after_attempt(max(limits.attempts, 1))
    return Retrying(retry=retry_if_exception(worth_it), stop=tries, wait=wait_s, reraise=True)(call)
