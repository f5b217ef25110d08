"""A client that disconnects while its prompt is tokenized: work for it stops."""

import json
from collections.abc import Callable

import pytest
from falcon.testing import TestClient

from api.app import create_app
from api.client import WATCH_CLIENT
from tests.api.serving import Serving


def gone(callback: Callable[[], None]) -> None:
    """WATCH_CLIENT of a client that has already disconnected."""
    callback()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"prompt": "hello"}),
        ("/v1/completions", {"prompt": "hello", "stream": True}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
    ],
)
def test_nothing_is_generated_for_a_client_that_has_gone(
    serving: Serving, path: str, body: dict[str, object]
) -> None:
    client = TestClient(create_app(serving.services))
    headers = {"Content-Type": "application/json"}
    result = client.simulate_post(
        path, body=json.dumps(body), headers=headers, extras={WATCH_CLIENT: gone}
    )
    assert result.status_code == 499
    assert serving.session.steps == 0
    assert serving.services.slots.in_use == 0
    result = client.simulate_post(path, body=json.dumps(body), headers=headers)
    assert result.status_code == 200
