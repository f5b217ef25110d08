"""Ollama's API: a real engine whose answers a test has written."""

import json
from typing import Any

import pytest

from tests.api.saying import Says
from tests.api.serving import Serving

MESSAGES: Any = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
NONE: dict[str, Any] = {"temperature": 0}


def chat(serving: Serving, **fields: Any) -> list[dict[str, Any]]:
    """The objects of an answer, which without `stream` is one."""
    body = {"messages": MESSAGES, "options": NONE, **fields}
    response = serving.post("/api/chat", json=body)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def test_answers_are_streamed_as_lines_unless_told_otherwise(says: Says) -> None:
    serving = says("Hi there.")
    *pieces, last = chat(serving)
    assert "".join(piece["message"]["content"] for piece in pieces) == "Hi there."
    assert not any(piece["done"] for piece in pieces)
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert last["eval_count"] > 0
    assert last["prompt_eval_count"] > 0
    assert last["total_duration"] >= last["eval_duration"] > 0


def test_an_answer_that_is_not_streamed_is_one_object(says: Says) -> None:
    (whole,) = chat(says("Hi there."), stream=False)
    assert whole["message"] == {"role": "assistant", "content": "Hi there."}
    assert (whole["model"], whole["done"]) == ("tiny", True)


def test_thoughts_and_calls_are_fields_of_the_message(says: Says) -> None:
    serving = says(f"<think>\nhm\n</think>\n\nI look.\n{CALL}")
    (whole,) = chat(serving, tools=TOOLS, stream=False, think=True)
    assert whole["message"]["thinking"] == "hm"
    assert whole["message"]["content"] == "I look."
    (call,) = whole["message"]["tool_calls"]
    assert call["function"] == {"index": 0, "name": "weather", "arguments": {"city": "Rome"}}


def test_calls_are_streamed_whole(says: Says) -> None:
    pieces = chat(says(CALL), tools=TOOLS)
    calls = [call for piece in pieces for call in piece["message"].get("tool_calls", ())]
    assert [call["function"]["arguments"] for call in calls] == [{"city": "Rome"}]


def test_options_are_honoured(says: Says) -> None:
    (cut,) = chat(says("one two three"), options={**NONE, "stop": [" two"]}, stream=False)
    assert cut["message"]["content"] == "one"
    (short,) = chat(says("one two three"), options={**NONE, "num_predict": 1}, stream=False)
    assert (short["done_reason"], short["eval_count"]) == ("length", 1)


def test_text_is_generated_with_the_template_or_raw(says: Says) -> None:
    serving = says("<think>one</think> two", "[{{ messages[-1].content }}]")
    body = {"prompt": "hello", "options": NONE, "stream": False}
    whole = serving.post("/api/generate", json={**body, "raw": True}).json()
    assert whole["response"] == "<think>one</think> two"
    in_brackets = serving.post("/api/generate", json=body).json()
    assert in_brackets["prompt_eval_count"] > whole["prompt_eval_count"]


@pytest.mark.parametrize(("keep_alive", "reason"), [(None, "load"), (0, "unload"), ("5m", "load")])
def test_a_request_without_a_prompt_only_loads(
    serving: Serving, keep_alive: Any, reason: str
) -> None:
    for path in ("/api/chat", "/api/generate"):
        answer = serving.post(path, json={"model": "tiny", "keep_alive": keep_alive}).json()
        assert (answer["done"], answer["done_reason"]) == (True, reason)


def test_models_are_listed_shown_and_there(serving: Serving) -> None:
    for path in ("/api/tags", "/api/ps"):
        (entry,) = serving.get(path).json()["models"]
        assert entry["name"] == entry["model"] == "tiny"
    shown = serving.post("/api/show", json={"model": "tiny:latest"}).json()
    assert "completion" in shown["capabilities"]
    assert serving.post("/api/pull", json={"name": "tiny"}).json() == {"status": "success"}
    assert serving.get("/api/version").json()["version"]


@pytest.mark.parametrize(
    ("path", "fields", "status", "named"),
    [
        ("/api/chat", {"messages": MESSAGES, "model": "another"}, 404, "another"),
        ("/api/chat", {"messages": MESSAGES, "options": {"temperature": -1}}, 400, "temperature"),
        ("/api/chat", {"messages": MESSAGES, "options": {"mirostat": 2}}, 400, "mirostat"),
        ("/api/chat", {"messages": MESSAGES, "format": "yaml"}, 400, "format"),
        ("/api/chat", {"messages": [{**MESSAGES[0], "images": ["aGk="]}]}, 400, "images"),
        ("/api/generate", {"prompt": "x", "suffix": "y"}, 400, "suffix"),
        ("/api/generate", {"prompt": "x", "template": "{{ .Prompt }}"}, 400, "template"),
        ("/api/show", {}, 400, "model"),
        ("/api/pull", {"model": "another"}, 404, "another"),
        ("/api/create", {"model": "another"}, 404, "/api/create"),
    ],
)
def test_what_is_wrong_is_named_in_ollamas_form(
    serving: Serving, path: str, fields: dict[str, Any], status: int, named: str
) -> None:
    response = serving.post(path, json=fields)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert named in response.json()["error"]
