"""Two servers behind nginx as deploy/nginx configures it."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.live.nginx import needs_nginx, nginx
from tests.waiting import SECONDS, eventually

pytestmark = needs_nginx
BODY: dict[str, Any] = {"prompt": "hello", "max_tokens": 3, "temperature": 0}
SESSIONS = [{"X-Session-Id": f"session {number}"} for number in range(20)]


@pytest.fixture
def servers(serve: Serve) -> tuple[Serving, Serving]:
    return serve(), serve()


@pytest.fixture
def url(servers: tuple[Serving, Serving], tmp_path: Path) -> Iterator[str]:
    ports = [each.server.port for each in servers]
    with nginx(tmp_path / "nginx", ports) as address:
        yield address


def ask(url: str, headers: dict[str, str], **fields: Any) -> requests.Response:
    body = {**BODY, **fields}
    return requests.post(f"{url}/v1/completions", json=body, headers=headers, timeout=SECONDS)


def started(serving: Serving) -> int:
    return serving.model.engine.statistics().started


def test_a_session_stays_with_a_server_and_sessions_are_spread(
    url: str, servers: tuple[Serving, Serving]
) -> None:
    homes = []
    for session in SESSIONS:
        before = started(servers[0])
        for _ in range(3):
            assert ask(url, session).ok
        homes.append(started(servers[0]) - before)
    assert set(homes) == {0, 3}


def test_without_a_session_the_api_key_decides(url: str, servers: tuple[Serving, Serving]) -> None:
    for number in range(20):
        key = {"Authorization": f"Bearer key {number}"}
        before = started(servers[0])
        assert ask(url, key).ok
        assert ask(url, key).ok
        assert started(servers[0]) - before in (0, 2)
    assert all(started(each) for each in servers)


def test_tokens_of_a_stream_pass_as_they_come(url: str, servers: tuple[Serving, Serving]) -> None:
    for serving in servers:
        serving.session.allow(1)
    with requests.post(
        f"{url}/generate/stream", json={**BODY, "max_tokens": 2}, stream=True, timeout=SECONDS
    ) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith(b"data: "))
        first = json.loads(next(lines).removeprefix(b"data: "))
        assert first["token"] is not None
        for serving in servers:  # it had no more than a token to show
            serving.session.let_go()
        assert list(lines)


def test_a_server_that_drains_gets_no_requests_and_the_other_answers_them(
    url: str, servers: tuple[Serving, Serving]
) -> None:
    servers[0].services.draining.set()
    assert servers[0].get("/ready").status_code == 503
    for session in SESSIONS:
        assert ask(url, session).ok
    assert started(servers[0]) == 0
    servers[0].services.draining.clear()
    for session in SESSIONS:
        assert ask(url, session).ok
    assert started(servers[0]) > 0


def test_a_server_that_is_gone_is_not_missed(url: str, servers: tuple[Serving, Serving]) -> None:
    servers[0].server.close()
    for session in SESSIONS:
        assert ask(url, session).ok
    assert started(servers[1]) == len(SESSIONS)


def test_where_every_server_drains_clients_see_their_answer(
    url: str, servers: tuple[Serving, Serving]
) -> None:
    for serving in servers:
        serving.services.draining.set()
    answer = ask(url, SESSIONS[0])
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert "shutting down" in answer.json()["error"]["message"]


def test_without_any_server_the_error_is_json(url: str, servers: tuple[Serving, Serving]) -> None:
    for serving in servers:
        serving.server.close()
    answer = ask(url, SESSIONS[0])
    assert (answer.status_code, answer.headers["Retry-After"]) == (502, "1")
    assert answer.json()["error"]["code"] == "bad_gateway"


def test_a_full_server_s_requests_go_to_the_other(serve: Serve, tmp_path: Path) -> None:
    servers = [serve(max_batch_size=1, max_queue_length=1) for _ in range(2)]
    with nginx(tmp_path / "nginx", [each.server.port for each in servers]) as url:
        full = servers[0]
        full.session.hold()
        clients = [
            threading.Thread(target=full.generate, kwargs={"max_tokens": 1}) for _ in range(2)
        ]
        for client in clients:
            client.start()
        full.session.wait_for_step()
        eventually(lambda: started(full) == 2)
        for session in SESSIONS:
            assert ask(url, session).ok
        assert started(servers[1]) == len(SESSIONS)
        full.session.let_go()
        for client in clients:
            client.join()


def test_what_belongs_to_one_server_is_not_shown(url: str) -> None:
    for path in ("/metrics", "/requests", "/traces"):
        assert requests.get(url + path, timeout=SECONDS).status_code == 404
