"""OpenAI's Responses API by OpenAI's client: a real engine whose answers a test has written."""

from typing import Any

import openai
import pytest
from openai.types.responses import Response

from api import response_store as store
from api.errors import ResponseNotFound
from api.response_store import ResponseStore
from tests.api.saying import Says
from tests.api.serving import Serving
from tests.waiting import SECONDS

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
ALL = f"<think>\nhm\n</think>\n\nI look.\n{CALL}"
EVERY_MESSAGE = (
    "{#<tool_call>#}{% for m in messages %}[{{ m.role }}|{{ m.content }}"
    "{% if m.reasoning_content %}|{{ m.reasoning_content }}{% endif %}"
    "{% for c in m.tool_calls %}|{{ c.function.name }} {{ c.function.arguments.city }}{% endfor %}]"
    "{% endfor %}"
)


def made(serving: Serving) -> Any:
    return openai.OpenAI(base_url=f"{serving.url}/v1", api_key="x", timeout=SECONDS).responses


def kinds(response: Response) -> list[str]:
    return [item.type for item in response.output]


def test_an_answer_has_text_and_usage(says: Says) -> None:
    response = made(says("Hi there.")).create(model="tiny", input="hello", temperature=0)
    assert response.output_text == "Hi there."
    assert (response.status, kinds(response)) == ("completed", ["message"])
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.output_tokens > 0


def test_reasoning_text_and_calls_are_items(says: Says) -> None:
    response = made(says(ALL)).create(model="tiny", input="hello", tools=[TOOL], temperature=0)
    assert kinds(response) == ["reasoning", "message", "function_call"]
    thought, message, call = response.output
    assert (thought.content[0].text, message.content[0].text) == ("hm", "I look.")
    assert (call.name, call.arguments) == ("weather", '{"city": "Rome"}')


def test_a_stream_has_the_same_items(says: Says) -> None:
    serving = says(ALL)
    fields: Any = {"model": "tiny", "input": "hello", "tools": [TOOL], "temperature": 0}
    whole = made(serving).create(**fields)
    serving = says(ALL)
    with made(serving).stream(**fields) as events:
        found = list(events)
        response = events.get_final_response()
    assert [event.sequence_number for event in found] == list(range(len(found)))
    assert (found[0].type, found[-1].type) == ("response.created", "response.completed")
    assert kinds(response) == kinds(whole)
    for streamed, given in zip(response.output, whole.output, strict=True):
        left, right = streamed.model_dump(), given.model_dump()
        for name in ("id", "call_id", "parsed", "parsed_arguments"):
            left.pop(name, None), right.pop(name, None)
        for part in left.get("content") or ():
            part.pop("parsed", None)
        assert left == right
    deltas = [e.delta for e in found if e.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == '{"city": "Rome"}'


def test_a_conversation_is_continued_by_its_last_response(says: Says) -> None:
    serving = says("ok", EVERY_MESSAGE)
    first = made(serving).create(model="tiny", input="one", temperature=0, instructions="be")
    assert made(serving).retrieve(first.id).output_text == "ok"
    answer = {"previous_response_id": first.id, "max_output_tokens": 16}
    second = made(serving).create(model="tiny", input="two", **answer)
    expected = "[user|one][assistant|ok][user|two]"
    assert second.usage.input_tokens == tokens(serving, expected)
    made(serving).delete(first.id)
    with pytest.raises(openai.NotFoundError):
        made(serving).create(model="tiny", input="two", **answer)


def test_a_response_that_is_not_to_be_stored_is_not(says: Says) -> None:
    serving = says("ok")
    response = made(serving).create(model="tiny", input="one", temperature=0, store=False)
    with pytest.raises(openai.NotFoundError):
        made(serving).retrieve(response.id)


def test_items_become_the_messages_that_templates_know(says: Says) -> None:
    serving = says("ok", EVERY_MESSAGE)
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "q"}]},
        {"type": "reasoning", "id": "r", "summary": [], "content": [{"text": "hm"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "a"}],
        },
        {
            "type": "function_call",
            "call_id": "c",
            "name": "weather",
            "arguments": '{"city": "Rome"}',
        },
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
    ]
    response = made(serving).create(model="tiny", input=items, instructions="be")
    expected = "[system|be][user|q][assistant|a|hm|weather Rome][tool|sunny]"
    assert response.usage.input_tokens == tokens(serving, expected)


def test_an_answer_that_is_cut_is_incomplete(says: Says) -> None:
    response = made(says("one two three")).create(model="tiny", input="x", max_output_tokens=1)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"input": [{"type": "web_search_call"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "content[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format"),
        ({"truncation": "auto"}, "truncation"),
        ({"background": True}, "background"),
        ({"max_output_tokens": -5}, "max_"),
    ],
)
def test_a_wrong_field_is_named(serving: Serving, fields: dict[str, Any], named: str) -> None:
    response = serving.post("/v1/responses", json={"input": "hello", **fields})
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]


def test_the_oldest_responses_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_RESPONSES", 2)
    monkeypatch.setattr(store, "MAX_BYTES", 100)
    kept = ResponseStore()
    for name, size in (("a", 10), ("b", 10), ("c", 10)):
        kept.add(name, {}, (), size)
    with pytest.raises(ResponseNotFound):
        kept.get("a")
    kept.add("d", {}, (), 95)
    with pytest.raises(ResponseNotFound):
        kept.get("c")
    assert kept.get("d").size == 95
    kept.remove("d")
    with pytest.raises(ResponseNotFound):
        kept.remove("d")


def tokens(serving: Serving, text: str) -> int:
    """Length of a prompt."""
    body = {"content": text, "add_special": True}
    return len(serving.post("/tokenize", json=body).json()["tokens"])
