"""Traces and metrics for OpenTelemetry, if it is installed (the extra `otel`); nothing happens without it.

    run         tl_data.run      a run of a job: what it did, minutes, price
    video       tl_data.video    one video in it, with its outcome
    API call    POST /tasks      one request to the API: route, status, what kind of limit it counts under

Where they go is the application's to say: by an SDK of its own, or by `opentelemetry-instrument tl-data run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any

from tl_data._version import __version__

#: The counters, with their units.
COUNTERS = {
    "tl_data.api.calls": ("{call}", "requests to the API, repeated ones included"),
    "tl_data.videos": ("{video}", "videos that a run has dealt with, by outcome"),
    "tl_data.video_minutes": ("min", "minutes of video that were billed, by operation"),
    "tl_data.price": ("{currency}", "what runs cost, by currency"),
}


class Span:
    """A span to be filled in; one of nothing when there is no OpenTelemetry."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def set(self, **facts: Any) -> None:
        """Add attributes under `tl_data.`; what is None is left out."""
        if self._span is not None:
            self._span.set_attributes(_attributes({f"tl_data.{name}": v for name, v in facts.items()}))

    def say(self, facts: Mapping[str, Any]) -> None:
        """Add attributes under the names they have, such as `http.response.status_code`."""
        if self._span is not None:
            self._span.set_attributes(_attributes(facts))

    def fail(self, reason: str) -> None:
        """Mark the span as failed."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR, reason)


@contextmanager
def span(
    name: str, *, remote: bool = False, said: Mapping[str, Any] | None = None, **facts: Any
) -> Iterator[Span]:
    """A span around the block; an exception that leaves it is recorded.

    Args:
        remote: whether the block asks another server.
        said: attributes under the names they have.
        facts: attributes under `tl_data.`.
    """
    tracer = _tracer()
    if tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind

    kind = SpanKind.CLIENT if remote else SpanKind.INTERNAL
    with tracer.start_as_current_span(name, kind=kind) as begun:
        told = Span(begun)
        told.set(**facts)
        told.say(said or {})
        yield told


def count(name: str, amount: float, **by: str) -> None:
    """Add to a counter of COUNTERS."""
    counters = _counters()
    if counters is not None and amount:
        counters[name].add(amount, {f"tl_data.{key}": value for key, value in by.items()})


@cache
def _tracer() -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("tl_data", __version__)


@cache
def _counters() -> Mapping[str, Any] | None:
    try:
        from opentelemetry import metrics
    except ImportError:
        return None
    meter = metrics.get_meter("tl_data", __version__)
    return {name: meter.create_counter(name, unit, doc) for name, (unit, doc) in COUNTERS.items()}


def _attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in facts.items()
        if value is not None
    }
