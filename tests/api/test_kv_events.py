"""Real subscribers beside live servers: what they hear, and what a router knows from it."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
import zmq

from api.kv_events.messages import Message
from api.kv_events.publisher import KVEventPublisher
from runtime.errors import SettingsError
from runtime.page_changes import FoundPage
from runtime.pages import ROOT_HASH, chain_hash
from runtime.settings import Settings
from tests.api.conftest import Serve
from tests.api.kv_subscriber import Mirror, RouterIndex, Subscriber
from tests.api.serving import Serving
from tests.waiting import SECONDS, eventually

ANY = "tcp://127.0.0.1:*"
LONG = "hello world, " * 20
OTHER = "another text " * 20

Subscribe = Callable[[Serving], Subscriber]


@pytest.fixture
def publishing(serve: Serve) -> Callable[..., Serving]:
    """Makes servers that publish their pages."""

    def start(name: str = "server", **changes: object) -> Serving:
        return serve(kv_events=ANY, kv_events_replay=ANY, server_name=name, **changes)

    return start


@pytest.fixture
def subscribe() -> Iterator[Subscribe]:
    """Makes subscribers of servers, or of publishers."""
    made: list[Subscriber] = []

    def start(serving: Serving) -> Subscriber:
        publisher = serving.services.kv_events
        assert publisher is not None
        made.append(Subscriber(publisher.address, publisher.replay_address))
        return made[-1]

    yield start
    for subscriber in made:
        subscriber.close()


def told(subscriber: Subscriber) -> Mirror:
    """What a subscriber that comes now learns."""
    mirror = Mirror()
    for _, _, payload in subscriber.missed(0):
        mirror.take(payload)
    return mirror


def known(serving: Serving) -> set[bytes]:
    """Hashes of the pages that the server's requests find."""
    return set(serving.model.engine._core._pages._page_of_hash)


def ask(serving: Serving, prompt: str, **fields: object) -> None:
    answer = serving.post("/v1/completions", json={"prompt": prompt, "max_tokens": 1, **fields})
    assert answer.status_code == 200, answer.text


def rendered(serving: Serving, prompt: str) -> list[int]:
    """A prompt's tokens, as a router asks for them."""
    (found,) = serving.post("/v1/completions/render", json={"prompt": prompt}).json()
    tokens: list[int] = found["token_ids"]
    return tokens


def test_messages_are_heard_as_they_come_and_again_in_a_replay(
    publishing: Callable[..., Serving], subscribe: Subscribe
) -> None:
    serving = publishing()
    subscriber = subscribe(serving)
    prompts = (f"{number} {LONG}" for number in range(10**6))
    ask(serving, next(prompts))
    while not subscriber.hears(milliseconds=50):  # what was sent before it was there is missed
        ask(serving, next(prompts))
    heard = [subscriber.hear()]
    ask(serving, next(prompts))
    while len(heard) < 2:
        heard.append(subscriber.hear())
    assert [number for _, number, _ in heard] == [heard[0][1], heard[0][1] + 1]
    assert {topic for topic, _, _ in heard} == {b"kv@server@tiny"}
    assert subscriber.missed(heard[0][1])[:2] == heard
    everything = subscriber.missed(0)
    assert [number for _, number, _ in everything] == list(range(len(everything)))


def test_a_replay_says_which_pages_are_known_also_after_some_were_evicted(
    publishing: Callable[..., Serving], subscribe: Subscribe
) -> None:
    serving = publishing(cache_tokens=256)
    subscriber = subscribe(serving)
    before: set[bytes] = set()
    for number in range(6):
        ask(serving, f"{number} {LONG}")
        before |= known(serving)
    assert known(serving) < before, "nothing was evicted"
    eventually(lambda: told(subscriber).pages.keys() == known(serving))


def test_a_router_finds_the_server_that_knows_a_prompt(
    publishing: Callable[..., Serving], subscribe: Subscribe
) -> None:
    servers = {name: publishing(name) for name in ("first", "second")}
    ask(servers["first"], LONG)
    ask(servers["second"], OTHER)
    index = RouterIndex(block_size=16)
    for serving in servers.values():
        subscriber = subscribe(serving)
        eventually(
            lambda subscriber=subscriber, serving=serving: (  # type: ignore[misc]
                told(subscriber).pages.keys() == known(serving) != set()
            )
        )
        for topic, _, payload in subscriber.missed(0):
            index.take(topic, payload)

    anywhere = servers["second"]
    tokens = rendered(anywhere, LONG + "and then?")
    pairs = zip(tokens, rendered(anywhere, LONG), strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) // 16
    assert shared > 2
    assert index.held("tiny", tokens) == {"first": shared}
    assert index.held("tiny", rendered(anywhere, OTHER))["second"] > 0
    assert index.held("tiny", rendered(anywhere, "never asked " * 10)) == {}
    assert index.held("another model", tokens) == {}


