"""A tiny model served for a test, with a hold on its engine's steps."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from api.holder import ServedModel
from api.server import Server
from api.services import Services
from runtime.engine_core import StepRunner
from runtime.manifest import Manifest
from runtime.sampler import Logits
from runtime.step import StepInputs

SECONDS = 30.0
"""Longest that anything in a test may take; nothing waits so long that works."""


class HeldSession:
    """A session whose steps wait while the test holds them."""

    def __init__(self, session: StepRunner) -> None:
        self._session = session
        self._changed = threading.Condition()
        self._allowed = math.inf
        self.steps = 0
        """Steps that were computed."""
        self.broken = False
        """Whether steps fail."""

    @property
    def manifest(self) -> Manifest:
        return self._session.manifest

    @property
    def page_count(self) -> int:
        return self._session.page_count

    def step(self, inputs: StepInputs) -> Logits:
        with self._changed:
            self._changed.wait_for(lambda: self._allowed > 0, SECONDS)
            self._allowed -= 1
        if self.broken:
            raise RuntimeError("broken by the test")
        self.steps += 1
        return self._session.step(inputs)

    def hold(self) -> None:
        """From now on steps wait, but for one that runs already."""
        self.allow(0)

    def allow(self, steps: float) -> None:
        """Let so many steps through, then hold."""
        with self._changed:
            self._allowed = steps
            self._changed.notify()

    def let_go(self) -> None:
        """Let every step through."""
        self.allow(math.inf)


@dataclass(frozen=True)
class Serving:
    """A running server, its parts, and requests to it."""

    server: Server
    services: Services
    model: ServedModel
    session: HeldSession

    @property
    def url(self) -> str:
        return self.server.url

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=SECONDS, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(self.url + path, timeout=SECONDS, **options)

    def generate(self, prompt: str = "hello", **fields: Any) -> requests.Response:
        return self.post("/generate", json={"prompt": prompt, **fields})

    def stream(self, prompt: str = "hello", **fields: Any) -> requests.Response:
        return self.post("/generate/stream", json={"prompt": prompt, **fields}, stream=True)

    def pages_used(self) -> int:
        return self.model.engine.statistics().pages_used


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
