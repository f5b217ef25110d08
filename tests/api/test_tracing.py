import base64
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from api.telemetry.request_context import RequestContext
from api.telemetry.trace_json import documented_json, otlp_json
from api.telemetry.tracing import RequestTracer, Trace, TraceRing, remote_parent
from runtime.generation import FinishReason
from tests.api.generations import SECOND, SUBMITTED, ended

CALLER = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}


@pytest.fixture
def ring() -> TraceRing:
    return TraceRing(size=3)


@pytest.fixture
def tracer(ring: TraceRing) -> RequestTracer:
    return RequestTracer(ring)


def times(trace: Trace) -> dict[str, tuple[float, float]]:
    """Seconds after the submission at which each span starts and ends."""

    def seconds(at: int | None) -> float:
        assert at is not None
        return (at - SUBMITTED) / SECOND

    return {span.name: (seconds(span.start_time), seconds(span.end_time)) for span in trace}


def test_a_request_is_one_span_with_a_child_for_each_phase(
    ring: TraceRing, tracer: RequestTracer
) -> None:
    tracer.finished(ended(queue=0.5, prefill=0.25, decode=2.0))
    (trace,) = ring.newest()
    assert times(trace) == {
        "inference_request": (0, 2.75),
        "queue": (0, 0.5),
        "prefill": (0.5, 0.75),
        "decode": (0.75, 2.75),
    }
    root, *children = trace
    assert root.parent is None
    assert root.context is not None
    assert {child.parent.span_id for child in children if child.parent} == {root.context.span_id}


def test_a_request_cancelled_in_the_queue_has_no_later_phases(
    ring: TraceRing, tracer: RequestTracer
) -> None:
    tracer.finished(ended(reason=FinishReason.CANCELLED, tokens=(), queue=None, decode=1.5))
    assert times(ring.newest()[0]) == {"inference_request": (0, 1.5), "queue": (0, 1.5)}


def test_a_request_cut_short_in_prefill_ends_there(ring: TraceRing, tracer: RequestTracer) -> None:
    tracer.finished(ended(reason=FinishReason.CANCELLED, tokens=(), prefill=None, decode=1.0))
    assert times(ring.newest()[0])["prefill"] == (0.5, 1.5)
    assert "decode" not in times(ring.newest()[0])


def test_a_failed_request_has_an_error_status(ring: TraceRing, tracer: RequestTracer) -> None:
    tracer.finished(ended(reason=FinishReason.FAILED, error="out of luck"))
    root = ring.newest()[0][0]
    assert root.status.status_code is StatusCode.ERROR
    assert root.status.description == "out of luck"


def test_the_caller_s_span_is_the_parent_even_where_it_is_not_sampled(
    ring: TraceRing, tracer: RequestTracer
) -> None:
    parent = remote_parent(CALLER)
    assert parent is not None
    tracer.finished(ended(1, context=RequestContext("tiny", parent=parent)))
    tracer.finished(ended(2))
    adopted, alone = (trace[0] for trace in ring.newest())
    assert adopted.context is not None
    assert f"{adopted.context.trace_id:032x}" == CALLER["traceparent"].split("-")[1]
    assert adopted.parent is not None
    assert f"{adopted.parent.span_id:016x}" == CALLER["traceparent"].split("-")[2]
    assert alone.parent is None


@pytest.mark.parametrize("header", ["", "nonsense", "00-0-0-0", "00-" + "0" * 32 + "-1-01"])
def test_a_malformed_caller_is_no_parent(
    ring: TraceRing, tracer: RequestTracer, header: str
) -> None:
    parent = remote_parent({"traceparent": header})
    assert parent is not None
    tracer.finished(ended(1, context=RequestContext("tiny", parent=parent)))
    assert ring.newest()[0][0].parent is None
    assert remote_parent({}) is None


def test_the_ring_keeps_the_newest_traces(ring: TraceRing, tracer: RequestTracer) -> None:
    for request_id in range(1, 6):
        tracer.finished(ended(request_id))

    def identifiers(traces: list[Trace]) -> list[Any]:
        return [(trace[0].attributes or {})["request_id"] for trace in traces]

    assert identifiers(ring.newest()) == [3, 4, 5]
    assert identifiers(ring.newest(2)) == [4, 5]
    assert identifiers(ring.newest(0)) == []
    assert identifiers(ring.newest(99)) == [3, 4, 5]
    assert identifiers(ring.newest(1, clear=True)) == [5]
    assert ring.newest() == []


def spans(ring: TraceRing) -> list[ReadableSpan]:
    return [span for trace in ring.newest() for span in trace]


def test_the_documented_json_has_the_document_s_keys_and_values(
    ring: TraceRing, tracer: RequestTracer
) -> None:
    tracer.finished(ended(123, tokens=tuple(range(50)), queue=0.0, prefill=0.5, decode=0.5))
    (resource_spans,) = documented_json(spans(ring))["resource_spans"]
    assert resource_spans["resource"] == {
        "attributes": [{"key": "service.name", "value": {"stringValue": "rocmforge"}}]
    }
    (scope_spans,) = resource_spans["scope_spans"]
    assert scope_spans["scope"] == {"name": "rocmforge.engine"}
    root, queue = scope_spans["spans"][:2]
    assert list(root) == [
        "trace_id",
        "span_id",
        "parent_span_id",
        "name",
        "kind",
        "start_time_unix_nano",
        "end_time_unix_nano",
        "attributes",
        "status",
    ]
    assert len(base64.b64decode(root["trace_id"])) == 16
    assert len(base64.b64decode(root["span_id"])) == 8
    assert root["parent_span_id"] == ""
    assert queue["parent_span_id"] == root["span_id"]
    assert (root["name"], root["kind"], root["status"]) == ("inference_request", 2, {"status": 1})
    assert root["start_time_unix_nano"] == 1705689600000000000
    assert root["end_time_unix_nano"] == 1705689601000000000
    assert root["attributes"][:2] == [
        {"key": "request_id", "value": {"intValue": "123"}},
        {"key": "token_count", "value": {"intValue": "50"}},
    ]


def test_otlp_has_hex_ids_and_camel_case(ring: TraceRing, tracer: RequestTracer) -> None:
    tracer.finished(ended())
    (resource_spans,) = otlp_json(spans(ring))["resourceSpans"]
    root = resource_spans["scopeSpans"][0]["spans"][0]
    assert root["traceId"] == f"{int(root['traceId'], 16):032x}"
    assert root["status"] == {"code": 1}
    assert root["startTimeUnixNano"] == str(SUBMITTED)


def test_no_traces_are_an_empty_list_in_both_forms() -> None:
    assert documented_json([]) == {"resource_spans": []}
    assert otlp_json([]) == {"resourceSpans": []}
