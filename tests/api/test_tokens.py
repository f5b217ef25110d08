"""Routes that show tokens and prompts agree with what the engine gets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.resources import tokens
from api.tokens import TokenizeBody
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.api.conftest import Serve
from tests.api.serving import Serving
from tests.models import byte_level_vocabulary, write_tiny_llama

MESSAGES = [{"role": "user", "content": "hello <|im_end|>"}]
PROMPT = "<|im_start|>user\nhello <|im_end|><|im_end|>\n<|im_start|>assistant\n"


def asked(serving: Serving, path: str, **body: Any) -> Any:
    response = serving.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_text_has_tokens_and_they_have_its_text(serving: Serving) -> None:
    text = "<|im_start|>hello the world, é 漢"
    found = asked(serving, "/tokenize", content=text)["tokens"]
    assert found == serving.model.tokenizer.encode(text, add_special=False, parse_special=True)
    assert asked(serving, "/detokenize", tokens=found)["content"] == text
    typed = asked(serving, "/tokenize", content=text, parse_special=False)["tokens"]
    assert len(typed) > len(found)
    assert asked(serving, "/detokenize", tokens=typed) == {"content": text, "prompt": text}


def test_vllm_has_other_names_and_adds_bos_by_default(serving: Serving) -> None:
    plain = asked(serving, "/tokenize", content="hello")
    assert asked(serving, "/tokenize", prompt="hello", add_special_tokens=False) == plain
    both = serving.post("/tokenize", json={"content": "a", "prompt": "b"})
    assert (both.status_code, "prompt" in both.text) == (400, True)
    assert TokenizeBody(prompt="a").adds_special()
    assert not TokenizeBody(content="a").adds_special()


def test_a_client_may_ask_for_the_tokenizer_s_special_tokens(serving: Serving) -> None:
    assert serving.get("/tokenizer_info").json() == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "chat_template": serving.model.tokenizer.chat_template,
    }


@pytest.mark.parametrize("name", ["add_special", "add_special_tokens"])
def test_bos_is_added_where_it_is_asked_for(serve: Serve, tmp_path: Path, name: str) -> None:
    serving = serve()
    file = GGUFFile.open(
        write_tiny_llama(
            tmp_path / "tiny.gguf", vocabulary=replace(byte_level_vocabulary(), add_bos=True)
        )
    )
    tokenizer = Tokenizer.from_gguf(file)
    model = replace(serving.model, tokenizer=tokenizer)
    serving.services.served.load(lambda: model)
    plain = tokenizer.encode("hello", add_special=False)
    bos = tokenizer.bos
    assert asked(serving, "/tokenize", content="hello", **{name: True})["tokens"] == [bos, *plain]
    assert asked(serving, "/tokenize", content="hello", **{name: False})["tokens"] == plain
    for value, expected in ((True, [bos, *plain]), (False, plain)):
        body = {"prompt": "hello", "add_special_tokens": value}
        (rendered,) = asked(serving, "/v1/completions/render", **body)
        assert rendered["token_ids"] == expected


def test_fields_of_other_servers_are_refused_and_unknown_ones_named(serving: Serving) -> None:
    refused = serving.post("/tokenize", json={"messages": MESSAGES})
    assert refused.status_code == 400
    assert "messages is not supported here" in refused.text
    answer = serving.post("/tokenize", json={"content": "hello", "contnt": 1})
    assert answer.headers["X-Ignored-Fields"] == "contnt"


def test_texts_and_tokens_may_follow_each_other(serving: Serving) -> None:
    one, other = (asked(serving, "/tokenize", content=text)["tokens"] for text in ("hello", "é"))
    mixed = asked(serving, "/tokenize", content=["hello", 1, 2, "é"])["tokens"]
    assert mixed == [*one, 1, 2, *other]


def test_pieces_are_texts_or_the_bytes_of_parts_of_characters(serving: Serving) -> None:
    pieces = asked(serving, "/tokenize", content="<|im_end|>hellé", with_pieces=True)["tokens"]
    assert [list(piece) for piece in pieces] == [["id", "piece"]] * len(pieces)
    assert pieces[0] == {"id": 2, "piece": "<|im_end|>"}
    assert [piece["piece"] for piece in pieces[1:]] == ["hell", [0xC3], [0xA9]]


@pytest.mark.parametrize(("path", "nothing"), [("tokenize", "tokens"), ("detokenize", "content")])
def test_nothing_given_is_nothing(serving: Serving, path: str, nothing: str) -> None:
    empty: dict[str, Any] = {"tokens": [], "content": ""}
    assert asked(serving, f"/{path}")[nothing] == empty[nothing]
    given = "content" if path == "tokenize" else "tokens"
    assert asked(serving, f"/{path}", **{given: empty[given]})[nothing] == empty[nothing]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"content": 5}),
        ("/tokenize", {"content": ["a", 100_000]}),
        ("/tokenize", {"content": ["a", -1]}),
        ("/detokenize", {"tokens": [100_000]}),
        ("/detokenize", {"tokens": "hello"}),
        ("/apply-template", {"messages": []}),
        ("/v1/completions/render", {"prompt": ""}),
        ("/v1/completions/render", {"prompt": [100_000]}),
        ("/v1/completions/render", {"prompt": "x" * 10_000}),
        ("/v1/chat/completions/render", {"messages": [{"role": "user", "content": "x" * 10_000}]}),
    ],
)
def test_what_does_not_fit_is_refused(serving: Serving, path: str, body: dict[str, Any]) -> None:
    assert serving.post(path, json=body).status_code == 400


def test_messages_become_the_prompt_of_the_template(serving: Serving) -> None:
    assert asked(serving, "/apply-template", messages=MESSAGES) == {"prompt": PROMPT}


DROPS_DEVELOPERS = (
    "{% for m in messages %}{% if m.role in ['system', 'user'] %}[{{ m.role }}]{{ m.content }}"
    "{% endif %}{% endfor %}"
)
REFUSES_DEVELOPERS = (
    "{% for m in messages %}{% if m.role == 'developer' %}{{ raise_exception('no') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}"
)
SHOWS_DEVELOPERS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "role"),
    [
        (DROPS_DEVELOPERS, "system"),
        (REFUSES_DEVELOPERS, "system"),
        (SHOWS_DEVELOPERS, "developer"),
    ],
)
def test_a_developer_speaks_as_the_system_where_the_template_knows_none(
    serve: Serve, template: str, role: str
) -> None:
    serving = serve()
    serving.services.served.load(lambda: replace(serving.model, chat_template=template))
    messages = [{"role": "developer", "content": "Be kind"}, {"role": "user", "content": "hello"}]
    prompt = f"[{role}]Be kind[user]hello"
    assert asked(serving, "/apply-template", messages=messages) == {"prompt": prompt}
    tokens = asked(serving, "/v1/chat/completions/render", messages=messages)["token_ids"]
    assert asked(serving, "/detokenize", tokens=tokens)["content"] == prompt


def test_a_chat_is_rendered_as_it_is_generated_from(serving: Serving) -> None:
    body = {"messages": MESSAGES, "max_tokens": 3, "stop": ["a", "b"], "top_k": 7, "seed": 5}
    rendered = asked(serving, "/v1/chat/completions/render", **body)
    assert rendered["request_id"].startswith("chatcmpl-")
    assert (rendered["model"], rendered["stream"], rendered["features"]) == ("tiny", False, None)
    assert rendered["sampling_params"] == {
        **{"temperature": 1.0, "top_p": 1.0, "top_k": 7, "seed": 5},
        **{"stop": ["a", "b"], "ignore_eos": False, "max_tokens": 3},
    }
    assert serving.session.steps == 0
    generated = asked(serving, "/v1/chat/completions", **body)
    assert generated["usage"]["prompt_tokens"] == len(rendered["token_ids"])
    # What was typed is text: only the template's own control tokens are there.
    assert [token for token in rendered["token_ids"] if token in (1, 2)] == [1, 2, 1]
    text = asked(serving, "/detokenize", tokens=rendered["token_ids"])["content"]
    assert text == PROMPT


def test_a_completion_is_rendered_as_it_is_generated_from(serving: Serving) -> None:
    body = {"prompt": "<|im_start|>hello", "max_tokens": 5, "stream": True}
    (rendered,) = asked(serving, "/v1/completions/render", **body)
    assert rendered["token_ids"] == asked(serving, "/tokenize", content=body["prompt"])["tokens"]
    assert rendered["request_id"].startswith("cmpl-")
    assert rendered["stream_options"] == {"include_usage": False}
    (given,) = asked(serving, "/v1/completions/render", prompt=[1, 5, 6], max_tokens=100_000)
    assert given["token_ids"] == [1, 5, 6]
    assert given["sampling_params"]["max_tokens"] == serving.model.engine.limits.context_length - 3
    wrong = serving.post("/v1/completions/render", json={"prompt": "a", "model": "other"})
    assert wrong.status_code == 404


def test_they_take_slots(serving: Serving) -> None:
    slots = serving.services.slots
    while slots.acquire():
        pass
    for path in ("/tokenize", "/detokenize", "/apply-template", "/v1/completions/render"):
        assert serving.post(path, json={"messages": MESSAGES, "prompt": "a"}).status_code == 503
    for _ in range(slots.count):
        slots.release()
    assert asked(serving, "/tokenize", content="a")["tokens"]
    assert slots.in_use == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"content": "a\n" * 600}),
        ("/tokenize", {"content": ["a"] * 600}),
        ("/tokenize", {"content": [1] * 600}),
        ("/detokenize", {"tokens": [1] * 600}),
    ],
)
def test_an_answer_holds_a_bounded_number_of_tokens(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    assert serving.post(path, json=body).status_code == 200
    monkeypatch.setattr(tokens, "MAX_TOKENS", 500)
    refused = serving.post(path, json=body)
    assert refused.status_code == 400
    assert "there are more than 500 tokens" in refused.json()["error"]
