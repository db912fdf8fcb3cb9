"""The usage of a call of a catalog function, and the source of its result, collected while it runs.

The pool opens a `Usage` with `receipt()` for each call. The client adds the HTTP requests and tokens, the
ledger adds the minutes and the reused results. `CallContext` passes the `Usage` to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tl_data.errors import APIError
from tl_data.runtime.context import call_context, current_context


@dataclass
class Usage:
    """Usage and provenance of one call of a catalog function."""

    calls: int = 0  # HTTP requests to the API, retries included
    video_minutes: float = 0.0  # minutes newly submitted for indexing, embedding or analysis
    input_tokens: int = 0
    output_tokens: int = 0
    reused: int = 0  # answers that were not paid for here: from the ledger, a cache or an equal row
    submitted: int = 0  # calls of the ledger that were sent
    model: str | None = None
    fallback: str | None = None  # such as "/analyze in place of /gist", which the server no longer has
    task_id: str | None = None
    request_id: str | None = None
    content_key: str | None = None
    at: float | None = None  # Unix time at which the call ended; None if it used no request and no answer


@contextmanager
def receipt() -> Iterator[Usage]:
    """Collect the usage of all calls inside the block, in this asyncio task and its child tasks."""
    usage = Usage()
    with call_context(usage=usage):
        yield usage


def current() -> Usage:
    """The usage of the running call. Outside of a call, a new `Usage` that nobody reads."""
    usage: Usage | None = current_context().usage
    return Usage() if usage is None else usage


@contextmanager
def counting() -> Iterator[Usage]:
    """The usage of the running call; outside of a call, a new one for this block.

    The ledger charges the tokens that a call adds to the usage, so a call that reports tokens needs one.
    """
    usage = current_context().usage
    if usage is not None:
        yield usage
        return
    with receipt() as usage:
        yield usage


@contextmanager
def about(video_minutes: float) -> Iterator[None]:
    """State the length of the video that calls inside the block analyze, because the API bills its minutes.

    An APIError from the block gets `minutes_about`: a response that cannot be used is billed, too.
    """
    try:
        with call_context(minutes_about=video_minutes):
            yield
    except APIError as error:
        error.minutes_about = video_minutes
        raise


def minutes_about() -> float:
    """Minutes of the video that the running call analyzes; 0 if unknown."""
    return current_context().minutes_about
