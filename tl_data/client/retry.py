"""What is sent again, when, and for how long: the only retry layer there is.

    what went wrong                        reads   paid calls   calls that create
    429                                    waited out, costs no attempt (beyond `max_wait`: QuotaExhausted)
    no connection, 503                     yes     yes          yes
    500 and other 5xx                      yes     yes          no: it may exist now
    answer lost: reset, timeout, 502, 504  yes     once         no: it may exist now
    every other error                      no      no           no

A lost answer of a paid call (search, analyze, embed) cannot be fetched in any other way, so the choice is to
pay perhaps twice or to have nothing: it is sent once more, and the receipt counts both. A call that creates
something is never repeated blindly: its error says `maybe_done`, and its caller looks before trying again.
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
    """How a call may be repeated after its answer was lost."""

    FREELY = "reads, and writes that have the same effect twice"
    ONCE = "reads that cost money"
    NEVER = "writes that create something"


FIRST_PAUSE = 0.5  # seconds; doubles with each failure
LONGEST_PAUSE = 30.0
LONGEST_LINE = 12  # times `max_wait` that one call may spend on 429s in all: an hour by default,
LONG_LINE = 3600.0  # or so many seconds and two more waits, if that is less


def pause_after(failures: int) -> float:
    """Seconds to wait after this many failures in a row: exponential, with full jitter."""
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1)))


async def persist(attempt: Callable[[], Awaitable[T]], repeat: Repeat, settings: Settings) -> T:
    """Run `attempt` until it succeeds or repeating it is over; cancelling it cancels the waiting too.

    Raises:
        QuotaExhausted: a 429 asks for a longer wait than `settings.max_wait`.
        APIError: the last error; `maybe_done` is set if any attempt may have been carried out.
    """
    failures = lost = refusals = 0
    waited = 0.0
    while True:
        wait: Callable[[float], Awaitable[None]] = shutdown.wait_turn  # what was refused may be given up
        try:
            return await attempt()
        except RateLimited as refused:
            refusals += 1
            pause = _turn(refused, refusals, waited, settings)
            waited += pause
        except APIError as failed:
            failures += 1
            lost += _lost(failed, repeat)
            if not failed.retryable or failures > settings.retries or lost > _allowed(repeat):
                failed.maybe_done = lost > 0
                raise
            pause = max(pause_after(failures), failed.retry_after or 0.0)
            if pause > settings.max_wait:
                raise
            wait = asyncio.sleep
        shutdown.mark_in_flight(False)
        await wait(pause)  # outside of the blocks: a traceback kept here would keep the request body alive


def _allowed(repeat: Repeat) -> float:
    return {Repeat.FREELY: float("inf"), Repeat.ONCE: 1, Repeat.NEVER: 0}[repeat]


def _lost(failed: APIError, repeat: Repeat) -> bool:
    """Whether the request may have been carried out although no usable answer came."""
    status = failed.http_status
    if status is None:
        return failed.maybe_done
    if status < 300 or status in (502, 504):  # an unreadable answer; a proxy that lost the server
        return True
    return status >= 500 and status != 503 and repeat is Repeat.NEVER


def _turn(refused: RateLimited, refusals: int, waited: float, settings: Settings) -> float:
    """Seconds until the server will take the call, as it says or else as good manners say."""
    hint = refused.retry_after
    if hint is None:
        pause = min(settings.max_wait, max(0.1, pause_after(refusals)))
    elif hint > settings.max_wait:
        raise quota(refused, hint) from None
    else:
        # A little later than asked, each caller differently: else all of them come back at once.
        pause = hint + random.uniform(0, min(1.0, 0.05 + hint / 10))
    if waited + pause > min(LONGEST_LINE * settings.max_wait, LONG_LINE + 2 * settings.max_wait):
        raise refused
    return pause


def quota(refused: RateLimited, wait: float) -> QuotaExhausted:
    """A 429 whose wait is too long to stand in line for."""
    at = datetime.now(UTC) + timedelta(seconds=wait)
    return QuotaExhausted(
        f"{refused.message} The quota resets at {at:%Y-%m-%d %H:%M:%S} UTC, in {_span(wait)}: run again "
        "then, or raise max_wait; what was paid for is kept",
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
