"""The files of the page, as they are sent."""

import pytest

from tests.api.conftest import Serve
from tests.api.serving import Serving


def test_the_page_allows_nothing_but_its_own_files(serving: Serving) -> None:
    response = serving.get("/")
    assert response.headers["Content-Type"].startswith("text/html")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    for outside in ("http:", "https:", " style=", " onclick=", "<script>"):
        assert outside not in response.text


@pytest.mark.parametrize(
    ("name", "kind"), [("main.js", "text/javascript"), ("page.css", "text/css")]
)
def test_files_have_their_types(serving: Serving, name: str, kind: str) -> None:
    response = serving.get(f"/page/{name}")
    assert response.headers["Content-Type"].startswith(kind)


@pytest.mark.parametrize("name", ["nothing.js", "../resources.py", "%2e%2e%2fresources.py"])
def test_there_are_no_other_files(serving: Serving, name: str) -> None:
    assert serving.get(f"/page/{name}").status_code == 404


def test_the_page_is_there_before_a_key_is_given(serve: Serve) -> None:
    serving = serve(api_keys="me=a-key-for-this-test-alone")
    assert serving.get("/").status_code == 200
    assert serving.get("/page/main.js").status_code == 200
