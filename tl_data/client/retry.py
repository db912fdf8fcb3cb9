"""The retry policy of requests: which failures are retried, when, and for how long.

Two modules repeat requests in addition: `assets` sends a part of a file again if its URL was refused, and
`task_poller` polls on after a failed poll.

Whether a call is retried depends on what it does:

    failure                                  read    paid read   create a resource
    429                                      yes, after a wait; `retries` does not apply
    no connection, 503                       yes     yes         yes
    408, 499, 500 and other 5xx              yes     yes         no: the resource may exist
    lost response: reset, timeout, 502, 504  yes     once        no: the resource may exist
    unreadable response                      yes     once        no: the resource may exist
    every other error                        no      no          no

The service answers 408 or 499 with the code `request_canceled_or_timed_out`, which leaves open how far the
request came. After a 429 that asks for a wait longer than `max_wait`, QuotaExhausted is raised. After another
failure that asks for such a wait, its error is raised at once.

The lost response of a paid read (search, analyze, embed) cannot be fetched later, so the call is sent once
more; it may be billed twice, and usage counts both. A call that creates a resource is not repeated: its error
has `maybe_done` set, and the caller searches for the resource before it retries.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TypeVar

from tl_data.errors import APIError, QuotaExhausted, RateLimited
from tl_data.runtime import shutdown
from tl_data.settings import Settings

T = TypeVar("T")


class Repeat(Enum):
    """How often a call is repeated after its response was lost."""

    FREELY = "reads, and writes that have the same effect twice"
    ONCE = "reads that cost money"
    NEVER = "writes that create something"


FIRST_PAUSE = 0.5  # longest pause in seconds after the first failure; doubles with each failure
MAX_PAUSE = 30.0  # longest pause in seconds after any failure
#: One call waits in total at most MAX_WAIT_FACTOR * max_wait seconds after 429s (an hour by default), and at
#: most MAX_RATE_LIMIT_WAIT + 2 * max_wait seconds.
MAX_WAIT_FACTOR = 12
MAX_RATE_LIMIT_WAIT = 3600.0


def pause_after(failures: int) -> float:
    """Seconds to wait after this many consecutive failures: exponential backoff with full jitter."""
    return random.uniform(0, min(MAX_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)))


async def with_retries(attempt: Callable[[], Awaitable[T]], repeat: Repeat, settings: Settings) -> T:
    """Run `attempt` until it succeeds or the retry policy allows no retry. A wait can be cancelled.

    Raises:
        QuotaExhausted: a 429 asks for a longer wait than `settings.max_wait`.
        APIError: the last error.

    `maybe_done` of an error is set if the server may have processed any attempt.
    """
    failures = lost = refusals = 0
    waited = 0.0
    while True:
        # The server did not process a rate-limited call, so a shutdown may end this wait.
        wait: Callable[[float], Awaitable[None]] = shutdown.wait_for_limit
        try:
            return await attempt()
        except RateLimited as refused:
            refusals += 1
            refused.maybe_done = lost > 0
            pause = _rate_limit_pause(refused, refusals, waited, settings)
            waited += pause
        except APIError as failed:
            failures += 1
            lost += _response_lost(failed, repeat)
            failed.maybe_done = lost > 0
            if not failed.retryable or failures > settings.retries or lost > _allowed_losses(repeat):
                raise
            pause = max(pause_after(failures), failed.retry_after or 0.0)
            if pause > settings.max_wait:
                raise
            wait = asyncio.sleep
        shutdown.mark_in_flight(False)
        # This is outside of the except blocks, because their traceback keeps the request body in memory.
        await wait(pause)


def _allowed_losses(repeat: Repeat) -> float:
    """How many responses of a call may be lost before it is no longer retried."""
    return {Repeat.FREELY: float("inf"), Repeat.ONCE: 1, Repeat.NEVER: 0}[repeat]


def _response_lost(failed: APIError, repeat: Repeat) -> bool:
    """Whether the failure counts as a lost response: the server may have processed the request.

    For calls that create something, these are also 408, 499 and 5xx other than 503.
    """
    status = failed.http_status
    if status is None:
        return failed.maybe_done
    if status < 300 or status in (502, 504):  # unreadable, or a proxy got no response
        return True
    return repeat is Repeat.NEVER and (status in (408, 499) or (status >= 500 and status != 503))


def _rate_limit_pause(refused: RateLimited, refusals: int, waited: float, settings: Settings) -> float:
    """Seconds to wait after a 429: what the server asks for, or else exponential backoff.

    Raises:
        QuotaExhausted: the server asks for more than `max_wait`.
        RateLimited: the call has waited for too long in total.
    """
    hint = refused.retry_after
    if hint is None:
        pause = min(settings.max_wait, max(0.1, pause_after(refusals)))
    elif hint > settings.max_wait:
        raise quota_exhausted(refused, hint) from None
    else:
        # A random time is added, so that not all callers send their requests at the same time.
        pause = hint + random.uniform(0, min(1.0, 0.05 + hint / 10))
    if waited + pause > min(MAX_WAIT_FACTOR * settings.max_wait, MAX_RATE_LIMIT_WAIT + 2 * settings.max_wait):
        raise refused
    return pause


def quota_exhausted(refused: RateLimited, wait: float) -> QuotaExhausted:
    """The error for a 429 whose wait is longer than `max_wait`."""
    at = datetime.now(UTC) + timedelta(seconds=wait)
    error = QuotaExhausted(
        f"{refused.message} The quota resets at {at:%Y-%m-%d %H:%M:%S} UTC, in {_duration(wait)}: run again "
        "then, or raise max_wait. Answers in the ledger are not charged again",
        refused.code,
        refused.http_status,
        refused.request_id,
        wait,
        refused.docs_url,
    )
    error.maybe_done = refused.maybe_done
    return error


def _duration(seconds: float) -> str:
    """A duration as text: `3 h 9 min`, `2 min 5 s`, `7 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
