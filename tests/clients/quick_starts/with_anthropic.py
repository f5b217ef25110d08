"""The anthropic package for Python."""

import json

import anthropic
from anthropic import Anthropic

from tests.clients.given import ENOUGH, GET_WEATHER, KEY, MODEL, QUESTION, URL, WEATHER

client = Anthropic(base_url=URL.removesuffix("/v1"), api_key=KEY)
FUNCTION = GET_WEATHER["function"]
TOOL = {
    "name": FUNCTION["name"],
    "description": FUNCTION["description"],
    "input_schema": FUNCTION["parameters"],
}


def chat() -> None:
    message = client.messages.create(
        model=MODEL,
        max_tokens=ENOUGH,
        system="You are a helpful assistant.",
        messages=[{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
    )
    assert message.content[0].type == "text"
    assert message.content[0].text
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message.usage.output_tokens > 0


def stream() -> None:
    with client.messages.stream(
        model=MODEL, max_tokens=ENOUGH, messages=[{"role": "user", "content": QUESTION}]
    ) as events:
        pieces = list(events.text_stream)
        message = events.get_final_message()
    assert "".join(pieces) == message.content[0].text
    assert message.usage.output_tokens > 0


def tools() -> None:
    message = client.messages.create(
        model=MODEL,
        max_tokens=ENOUGH,
        messages=[{"role": "user", "content": WEATHER}],
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    (call,) = (block for block in message.content if block.type == "tool_use")
    assert message.stop_reason == "tool_use"
    assert call.name == "get_weather"
    assert call.input["city"] in ("Paris", "Rome")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It is sunny."}
    second = client.messages.create(
        model=MODEL,
        max_tokens=ENOUGH,
        messages=[
            {"role": "user", "content": WEATHER},
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
        ],
        tools=[TOOL],
        tool_choice={"type": "none"},
    )
    assert second.content[0].text


def tools_streamed() -> None:
    with client.messages.stream(
        model=MODEL,
        max_tokens=ENOUGH,
        messages=[{"role": "user", "content": WEATHER}],
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "get_weather"},
    ) as events:
        message = events.get_final_message()
    (call,) = (block for block in message.content if block.type == "tool_use")
    assert call.input["city"] in ("Paris", "Rome")


def structured_output() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model=MODEL,
        max_tokens=ENOUGH,
        messages=[{"role": "user", "content": QUESTION}],
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert json.loads(message.content[0].text)["city"] in ("Paris", "Rome")


def count_tokens() -> None:
    messages = [{"role": "user", "content": QUESTION}]
    counted = client.messages.count_tokens(model=MODEL, messages=messages)
    message = client.messages.create(model=MODEL, max_tokens=1, messages=messages)
    usage = message.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def models() -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).display_name == MODEL


def errors() -> None:
    refused = None
    try:
        client.messages.create(
            model="another-model",
            max_tokens=1,
            messages=[{"role": "user", "content": QUESTION}],
        )
    except anthropic.NotFoundError as error:
        refused = error.body["error"]["type"]
    assert refused == "not_found_error"
