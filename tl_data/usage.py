"""What a call cost and where its answer came from, collected while it runs.

Whoever runs a catalog function opens a `Receipt` with `receipt()`; the client adds the HTTP calls
and tokens, the ledger adds minutes and reuse. It is a context variable, so that nothing between the two
has to pass it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tl_data.errors import APIError


@dataclass
class Receipt:
    """Usage and provenance of one call of a catalog function."""

    calls: int = 0  # HTTP requests to the API, retries included
    video_minutes: float = 0.0  # minutes newly submitted for indexing, embedding or analysis
    input_tokens: int = 0
    output_tokens: int = 0
    reused: int = 0  # durable results taken from the ledger instead of being paid again
    submitted: int = 0  # durable calls newly made
    model: str | None = None
    fallback: str | None = None  # the endpoint that answered in place of one that the service has withdrawn
    task_id: str | None = None
    request_id: str | None = None
    content_key: str | None = None


_about: ContextVar[float] = ContextVar("tl_data_about", default=0.0)
_current: ContextVar[Receipt | None] = ContextVar("tl_data_receipt", default=None)


@contextmanager
def receipt() -> Iterator[Receipt]:
    """Collect the usage of everything called inside the block, in this task and its children."""
    token = _current.set(slip := Receipt())
    try:
        yield slip
    finally:
        _current.reset(token)


def current() -> Receipt:
    """The receipt of the running call; a throw-away one outside of any."""
    return _current.get() or Receipt()


@contextmanager
def about(video_minutes: float) -> Iterator[None]:
    """What is called inside the block is about a video of this length: the API counts its minutes, too.

    An error of the API leaves with them: an answer that cannot be used costs them all the same.
    """
    token = _about.set(video_minutes)
    try:
        yield
    except APIError as error:
        error.minutes_about = video_minutes
        raise
    finally:
        _about.reset(token)


def minutes_about() -> float:
    """Minutes of the video that the running call is about; 0 where nobody said."""
    return _about.get()
