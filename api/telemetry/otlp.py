"""OpenTelemetry's exporters, which push traces and metrics to a collector."""

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace.export import SpanExporter

from api.telemetry.gen_ai_metrics import GenAIMetrics
from api.telemetry.tracing import SERVICE_NAME
from runtime.errors import SettingsError

EXPORTER = "otlp_json_http"
"""OTLP over HTTP in JSON, which every collector takes on the port of OTLP over HTTP."""


@dataclass(frozen=True, slots=True)
class Push:
    """What is pushed, as the OTEL_* variables say, which the SDK reads itself. Immutable."""

    resource: Resource
    """Which server pushes: of OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES."""
    spans: SpanExporter
    metrics: GenAIMetrics

    @classmethod
    def begin(cls) -> "Push":
        """Begin to push metrics. Raises SettingsError where the exporter is not installed."""
        resource = Resource({"service.name": SERVICE_NAME}).merge(OTELResourceDetector().detect())
        spans: SpanExporter = _exporter("opentelemetry_traces_exporter")
        metrics: MetricExporter = _exporter("opentelemetry_metrics_exporter")
        return cls(resource, spans, GenAIMetrics(PeriodicExportingMetricReader(metrics), resource))


def _exporter(group: str) -> Any:
    """Return an exporter, which reads its own OTEL_* variables."""
    found = entry_points(group=group, name=EXPORTER)
    if not found:
        raise SettingsError(
            "--otlp needs the package opentelemetry-exporter-otlp-json-http; `make setup` "
            "installs it, `pip install 'rocmforge[otlp]'` does as well"
        )
    return next(iter(found)).load()()
