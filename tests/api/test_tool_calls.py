"""Chats with tools and reasoning over HTTP: a real engine whose tokens a test has written."""

import json
from typing import Any

import openai
import pytest

from tests.api.saying import TEMPLATE, Says, saying
from tests.api.serving import Serving
from tests.waiting import SECONDS

MESSAGES: Any = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
NAMED: Any = {"type": "function", "function": {"name": "weather"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def tool(city: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A tool whose one argument has a schema."""
    parameters = {"properties": {"city": city}, "required": ["city"], "type": "object"}
    return {
        "type": "function",
        "function": {"name": "weather", "parameters": parameters, **more},
    }


def chat(serving: Serving, **fields: Any) -> dict[str, Any]:
    body = {"messages": MESSAGES, "temperature": 0, **fields}
    response = serving.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def client(serving: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", timeout=SECONDS)


def test_a_call_is_given_as_openai_has_it(says: Says) -> None:
    choice = chat(says(f"I look.\n{CALL}"), tools=TOOLS)["choices"][0]
    (call,) = choice["message"].pop("tool_calls")
    assert choice["message"] == {"content": "I look.", "role": "assistant"}
    assert choice["finish_reason"] == "tool_calls"
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
    assert call["id"].startswith("call_")


def test_an_answer_of_calls_alone_has_no_content(says: Says) -> None:
    message = chat(says(CALL), tools=TOOLS)["choices"][0]["message"]
    assert message["content"] is None


def test_openai_s_client_gets_calls_whole_and_streamed(says: Says) -> None:
    serving = says(f"<think>\nhm\n</think>\n\nI look.\n{CALL}\n{CALL}")
    made = client(serving).chat.completions
    whole = made.create(model="tiny", messages=MESSAGES, tools=TOOLS, temperature=0)
    calls = whole.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == ["weather"] * 2
    assert len({call.id for call in calls}) == 2

    serving.session.fault = saying(serving.model.tokenizer.encode(CALL, add_special=False))
    with made.stream(
        model="tiny",
        messages=MESSAGES,
        tools=TOOLS,
        temperature=0,
    ) as stream:
        last = stream.get_final_completion()
    assert last.choices[0].finish_reason == "tool_calls"
    (call,) = last.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Rome"}


def test_a_stream_has_thoughts_text_and_calls_in_their_order(says: Says) -> None:
    serving = says(f"<think>\nhm\n</think>\n\nI look.\n{CALL}")
    body = {"messages": MESSAGES, "temperature": 0, "tools": TOOLS, "stream": True}
    response = serving.post("/v1/chat/completions", json=body, stream=True)
    lines = [line[6:] for line in response.iter_lines() if line.startswith(b"data: {")]
    choices = [json.loads(line)["choices"][0] for line in lines]
    deltas = [choice["delta"] for choice in choices]
    thought = "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert (thought, "".join(delta.get("content", "") for delta in deltas)) == ("hm", "I look.")
    names = [name for delta in deltas for name in delta if name != "role"]
    assert list(dict.fromkeys(names)) == ["content", "reasoning_content", "reasoning", "tool_calls"]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert {call["index"] for call in calls} == {0}
    first, *more = calls
    assert first["function"] == {"name": "weather", "arguments": "{"}
    assert all(set(call) == {"index", "function"} for call in more)
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"city": "Rome"}
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_a_streamed_call_that_breaks_is_given_as_text_too(says: Says) -> None:
    broken = CALL.replace("}}", "}")
    serving = says(f"{broken}\n{CALL}")
    body = {"messages": MESSAGES, "temperature": 0, "tools": TOOLS, "stream": True}
    response = serving.post("/v1/chat/completions", json=body, stream=True)
    lines = [line[6:] for line in response.iter_lines() if line.startswith(b"data: {")]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert "".join(delta.get("content", "") for delta in deltas).strip() == broken
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    whole = "".join(call["function"]["arguments"] for call in calls if call["index"] == 1)
    assert json.loads(whole) == {"city": "Rome"}


def test_one_call_ends_the_answer_where_no_more_are_wanted(says: Says) -> None:
    serving = says(f"{CALL}\n{CALL}")
    choice = chat(serving, tools=TOOLS, parallel_tool_calls=False)["choices"][0]
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"
    assert (
        len(chat(says(f"{CALL}\n{CALL}"), tools=TOOLS)["choices"][0]["message"]["tool_calls"]) == 2
    )


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": []}])
def test_without_tools_a_call_is_text(says: Says, fields: dict[str, Any]) -> None:
    choice = chat(says(CALL), **fields)["choices"][0]
    assert choice["message"] == {"content": CALL, "role": "assistant"}
    assert choice["finish_reason"] == "stop"


def test_a_broken_call_is_text(says: Says) -> None:
    broken = CALL.replace("}}", "}")
    choice = chat(says(broken), tools=TOOLS)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (broken, "stop")


def test_reasoning_is_parted_counted_and_can_be_left_where_it_is(
    says: Says,
) -> None:
    text = "<think>\nhm\n</think>\n\nHi"
    serving = says(text)
    answer = chat(serving)
    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hi", "hm")
    assert message["reasoning"] == "hm"
    marked = serving.model.tokenizer.encode(text[: text.index("\n\nHi")], add_special=False)
    counted = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert 0 < len(marked) - counted <= len("<think>")
    for fields in ({"reasoning_format": "none"}, {"separate_reasoning": False}):
        message = chat(says(text), **fields)["choices"][0]["message"]
        assert message == {"content": text, "role": "assistant"}
    message = chat(says(text), include_reasoning=False)["choices"][0]["message"]
    assert message == {"content": "Hi", "role": "assistant"}


def test_a_thought_that_the_prompt_begins_is_one(says: Says) -> None:
    serving = says("hm\n</think>\n\nHi")
    message = chat(serving, chat_template_kwargs={"open": True})["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hi", "hm")


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_answer_ends_where_a_call_is_repeated(says: Says, stream: bool) -> None:
    oslo = CALL.replace("Rome", "Oslo")
    again = oslo.replace('": ', '":\n')
    serving = says("\n".join([CALL, oslo, again, CALL]))
    body = {"messages": MESSAGES, "temperature": 0, "tools": TOOLS, "tool_choice": "required"}
    response = serving.post("/v1/chat/completions", json={**body, "stream": stream})
    if not stream:
        choice = response.json()["choices"][0]
        calls = choice["message"]["tool_calls"]
    else:
        lines = [line[6:] for line in response.iter_lines() if line.startswith(b"data: {")]
        choices = [json.loads(line)["choices"][0] for line in lines]
        choice = choices[-1]
        calls = [call for each in choices for call in each["delta"].get("tool_calls", [])]
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert arguments == '{"city": "Rome"}{"city": "Oslo"}'
    assert choice["finish_reason"] == "tool_calls"


CITIES = tool({"enum": ["Rome", "Oslo"]})
OTHER = {"type": "function", "function": {"name": "time"}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("required", "tool_calls"),
        (NAMED, "stop"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
            "tool_calls",
        ),
    ],
)
@pytest.mark.parametrize(
    "template", [TEMPLATE, TEMPLATE.replace("<tool_call>", "[TOOL_CALLS]"), "{{ tools }}", "none"]
)
def test_a_forced_call_is_valid_whatever_the_model_would_say(
    says: Says, template: str, choice: Any, reason: str, stream: bool
) -> None:
    serving = says("Hello there, I will not call anything.", template)
    tools = [CITIES] if choice == "required" else [CITIES, OTHER]
    made = client(serving).chat.completions
    asked: Any = {
        "messages": MESSAGES,
        "model": "tiny",
        "tools": tools,
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "max_tokens": 300,
    }
    if stream:
        with made.stream(**asked) as events:
            whole = events.get_final_completion()
    else:
        whole = made.create(**asked)
    assert whole.choices[0].finish_reason == reason
    (call,) = whole.choices[0].message.tool_calls or []
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    assert not whole.choices[0].message.content


def test_a_thought_before_a_forced_call_is_the_model_s_own(says: Says) -> None:
    text = "<think>\nhm, <tool_call> {\n</think>\n\nI say no."
    serving = says(text, TEMPLATE.replace("{#", "{#</think>"))
    message = chat(serving, tools=[CITIES], tool_choice="required")["choices"][0]["message"]
    assert message["reasoning_content"] == "hm, <tool_call> {"
    assert message["tool_calls"][0]["function"]["name"] == "weather"
    assert message["content"] is None


def test_a_strict_tool_s_calls_are_valid_and_text_stays_free(says: Says) -> None:
    strict = tool({"enum": ["Oslo"]}, strict=True)
    message = chat(says(f"I look.\n{CALL}"), tools=[strict])["choices"][0]["message"]
    assert message["content"] == "I look."
    arguments = [json.loads(call["function"]["arguments"]) for call in message["tool_calls"]]
    assert arguments == [{"city": "Oslo"}]
    assert chat(says("No call."), tools=[strict])["choices"][0]["message"]["content"] == "No call."


def test_a_form_allows_calls_beside_it_and_begins_behind_the_thought(
    says: Says,
) -> None:
    template = TEMPLATE.replace("{#", "{#</think>")
    thought = "<think>\nhm 7 {\n</think>\n\n"
    asked: Any = {"response_format": {"type": "json_object"}}
    message = chat(says(f'{thought}{{"a": 1}}', template), **asked)["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm 7 {", '{"a": 1}')
    message = chat(says(f"{thought}{CALL}", template), tools=TOOLS, **asked)["choices"][0][
        "message"
    ]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather"]


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking_token_budget": 4},
        {"thinking_budget": 4},
        {"reasoning_budget": 4},
        {"thinking": {"type": "enabled", "budget_tokens": 4}},
        {"reasoning": {"max_tokens": 4}},
    ],
)
def test_a_thought_ends_when_its_budget_is_spent(says: Says, fields: dict[str, Any]) -> None:
    serving = says("<think>\n" + "é hm " * 30)
    answer = chat(serving, max_tokens=60, **fields)
    message = answer["choices"][0]["message"]
    tokens = serving.model.tokenizer.encode("\n" + "é hm " * 30, add_special=False)
    begun = serving.model.tokenizer.decode(tokens[:4]).strip()
    assert message["reasoning_content"].startswith(begun)
    assert len(message["reasoning_content"]) <= len(begun) + 1
    marks = len(serving.model.tokenizer.encode("</think>", add_special=False))
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 4 + 1 + marks
    assert message["content"]


def test_a_budget_of_no_tokens_ends_a_thought_that_the_prompt_began(
    says: Says,
) -> None:
    serving = says("hm " * 30)
    asked: Any = {"chat_template_kwargs": {"open": True}, "max_tokens": 40, "reasoning_budget": 0}
    for more in ({}, {"response_format": {"type": "json_object"}, "max_tokens": 200, "seed": 1}):
        message = chat(serving, **(asked | more))["choices"][0]["message"]
        assert "reasoning_content" not in message
        assert message["content"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function must be an object"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name must be"),
        ({"tools": [7]}, "tools[0] must be an object"),
        ({"tools": TOOLS * 2}, "tools[1].function.name is that of another"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": TOOLS, "tool_choice": NAMED | {"function": {"name": "x"}}}, "names x, which is"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom"}}, "tool_choice must be"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "a mode"),
        ({"tools": [tool({"not": {}})], "tool_choice": "required"}, "keyword not"),
        ({"tools": [tool({"format": "regex"}, strict=True)]}, "format regex"),
        ({"thinking_budget": -2}, "thinking_budget must be at least 0"),
        ({"thinking": {"budget_tokens": "x"}}, "thinking.budget_tokens must be a number"),
        ({"thinking_budget": 3, "reasoning_budget": 4}, "are one field"),
        ({"tools": TOOLS, "tool_choice": "must"}, "tool_choice must be"),
        ({"reasoning_format": "odd"}, "reasoning_format must be"),
    ],
)
def test_what_does_not_fit_is_named(serving: Serving, fields: dict[str, Any], words: str) -> None:
    response = serving.post("/v1/chat/completions", json={"messages": MESSAGES, **fields})
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]
