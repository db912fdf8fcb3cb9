"""The retry policy: which failures are retried, when, and for how long. It is the only retry layer.

    failure                                  reads   paid calls   calls that create
    429                                      wait and retry, no attempt is used (`max_wait`: QuotaExhausted)
    no connection, 503                       yes     yes          yes
    500 and other 5xx                        yes     yes          no: it may exist
    lost response: reset, timeout, 502, 504  yes     once         no: it may exist
    every other error                        no      no           no

The lost response of a paid call (search, analyze, embed) cannot be fetched later. The call is sent once more,
which may be billed twice, and usage counts both. A call that creates a resource is not repeated: its error
has `maybe_done` set, and the caller searches for the resource before it tries again.
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


FIRST_PAUSE = 0.5  # seconds; doubles with each failure
LONGEST_PAUSE = 30.0  # seconds
# One call waits for 429s at most MAX_WAITS * max_wait seconds in all (an hour by default), and at most
# MAX_RATE_LIMIT_WAIT seconds plus two waits.
MAX_WAITS = 12
MAX_RATE_LIMIT_WAIT = 3600.0


def pause_after(failures: int) -> float:
    """Seconds to wait after this many consecutive failures: exponential backoff with full jitter."""
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)))


async def persist(attempt: Callable[[], Awaitable[T]], repeat: Repeat, settings: Settings) -> T:
    """Run `attempt` until it succeeds or the retry policy ends. Cancellation also ends a wait.

    Raises:
        QuotaExhausted: a 429 asks for a longer wait than `settings.max_wait`.
        APIError: the last error; `maybe_done` is set if the server may have processed any attempt.
    """
    failures = lost = refusals = 0
    waited = 0.0
    while True:
        # A rate-limited call was not processed, so a shutdown may abandon its wait.
        wait: Callable[[float], Awaitable[None]] = shutdown.wait_turn
        try:
            return await attempt()
        except RateLimited as refused:
            refusals += 1
            pause = _rate_limit_pause(refused, refusals, waited, settings)
            waited += pause
        except APIError as failed:
            failures += 1
            lost += _response_lost(failed, repeat)
            if not failed.retryable or failures > settings.retries or lost > _allowed_losses(repeat):
                failed.maybe_done = lost > 0
                raise
            pause = max(pause_after(failures), failed.retry_after or 0.0)
            if pause > settings.max_wait:
                raise
            wait = asyncio.sleep
        shutdown.mark_in_flight(False)
        await wait(pause)  # outside of the except blocks: their traceback keeps the request body alive


def _allowed_losses(repeat: Repeat) -> float:
    return {Repeat.FREELY: float("inf"), Repeat.ONCE: 1, Repeat.NEVER: 0}[repeat]


def _response_lost(failed: APIError, repeat: Repeat) -> bool:
    """Whether the server may have processed the request although no usable response arrived."""
    status = failed.http_status
    if status is None:
        return failed.maybe_done
    if status < 300 or status in (502, 504):  # unreadable response, or a proxy without the server's
        return True
    return status >= 500 and status != 503 and repeat is Repeat.NEVER


def _rate_limit_pause(refused: RateLimited, refusals: int, waited: float, settings: Settings) -> float:
    """Seconds to wait after a 429: the server's hint, or else exponential backoff."""
    hint = refused.retry_after
    if hint is None:
        pause = min(settings.max_wait, max(0.1, pause_after(refusals)))
    elif hint > settings.max_wait:
        raise quota_exhausted(refused, hint) from None
    else:
        # Jitter on top of the hint, so that the callers do not all return at the same moment.
        pause = hint + random.uniform(0, min(1.0, 0.05 + hint / 10))
    if waited + pause > min(MAX_WAITS * settings.max_wait, MAX_RATE_LIMIT_WAIT + 2 * settings.max_wait):
        raise refused
    return pause


def quota_exhausted(refused: RateLimited, wait: float) -> QuotaExhausted:
    """The error for a 429 whose wait is longer than `max_wait`."""
    at = datetime.now(UTC) + timedelta(seconds=wait)
    return QuotaExhausted(
        f"{refused.message} The quota resets at {at:%Y-%m-%d %H:%M:%S} UTC, in {_span(wait)}: run again "
        "then, or raise max_wait. Results that were paid for are kept",
        refused.code,
        refused.http_status,
        refused.request_id,
        wait,
        refused.docs_url,
    )


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
