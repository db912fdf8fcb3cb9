"""Rate-limit headers: the wait that a server asks for, and the time until a limit resets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: The time in a message of the API about a rate limit.
_LATER = re.compile(r"try again later after ([0-9T:.+Z-]+\d(?:Z|[+-]\d\d:?\d\d)?)")


def wait_hint(headers: Mapping[str, str], message: str = "", now: datetime | None = None) -> float | None:
    """The wait in seconds, at least 0, that a response asks for; None if it asks for none.

    A time in the response is compared with the response's `Date`, so that a wrong local clock has no effect.

    Args:
        headers: with names that are case-insensitive or in lower case.
        message: the error message, which may contain a time.
        now: the current time for a response without `Date`; by default the local time.
    """
    clock = moment(headers.get("date", "")) or now or datetime.now(UTC)
    retry_after = headers.get("retry-after", "").strip()
    if retry_after:
        seconds = number(retry_after)
        if seconds is None and (until := moment(retry_after)):
            seconds = (until - clock).total_seconds()
        if seconds is not None:
            return max(0.0, seconds)
    if (seconds := _reset(headers, clock)) is not None:
        return seconds
    if (match := _LATER.search(message)) and (until := moment(match[1])):
        return max(0.0, (until - clock).total_seconds())
    return None


def _reset(headers: Mapping[str, str], clock: datetime) -> float | None:
    """The wait in seconds from the X-Ratelimit headers: until all exhausted limits have been reset.

    If no limit is exhausted, the wait until the first reset.
    """
    exhausted: list[float] = []
    others: list[float] = []
    for dimension in ("", "request-", "duration-", "outputtoken-"):
        reset = number(headers.get(f"x-ratelimit-{dimension}reset"))
        if reset is None:
            continue
        remaining = number(headers.get(f"x-ratelimit-{dimension}remaining"))
        wait = seconds_until(reset, clock)
        (exhausted if remaining is not None and remaining <= 0 else others).append(wait)
    return max(exhausted) if exhausted else min(others, default=None)


def seconds_until(reset: float, clock: datetime) -> float:
    """Seconds, at least 0, until a limit is reset.

    Args:
        reset: Unix time in seconds or milliseconds, or a number of seconds from now.
        clock: the current time of the server.
    """
    if reset < 1e8:
        return max(0.0, reset)
    return max(0.0, (reset / 1000 if reset > 1e11 else reset) - clock.timestamp())


def number(text: str | None) -> float | None:
    """Parse the number in a header; None if it is not a number, or 1e15 or more."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None  # also None for nan and infinity


def moment(text: object) -> datetime | None:
    """Parse an RFC 3339 time or an HTTP date; UTC if it has no zone, None if it is neither."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            time = read(str(text))
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    return None
