"""Pages of browsers: those of allowed origins are answered, the others are refused."""

import pytest
import requests

from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.waiting import SECONDS

PAGE = "https://chat.example"
OTHER = "https://evil.example"
ALLOWED = f"{PAGE}, http://localhost:3000"
BODY = b'{"prompt": "hello", "max_tokens": 1}'


def send(serving: Serving, origin: str, method: str = "POST", **headers: str) -> requests.Response:
    return requests.request(
        method,
        f"{serving.url}/generate",
        data=BODY,
        headers={"Origin": origin, **headers},
        timeout=SECONDS,
    )


def test_by_default_every_page_is_allowed(serving: Serving) -> None:
    answer = send(serving, OTHER, **{"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Request-Handle" in answer.headers["Access-Control-Expose-Headers"]


def test_an_allowed_page_is_answered_by_its_name(serve: Serve) -> None:
    serving = serve(allowed_origins=ALLOWED)
    for origin in (PAGE, "http://localhost:3000"):
        answer = send(serving, origin, **{"Content-Type": "application/json"})
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert "Origin" in answer.headers["Vary"]
        assert send(serving, origin, "OPTIONS").headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("origin", [OTHER, "null", "http://chat.example", f"{PAGE}.evil.example"])
@pytest.mark.parametrize("method", ["POST", "OPTIONS", "GET"])
def test_other_pages_are_refused_before_anything_happens(
    serve: Serve, origin: str, method: str
) -> None:
    serving = serve(allowed_origins=ALLOWED)
    answer = send(serving, origin, method, **{"Content-Type": "application/json"})
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "X-Request-Id" in answer.headers
    assert serving.model.engine.statistics().started == 0


def test_the_server_s_own_page_and_programs_are_no_other_origin(serve: Serve) -> None:
    serving = serve(allowed_origins="")
    assert send(serving, serving.url).status_code == 200
    assert serving.generate(max_tokens=1).status_code == 200
    assert send(serving, OTHER).status_code == 403


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_foreign_page_must_declare_json_so_that_its_browser_asks_first(
    serving: Serving, kind: str | None
) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = send(serving, OTHER, **headers)
    assert answer.status_code == 415
    assert serving.model.engine.statistics().started == 0
