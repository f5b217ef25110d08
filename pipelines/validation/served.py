"""The served check: does the model answer over HTTP as it does here."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.outcome import CheckFailed, Outcome
from pipelines.validation.steps import one_row
from pipelines.validation.subject import PROMPT, Subject
from pipelines.validation.vectors import pooled
from runtime.embedding import normalized, relevance
from runtime.errors import ServerNotStarted
from runtime.server_process import Capacity, rocmforge, started

ANSWER_TOKENS = 4
"""Tokens of each answer: for every one a server reads the weights once."""
SECONDS = 120.0
"""Longest that an answer may take."""


def check_served(subject: Subject) -> Outcome:
    """Check that a server process gives the greedy tokens, at once and as a stream."""
    greedy = subject.greedy[:ANSWER_TOKENS]
    expected = _until_end(greedy, subject.tokenizer.end_of_generation)
    prompt = subject.tokenizer.decode(subject.prompt)
    if subject.tokenizer.encode(prompt) != subject.prompt:
        raise CheckFailed(f"the prompt {prompt!r} has other tokens when it is sent as text")
    candidate = rocmforge(str(subject.folder), subject.settings, "")
    capacity = Capacity(streams=1, tokens_per_stream=len(subject.prompt) + len(greedy))
    body = {"prompt": prompt, "max_tokens": len(greedy), "temperature": 0}
    try:
        with started(candidate, capacity) as server:
            whole = json.loads(_post(server.url, "/generate", body))
            events = _post(server.url, "/generate/stream", body)
            completion = json.loads(_post(server.url, "/v1/completions", body))
    except ServerNotStarted as error:
        raise CheckFailed(str(error)) from None
    if whole["tokens"] != expected:
        raise CheckFailed(f"the server generates {whole['tokens']} instead of {expected}")
    data = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
    for name, text in (
        ("/generate/stream", "".join(event["text"] for event in data)),
        ("/v1/completions", completion["choices"][0]["text"]),
    ):
        if text != whole["text"]:
            raise CheckFailed(f"{name} answers {text!r}, /generate {whole['text']!r}")
    return Outcome(
        f"a server answers {whole['text']!r}",
        {"start_seconds": server.start_seconds},
    )


def check_served_vectors(subject: Subject) -> Outcome:
    """Check that a server process gives the vector of the prompt, or the score of a pair."""
    assert subject.spec.pooling is not None
    candidate = rocmforge(str(subject.folder), subject.settings, "")
    capacity = Capacity(streams=1, tokens_per_stream=len(subject.prompt))
    scores = subject.spec.pooling.classifier is not None
    try:
        with started(candidate, capacity) as server:
            expected: float | NDArray[np.float32]
            if scores:
                body = {"text_1": PROMPT, "text_2": PROMPT}
                given = json.loads(_post(server.url, "/v1/score", body))["data"][0]["score"]
                pair = subject.tokenizer.encode_pair(PROMPT, PROMPT)
                expected = relevance(_vector(subject, pair))
            else:
                answer = json.loads(_post(server.url, "/v1/embeddings", {"input": subject.prompt}))
                given = answer["data"][0]["embedding"]
                expected = normalized(_vector(subject, subject.prompt))
    except ServerNotStarted as error:
        raise CheckFailed(str(error)) from None
    if not np.array_equal(np.array(given, np.float32), np.array(expected, np.float32)):
        raise CheckFailed("a server gives another vector or score of the prompt than a session")
    kind = "score" if scores else "vector"
    return Outcome(f"a server gives the same {kind}", {"start_seconds": server.start_seconds})


def _vector(subject: Subject, tokens: list[int]) -> NDArray[np.float32]:
    """The vector of a text, as a session computes it."""
    return pooled(subject, subject.session.run(one_row(tokens, pages=subject.pages)))


def _until_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """Return the tokens up to the first that ends a text, which is a server's last."""
    for at, token in enumerate(tokens):
        if token in ends:
            return tokens[: at + 1]
    return tokens


def _post(url: str, path: str, body: dict[str, Any]) -> str:
    """Return the body of an answer. Raises CheckFailed if the status is not 200."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=SECONDS)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise CheckFailed(f"{path} does not answer: {error}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise CheckFailed(f"{path} answers {answer.status}: {text}")
    return text
