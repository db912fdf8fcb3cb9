"""How long a server asks a client to wait, and when a limit is full again, by the headers of its answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LATER = re.compile(r"try again later after ([0-9T:.+Z-]+\d(?:Z|[+-]\d\d:?\d\d)?)")


def wait_hint(headers: Mapping[str, str], message: str = "", now: datetime | None = None) -> float | None:
    """Seconds the server asks us to wait, at least 0; None when it does not say.

    Times are compared with the server's own clock (`Date`) when it sends one, so that a wrong clock here
    does no harm. `headers` must find names whatever their case, or hold them in lower case.
    """
    clock = moment(headers.get("date", "")) or now or datetime.now(UTC)
    said = headers.get("retry-after", "").strip()
    if said:
        seconds = number(said)
        if seconds is None and (until := moment(said)):
            seconds = (until - clock).total_seconds()
        if seconds is not None:
            return max(0.0, seconds)
    if (seconds := _reset(headers, clock)) is not None:
        return seconds
    if (found := _LATER.search(message)) and (until := moment(found[1])):
        return max(0.0, (until - clock).total_seconds())
    return None


def _reset(headers: Mapping[str, str], clock: datetime) -> float | None:
    """The wait that the X-Ratelimit headers stand for: until the last used-up dimension is refilled."""
    used_up: list[float] = []
    others: list[float] = []
    for dimension in ("", "request-", "duration-", "outputtoken-"):
        reset = number(headers.get(f"x-ratelimit-{dimension}reset"))
        if reset is None:
            continue
        remaining = number(headers.get(f"x-ratelimit-{dimension}remaining"))
        wait = seconds_until(reset, clock)
        (used_up if remaining is not None and remaining <= 0 else others).append(wait)
    return max(used_up) if used_up else min(others, default=None)


def seconds_until(reset: float, clock: datetime) -> float:
    """Seconds, at least 0, until a reset that is told in epoch seconds, epoch milliseconds, or seconds from
    now; `clock` is what the clock of the server shows."""
    if reset < 1e8:
        return max(0.0, reset)
    return max(0.0, (reset / 1000 if reset > 1e11 else reset) - clock.timestamp())


def number(text: str | None) -> float | None:
    """The number that a header says; None for anything else, or one that cannot be meant."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None  # neither nan nor infinity either


def moment(text: object) -> datetime | None:
    """A moment from RFC 3339 or an HTTP date, taken as UTC when it names no zone; None for anything else."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(str(text))
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None
