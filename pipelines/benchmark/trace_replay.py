"""Plays a trace of chats on a live server, for comparison with the simulation of it."""

import http.client
import random
import re
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import msgspec

from pipelines.simulation.chats import Chat, Trace
from pipelines.simulation.figures import Played, percentile
from runtime.errors import BenchmarkError

NS_PER_SECOND, NS_PER_MS = 1e9, 1e6
TIMEOUT_SECONDS = 600.0
COUNTER = r"^vllm:prefix_cache_{name}_total(?:{{[^}}]*}})? (\S+)$"


class Answered(msgspec.Struct, frozen=True):
    """One request of a trace and its times in nanoseconds since the trace's beginning."""

    asked_ns: int
    first_ns: int
    ended_ns: int
    tokens: int


class _Event(msgspec.Struct):
    tokens: list[int]


def play(url: str, chats: Trace, vocabulary_size: int) -> Played:
    """Play a trace on a server that nothing else uses, a thread for each chat.

    Prompts are random tokens, equal where the trace has the same system prompt; the next turn
    continues with the server's own answer. Raises BenchmarkError for a request that fails.
    """
    queried, hits = _counter(url, "queries"), _counter(url, "hits")
    began_ns = time.perf_counter_ns()
    with ThreadPoolExecutor(len(chats)) as threads:
        playing = [
            threads.submit(_play_chat, url, number, chat, vocabulary_size, began_ns)
            for number, chat in enumerate(chats)
        ]
        answers = [answer for each in playing for answer in each.result()]
    waits = sorted(answer.first_ns - answer.asked_ns for answer in answers)
    seconds = max(answer.ended_ns for answer in answers) / NS_PER_SECOND
    return Played(
        requests=len(answers),
        hit_rate=(_counter(url, "hits") - hits) / (_counter(url, "queries") - queried),
        first_token_p50_ms=percentile(waits, 50) / NS_PER_MS,
        first_token_p95_ms=percentile(waits, 95) / NS_PER_MS,
        tokens_per_second=sum(answer.tokens for answer in answers) / seconds,
    )


def _play_chat(
    url: str, number: int, chat: Chat, vocabulary_size: int, began_ns: int
) -> list[Answered]:
    """Ask a chat's questions, each after its time to think."""
    tokens = _text(f"system {chat.system}", chat.system_tokens, vocabulary_size)
    answered: list[Answered] = []
    at_ns = began_ns + chat.start_ms * NS_PER_MS
    for turn, each in enumerate(chat.turns):
        tokens += _text(f"chat {number}, turn {turn}", each.question, vocabulary_size)
        if turn:
            at_ns = time.perf_counter_ns() + each.think_ms * NS_PER_MS
        time.sleep(max(at_ns - time.perf_counter_ns(), 0) / NS_PER_SECOND)
        asked_ns = time.perf_counter_ns()
        times, answer = _ask(url, tokens, each.answer)
        tokens += answer
        answered.append(
            Answered(
                asked_ns=asked_ns - began_ns,
                first_ns=times[0] - began_ns,
                ended_ns=times[-1] - began_ns,
                tokens=len(answer),
            )
        )
    return answered


def _ask(url: str, prompt: Sequence[int], max_tokens: int) -> tuple[list[int], list[int]]:
    """Return the time of each token of an answer, and the tokens. Raises BenchmarkError."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=TIMEOUT_SECONDS
    )
    # llama.cpp's route takes a prompt's tokens, and its events have those of the answer.
    body = {
        "prompt": prompt,
        "n_predict": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    times: list[int] = []
    tokens: list[int] = []
    try:
        connection.request(
            "POST",
            "/completion",
            msgspec.json.encode(body),
            {"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        if response.status != 200:
            raise BenchmarkError(f"{url} refused a request: {response.read(300)!r}")
        for line in response:
            if line.startswith(b"data: "):
                event = msgspec.json.decode(line[len(b"data: ") :], type=_Event)
                times += [time.perf_counter_ns()] * len(event.tokens)
                tokens += event.tokens
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise BenchmarkError(f"{url} cannot be talked to: {error}; see the server's log") from None
    finally:
        connection.close()
    if len(tokens) != max_tokens:
        raise BenchmarkError(f"{url} answered {len(tokens)} of {max_tokens} tokens")
    return times, tokens


def _text(name: str, length: int, vocabulary_size: int) -> list[int]:
    return random.Random(name).choices(range(vocabulary_size), k=length)


def _counter(url: str, name: str) -> float:
    """Return a counter of the server's prefix cache."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=TIMEOUT_SECONDS) as answer:
        found = re.findall(COUNTER.format(name=name), answer.read().decode(), re.MULTILINE)
    return sum(map(float, found))
