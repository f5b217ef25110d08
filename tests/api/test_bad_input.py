"""Every wrong request gets the error body of its dialect, and the server lives on."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.waiting import SECONDS

ROUTES = ["/generate", "/generate/stream", "/v1/completions"]


def check_error(response: requests.Response, status: int) -> None:
    """The error body is exactly the document's or, under /v1, OpenAI's."""
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["X-Request-Id"]
    openai = (urlsplit(response.url).path + "/").startswith("/v1/")
    check_error_body(response.json(), openai=openai, server_error=status >= 500)


def check_error_body(body: dict[str, Any], *, openai: bool, server_error: bool) -> None:
    if openai:
        assert list(body) == ["error"]
        error = body["error"]
        assert list(error) == ["message", "type", "param", "code"]
        assert error["message"]
        assert error["type"] == ("server_error" if server_error else "invalid_request_error")
    else:
        assert list(body) == ["error", "status"]
        assert body["status"] == "error"
        assert isinstance(body["error"], str)
        assert body["error"]


@pytest.fixture(scope="module")
def bodies() -> list[bytes]:
    """Bodies that are refused, one of each kind; test_schemas has the rest."""
    return [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"prompt": 5}',
        b'{"prompt": "a", "max_tokens": true}',
        b'{"prompt": "a", "max_tokens": -2}',
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": Infinity}',
        b'{"prompt": "a", "temperature": 2.5}',
        b'{"prompt": "a", "top_k": -2}',
        b'{"prompt": "a", "top_p": -1}',
        b'{"prompt": "a", "seed": 0.5}',
        b'{"prompt": "\xff"}',
        rb'{"prompt": "\ud800"}',
        b'{"prompt": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ]


@pytest.mark.parametrize("route", ROUTES)
def test_a_wrong_body_is_400(serving: Serving, bodies: list[bytes], route: str) -> None:
    for body in bodies:
        headers = {"Content-Type": "application/json"}
        check_error(serving.post(route, data=body, headers=headers), 400)
    assert serving.generate(max_tokens=1).status_code == 200
    assert serving.model.engine.statistics().started == 1


@pytest.mark.parametrize("route", ROUTES)
def test_another_media_type_is_415(serving: Serving, route: str) -> None:
    body = json.dumps({"prompt": "hello"})
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        headers = {"Content-Type": media_type}
        check_error(serving.post(route, data=body, headers=headers), 415)


def test_json_may_come_with_a_charset_or_without_a_media_type(serving: Serving) -> None:
    body = json.dumps({"prompt": "hello", "max_tokens": 1}).encode()
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert serving.post("/generate", data=body, headers=headers).status_code == 200
    assert serving.post("/generate", data=body).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("times", [2, 100])
def test_a_body_over_the_limit_is_413(serve: Serve, route: str, times: int) -> None:
    serving = serve(max_body_bytes=1000)
    body = json.dumps({"prompt": "x" * 1000 * times})
    headers = {"Content-Type": "application/json"}
    response = serving.post(route, data=body, headers=headers)
    assert response.status_code == 413
    check_error_body(response.json(), openai=route.startswith("/v1"), server_error=False)


def test_a_chunked_body_is_read_and_limited(serve: Serve) -> None:
    serving = serve(max_body_bytes=1000)
    headers = {"Content-Type": "application/json"}
    small = iter([b'{"prompt": "hel', b'lo", "max_tokens": 1}'])
    assert serving.post("/generate", data=small, headers=headers).status_code == 200
    large = iter([b'{"prompt": "', b"x" * 2000, b'"}'])
    check_error(serving.post("/generate", data=large, headers=headers), 413)


@pytest.mark.parametrize(
    "path", ["/nothing", "/status", "/v10", "/v1", "/v1/", "/v1//models", "/v1/images"]
)
def test_an_unknown_path_is_404(serving: Serving, path: str) -> None:
    check_error(serving.get(path), 404)


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/v1/models", "/chat/completions"])
def test_a_client_of_openai_is_told_which_routes_there_are(serving: Serving, path: str) -> None:
    answer = serving.post(path, json={})
    check_error(answer, 404)
    assert (
        "/v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings and /v1/models"
        in answer.text
    )
    assert "/v1/chat/completions" not in serving.get("/nothing").text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/generate", "POST"),
        ("PUT", "/generate/stream", "POST"),
        ("POST", "/health", "GET"),
        ("GET", "/cancel/1", "POST"),
        ("DELETE", "/status/1", "GET"),
        ("POST", "/metrics", "GET"),
        ("GET", "/v1/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/tiny", "GET"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_right(
    serving: Serving, method: str, path: str, allowed: str
) -> None:
    response = requests.request(method, serving.url + path, timeout=SECONDS)
    check_error(response, 405)
    assert allowed in response.headers["Allow"]


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "limit=1.5", "limit=", "clear=yes", "clear=1", "clear=", "format=xml"],
)
def test_a_wrong_query_of_traces_is_400(serving: Serving, query: str) -> None:
    check_error(serving.get(f"/traces?{query}"), 400)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 262_144, 431),
    ],
)
def test_what_the_http_server_itself_refuses_is_json_too(
    serving: Serving, request_bytes: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", serving.server.port), SECONDS) as connection:
        connection.sendall(request_bytes)
        answer = connection.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status) or head.startswith(b"HTTP/1.0 %d " % status)
    openai = b"/v1" in request_bytes
    check_error_body(json.loads(body), openai=openai, server_error=status >= 500)


def test_a_bug_is_500_and_gives_nothing_away(serve: Serve) -> None:
    serving = serve()

    def broken() -> list[object]:
        raise ZeroDivisionError("a secret")

    object.__setattr__(serving.services, "models", broken)
    response = serving.get("/models")
    check_error(response, 500)
    assert "secret" not in response.text
    assert serving.get("/health").status_code == 200


def test_a_bug_under_v1_is_500_in_openai_s_words(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str) -> list[int]:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(type(serving.model.tokenizer), "encode", broken)
    response = serving.post("/v1/completions", json={"prompt": "hello"})
    check_error(response, 500)
    assert "secret" not in response.text
    assert serving.services.slots.in_use == 0
