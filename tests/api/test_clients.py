"""The two clients of the API document, taken from its text and run unchanged."""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.api.document import code_blocks
from tests.api.serving import Serving
from tests.waiting import SECONDS

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


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")


def run_javascript(usage: str, url: str) -> Any:
    """What the document's JavaScript client gives in `usage`, which logs it as JSON."""
    ran = subprocess.run(
        ["node", "-e", client_source("javascript") + usage, url],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@needs_node
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
    found = run_javascript(usage, serving.url)
    answer = found["answer"]
    assert len(answer["tokens"]) == 6
    assert [event["token"] for event in found["events"]] == answer["tokens"]
    assert "".join(event["text"] for event in found["events"]) == answer["text"]
    assert found["status"] == found["cancelled"] == answer
    assert found["health"]["status"] == "healthy"
    assert found["ready"] is True
    assert found["models"]["models"] == []


@needs_node
def test_the_javascript_client_sends_a_zero_as_zero(serving: Serving) -> None:
    usage = """
    const client = new ROCmForgeClient(process.argv[1]);
    (async () => {
      const options = { maxTokens: 6, temperature: 0 };
      const answers = [];
      for (let i = 0; i < 4; i++) answers.push((await client.generate('hello', options)).text);
      console.log(JSON.stringify(answers));
    })();
    """
    greedy = serving.generate("hello", max_tokens=6, temperature=0).json()["text"]
    assert run_javascript(usage, serving.url) == [greedy] * 4


@needs_node
def test_the_javascript_client_reads_events_that_arrive_in_pieces(serving: Serving) -> None:
    usage = """
    const client = new ROCmForgeClient(process.argv[1]);
    (async () => {
      const tokens = [];
      const options = { maxTokens: 6, topK: 1 };
      for await (const event of client.generateStream('hello', options)) tokens.push(event.token);
      console.log(JSON.stringify(tokens));
    })();
    """
    tokens = serving.generate("hello", max_tokens=6, temperature=0).json()["tokens"]
    with cutting_proxy(serving.server.port, pieces_of=7) as url:
        assert run_javascript(usage, url) == tokens


@contextmanager
def cutting_proxy(port: int, *, pieces_of: int) -> Iterator[str]:
    """The address of a proxy that forwards a server's output in pieces of this many bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def hand_on() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port), SECONDS) as server:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.sendall(client.recv(65536))
            while piece := server.recv(pieces_of):
                client.sendall(piece)

    thread = threading.Thread(target=hand_on)
    thread.start()
    try:
        with listener:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(SECONDS)
