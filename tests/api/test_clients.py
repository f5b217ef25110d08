"""The two clients of the API document, taken from its text and run as they stand."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.api.document import code_blocks
from tests.api.serving import SECONDS, Serving

USAGE = {"python": "# Usage example", "javascript": "// Usage example"}


def client_source(language: str) -> str:
    """The document's client class, without the lines that use it."""
    source = next(block for block in code_blocks(language) if "class ROCmForgeClient" in block)
    return source[: source.index(USAGE[language])]


def test_the_python_client_works(serving: Serving) -> None:
    names: dict[str, Any] = {}
    exec(client_source("python"), names)
    client = names["ROCmForgeClient"](serving.url)

    answer = client.generate("hello", max_tokens=6, temperature=0)
    assert len(answer["tokens"]) == 6
    events = list(client.generate_stream("hello", max_tokens=6, temperature=0))
    assert "".join(event["text"] for event in events) == answer["text"]
    assert [event["finished"] for event in events] == [False] * 5 + [True]
    assert client.get_status(answer["request_id"]) == answer
    assert client.cancel(answer["request_id"]) == answer
    assert client.health()["status"] == "healthy"
    assert client.ready() is True
    assert client.models()["models"] == []


def test_the_python_streaming_example_works(
    serving: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    example = next(block for block in code_blocks("python") if "for line in response" in block)
    exec(example.replace("http://localhost:8080", serving.url), {})
    assert "Finish reason: length" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("node") is None, reason="runs the JavaScript client with node")
def test_the_javascript_client_works(serving: Serving) -> None:
    usage = """
    const client = new ROCmForgeClient(process.argv[1]);
    (async () => {
      const options = { maxTokens: 6, topK: 1 };
      const answer = await client.generate('hello', options);
      const events = [];
      for await (const event of client.generateStream('hello', options)) events.push(event);
      console.log(JSON.stringify({
        answer,
        events,
        status: await client.getStatus(answer.request_id),
        cancelled: await client.cancel(answer.request_id),
        health: await client.health(),
        ready: await client.ready(),
        models: await client.models(),
      }));
    })();
    """
    ran = subprocess.run(
        ["node", "-e", client_source("javascript") + usage, serving.url],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    answer = found["answer"]
    assert len(answer["tokens"]) == 6
    assert [event["token"] for event in found["events"]] == answer["tokens"]
    assert "".join(event["text"] for event in found["events"]) == answer["text"]
    assert found["status"] == found["cancelled"] == answer
    assert found["health"]["status"] == "healthy"
    assert found["ready"] is True
    assert found["models"]["models"] == []
