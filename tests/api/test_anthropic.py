"""Anthropic's Messages API: a real engine whose answers a test has written."""

import json
from typing import Any

import pytest

from tests.api.saying import Says
from tests.api.serving import Serving

MESSAGES: Any = [{"role": "user", "content": "hello"}]
WEATHER = {
    "name": "weather",
    "description": "The weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
EVERY_MESSAGE = (
    "{#<tool_call>#}{% for m in messages %}[{{ m.role }}|{{ m.content }}"
    "{% if m.reasoning_content %}|{{ m.reasoning_content }}{% endif %}"
    "{% for c in m.tool_calls %}|{{ c.function.name }} {{ c.function.arguments.city }}{% endfor %}]"
    "{% endfor %}"
)


def ask(serving: Serving, **fields: Any) -> dict[str, Any]:
    body = {"messages": MESSAGES, "max_tokens": 200, "temperature": 0, **fields}
    response = serving.post("/v1/messages", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def events(serving: Serving, **fields: Any) -> list[dict[str, Any]]:
    body = {"messages": MESSAGES, "max_tokens": 200, "temperature": 0, "stream": True, **fields}
    found = []
    for event in serving.post("/v1/messages", json=body).text.strip().split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_an_answer_has_text_usage_and_why_it_ended(says: Says) -> None:
    message = ask(says("Hi there."))
    assert message["content"] == [{"type": "text", "text": "Hi there."}]
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "tiny")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    usage = message["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] > 0
    assert usage["output_tokens"] > 0


def test_a_stop_sequence_is_named(says: Says) -> None:
    message = ask(says("one two three"), stop_sequences=["x", " two"])
    assert message["content"] == [{"type": "text", "text": "one"}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", " two")


def test_an_answer_that_is_cut_says_so(says: Says) -> None:
    assert ask(says("one two three"), max_tokens=1)["stop_reason"] == "max_tokens"


def test_thoughts_and_calls_are_blocks(says: Says) -> None:
    serving = says(f"<think>\nhm\n</think>\n\nI look.\n{CALL}")
    message = ask(serving, tools=[WEATHER], thinking={"type": "enabled", "budget_tokens": 1024})
    thought, text, call = message["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "hm")
    assert text == {"type": "text", "text": "I look."}
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "weather", {"city": "Rome"})
    assert message["stop_reason"] == "tool_use"


def test_a_stream_has_each_block_between_its_start_and_its_stop(says: Says) -> None:
    serving = says(f"<think>\nhm\n</think>\n\nI look.\n{CALL}")
    found = events(serving, tools=[WEATHER], thinking={"type": "enabled", "budget_tokens": 1024})
    assert found[0]["message"]["content"] == []
    kinds = [e["type"] for e in found if e["type"] != "content_block_delta"]
    block = ["content_block_start", "content_block_stop"]
    assert kinds == ["message_start", *block * 3, "message_delta", "message_stop"]
    starts = [e for e in found if e["type"] == "content_block_start"]
    assert [(e["index"], e["content_block"]["type"]) for e in starts] == [
        (0, "thinking"),
        (1, "text"),
        (2, "tool_use"),
    ]
    texts = ["", "", ""]
    for event in found:
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            texts[event["index"]] += (
                delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
            )
    assert texts[:2] == ["hm", "I look."]
    assert json.loads(texts[2]) == {"city": "Rome"}
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    assert found[-2]["usage"]["output_tokens"] > 0


def test_blocks_become_the_messages_that_templates_know(says: Says) -> None:
    serving = says("ok", EVERY_MESSAGE)
    body = {
        "system": [{"type": "text", "text": "be"}, {"type": "text", "text": "brief"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "a"},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                    {"type": "text", "text": "and now?"},
                ],
            },
        ],
    }
    expected = "[system|be\nbrief][user|q][assistant|a|hm|weather Rome][tool|sunny][user|and now?]"
    counted = serving.post("/v1/messages/count_tokens", json=body).json()["input_tokens"]
    tokens = serving.post("/tokenize", json={"content": expected, "add_special": True}).json()
    assert counted == len(tokens["tokens"])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"temperature": -1}, "temperature"),
        ({"output_config": {"format": {"type": "yaml"}}}, "output_config.format"),
    ],
)
def test_a_wrong_field_is_named_in_anthropics_form(
    serving: Serving, fields: dict[str, Any], named: str
) -> None:
    body = {"messages": MESSAGES, "max_tokens": 10, **fields}
    response = serving.post("/v1/messages", json=body)
    assert response.status_code == 400
    error = response.json()
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert named in error["error"]["message"]


def test_another_model_is_not_found(serving: Serving) -> None:
    body = {"messages": MESSAGES, "max_tokens": 10, "model": "another"}
    response = serving.post("/v1/messages", json=body)
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"
