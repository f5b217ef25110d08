"""A server of the tiny model in a process of its own: PREPARED GGUF SETTINGS(JSON) FAULT.

Its steps wait until a line comes on standard input.
"""

import json
import signal
import sys
import threading
from pathlib import Path

import pytest

from api import lifecycle
from api.app import create_app
from api.lifecycle import serve
from api.served_models import ServedModel
from api.server import Server
from api.services import Services
from runtime import engine as engine_module
from runtime.engine import Engine
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.faults.points import POINT_BY_NAME
from tests.held_session import HeldSession

LOADED_LATE = "the model is loaded when the server ends already"
SIGNAL_ELSEWHERE = "the main thread takes no signal"
NO_STDERR = "standard error is closed"
CLOSING_HANGS = "the server is never closed"


def main(prepared: Path, gguf: Path, given: dict[str, float], fault: str) -> None:
    """Serve until the end that is tested."""
    engine_module.STOP_SECONDS = given.pop("stop_seconds", engine_module.STOP_SECONDS)
    if fault == CLOSING_HANGS:
        lifecycle.LAST_RESORT_SECONDS = 0.5
        Server.close = lambda self: threading.Event().wait()  # type: ignore[method-assign,assignment]
    settings = Settings(port=0, cache_tokens=1024, threads=1, max_connections=8, **given)  # type: ignore[arg-type]
    services = Services(settings=settings)

    def load() -> ServedModel:
        session = HeldSession(Session(prepared, settings=settings))
        session.hold()
        if point := POINT_BY_NAME.get(fault):
            point.arm(pytest.MonkeyPatch(), session)
        threading.Thread(target=let_go, args=(session,), daemon=True).start()
        engine = Engine(
            session, end_of_generation=frozenset(), settings=settings, observer=services
        )
        engine.start()
        if fault == LOADED_LATE:
            services.draining.wait()
        return ServedModel("tiny", engine, Tokenizer.from_gguf(GGUFFile.open(gguf)))

    def let_go(session: HeldSession) -> None:
        if sys.stdin.readline():
            session.let_go()

    if fault == NO_STDERR:
        sys.stderr = None  # as Python does where it is closed
    if fault == SIGNAL_ELSEWHERE:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    serve(
        create_app(services),
        services,
        load=load,
        announce=lambda line: print(line, flush=True),
        ready=lambda model: print("ready", flush=True),
    )
    print("ended", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4])
