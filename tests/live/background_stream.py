"""A greedy stream beside other traffic: its text must be the one it has alone."""

import json
import threading
from typing import Any

import requests

from tests.live.server import LiveServer
from tests.waiting import SECONDS

PROMPT = "hello the world and"


def streamed(
    server: LiveServer, max_tokens: int, prompt: str = PROMPT
) -> tuple[str, tuple[int, ...]]:
    """Text and tokens of one greedy stream, to its end."""
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
    text, tokens = "", []
    with requests.post(
        f"{server.url}/generate/stream", json=body, stream=True, timeout=SECONDS
    ) as answer:
        if answer.status_code != 200:
            raise AssertionError(f"the stream was refused: {answer.status_code} {answer.text}")
        for line in answer.iter_lines():
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line.removeprefix(b"data: "))
            text += event["text"]
            if event["token"] is not None:
                tokens.append(event["token"])
    return text, tuple(tokens)


class BackgroundStream:
    """Streams the same prompt again and again in a thread of its own, until it is stopped.

    Its reference is the first stream, made alone in the constructor. Any thread may look at it.
    """

    def __init__(self, server: LiveServer, max_tokens: int = 60) -> None:
        self._server = server
        self._max_tokens = max_tokens
        self._stopped = threading.Event()
        self._reference = streamed(server, max_tokens)
        self.streams = 0
        """Streams that came whole and right."""
        self.failure: str | None = None
        """What went wrong first."""
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the stream that runs. Raises AssertionError where one was not the first's."""
        self._stopped.set()
        self._thread.join(SECONDS)
        self.expect_unchanged()

    def expect_unchanged(self) -> None:
        """Raise AssertionError where a stream was refused, failed or had another text."""
        if self.failure is not None:
            raise AssertionError(f"the background stream: {self.failure}")

    def _run(self) -> None:
        while not self._stopped.is_set() and self.failure is None:
            try:
                now = streamed(self._server, self._max_tokens)
            except Exception as error:
                self.failure = repr(error)
                return
            if now != self._reference:
                self.failure = f"{now} instead of {self._reference}"
            self.streams += 1
