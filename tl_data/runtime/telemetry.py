"""Traces and metrics for OpenTelemetry. They do nothing until the application installs an SDK.

The spans:

    tl_data.run      a run of a job: counts, minutes, price
    tl_data.video    a video of the run, with its outcome
    POST /tasks ...  a request to the API: route, status, category of its rate limits

The application selects the exporter, with its SDK or with `opentelemetry-instrument tl-data run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from tl_data._version import __version__

#: Name of each counter -> its unit and description.
COUNTERS = {
    "tl_data.api.calls": ("{call}", "requests to the API, including retries"),
    "tl_data.videos": ("{video}", "videos of a run, by outcome"),
    "tl_data.video_minutes": ("min", "billed minutes of video, by operation"),
    "tl_data.price": ("{currency}", "price of runs, by currency"),
}


class Span:
    """A span of OpenTelemetry that prefixes attributes with the name of this package."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def set(self, **facts: Any) -> None:
        """Add attributes with the prefix `tl_data.`; None is omitted."""
        self._span.set_attributes(_attributes({f"tl_data.{name}": v for name, v in facts.items()}))

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes without a prefix, such as `http.response.status_code`; None is omitted."""
        self._span.set_attributes(_attributes(attributes))

    def fail(self, reason: str) -> None:
        """Mark the span as failed."""
        from opentelemetry.trace import StatusCode

        self._span.set_status(StatusCode.ERROR, reason)


@contextmanager
def span(
    name: str, *, remote: bool = False, attributes: Mapping[str, Any] | None = None, **facts: Any
) -> Iterator[Span]:
    """Open a span for the block. It records an exception that leaves the block.

    Args:
        remote: whether the block sends a request to another server.
        attributes: attributes without a prefix.
        facts: attributes with the prefix `tl_data.`.
    """
    from opentelemetry import trace
    from opentelemetry.trace import SpanKind

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        # Without an SDK, a real span would cost a tenth of the time of each request.
        yield Span(trace.INVALID_SPAN)
        return
    kind = SpanKind.CLIENT if remote else SpanKind.INTERNAL
    with _tracer().start_as_current_span(name, kind=kind) as otel_span:
        opened = Span(otel_span)
        opened.set(**facts)
        opened.set_attributes(attributes or {})
        yield opened


def count(name: str, amount: float, **by: str) -> None:
    """Add `amount` to a counter of `COUNTERS`. `by` are its attributes, without the prefix `tl_data.`."""
    if amount:
        _counters()[name].add(amount, {f"tl_data.{key}": value for key, value in by.items()})


# OpenTelemetry's API takes 0.1 s to import, so it is imported by the first span, not by `import tl_data`.
@cache
def _tracer() -> Any:
    from opentelemetry import trace

    return trace.get_tracer("tl_data", __version__)


@cache
def _counters() -> Mapping[str, Any]:
    from opentelemetry import metrics

    meter = metrics.get_meter("tl_data", __version__)
    return {name: meter.create_counter(name, unit, doc) for name, (unit, doc) in COUNTERS.items()}


def _attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _attribute(value) for name, value in facts.items() if value is not None}


def _attribute(value: Any) -> Any:
    """The value as a type that OpenTelemetry supports: a time as text, a decimal as a float."""
    if isinstance(value, datetime):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
