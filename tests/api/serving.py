"""A tiny model served for a test, with a hold on its engine's steps."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from api.served_models import ServedModel
from api.server import Server
from api.services import Services
from tests.held_session import HeldSession
from tests.waiting import SECONDS


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

    @contextmanager
    def awaiting_aborts(self, count: int) -> Iterator[None]:
        """Ends when, since it began, the engine has been told so often to abort a request."""
        engine, told = self.model.engine, threading.Semaphore(0)
        abort = engine.abort

        def tell(request_id: int) -> None:
            abort(request_id)
            told.release()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "abort", tell)
            yield
            for _ in range(count):
                assert told.acquire(timeout=SECONDS), "no request was aborted"
