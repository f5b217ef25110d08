"""HTTP semantics of every route: HEAD, slashes, compressed bodies, names of errors."""

import gzip
import json
import zlib
from typing import Any

import falcon.inspect
import pytest
import requests

from api.app import create_app
from api.services import Services
from runtime.settings import Settings
from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.waiting import SECONDS

JSON = {"Content-Type": "application/json"}
REQUEST = {"prompt": "hello", "max_tokens": 1, "temperature": 0}
PARAMETERS = {
    "{request_id}": "1",
    "/page/{name}": "/page/page.css",
    "{name:path}": "tiny",
    "{name}": "resp_1",
}
STREAM = "/streams/{handle}"
"""The answer without a length."""


def paths_of_get() -> list[str]:
    """Every route of the application that answers GET, but that of a stream."""
    app = create_app(Services(settings=Settings()))
    routes = falcon.inspect.inspect_routes(app)
    found = [
        route.path
        for route in routes
        if any(method.method == "GET" and not method.internal for method in route.methods)
        if route.path != STREAM
    ]
    for name, value in PARAMETERS.items():
        found = [path.replace(name, value) for path in found]
    return found


@pytest.mark.parametrize("path", paths_of_get())
def test_head_answers_as_get_does_without_a_body(serving: Serving, path: str) -> None:
    assert serving.generate(max_tokens=1).ok
    serving.services.responses.add("resp_1", {"id": "resp_1"}, (), 0)
    with requests.Session() as session:
        answered = session.head(serving.url + path, timeout=SECONDS)
        got = session.get(serving.url + path, timeout=SECONDS)
        options = session.options(serving.url + path, timeout=SECONDS)
    assert answered.status_code == got.status_code == 200
    assert answered.content == b""
    assert answered.headers["Content-Type"] == got.headers["Content-Type"]
    assert int(answered.headers["Content-Length"]) > 0
    assert options.status_code == 200
    assert {"GET", "HEAD"} <= set(options.headers["Allow"].split(", "))


def test_head_of_what_is_not_there_is_404_and_of_a_post_405(serving: Serving) -> None:
    assert requests.head(serving.url + "/nothing", timeout=SECONDS).status_code == 404
    assert requests.head(serving.url + "/generate", timeout=SECONDS).status_code == 405


def test_head_clears_no_traces(serving: Serving) -> None:
    assert serving.generate(max_tokens=1).ok
    before = serving.get("/traces").content
    assert requests.head(serving.url + "/traces?clear=true", timeout=SECONDS).ok
    assert serving.get("/traces").content == before


@pytest.mark.parametrize("path", ["/v1/models/", "//v1/models", "//v1/models/"])
def test_slashes_too_many_at_the_ends_are_passed_over(serving: Serving, path: str) -> None:
    answer = serving.get(path)
    assert answer.status_code == 200
    assert [model["id"] for model in answer.json()["data"]] == ["tiny"]
    assert serving.get("/health/").ok


def test_a_model_without_a_name_is_the_one_that_is_served(serving: Serving) -> None:
    answer = serving.post("/v1/completions", json={**REQUEST, "model": ""})
    assert (answer.status_code, answer.json()["model"]) == (200, "tiny")


def text_of(answer: requests.Response) -> Any:
    assert answer.status_code == 200
    return answer.json()["text"]


def test_a_body_may_be_packed_with_gzip(serving: Serving) -> None:
    body = json.dumps(REQUEST).encode()
    plain = text_of(serving.post("/generate", data=body, headers=JSON))
    for encoding in ("gzip", "GZip", "x-gzip"):
        headers = {**JSON, "Content-Encoding": encoding}
        assert (
            text_of(serving.post("/generate", data=gzip.compress(body), headers=headers)) == plain
        )
    headers = {**JSON, "Content-Encoding": "identity"}
    assert text_of(serving.post("/generate", data=body, headers=headers)) == plain


def test_a_gzip_that_holds_too_much_is_413_and_never_unpacked(serve: Serve) -> None:
    serving = serve(max_body_bytes=1_000_000)
    bomb = gzip.compress(b" " * 100_000_000)
    answer = serving.post("/generate", data=bomb, headers={**JSON, "Content-Encoding": "gzip"})
    assert len(bomb) < 200_000
    assert (answer.status_code, answer.json()["status"]) == (413, "error")


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(REQUEST).encode(),
        gzip.compress(json.dumps(REQUEST).encode(), mtime=0)[:-9],
        gzip.compress(json.dumps(REQUEST).encode(), mtime=0) + b"x",
        gzip.compress(b"{}", mtime=0) * 2,
        b"\x1f\x8b",
    ],
)
def test_what_is_not_one_whole_gzip_is_400(serving: Serving, body: bytes) -> None:
    answer = serving.post("/generate", data=body, headers={**JSON, "Content-Encoding": "gzip"})
    assert answer.status_code == 400
    assert "gzip" in answer.json()["error"]


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "utf-8", "x"])
def test_another_packing_is_415_and_says_which_is_read(serving: Serving, encoding: str) -> None:
    body = zlib.compress(json.dumps(REQUEST).encode())
    headers = {**JSON, "Content-Encoding": encoding}
    answer = serving.post("/v1/completions", data=body, headers=headers)
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"
    assert answer.headers["Accept-Encoding"] == "gzip, identity"


def test_a_byte_order_mark_is_read(serving: Serving) -> None:
    body = "\ufeff" + json.dumps(REQUEST)
    assert serving.post("/generate", data=body.encode(), headers=JSON).status_code == 200


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_other_unicode_is_415_with_a_sentence(serving: Serving, encoding: str) -> None:
    body = json.dumps(REQUEST).encode(encoding)
    for headers in (JSON, {"Content-Type": f"application/json; charset={encoding}"}):
        answer = serving.post("/generate", data=body, headers=headers)
        assert (answer.status_code, "UTF-8" in answer.json()["error"]) == (415, True)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf8"', "us-ascii"])
def test_utf8_may_be_named(serving: Serving, charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    assert serving.post("/generate", data=json.dumps(REQUEST), headers=headers).ok


def test_a_zero_character_is_text_as_any_other(serving: Serving) -> None:
    assert serving.generate("a\0b", max_tokens=1).status_code == 200


@pytest.mark.parametrize("depth", [65, 500, 600, 950, 2_000, 20_000])
@pytest.mark.parametrize("name", ["chat_template_kwargs", "logit_bias", "anything"])
def test_deep_nesting_is_400_at_any_depth(serving: Serving, name: str, depth: int) -> None:
    deep = f'{{"x": {"[" * depth}{"]" * depth}}}'
    body = (
        f'{{"messages": [{{"role": "user", "content": "a"}}], "max_tokens": 1, "{name}": {deep}}}'
    )
    answer = serving.post("/v1/chat/completions", data=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
