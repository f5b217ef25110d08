"""Metrics, traces, log lines and headers of real requests."""

import json
import logging

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from api.schemas import DiscoveredModel
from api.telemetry.logs import JsonFormatter
from runtime.tokenizer import CacheStatistics
from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.waiting import SECONDS, eventually


def counts(serving: Serving) -> dict[str, float]:
    text = serving.get("/metrics").text
    return {
        sample.name.removeprefix("rocmforge_"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }


def check_sum(found: dict[str, float]) -> None:
    assert found["requests_started_total"] == (
        found["requests_completed_total"]
        + found["requests_failed_total"]
        + found["requests_cancelled_total"]
        + found["active_requests"]
        + found["queue_length"]
    )


def test_metrics_are_right_after_every_kind_of_end(serving: Serving) -> None:
    assert serving.get("/metrics").headers["Content-Type"].startswith("text/plain")
    serving.generate(max_tokens=3)
    found = counts(serving)
    check_sum(found)
    assert found["requests_completed_total"] == 1
    assert found["tokens_generated_total"] == 3
    assert found["total_duration_seconds_count"] == found["ttft_seconds_count"] == 1

    serving.session.broken = True
    serving.generate()
    serving.session.broken = False
    found = counts(serving)
    check_sum(found)
    assert found["requests_failed_total"] == 1
    assert found["total_duration_seconds_count"] == 2

    serving.session.allow(2)
    stream = serving.stream(max_tokens=100)
    next(stream.iter_lines())
    stream.close()
    serving.session.let_go()
    eventually(lambda: counts(serving)["requests_cancelled_total"] == 1)
    found = counts(serving)
    check_sum(found)
    assert found["requests_started_total"] == 3
    assert found["active_requests"] == found["queue_length"] == 0


def test_traces_are_there_when_the_client_sees_the_end(serving: Serving) -> None:
    assert serving.get("/traces").json() == {"resource_spans": []}
    answer = serving.generate(max_tokens=3).json()
    spans = serving.get("/traces").json()["resource_spans"][0]["scope_spans"][0]["spans"]
    assert [span["name"] for span in spans] == ["inference_request", "queue", "prefill", "decode"]
    assert {span["trace_id"] for span in spans} == {spans[0]["trace_id"]}
    assert spans[0]["attributes"][0]["value"] == {"intValue": str(answer["request_id"])}
    starts = [span["start_time_unix_nano"] for span in spans[1:]]
    assert starts == sorted(starts)


def test_traces_are_limited_and_cleared(serving: Serving) -> None:
    for _ in range(3):
        serving.generate(max_tokens=1)

    def roots(query: str) -> list[str]:
        found = serving.get(f"/traces{query}").json()["resource_spans"]
        return [
            span["attributes"][0]["value"]["intValue"]
            for one in found
            for span in one["scope_spans"][0]["spans"]
            if span["name"] == "inference_request"
        ]

    assert roots("") == ["1", "2", "3"]
    assert roots("?limit=2") == ["2", "3"]
    assert roots("?clear=false") == ["1", "2", "3"]
    assert roots("?clear=true&limit=1") == ["3"]
    assert roots("") == []


def test_traces_come_as_otlp_too(serving: Serving) -> None:
    serving.generate(max_tokens=1)
    found = serving.get("/traces?format=otlp").json()["resourceSpans"]
    assert found[0]["scopeSpans"][0]["spans"][0]["name"] == "inference_request"


def test_the_caller_s_trace_is_continued(serving: Serving) -> None:
    caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    body = {"prompt": "hello", "max_tokens": 5}
    assert serving.post("/generate", json=body, headers={"traceparent": caller}).ok
    (resource_spans,) = serving.get("/traces?format=otlp").json()["resourceSpans"]
    span = resource_spans["scopeSpans"][0]["spans"][0]
    assert (span["traceId"], span["parentSpanId"]) == tuple(caller.split("-")[1:3])


def test_models_and_the_tokenizer_cache_are_listed(serving: Serving) -> None:
    model = DiscoveredModel("/models/tiny.gguf", 123, {"general.architecture": "llama"}, "tiny", 2)
    object.__setattr__(serving.services, "models", lambda: [model])
    object.__setattr__(serving.services, "cache_statistics", lambda: CacheStatistics(42, 1, 1234))
    assert serving.get("/models").json() == {
        "models": [
            {
                "path": "/models/tiny.gguf",
                "size": 123,
                "metadata": {"general.architecture": "llama"},
                "name": "tiny",
                "version": 2,
            }
        ],
        "tokenizer_cache": {"hits": 42, "misses": 1, "bytes": 1234},
    }


@pytest.mark.parametrize(
    "path",
    [
        "/generate",
        "/generate/stream",
        "/status/1",
        "/health",
        "/models",
        "/v1/completions",
        "/v1/models",
    ],
)
def test_every_route_answers_a_preflight(serving: Serving, path: str) -> None:
    headers = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    response = requests.options(serving.url + path, headers=headers, timeout=SECONDS)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    method = "POST" if path.startswith(("/generate", "/v1/completions")) else "GET"
    assert method in response.headers["Access-Control-Allow-Methods"]


def test_the_request_s_name_is_echoed_or_made(serving: Serving) -> None:
    named = serving.get("/health", headers={"X-Request-Id": "abc-1"})
    assert named.headers["X-Request-Id"] == "abc-1"
    assert len(serving.get("/health").headers["X-Request-Id"]) == 32
    for unfit in ("two words", "x" * 200, "é".encode()):
        made = serving.get("/health", headers={"X-Request-Id": unfit})
        assert len(made.headers["X-Request-Id"]) == 32


def log_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [
        json.loads(JsonFormatter().format(record))
        for record in caplog.records
        if record.name == "rocmforge.api.access"
    ]


@pytest.mark.parametrize("route", ["/generate", "/generate/stream", "/v1/completions"])
def test_a_request_is_one_json_line_without_its_prompt(
    serving: Serving, caplog: pytest.LogCaptureFixture, route: str
) -> None:
    caplog.set_level(logging.INFO, "rocmforge")
    body = {"prompt": "hello secret", "max_tokens": 3}
    serving.post(route, json=body, headers={"X-Request-Id": "abc-1"})
    eventually(lambda: len(log_lines(caplog)) == 1)
    (line,) = log_lines(caplog)
    assert (line["method"], line["path"], line["status"]) == ("POST", route, 200)
    assert (line["request_id"], line["x_request_id"]) == (1, "abc-1")
    assert (line["tokens"], line["finish_reason"]) == (3, "length")
    assert line["prompt_tokens"] == len(serving.model.tokenizer.encode("hello secret"))
    for name in ("seconds", "queue_seconds", "prefill_seconds", "decode_seconds"):
        assert isinstance(line[name], float)
    assert "secret" not in json.dumps(line)


def test_prompts_are_logged_where_the_settings_say_so(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rocmforge")
    serve(log_prompts=True).generate("hello secret", max_tokens=1)
    eventually(lambda: len(log_lines(caplog)) == 1)
    assert log_lines(caplog)[0]["prompt"] == "hello secret"


def test_a_refused_request_is_logged_too(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rocmforge")
    serving.get("/nothing")
    eventually(lambda: len(log_lines(caplog)) == 1)
    assert (log_lines(caplog)[0]["path"], log_lines(caplog)[0]["status"]) == ("/nothing", 404)


def test_a_path_that_is_not_utf_8_stays_a_line_of_the_log() -> None:
    record = logging.makeLogRecord({"msg": "%s cannot be read", "args": ("m\udcff.gguf",)})
    assert json.loads(JsonFormatter().format(record))["message"] == "m\udcff.gguf cannot be read"
