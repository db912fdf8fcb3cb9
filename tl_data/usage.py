"""What a call cost and where its answer came from, collected while it runs.

The pool opens a `Usage` with `receipt()` for each call of a catalog function; the client adds the HTTP
requests and tokens, the ledger adds minutes and reuse. It travels in the `CallContext`.
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
    reused: int = 0  # durable results taken from the ledger instead of being paid again
    submitted: int = 0  # durable calls newly made
    model: str | None = None
    fallback: str | None = None  # the endpoint that answered in place of one that the service has withdrawn
    task_id: str | None = None
    request_id: str | None = None
    content_key: str | None = None
    at: float | None = None  # when the call ended (epoch seconds); None when nothing was called


@contextmanager
def receipt() -> Iterator[Usage]:
    """Collect the usage of everything called inside the block, in this task and its children."""
    usage = Usage()
    with call_context(usage=usage):
        yield usage


def current() -> Usage:
    """The usage of the running call; a throw-away one outside of any."""
    usage: Usage | None = current_context().usage
    return Usage() if usage is None else usage


@contextmanager
def about(video_minutes: float) -> Iterator[None]:
    """Calls inside the block analyze a video of this length: the API counts its minutes, too.

    An error of the API carries them: an answer that cannot be used is billed all the same.
    """
    try:
        with call_context(minutes_about=video_minutes):
            yield
    except APIError as error:
        error.minutes_about = video_minutes
        raise


def minutes_about() -> float:
    """Minutes of the video that the running call analyzes; 0 where they are not known."""
    return current_context().minutes_about
