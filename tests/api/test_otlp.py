"""Traces and metrics pushed by OTLP: what a collector gets, and by which variables."""

import gzip
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from threading import Thread
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from api.services import Services
from api.telemetry.gen_ai_metrics import GenAIMetrics
from api.telemetry.otlp import EXPORTER
from api.telemetry.request_context import RequestContext
from runtime.errors import SettingsError
from runtime.generation import FinishReason
from runtime.settings import Settings
from tests.api.conftest import Serve
from tests.api.generations import ended

is_installed = bool(entry_points(group="opentelemetry_traces_exporter", name=EXPORTER))
pushes = pytest.mark.skipif(not is_installed, reason="pushes with the package of rocmforge[otlp]")

CHAT = {"messages": [{"role": "user", "content": "hello secret"}], "max_tokens": 3}


class Collector:
    """An OTLP collector, with the address and the bodies of what it got."""

    def __init__(self) -> None:
        self.got: dict[str, list[Any]] = {"/v1/traces": [], "/v1/metrics": []}
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers.append(dict(self.headers))
                collector.got[self.path].append(json.loads(body))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for body in self.got["/v1/traces"]
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    @property
    def metrics(self) -> set[str]:
        return {
            metric["name"]
            for body in self.got["/v1/metrics"]
            for resource in body["resourceMetrics"]
            for scope in resource["scopeMetrics"]
            for metric in scope["metrics"]
        }


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the OTEL_* variables name."""
    found = Collector()
    thread = Thread(target=found.server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=forge")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chat-servers")
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pushes
def test_a_collector_gets_traces_and_metrics_without_any_text(
    serve: Serve, collector: Collector
) -> None:
    serving = serve(otlp=True)
    assert serving.post("/v1/chat/completions", json=CHAT).status_code == 200
    serving.services.close()
    assert {span["name"] for span in collector.spans} == {
        "inference_request",
        "queue",
        "prefill",
        "decode",
    }
    assert collector.metrics == {
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
        "gen_ai.client.token.usage",
    }
    (trace,) = serving.services.traces.newest()
    assert trace[0].context is not None
    assert {span["traceId"] for span in collector.spans} == {f"{trace[0].context.trace_id:032x}"}
    (body, *_) = collector.got["/v1/traces"]
    service = {"key": "service.name", "value": {"stringValue": "chat-servers"}}
    assert service in body["resourceSpans"][0]["resource"]["attributes"]
    assert all(headers.get("x-tenant") == "forge" for headers in collector.headers)
    assert "secret" not in json.dumps(collector.got)


@pushes
def test_without_the_setting_nothing_is_pushed(serve: Serve, collector: Collector) -> None:
    serving = serve()
    serving.generate(max_tokens=1)
    serving.services.close()
    assert collector.headers == []


def test_a_missing_exporter_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.telemetry.otlp.EXPORTER", "absent")
    with pytest.raises(SettingsError, match="opentelemetry-exporter-otlp-json-http"):
        Services(settings=msgspec.structs.replace(settings, otlp=True))


def test_metrics_have_the_names_units_and_labels_of_the_conventions() -> None:
    reader = InMemoryMetricReader()
    metrics = GenAIMetrics(reader, Resource({}))
    context = RequestContext("tiny", operation="chat")
    metrics.finished(ended(context=context, queue=0.5, prefill=0.25, decode=2.0))
    metrics.finished(ended(context=context, reason=FinishReason.FAILED, queue=None, tokens=()))
    data = reader.get_metrics_data()
    assert data is not None
    found = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    labels = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "rocmforge",
        "gen_ai.request.model": "tiny",
    }

    def points(name: str) -> list[tuple[dict[str, Any], int, float]]:
        return [
            (dict(point.attributes), point.count, point.sum)  # type: ignore[arg-type,union-attr]
            for point in found[name].data.data_points
        ]

    assert points("gen_ai.server.request.duration") == [
        (labels, 1, 2.75),
        (labels | {"error.type": "failed"}, 1, 2.0),
    ]
    assert points("gen_ai.server.time_to_first_token") == [(labels, 1, 0.75)]
    assert points("gen_ai.server.time_per_output_token") == [(labels, 1, 2.0)]
    assert points("gen_ai.client.token.usage") == [
        (labels | {"gen_ai.token.type": "input"}, 2, 6),
        (labels | {"gen_ai.token.type": "output"}, 1, 2),
    ]
    assert {found[name].unit for name in found} == {"s", "{token}"}
    metrics.close()
