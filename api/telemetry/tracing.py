"""OpenTelemetry spans of ended requests, and the ring that keeps the newest of them."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from api.telemetry.request_context import context_of
from runtime.generation import FinishReason, Generation

SERVICE_NAME = "rocmforge"
SCOPE_NAME = "rocmforge.engine"
ROOT_SPAN_NAME = "inference_request"
NEWEST_TRACES = 1000

AttributeValue = str | int | float | Sequence[str]
Trace = tuple[ReadableSpan, ...]
"""The spans of one request, its root first."""


def remote_parent(headers: Mapping[str, str]) -> Context | None:
    """The W3C trace context of HTTP headers with lower-case names; None without `traceparent`."""
    if "traceparent" not in headers:
        return None
    return TraceContextTextMapPropagator().extract(headers)


class TraceRing(SpanExporter):
    """Keeps the newest traces. Any thread may call any method.

    The children of a root are exported before it; the root's own export completes the trace.
    """

    def __init__(self, size: int = NEWEST_TRACES) -> None:
        self._traces: deque[Trace] = deque(maxlen=size)
        self._children: dict[int, list[ReadableSpan]] = {}
        """Spans that wait for their root, by the root's span id."""
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Add ended spans."""
        with self._lock:
            for span in spans:
                if span.name != ROOT_SPAN_NAME and span.parent is not None:
                    self._children.setdefault(span.parent.span_id, []).append(span)
                elif span.context is not None:
                    children = self._children.pop(span.context.span_id, [])
                    self._traces.append((span, *children))
        return SpanExportResult.SUCCESS

    def newest(self, limit: int | None = None, *, clear: bool = False) -> list[Trace]:
        """The newest `limit` traces (None: all), oldest first; `clear` forgets all of them."""
        with self._lock:
            traces = list(self._traces)
            if clear:
                self._traces.clear()
        return traces if limit is None else traces[max(0, len(traces) - limit) :]


class RequestTracer:
    """Makes the spans of each ended request from the engine's own times.

    The caller's span, if there is one, is the generation's context. Used by the engine's thread.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        pushed: SpanExporter | None = None,
        resource: Resource | None = None,
    ) -> None:
        """pushed: gets the spans too, later and together. resource: of the spans."""
        # Everything is given here, so that no OTEL_* variable of the machine changes it.
        self._provider = provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource or Resource({"service.name": SERVICE_NAME}),
            shutdown_on_exit=False,
            span_limits=SpanLimits(
                max_span_attributes=SpanLimits.UNSET, max_attributes=SpanLimits.UNSET
            ),
        )
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        if pushed is not None:
            provider.add_span_processor(BatchSpanProcessor(pushed))
        self._tracer = provider.get_tracer(SCOPE_NAME)

    def close(self) -> None:
        """Push what is left."""
        self._provider.shutdown()

    def finished(self, generation: Generation) -> None:
        """Make and export the spans of an ended request."""
        timings = generation.timings
        if timings.finished_ns is None:
            raise ValueError("the request has not ended")
        context = context_of(generation)
        parent = None if context is None else context.parent
        root = self._tracer.start_span(
            ROOT_SPAN_NAME,
            context=Context() if parent is None else parent,
            kind=SpanKind.SERVER,
            attributes=attributes(generation),
            start_time=timings.submitted_unix_ns,
        )
        inside = set_span_in_context(root, Context())
        # A phase that was never reached has no start; one that was cut short ends with the request.
        phases = (
            ("queue", timings.submitted_ns, timings.started_ns),
            ("prefill", timings.started_ns, timings.first_token_ns),
            ("decode", timings.first_token_ns, timings.finished_ns),
        )
        for name, start, end in phases:
            if start is not None:
                span = self._tracer.start_span(
                    name, context=inside, start_time=timings.unix_ns(start)
                )
                span.set_status(Status(StatusCode.OK))
                span.end(timings.unix_ns(timings.finished_ns if end is None else end))
        if generation.finish_reason is FinishReason.FAILED:
            root.set_status(Status(StatusCode.ERROR, generation.error))
        else:
            root.set_status(Status(StatusCode.OK))
        root.end(timings.unix_ns(timings.finished_ns))


def attributes(generation: Generation) -> dict[str, AttributeValue]:
    """The root span's attributes: the document's two, then OpenTelemetry's GenAI conventions.

    Source: OpenTelemetry semantic conventions for generative AI. Never the prompt or the text.
    """
    sampling = generation.sampling
    described: dict[str, AttributeValue] = {
        "request_id": generation.request_id,
        "token_count": generation.token_count,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": SERVICE_NAME,
        "gen_ai.request.max_tokens": generation.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.response.finish_reasons": (str(generation.finish_reason),),
        "gen_ai.usage.input_tokens": len(generation.prompt_tokens),
        "gen_ai.usage.output_tokens": generation.token_count,
    }
    if (context := context_of(generation)) is not None:
        described["gen_ai.operation.name"] = context.operation
        described["gen_ai.request.model"] = context.model
    if sampling.seed is not None:
        described["gen_ai.request.seed"] = sampling.seed
    return described
