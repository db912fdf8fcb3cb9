"""Run a job file with the SDK of OpenTelemetry and print, as JSON, the spans and counters that came of it.

A process of its own: OpenTelemetry is set up once a process.
"""

from __future__ import annotations

import json
import sys

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tl_data import pipeline
from tl_data.pipeline.job import Job

exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
traces = TracerProvider()
traces.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(traces)
metrics.set_meter_provider(MeterProvider([reader]))

report = pipeline.run(Job.load(sys.argv[1]))

spans = [
    {
        "id": span.context.span_id,
        "parent": span.parent.span_id if span.parent else None,
        "name": span.name,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
    }
    for span in exporter.get_finished_spans()
]
data = reader.get_metrics_data()
counters = [
    {"name": metric.name, "unit": metric.unit, "value": point.value, **point.attributes}
    for resource in (data.resource_metrics if data else [])
    for scope in resource.scope_metrics
    for metric in scope.metrics
    for point in metric.data.data_points
]
print(json.dumps({"spans": spans, "counters": counters, "report": report.row()}, default=str))
