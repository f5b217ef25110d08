"""The openai package for Python."""

import asyncio
import json
from enum import StrEnum

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.clients.given import ENOUGH, GET_WEATHER, KEY, MODEL, QUESTION, URL, WEATHER

client = OpenAI(base_url=URL, api_key=KEY)


class City(StrEnum):
    PARIS = "Paris"
    ROME = "Rome"


class Answer(BaseModel):
    city: City
    is_capital: bool


def chat() -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "You are a helpful assistant."},
            {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
        ],
        max_completion_tokens=ENOUGH,
    )
    assert completion.choices[0].message.content
    assert completion.choices[0].message.role == "assistant"
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 0


def stream() -> None:
    chunks = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        max_completion_tokens=ENOUGH,
        stream=True,
        stream_options={"include_usage": True},
    )
    pieces, usage = [], None
    for chunk in chunks:
        usage = chunk.usage or usage
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(pieces)
    assert usage is not None
    assert usage.completion_tokens > 0


def stream_helper() -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "Name a city."}],
        response_format=Answer,
    ) as events:
        pieces = [event.delta for event in events if event.type == "content.delta"]
    answer = events.get_final_completion().choices[0].message
    assert "".join(pieces) == answer.content
    assert isinstance(answer.parsed, Answer)


def asynchronous() -> None:
    async def ask() -> str | None:
        async with AsyncOpenAI(base_url=URL, api_key=KEY) as asynchronous_client:
            completion = await asynchronous_client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": QUESTION}],
                max_completion_tokens=ENOUGH,
            )
            return completion.choices[0].message.content

    assert asyncio.run(ask())


def tools() -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": WEATHER}],
        tools=[GET_WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    (call, *_) = completion.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    assert completion.choices[0].finish_reason == "tool_calls"
    second = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": WEATHER},
            completion.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "It is sunny."},
        ],
        tools=[GET_WEATHER],
        tool_choice="none",
        max_completion_tokens=ENOUGH,
    )
    assert second.choices[0].message.content


def tools_streamed() -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": WEATHER}],
        tools=[GET_WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    ) as events:
        for _ in events:
            pass
    (call, *_) = events.get_final_completion().choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


def tool_parsed() -> None:
    class GetWeather(BaseModel):
        city: City

    completion = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": WEATHER}],
        tools=[openai.pydantic_function_tool(GetWeather)],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    (call, *_) = completion.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, GetWeather)


def structured_output() -> None:
    completion = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        response_format=Answer,
    )
    assert isinstance(completion.choices[0].message.parsed, Answer)


def completions() -> None:
    completion = client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=8
    )
    assert completion.choices[0].text
    pieces = client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=8, stream=True
    )
    assert "".join(piece.choices[0].text for piece in pieces)


def responses() -> None:
    first = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=ENOUGH)
    assert first.output_text
    second = client.responses.create(
        model=MODEL,
        input="Are you sure?",
        previous_response_id=first.id,
        max_output_tokens=ENOUGH,
    )
    assert second.output_text
    assert second.usage is not None
    assert second.usage.input_tokens > len(first.output_text.split())


def responses_streamed() -> None:
    # The most likely answer ends by itself; the package accepts no other end of a stream.
    with client.responses.stream(
        model=MODEL, input=QUESTION, max_output_tokens=ENOUGH, temperature=0
    ) as events:
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        response = events.get_final_response()
    assert "".join(pieces) == response.output_text


def responses_parsed() -> None:
    response = client.responses.parse(model=MODEL, input=QUESTION, text_format=Answer)
    assert isinstance(response.output_parsed, Answer)


def logprobs() -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        max_completion_tokens=4,
        logprobs=True,
        top_logprobs=2,
    )
    found = completion.choices[0].logprobs
    assert found is not None
    assert [len(token.top_logprobs) for token in found.content or ()] == [2] * 4
    assert all(token.logprob <= 0 for token in found.content or ())


def several_choices() -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        max_completion_tokens=8,
        n=2,
    )
    assert [choice.index for choice in completion.choices] == [0, 1]


def models() -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def errors() -> None:
    refused = None
    try:
        client.chat.completions.create(
            model="another-model", messages=[{"role": "user", "content": QUESTION}]
        )
    except openai.NotFoundError as error:
        refused = error.code
    assert refused == "model_not_found"
