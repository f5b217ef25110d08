"""Requests from public bug reports, sent to a server of the sample model."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live.server import LiveServer, live_server, options_of
from tests.waiting import SECONDS

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "http.json").read_text())
CASES.append(
    {
        "id": "overflow-code",
        "path": "/v1/chat/completions",
        "body": {"messages": [{"role": "user", "content": "word " * 10_000}]},
        "right": {"status": 400, "code": "context_length_exceeded"},
    }
)

pytestmark = [pytest.mark.sample, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(
    sample_model: Path, sample_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("cases")
    with live_server(sample_model, folder, *options_of(16384), home=sample_home) as server:
        yield server


def body_of(case: dict[str, Any]) -> bytes | None:
    if "raw" in case:
        nested = "[" * case.get("nest", 0) + "]" * case.get("nest", 0)
        return bytes(case["raw"].replace('"@NEST@"', nested).encode("utf-8", "surrogatepass"))
    if "body" not in case:
        return None
    body = json.dumps(case["body"]).encode()
    return gzip.compress(body) if case.get("gzip") else body


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_reported_request_is_answered_rightly(server: LiveServer, case: dict[str, Any]) -> None:
    response = requests.request(
        case.get("method", "POST"),
        server.url + case["path"],
        data=body_of(case),
        headers={"Content-Type": "application/json", **case.get("headers", {})},
        timeout=SECONDS,
    )
    right = case["right"]
    if "or_refused" in right and response.status_code == 400:
        assert right["or_refused"] in response.text
        return
    assert response.status_code in right.get("status_in", [right.get("status")]), response.text
    answer = response.json() if response.content else {}
    choice, *others = answer.get("choices") or [{}]
    assert len(others) + 1 == right.get("choices", 1)
    message = choice.get("message") or {}
    text = choice.get("text", message.get("content"))
    assert text in right.get("text_in", [text])
    assert "text_not" not in right or text != right["text_not"]
    for name, found in {
        "code": (answer.get("error") or {}).get("code"),
        "text": text,
        "finish_reason": choice.get("finish_reason"),
        "prompt_tokens": (answer.get("usage") or {}).get("prompt_tokens"),
    }.items():
        assert found == right.get(name, found)
    if "message_has_not" in right:
        assert right["message_has_not"] not in response.text
