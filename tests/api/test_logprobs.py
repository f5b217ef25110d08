"""Logprobs of answers and prompts over HTTP, in OpenAI's and in vLLM's shapes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray

from api.logprobs import LogprobShapes, ShownLogprobs
from runtime.logprobs_memory import MOST_PIECES, most_json
from runtime.sampling import TokenLogprobs
from runtime.scoring import score
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.api.conftest import Serve
from tests.api.serving import Serving

TEXT = "hello the world and é 漢"
DRAWN: dict[str, Any] = {"temperature": 1.2, "top_k": 40, "seed": 5, "max_tokens": 12}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], **DRAWN}


def post(serving: Serving, path: str, body: dict[str, Any]) -> requests.Response:
    return serving.post(f"/v1/{path}", json=body, stream=bool(body.get("stream")))


def answered(serving: Serving, path: str, **body: Any) -> dict[str, Any]:
    response = post(serving, path, body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def completed(serving: Serving, **body: Any) -> dict[str, Any]:
    """The one choice of a completion."""
    (choice,) = answered(serving, "completions", **{"prompt": TEXT, **DRAWN, **body})["choices"]
    found: dict[str, Any] = choice
    return found


def chatted(serving: Serving, **body: Any) -> dict[str, Any]:
    (choice,) = answered(serving, "chat/completions", **{**CHAT, **body})["choices"]
    found: dict[str, Any] = choice
    return found


def chunks(response: requests.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    lines = [line for line in response.iter_lines() if line.startswith(b"data: ")]
    assert lines.pop() == b"data: [DONE]"
    return [json.loads(line[6:]) for line in lines]


Score = Callable[[list[int]], NDArray[np.float64]]


@pytest.fixture
def scored(prepared: Path, settings: Settings, tmp_path: Path) -> Score:
    """What `rocmforge score` says of tokens: logarithms of probabilities [T, V]."""

    def of(tokens: list[int]) -> NDArray[np.float64]:
        out = tmp_path / "logits.npy"
        score(prepared, np.array(tokens, np.int32), out, settings, lambda step: None)
        logits = np.load(out).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        found: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return found

    return of


def tokens_of(serving: Serving, **body: Any) -> tuple[list[int], list[int]]:
    """Tokens of the prompt and of the answer that the same request gets."""
    fields = {**DRAWN, **body}
    answer = serving.generate(TEXT, **fields, top_p=1.0).json()
    return serving.model.tokenizer.encode(TEXT), answer["tokens"]


def test_a_completion_has_those_of_the_model_before_sampling(
    serving: Serving, scored: Score
) -> None:
    prompt, answer = tokens_of(serving)
    right = scored(prompt + answer)[len(prompt) - 1 : -1]
    choice = completed(serving, logprobs=3)
    found = choice["logprobs"]
    assert list(found) == ["tokens", "token_logprobs", "top_logprobs", "text_offset"]
    drawn = right[np.arange(12), answer]
    np.testing.assert_allclose(found["token_logprobs"], drawn, atol=2e-6)
    for top, row in zip(found["top_logprobs"], right, strict=True):
        assert sorted(top.values(), reverse=True)[0] == pytest.approx(row.max(), abs=2e-6)
        assert 3 <= len(top) <= 4
    for token, logprob, top in zip(
        found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
    ):
        assert top[token] == logprob
    assert choice["text"] == completed(serving)["text"]
    assert completed(serving)["logprobs"] is None


def test_a_chat_s_tokens_joined_are_its_text(serving: Serving) -> None:
    choice = chatted(serving, logprobs=True, top_logprobs=2)
    content = choice["logprobs"]["content"]
    assert len(content) == 12
    joined = bytes(byte for entry in content for byte in entry["bytes"])
    assert joined.decode("utf-8", "replace") == choice["message"]["content"]
    for entry in content:
        assert list(entry) == ["token", "logprob", "bytes", "top_logprobs"]
        assert bytes(entry["bytes"]).decode("utf-8", "replace") == entry["token"]
        first, second = entry["top_logprobs"]
        assert list(first) == ["token", "logprob", "bytes"]
        assert first["logprob"] >= second["logprob"]
    assert choice["logprobs"]["refusal"] is None
    assert chatted(serving, logprobs=True)["logprobs"]["content"][0]["top_logprobs"] == []
    assert chatted(serving, logprobs=False, top_logprobs=0)["logprobs"] is None


def test_offsets_are_where_tokens_begin(serving: Serving) -> None:
    choice = completed(serving, logprobs=0, echo=True)
    text, found = choice["text"], choice["logprobs"]
    assert text.startswith(TEXT)
    offsets = [*found["text_offset"], len(text)]
    for token, start, end in zip(found["tokens"], offsets, offsets[1:], strict=False):
        if not token.startswith("bytes:"):
            # That a character lacks bytes is known, and written, with the next token.
            assert text[start:end].lstrip("\ufffd") == token
    assert found["text_offset"][len(serving.model.tokenizer.encode(TEXT))] == len(TEXT)
    assert any(token.startswith("bytes:\\x") for token in found["tokens"])


@pytest.mark.parametrize("prompt", [TEXT, "tokens"])
def test_an_echo_has_the_logprobs_of_the_prompt(
    serving: Serving, scored: Score, prompt: str
) -> None:
    tokens = serving.model.tokenizer.encode(TEXT)
    right = scored(tokens)
    sent = TEXT if prompt == TEXT else tokens
    choice = completed(serving, prompt=sent, logprobs=1, echo=True, max_tokens=0)
    assert (choice["text"], choice["finish_reason"]) == (TEXT, "length")
    found = choice["logprobs"]
    assert (found["token_logprobs"][0], found["top_logprobs"][0]) == (None, None)
    np.testing.assert_allclose(
        found["token_logprobs"][1:], right[np.arange(len(tokens) - 1), tokens[1:]], atol=2e-6
    )
    greedy = [
        max(top.values()) == own
        for top, own in zip(found["top_logprobs"][1:], found["token_logprobs"][1:], strict=True)
    ]
    assert greedy == (right[:-1].argmax(axis=1) == tokens[1:]).tolist()


def test_prompts_side_by_side_have_the_logprobs_they_have_alone(serving: Serving) -> None:
    prompts = [TEXT, "hello", TEXT + " hello", TEXT]
    asked = {"logprobs": 2, "echo": True, "max_tokens": 1, "temperature": 0}
    together = answered(serving, "completions", prompt=prompts, **asked)["choices"]
    alone = [completed(serving, prompt=prompt, **asked) for prompt in prompts]
    assert [choice["logprobs"] for choice in together] == [each["logprobs"] for each in alone]
    several = answered(serving, "completions", prompt=TEXT, n=3, **asked)["choices"]
    assert [choice["logprobs"] for choice in several] == [alone[0]["logprobs"]] * 3


def test_a_text_may_be_echoed_without_logprobs(serving: Serving) -> None:
    plain = completed(serving)["text"]
    assert completed(serving, echo=True)["text"] == TEXT + plain
    assert completed(serving, echo=True, stop=TEXT[:5])["text"] == TEXT + plain
    named = "<|im_start|>hello"
    assert completed(serving, prompt=named, echo=True, max_tokens=0)["text"] == named
    tokens = serving.model.tokenizer.encode(named, parse_special=True)
    assert completed(serving, prompt=tokens, echo=True, max_tokens=0)["text"] == named


@pytest.mark.parametrize("stop", [None, "stop"])
@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_has_the_logprobs_of_the_whole(
    serving: Serving, echo: bool, stop: str | None
) -> None:
    body: dict[str, Any] = {"prompt": TEXT, **DRAWN, "logprobs": 2, "echo": echo}
    if stop is not None:
        body["stop"] = completed(serving)["text"][4:7]
    whole = completed(serving, **body)
    sent = chunks(post(serving, "completions", {**body, "stream": True}))
    parts = [choice for chunk in sent for choice in chunk["choices"]]
    assert "".join(part["text"] for part in parts) == whole["text"]
    joined: dict[str, list[Any]] = {name: [] for name in whole["logprobs"]}
    for part in parts:
        for name, values in part["logprobs"].items():
            joined[name] += values
    assert joined == whole["logprobs"]


@pytest.mark.parametrize("fields", [{}, {"stop": "o"}, {"n": 2}])
def test_a_chat_s_stream_has_the_logprobs_of_the_whole(
    serving: Serving, fields: dict[str, Any]
) -> None:
    body = {**CHAT, "logprobs": True, "top_logprobs": 1, **fields}
    whole = answered(serving, "chat/completions", **body)["choices"]
    sent = chunks(post(serving, "chat/completions", {**body, "stream": True}))
    joined: list[list[Any]] = [[] for _ in whole]
    for chunk in sent:
        for choice in chunk["choices"]:
            if choice["logprobs"] is not None:
                joined[choice["index"]] += choice["logprobs"]["content"]
    assert joined == [choice["logprobs"]["content"] for choice in whole]


def test_every_token_that_counts_has_an_entry_the_end_token_too(
    serve: Serve, serving: Serving
) -> None:
    tokens = serving.generate(TEXT, **DRAWN, top_p=1.0).json()["tokens"]
    ending = serve(end_of_generation=frozenset({tokens[5]}))
    body = {"prompt": TEXT, **DRAWN, "logprobs": 1}
    answer = answered(ending, "completions", **body)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert len(choice["logprobs"]["tokens"]) == answer["usage"]["completion_tokens"]


def test_vllm_s_logprobs_of_a_prompt(serving: Serving, scored: Score) -> None:
    tokens = serving.model.tokenizer.encode(TEXT)
    right = scored(tokens)
    choice = completed(serving, prompt_logprobs=2, max_tokens=1)
    found = choice["prompt_logprobs"]
    assert choice["logprobs"] is None
    assert (found[0], len(found)) == (None, len(tokens))
    for entry, token, row in zip(found[1:], tokens[1:], right, strict=False):
        own = entry[str(token)]
        assert list(own) == ["logprob", "rank", "decoded_token"]
        assert own["logprob"] == pytest.approx(row[token], abs=2e-6)
        assert own["rank"] == 1 + (row > row[token]).sum()
        likeliest = {str(each) for each in np.argsort(-row, kind="stable")[:2]}
        assert set(entry) == likeliest | {str(token)}
    chat = answered(serving, "chat/completions", **CHAT, prompt_logprobs=0, n=2)
    assert len(chat["prompt_logprobs"]) == chat["usage"]["prompt_tokens"]


def test_the_best_of_several_answers_are_given_likeliest_first(serving: Serving) -> None:
    body = {**DRAWN, "prompt": ["hello", "the world"]}
    made = answered(serving, "completions", **body, n=6, logprobs=0)
    answer = answered(serving, "completions", **body, n=2, best_of=6)
    expected = []
    for first in (0, 6):
        answers = made["choices"][first : first + 6]
        expected += sorted(answers, key=lambda c: -np.mean(c["logprobs"]["token_logprobs"]))[:2]
    assert [choice["text"] for choice in answer["choices"]] == [each["text"] for each in expected]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [choice["logprobs"] for choice in answer["choices"]] == [None] * 4
    assert answer["usage"] == {**made["usage"], "prompt_tokens_details": {"cached_tokens": 0}}


def test_other_servers_names_are_known(serving: Serving) -> None:
    assert completed(serving, n_probs=2)["logprobs"] == completed(serving, logprobs=2)["logprobs"]
    assert completed(serving, n_probs=0)["logprobs"] is None
    named = chatted(serving, logprobs=True, top_logprobs=2)
    assert chatted(serving, n_probs=2)["logprobs"] == named["logprobs"]
    by_id = chatted(serving, logprobs=True, return_tokens_as_token_ids=True)
    assert all(entry["token"].startswith("token_id:") for entry in by_id["logprobs"]["content"])
    found = completed(serving, logprobs=1, return_tokens_as_token_ids=True)["logprobs"]
    assert found["tokens"][0] in found["top_logprobs"][0]
    assert found["tokens"][0].startswith("token_id:")


@pytest.mark.parametrize(
    ("path", "fields", "word"),
    [
        ("completions", {"logprobs": 21}, "logprobs"),
        ("completions", {"logprobs": -1}, "logprobs"),
        ("completions", {"logprobs": True}, "logprobs"),
        ("completions", {"logprobs": 1, "n_probs": 2}, "n_probs"),
        ("completions", {"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ("completions", {"prompt_logprobs": 21}, "prompt_logprobs"),
        ("completions", {"best_of": 2, "stream": True}, "best_of"),
        ("completions", {"best_of": 2, "n": 3}, "best_of"),
        ("completions", {"echo": 1}, "echo"),
        ("chat/completions", {"logprobs": 1}, "logprobs"),
        ("chat/completions", {"top_logprobs": 2}, "top_logprobs"),
        ("chat/completions", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ("chat/completions", {"echo": True}, "echo"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(
    serving: Serving, path: str, fields: dict[str, Any], word: str
) -> None:
    asked = CHAT if "chat" in path else {"prompt": "a"}
    refused = post(serving, path, {**asked, **fields})
    assert refused.status_code == 400
    assert word in refused.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_that_fail_fail_their_request_alone(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("runtime.logprobs.token_logprobs", fail)
        failed = post(
            serving, "completions", {"prompt": "a", "n": 2, "logprobs": 1, "stream": stream}
        )
        if stream:
            assert "failed" in chunks(failed)[-1]["error"]["message"]
        else:
            assert failed.status_code == 500
        assert completed(serving)["text"]
    assert completed(serving, logprobs=1)["logprobs"]["tokens"]


def test_no_place_s_json_is_longer_than_is_counted(tokenizer: Tokenizer) -> None:
    """Not even if its likely tokens are the longest of the vocabulary."""
    sizes = [len(tokenizer.token_piece(token)) for token in range(tokenizer.vocabulary_size)]
    tokens = np.argsort(sizes)[::-1][: MOST_PIECES - 1]
    logprobs = np.full(tokens.size, -123.45678901234567)
    entry = TokenLogprobs(int(tokens[-1]), -123.45678901234567, 262144, tokens, logprobs)
    shapes = LogprobShapes(tokenizer, ShownLogprobs(tokens.size, tokens.size))
    bound = most_json(tokenizer.longest_pieces(MOST_PIECES))
    for count in (1, 2):
        entries = [entry] * count
        chat = bytes(shapes.chat(entries))
        assert len(json.loads(chat)["content"][-1]["top_logprobs"]) == tokens.size
        completion = bytes(
            shapes.completion([(entry.token, each) for each in entries], [0] * count)
        )
        prompt = bytes(shapes.prompt(entries))
        assert len(json.loads(prompt)) == 1 + count
        assert max(map(len, (chat, completion, prompt))) <= count * bound
