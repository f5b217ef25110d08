"""Several models in one server: loaded on use, unloaded for others, never under a request."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.keep_alive import seconds_of
from api.model_pool import LoadableModel, ModelPool, aliases_of
from api.served_models import ServedModel
from api.server import Server
from api.services import Services
from runtime.engine import Engine
from runtime.errors import BrokenModel, InvalidRequest, SettingsError
from runtime.manifest import Manifest
from runtime.session import Session
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.api.raw_http import open_and_send
from tests.held_session import HeldSession
from tests.waiting import SECONDS, eventually

NAMES = ("one", "two", "three")
SIZE = 10
PROMPT = {"prompt": "hello"}
CHAT = {"messages": [{"role": "user", "content": "hello"}]}


@dataclass
class Several:
    """A server of several models, each of SIZE bytes as far as it counts."""

    server: Server
    services: Services
    sessions: dict[str, HeldSession] = field(default_factory=dict)
    """The newest session of each model that was loaded."""
    loads: list[str] = field(default_factory=list)
    """Names in the order of loading."""
    broken: set[str] = field(default_factory=set)
    """Models that cannot be loaded."""

    @property
    def pool(self) -> ModelPool:
        return self.services.pool

    def ask(self, model: str | None, path: str = "/v1/completions", **fields: Any) -> Any:
        body = {"prompt": "hello", "max_tokens": 1, "stream": False, **fields}
        if model is not None:
            body["model"] = model
        return requests.post(self.server.url + path, json=body, timeout=SECONDS)

    def get(self, path: str) -> Any:
        return requests.get(self.server.url + path, timeout=SECONDS).json()

    def post(self, path: str, **body: Any) -> requests.Response:
        return requests.post(self.server.url + path, json=body, timeout=SECONDS)

    def states(self) -> dict[str, str]:
        models = self.get("/v1/models")["data"]
        return {model["id"]: model["status"]["value"] for model in models}

    def loaded(self) -> set[str]:
        return {name for name, state in self.states().items() if state == "loaded"}

    def begin(self, model: str) -> threading.Thread:
        """Ask in a thread of its own; returns once the request has its slot."""
        before = self.services.slots.in_use
        thread = threading.Thread(target=self.ask, args=(model,))
        thread.start()
        eventually(lambda: self.services.slots.in_use > before)
        return thread


Serve = Callable[..., Several]


@pytest.fixture
def several(prepared: Path, tokenizer: Tokenizer, settings: Settings) -> Iterator[Serve]:
    """Makes a server of the models of NAMES, with these aliases and settings."""
    running: list[Several] = []
    manifest = Manifest.read(prepared)

    def start(aliases: str = "", **changes: object) -> Several:
        chosen = msgspec.structs.replace(settings, port=0, max_connections=16, **changes)
        services = Services(settings=chosen)
        serving = Several(Server(create_app(services), chosen), services)

        def load(name: str) -> ServedModel:
            serving.loads.append(name)
            if name in serving.broken:
                raise BrokenModel("its graph is damaged")
            session = HeldSession(Session(prepared, settings=chosen))
            serving.sessions[name] = session
            engine = Engine(
                session,
                end_of_generation=frozenset(),
                settings=chosen,
                observer=services,
                request_ids=services.request_ids,
            )
            engine.start()
            return ServedModel(name, engine, tokenizer, manifest=manifest)

        def loadable(name: str) -> LoadableModel:
            return LoadableModel(name, manifest, SIZE, lambda: load(name))

        services.pool.publish([loadable(name) for name in NAMES], aliases_of(aliases))
        services.served.load(lambda: load(NAMES[0]))
        serving.server.start()
        running.append(serving)
        return serving

    yield start
    for serving in running:
        for session in serving.sessions.values():
            session.let_go()
        serving.pool.stop()
        serving.server.close()


def test_the_first_is_there_and_the_others_come_when_they_are_asked(several: Serve) -> None:
    serving = several()
    assert serving.states() == {"one": "loaded", "two": "unloaded", "three": "unloaded"}
    assert serving.ask(None).json()["model"] == "one"
    assert serving.ask("two").json()["model"] == "two"
    assert serving.loaded() == {"one", "two"}
    assert serving.loads == ["one", "two"]


@pytest.mark.parametrize(
    ("path", "where", "body"),
    [
        ("/generate", lambda body: body["error"], PROMPT),
        ("/v1/completions", lambda body: body["error"]["message"], PROMPT),
        ("/v1/embeddings", lambda body: body["error"]["message"], {"input": "hello"}),
        ("/v1/messages", lambda body: body["error"]["message"], {**CHAT, "max_tokens": 1}),
        ("/api/chat", lambda body: body["error"], CHAT),
        ("/tokenize", lambda body: body["error"], {"content": "hello"}),
    ],
)
def test_a_wrong_name_is_404_with_those_that_are_served(
    several: Serve, path: str, where: Any, body: dict[str, Any]
) -> None:
    answer = several("gpt-4o=two").post(path, model="four", **body)
    assert answer.status_code == 404
    assert "four" in where(answer.json())
    assert "one, two (gpt-4o), three" in where(answer.json())


def test_an_alias_is_a_further_name(several: Serve) -> None:
    serving = several("gpt-4o=two, gpt-4=two")
    assert serving.ask("gpt-4o").json()["model"] == "two"
    assert serving.ask("gpt-4:latest", "/api/generate", raw=True).json()["model"] == "two"
    assert serving.loads == ["one", "two"]
    described = serving.get("/v1/models/gpt-4o")
    assert (described["id"], described["root"]) == ("gpt-4o", "two")
    assert {"gpt-4o", "gpt-4", "two"} <= set(serving.states())
    assert "gpt-4" in {model["name"] for model in serving.get("/api/tags")["models"]}


@pytest.mark.parametrize("aliases", ["a", "a=", "=one", "a=one,a=two", "a=four", "two=one"])
def test_aliases_that_mean_nothing_are_refused(several: Serve, aliases: str) -> None:
    with pytest.raises(SettingsError, match="--alias"):
        several(aliases)


def test_the_least_recently_used_goes_where_the_budget_is_full(several: Serve) -> None:
    serving = several(memory_budget=2 * SIZE)
    assert serving.ask("two").ok
    assert serving.ask("one").ok
    assert serving.ask("three").ok
    assert serving.loaded() == {"one", "three"}
    assert serving.ask("two").ok
    assert serving.loaded() == {"three", "two"}


def test_what_is_unloaded_is_freed_and_its_counts_stay(several: Serve) -> None:
    serving = several(memory_budget=SIZE)
    session = weakref.ref(serving.sessions["one"])
    assert serving.ask("one").ok
    assert serving.ask("two").ok
    del serving.sessions["one"]
    gc.collect()
    assert session() is None
    assert serving.services.statistics().completed == 2


def test_a_model_is_not_unloaded_under_a_request(several: Serve) -> None:
    serving = several(memory_budget=SIZE)
    serving.sessions["one"].hold()
    running = serving.begin("one")
    waiting = serving.begin("two")
    assert serving.loads == ["one"]
    assert serving.post("/models/unload", model="one").status_code == 409
    serving.sessions["one"].let_go()
    running.join()
    waiting.join()
    assert serving.loaded() == {"two"}


def test_requests_wait_for_room_in_their_order(several: Serve) -> None:
    """Those of the loaded model, too, so that it cannot keep another one out for ever."""
    serving = several(memory_budget=SIZE)
    serving.sessions["one"].hold()
    threads = [serving.begin(name) for name in ("one", "two", "one", "three")]
    serving.sessions["one"].let_go()
    for thread in threads:
        thread.join()
    assert serving.loads == ["one", "two", "one", "three"]


def test_a_waiting_client_that_leaves_lets_the_next_one_pass(several: Serve) -> None:
    serving = several(memory_budget=SIZE)
    serving.sessions["one"].hold()
    running = serving.begin("one")
    gone = open_and_send(serving.server, "/generate", model="two")
    eventually(lambda: serving.services.slots.in_use == 2)
    gone.close()
    eventually(lambda: serving.services.slots.in_use == 1)
    behind = serving.begin("one")
    serving.sessions["one"].let_go()
    running.join()
    behind.join()
    assert serving.loads == ["one"]


def test_many_requests_load_a_model_once(several: Serve) -> None:
    serving = several()
    threads = [threading.Thread(target=serving.ask, args=("two",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert serving.loads == ["one", "two"]
    assert serving.services.statistics().completed == 6


def test_a_model_that_cannot_be_loaded_fails_its_requests_and_is_tried_again(
    several: Serve,
) -> None:
    serving = several(memory_budget=SIZE)
    serving.broken.add("two")
    answer = serving.ask("two")
    assert answer.status_code == 500
    assert "its graph is damaged" in answer.json()["error"]["message"]
    assert serving.states()["two"] == "failed"
    assert serving.ask("one").ok
    serving.broken.clear()
    assert serving.ask("two").ok


def test_an_operator_loads_and_unloads(several: Serve) -> None:
    serving = several()
    assert serving.post("/models/load", model="two").json() == {"success": True}
    assert serving.loaded() == {"one", "two"}
    for name in ("one", "two"):
        assert serving.post("/models/unload", model=name).json() == {"success": True}
    assert serving.loaded() == set()
    assert serving.post("/models/unload", model="one").ok
    assert serving.post("/models/load", model="four").status_code == 404
    # The server is as ready as before: the next request loads what it needs.
    assert serving.get("/health")["status"] == "healthy"
    assert serving.get("/ready")["ready"] is True
    assert serving.ask(None).ok


def test_an_unused_model_is_unloaded_after_its_time(several: Serve) -> None:
    serving = several()
    serving.pool.unload_idle()
    assert serving.loaded() == {"one"}
    assert serving.ask("one", keep_alive="5m").ok
    serving.pool.unload_idle()
    assert serving.loaded() == {"one"}
    (running,) = serving.get("/api/ps")["models"]
    assert running["expires_at"] < "9999"
    assert serving.ask("one", keep_alive=0).ok
    eventually(lambda: serving.services.slots.in_use == 0)
    serving.pool.unload_idle()
    assert serving.loaded() == set()


def test_ollama_s_empty_request_loads_or_unloads(several: Serve) -> None:
    serving = several()
    loaded = serving.post("/api/generate", model="two")
    assert (loaded.json()["model"], loaded.json()["done_reason"]) == ("two", "load")
    assert serving.loaded() == {"one", "two"}
    unloaded = serving.post("/api/generate", model="two", keep_alive=0)
    assert unloaded.json()["done_reason"] == "unload"
    assert serving.loaded() == {"one"}
    assert serving.loads == ["one", "two"]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        (0, 0.0),
        ("0", 0.0),
        (300, 300.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        (-1, float("inf")),
        ("-1m", float("inf")),
    ],
)
def test_how_long_a_model_stays_is_said_as_to_ollama(given: Any, seconds: float | None) -> None:
    assert seconds_of(given) == seconds


@pytest.mark.parametrize("given", ["", "long", "5 m", "m5", "5m!", "--1"])
def test_other_texts_are_no_duration(given: str) -> None:
    with pytest.raises(InvalidRequest, match="keep_alive"):
        seconds_of(given)


def test_metrics_are_by_model_and_stay_when_it_is_unloaded(several: Serve) -> None:
    serving = several(aliases="gpt=two")
    serving.ask(None)
    for name in ("two", "gpt"):
        serving.ask(name, max_tokens=3)
    assert serving.post("/models/unload", model="two").status_code == 200
    text = requests.get(f"{serving.server.url}/metrics", timeout=SECONDS).text
    found = {
        (sample.name, sample.labels.get("model")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["rocmforge_tokens_generated_total", None] == 7
    expected = {"one": (1, 1, 0), "two": (2, 6, 4)}
    for name, (asked, generated, gaps) in expected.items():
        assert found["rocmforge_model_requests_total", name] == asked
        assert found["rocmforge_model_ttft_seconds_count", name] == asked
        assert found["rocmforge_model_generated_tokens_total", name] == generated
        assert found["rocmforge_model_inter_token_seconds_count", name] == gaps
    assert found["rocmforge_model_cache_page_tokens", "one"] > 0
    assert ("rocmforge_model_cache_page_tokens", "two") not in found
    assert ("rocmforge_model_requests_total", "gpt") not in found
