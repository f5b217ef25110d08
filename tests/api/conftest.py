"""Servers of the tiny model."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from api.app import create_app
from api.served_models import ServedModel
from api.server import Server
from api.services import Services
from runtime.engine import Engine
from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.api.saying import END, TEMPLATE, Says, saying
from tests.api.serving import Serving
from tests.held_session import HeldSession

Serve = Callable[..., Serving]


@pytest.fixture
def serve(prepared: Path, tokenizer: Tokenizer, settings: Settings) -> Iterator[Serve]:
    """Makes servers on ports of their own, which end with the test."""
    running: list[Serving] = []

    def start(
        *,
        end_of_generation: frozenset[int] = frozenset(),
        ping_seconds: float = 10.0,
        with_model: bool = True,
        **changes: object,
    ) -> Serving:
        chosen = msgspec.structs.replace(settings, port=0, max_connections=8, **changes)
        session = HeldSession(Session(prepared, settings=chosen))
        services = Services(settings=chosen, ping_seconds=ping_seconds)
        engine = Engine(
            session,
            end_of_generation=end_of_generation,
            settings=chosen,
            observer=services,
            request_ids=services.request_ids,
            page_changes=services.page_changes("tiny"),
        )
        engine.start()
        model = ServedModel("tiny", engine, tokenizer)
        if with_model:
            services.served.load(lambda: model)
        server = Server(create_app(services), chosen)
        server.start()
        running.append(Serving(server, services, model, session))
        return running[-1]

    yield start
    for serving in running:
        serving.session.let_go()
        serving.model.engine.stop()
        serving.server.close()
        if serving.services.kv_events is not None:
            serving.services.kv_events.close()


@pytest.fixture
def serving(serve: Serve) -> Serving:
    """One server with the defaults of these tests; its model never ends of its own accord."""
    return serve()


@pytest.fixture
def says(serve: Serve) -> Says:
    """Servers whose model answers with a text, and then ends."""

    def start(text: str, template: str = TEMPLATE) -> Serving:
        serving = serve(end_of_generation=frozenset({END}))
        model = replace(serving.model, chat_template=template)
        serving.services.served.load(lambda: model)
        tokens = serving.model.tokenizer.encode(text, add_special=False)
        serving.session.fault = saying([*tokens, END])
        return serving

    return start
