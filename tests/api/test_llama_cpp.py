"""llama.cpp's own routes: a real engine whose answers a test has written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.api.saying import Says
from tests.api.serving import Serving
from tests.models import write_tiny_llama
from tests.waiting import eventually

FILL_IN = {"fim_pre": 100, "fim_suf": 101, "fim_mid": 102, "fim_rep": 103, "fim_sep": 104}
"""Tokens that stand for those of a code model."""


def complete(serving: Serving, path: str = "/completion", **fields: Any) -> Any:
    body = {"prompt": "hello", "temperature": 0, **fields}
    response = serving.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def events(serving: Serving, **fields: Any) -> list[dict[str, Any]]:
    body = {"prompt": "hello", "temperature": 0, "stream": True, **fields}
    response = serving.post("/completion", json=body)
    assert response.headers["Content-Type"] == "text/event-stream"
    lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_an_answer_has_its_text_counts_and_timings(says: Says) -> None:
    answer = complete(says("Hi there.\n"))
    assert (answer["content"], answer["stop"], answer["stop_type"]) == ("Hi there.\n", True, "eos")
    assert (answer["model"], answer["prompt"], answer["index"]) == ("tiny", "hello", 0)
    assert (answer["tokens"], answer["has_new_line"], answer["truncated"]) == ([], True, False)
    timings = answer["timings"]
    assert timings["prompt_n"] == answer["tokens_evaluated"]
    assert timings["predicted_n"] == answer["tokens_predicted"]
    assert timings["predicted_per_second"] > 0


def test_an_answer_ends_at_a_stop_or_at_the_limit(says: Says) -> None:
    stopped = complete(says("one two three"), stop=[" two"])
    assert (stopped["content"], stopped["stop_type"]) == ("one", "word")
    assert stopped["stopping_word"] == " two"
    cut = complete(says("one two three"), n_predict=2, return_tokens=True)
    assert (cut["stop_type"], cut["tokens_predicted"], len(cut["tokens"])) == ("limit", 2, 2)


def test_sampling_has_the_defaults_of_llama_cpp(serving: Serving) -> None:
    body = {"prompt": "hello", "n_predict": 1}
    settings = serving.post("/completion", json=body).json()["generation_settings"]
    assert (settings["temperature"], settings["top_k"], settings["n_predict"]) == (0.8, 40, 1)
    assert (settings["top_p"], settings["min_p"], settings["repeat_penalty"]) == (0.95, 0.05, 1)


def test_a_stream_has_an_event_for_each_token_and_ends_with_the_whole_state(says: Says) -> None:
    *tokens, last = events(says("Hi\nthere."))
    assert "".join(event["content"] for event in tokens) == "Hi\nthere."
    assert not any(event["stop"] for event in tokens)
    assert (last["stop"], last["content"], last["stop_type"]) == (True, "", "eos")
    assert last["has_new_line"]
    assert sum(len(event["tokens"]) for event in tokens) == last["tokens_predicted"]
    assert "timings" not in tokens[0]
    assert "timings" in events(says("Hi"), timings_per_token=True)[0]


def test_probabilities_of_tokens_are_given_on_request(says: Says) -> None:
    answer = complete(says("Hi"), n_probs=3)
    first = answer["completion_probabilities"][0]
    assert (first["token"], first["bytes"], len(first["top_logprobs"])) == ("H", [72], 3)
    assert first["top_logprobs"][0] == {name: first[name] for name in first["top_logprobs"][0]}


def test_only_the_fields_asked_for_are_given(says: Says) -> None:
    fields = ["content", "generation_settings/n_predict", "nothing/here"]
    answer = complete(says("Hi"), response_fields=fields)
    assert answer == {"content": "Hi", "generation_settings/n_predict": -1}


def test_a_prompt_may_hold_texts_and_tokens_or_be_several(serving: Serving) -> None:
    tokenizer = serving.model.tokenizer
    token = tokenizer.encode("ello", add_special=False)
    one = complete(serving, prompt=["h", *token], n_predict=1)
    assert one["prompt"] == "hello"
    two = complete(serving, prompt=["hello", ["h", *token]], n_predict=1)
    assert [answer["index"] for answer in two] == [0, 1]
    assert [answer["prompt"] for answer in two] == ["hello", "hello"]


@pytest.mark.parametrize(
    ("path", "fields", "status", "kind"),
    [
        ("/completion", {"prompt": 5}, 400, "invalid_request_error"),
        ("/completion", {"prompt": []}, 400, "invalid_request_error"),
        ("/completion", {"mirostat": 2}, 400, "invalid_request_error"),
        ("/completion", {"stream_options": {}, "prompt_logprobs": 1}, 400, "invalid_request_error"),
        ("/completion", {"prompt": "long " * 2000}, 400, "exceed_context_size_error"),
        ("/infill", {"input_prefix": "a"}, 400, "invalid_request_error"),
    ],
)
def test_errors_have_the_shape_of_llama_cpp(
    serving: Serving, path: str, fields: dict[str, Any], status: int, kind: str
) -> None:
    response = serving.post(path, json={"prompt": "a", **fields})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (status, status, kind)
    assert error["message"]


def test_a_failed_stream_ends_with_the_error(serving: Serving) -> None:
    def fail(*_: object) -> Any:
        raise RuntimeError("broken")

    serving.session.fault = fail
    (event,) = events(serving, n_predict=2)
    assert event["error"]["type"] == "server_error"


@pytest.fixture
def filling(serving: Serving, tmp_path: Path) -> Serving:
    """A server of a model whose file names the tokens of prompts with a gap."""
    keys = {f"tokenizer.ggml.{key}_token_id": token for key, token in FILL_IN.items()}
    gguf = write_tiny_llama(tmp_path / "code.gguf", metadata=keys)
    model = replace(serving.model, tokenizer=Tokenizer.from_gguf(GGUFFile.open(gguf)))
    serving.services.served.load(lambda: model)
    return serving


def test_a_gap_is_filled_between_its_prefix_and_suffix(filling: Serving) -> None:
    names = {key: filling.model.tokenizer.token_text(token) for key, token in FILL_IN.items()}
    body = {"input_prefix": "def f(", "input_suffix": "):\n", "prompt": "a", "n_predict": 1}
    given = {**body, "input_extra": [{"text": "x = 1\n", "filename": "x.py"}]}
    prompt = filling.post("/infill", json=given).json()["prompt"]
    assert prompt == (
        "{fim_rep}myproject\n{fim_sep}x.py\nx = 1\n{fim_sep}filename\n"
        "{fim_pre}def f(a{fim_suf}):\n{fim_mid}"
    ).format(**names)


def test_a_long_text_is_cut_to_what_is_next_to_the_gap(filling: Serving) -> None:
    limits = filling.model.engine.limits
    body = {"input_prefix": "xyz " * 1000 + "near", "input_suffix": "next" + " abc" * 1000}
    extra = [{"text": "file " * 1000}]
    given = {**body, "input_extra": extra, "n_predict": 1}
    answer = filling.post("/infill", json=given).json()
    assert "near" in answer["prompt"]
    assert "next" in answer["prompt"]
    assert answer["tokens_evaluated"] < limits.context_length


def test_a_model_without_tokens_for_a_gap_says_so(serving: Serving) -> None:
    response = serving.post("/infill", json={"input_prefix": "a", "input_suffix": "b"})
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (501, "not_supported_error")
    assert "no token for prefix, suffix, middle" in error["message"]


def test_props_describe_the_model(serving: Serving) -> None:
    props = serving.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 256
    assert props["default_generation_settings"]["params"]["top_k"] == 40
    assert props["total_slots"] == serving.services.settings.max_batch_size
    assert (props["model_alias"], props["eos_token"]) == ("tiny", "<|im_end|>")
    assert "<|im_start|>" in props["chat_template"]


def test_slots_show_running_requests_without_their_text(serving: Serving) -> None:
    free = serving.get("/slots").json()
    assert len(free) == serving.services.settings.max_batch_size
    assert not any(slot["is_processing"] for slot in free)
    serving.session.allow(1)
    with serving.stream(max_tokens=5):
        eventually(lambda: serving.get("/slots").json()[0]["is_processing"])
        slot = serving.get("/slots").json()[0]
        serving.session.let_go()
    assert slot["params"]["n_predict"] == 5
    assert "prompt" not in slot
    assert serving.get("/slots?fail_on_no_slot=1").status_code == 200
