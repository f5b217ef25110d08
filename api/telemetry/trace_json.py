"""Spans as the JSON of the API document, and as real OTLP/JSON."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

# Numbers of OTLP's trace.proto, which the document shows.
KINDS = {SpanKind.INTERNAL: 1, SpanKind.SERVER: 2}
STATUS_CODES = {StatusCode.UNSET: 0, StatusCode.OK: 1, StatusCode.ERROR: 2}


def documented_json(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """The document's shape: snake_case keys, base64 ids, times as numbers.

    All spans have one resource and one scope, as one tracer made them.
    """
    if not spans:
        return {"resource_spans": []}
    resource, scope = spans[0].resource, spans[0].instrumentation_scope
    scope_spans = {
        "scope": {"name": scope.name if scope else ""},
        "spans": [_span(span) for span in spans],
    }
    return {
        "resource_spans": [
            {
                "resource": {"attributes": _attributes(resource.attributes.items())},
                "scope_spans": [scope_spans],
            }
        ]
    }


def otlp_json(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """The OTLP/JSON mapping that collectors read: camelCase keys, hex ids, times as strings."""
    # 40 modules that only this route needs.
    from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans

    return {"resourceSpans": [], **encode_spans(spans).to_dict()}


def _span(span: ReadableSpan) -> dict[str, Any]:
    return {
        "trace_id": _base64(span.context.trace_id if span.context else 0, 16),
        "span_id": _base64(span.context.span_id if span.context else 0, 8),
        "parent_span_id": _base64(span.parent.span_id, 8) if span.parent else "",
        "name": span.name,
        "kind": KINDS[span.kind],
        "start_time_unix_nano": span.start_time,
        "end_time_unix_nano": span.end_time,
        "attributes": _attributes((span.attributes or {}).items()),
        "status": {"status": STATUS_CODES[span.status.status_code]},
    }


def _base64(identifier: int, size: int) -> str:
    return base64.b64encode(identifier.to_bytes(size, "big")).decode()


def _attributes(items: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in items]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case str():
            return {"stringValue": value}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"arrayValue": {"values": [_value(item) for item in value]}}