def test_a_router_finds_the_server_that_knows_a_chat(
    publishing: Callable[..., Serving], subscribe: Subscribe
) -> None:
    serving = publishing()
    subscriber, index = subscribe(serving), RouterIndex(block_size=16)
    messages = [{"role": "system", "content": LONG}, {"role": "user", "content": "hello"}]
    body = {"messages": messages, "max_tokens": 1}
    assert serving.post("/v1/chat/completions", json=body).ok
    eventually(lambda: told(subscriber).pages.keys() == known(serving) != set())
    for topic, _, payload in subscriber.missed(0):
        index.take(topic, payload)
    tokens = serving.post("/v1/chat/completions/render", json=body).json()["token_ids"]
    assert index.held("tiny", tokens) == {"server": len(tokens) // 16}


def test_requests_go_on_while_nothing_can_be_published_and_all_is_made_up_for(
    publishing: Callable[..., Serving], subscribe: Subscribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = publishing(cache_tokens=256)
    publisher, released = serving.services.kv_events, threading.Event()
    assert publisher is not None
    send = publisher._send

    def held(messages: Sequence[Message]) -> None:
        assert released.wait(SECONDS)
        send(messages)

    monkeypatch.setattr(publisher, "_send", held)
    for number in range(6):
        ask(serving, f"{number} {LONG}")
    released.set()
    subscriber = subscribe(serving)
    eventually(lambda: told(subscriber).pages.keys() == known(serving) != set())


def test_requests_go_on_where_publishing_fails(
    publishing: Callable[..., Serving],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    serving = publishing()
    publisher = serving.services.kv_events
    assert publisher is not None

    def fails(*_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(publisher._log, "change", fails)
    ask(serving, LONG)
    eventually(lambda: not publisher._thread.is_alive())
    for number in range(3):
        ask(serving, f"{number} {LONG}")
    assert caplog.text.count("KV events are published no more") == 1


def test_pages_of_a_salt_or_a_key_are_nobody_else_s(
    publishing: Callable[..., Serving], subscribe: Subscribe
) -> None:
    serving = publishing(api_keys="alice=the-secret-of-alice,bob=the-secret-of-bob")
    subscriber, index = subscribe(serving), RouterIndex(block_size=16)
    for key, salt in (("alice", None), ("bob", None), ("bob", "salt")):
        headers = {"Authorization": f"Bearer the-secret-of-{key}"}
        body = {"prompt": LONG, "max_tokens": 1, "cache_salt": salt}
        assert serving.post("/v1/completions", json=body, headers=headers).ok
    eventually(lambda: told(subscriber).pages.keys() == known(serving))
    messages = subscriber.missed(0)
    for topic, _, payload in messages:
        index.take(topic, payload)

    pages = told(subscriber).pages.values()
    firsts = [page for page in pages if page.parent is None]
    assert len({page.tokens for page in firsts}) == 1
    assert len({page.extra for page in firsts}) == 3, "each has a root of its own"
    assert not any(page.extra for page in pages if page.parent is not None)
    assert index.held("tiny", firsts[0].tokens) == {}
    assert index.held("tiny", firsts[0].tokens, "salt") == {}
    assert all(re.fullmatch("[0-9a-f]{32}", extra) for page in firsts for extra in page.extra)


def test_an_engine_that_ends_has_no_pages(
    publishing: Callable[..., Serving], subscribe: Subscribe
) -> None:
    serving = publishing()
    subscriber = subscribe(serving)
    ask(serving, LONG)
    eventually(lambda: bool(told(subscriber).pages))
    serving.model.engine.stop()
    eventually(lambda: not told(subscriber).pages)


def test_another_version_begins_without_pages_and_the_old_one_adds_none(
    publishing: Callable[..., Serving], subscribe: Subscribe
) -> None:
    serving = publishing()
    subscriber = subscribe(serving)
    ask(serving, LONG)
    eventually(lambda: bool(told(subscriber).pages))
    newer = serving.services.page_changes("tiny")
    assert newer is not None
    ask(serving, OTHER)  # a request of the version before
    tokens = tuple(range(16))
    page_hash = chain_hash(ROOT_HASH, tokens)
    newer.stored(page_hash, FoundPage.of(None, tokens))
    newer.hand_over()
    eventually(lambda: told(subscriber).pages.keys() == {page_hash})


@pytest.mark.parametrize("request_frames", [[b"", b"1"], [b"", b"x" * 2000], [b"no", b"delimiter"]])
def test_a_request_that_is_no_number_has_no_answer_and_does_no_harm(
    publishing: Callable[..., Serving], subscribe: Subscribe, request_frames: list[bytes]
) -> None:
    serving = publishing()
    subscriber = subscribe(serving)
    if len(request_frames[-1]) > 1024:  # it costs the client its connection
        with zmq.Context() as context, context.socket(zmq.DEALER) as asking:
            asking.connect(serving.services.kv_events.replay_address)  # type: ignore[union-attr]
            asking.send_multipart(request_frames)
        request_frames = [b""]
    answer = subscriber.missed(0, request=request_frames)
    assert [number for _, number, _ in answer] == list(range(len(answer)))


def test_messages_and_replays_are_counted(
    publishing: Callable[..., Serving], subscribe: Subscribe
) -> None:
    serving = publishing()
    subscriber = subscribe(serving)
    ask(serving, LONG)
    eventually(lambda: bool(told(subscriber).pages))
    text = serving.get("/metrics").text
    counts = dict(re.findall(r"^rocmforge_kv_event_(\w+)_total (\d+)$", text, re.MULTILINE))
    assert int(counts["messages"]) == len(subscriber.missed(0))
    assert int(counts["replays"]) > 0
    assert int(counts["beginnings"]) == 0


def test_without_the_setting_nothing_is_collected_or_counted(serving: Serving) -> None:
    assert serving.services.page_changes("tiny") is None
    assert "kv_event" not in serving.get("/metrics").text


def test_an_address_that_is_taken_is_named(settings: Settings) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as other:
        other.bind(ANY)
        address = other.get_string(zmq.LAST_ENDPOINT)
        with pytest.raises(SettingsError, match=f"--kv-events {re.escape(address)} cannot be had"):
            KVEventPublisher(msgspec.structs.replace(settings, kv_events=address))


@pytest.mark.parametrize(
    "given", [{"kv_events_replay": ANY}, {"kv_events": ANY, "server_name": "a@b"}]
)
def test_settings_that_do_not_fit_together_are_refused(
    given: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError):
        Settings.from_environment({}, home=str(tmp_path), **given)
