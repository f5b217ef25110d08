"""Another model takes the place of the one that is served, and no request notices."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from api.served_models import ServedModel
from pipelines.conversion.convert import convert
from runtime.engine import Engine
from runtime.errors import PreparationError
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.source import Source
from runtime.tokenizer import Tokenizer
from tests.api.serving import Serving
from tests.held_session import HeldSession
from tests.models import byte_level_vocabulary, write_tiny_llama
from tests.waiting import eventually

Load = Callable[[], ServedModel]


@pytest.fixture(scope="module")
def successor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model, prepared: other weights and other words."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    folder = tmp_path_factory.mktemp("successor")
    words = ("Ġa", "hell", "Ġwor", "ing", "ĠĠ", "xy", "zz", "qq", "ab", "cd")
    convert(
        Source(write_tiny_llama(path, seed=7, vocabulary=byte_level_vocabulary(words=words))),
        folder,
        "tiny",
    )
    return folder


def loader(serving: Serving, folder: Path) -> tuple[Load, HeldSession]:
    """A loader of the other model as version 2 for this server, and its session."""
    settings, services = serving.services.settings, serving.services
    session = HeldSession(Session(folder, settings=settings))

    def load() -> ServedModel:
        engine = Engine(
            session,
            end_of_generation=frozenset(),
            settings=settings,
            observer=services,
            request_ids=services.request_ids,
        )
        engine.start()
        weights = session.manifest.weights_path(folder)
        tokenizer = Tokenizer.from_gguf(GGUFFile.open(weights))
        return ServedModel("tiny", engine, tokenizer, version=2)

    return load, session


def test_running_requests_end_on_the_model_they_began_on(serving: Serving, successor: Path) -> None:
    alone = serving.generate(max_tokens=6, temperature=0).json()
    load, _ = loader(serving, successor)
    serving.session.hold()
    answers: list[dict] = []
    client = threading.Thread(
        target=lambda: answers.append(serving.generate(max_tokens=6, temperature=0).json())
    )
    client.start()
    eventually(lambda: len(serving.services.requests.running()) == 1)
    serving.services.served.replace(load)

    new = serving.generate(max_tokens=6, temperature=0).json()
    assert new["tokens"] != alone["tokens"]
    checks = serving.get("/health").json()["checks"]
    assert checks["model"] == {"name": "tiny", "version": 2}
    # The one before is still there, and what it computes is counted.
    assert checks["requests"]["active"] + checks["requests"]["queued"] == 1
    assert "rocmforge_active_requests 1" in serving.get("/metrics").text
    serving.session.let_go()
    client.join()
    assert [(a["text"], a["tokens"]) for a in answers] == [(alone["text"], alone["tokens"])]
    eventually(lambda: not serving.model.engine.running)

    # An id stands for one request, whichever engine has it; its text is of its own tokenizer.
    ids = [alone["request_id"], answers[0]["request_id"], new["request_id"]]
    assert len(set(ids)) == 3
    texts = [serving.get(f"/status/{request_id}").json()["text"] for request_id in ids]
    assert texts == [alone["text"], alone["text"], new["text"]]


def test_counts_go_on_over_a_takeover(serving: Serving, successor: Path) -> None:
    assert serving.generate(max_tokens=3).ok
    load, _ = loader(serving, successor)
    serving.services.served.replace(load)
    assert serving.generate(max_tokens=4).ok
    eventually(lambda: not serving.model.engine.running)
    metrics = serving.get("/metrics").text.splitlines()
    for name, value in (
        ("requests_started", 2),
        ("requests_completed", 2),
        ("tokens_generated", 7),
    ):
        assert f"rocmforge_{name}_total {value}" in metrics
    pages = serving.services.settings.cache_tokens // serving.services.settings.page_size
    eventually(
        lambda: f"rocmforge_cache_pages {pages}" in serving.get("/metrics").text.splitlines()
    )


def test_a_request_of_the_model_before_can_be_cancelled(serving: Serving, successor: Path) -> None:
    serving.session.hold()
    answers: list[dict] = []
    client = threading.Thread(
        target=lambda: answers.append(serving.generate(max_tokens=200).json())
    )
    client.start()
    eventually(lambda: len(serving.services.requests.running()) == 1)
    (entry,) = serving.services.requests.running()
    load, _ = loader(serving, successor)
    serving.services.served.replace(load)
    cancel = threading.Thread(
        target=lambda: answers.append(serving.post(f"/cancel/{entry.generation.request_id}").json())
    )
    with serving.awaiting_aborts(1):
        cancel.start()
    serving.session.let_go()
    client.join()
    cancel.join()
    assert [answer["finish_reason"] for answer in answers] == ["cancelled", "cancelled"]


def test_a_request_that_meets_the_stopping_engine_goes_to_its_successor(
    serving: Serving, successor: Path
) -> None:
    """Between looking the model up and submitting, the model may be replaced."""
    services, model = serving.services, serving.model
    load, _ = loader(serving, successor)
    services.served.replace(load)
    eventually(lambda: not model.engine.running)
    newer = services.served.ready_model()
    looked_up = [model, newer]
    object.__setattr__(services.served, "ready_model", lambda: looked_up.pop(0))
    answer = serving.generate(max_tokens=2)
    assert (answer.status_code, len(answer.json()["tokens"])) == (200, 2)
    assert looked_up == []


def test_a_successor_that_cannot_be_loaded_changes_nothing(serving: Serving) -> None:
    def load() -> ServedModel:
        raise PreparationError("it is broken")

    with pytest.raises(PreparationError, match="it is broken"):
        serving.services.served.replace(load)
    assert serving.generate(max_tokens=2).ok
    assert serving.get("/ready").ok
