"""The ollama package for Python."""

import asyncio
import json

import ollama
from ollama import AsyncClient, Client

from tests.clients.given import ENOUGH, MODEL, QUESTION, URL, WEATHER, get_weather

HOST = URL.removesuffix("/v1")
OPTIONS = {"num_predict": ENOUGH}
client = Client(host=HOST)


def chat() -> None:
    response = client.chat(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], options=OPTIONS
    )
    assert response.message.content
    assert response.done
    assert response.eval_count


def stream() -> None:
    pieces = list(
        client.chat(
            model=MODEL,
            messages=[{"role": "user", "content": QUESTION}],
            options=OPTIONS,
            stream=True,
        )
    )
    assert "".join(piece.message.content or "" for piece in pieces)
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def asynchronous() -> None:
    async def ask() -> str | None:
        response = await AsyncClient(host=HOST).chat(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], options=OPTIONS
        )
        return response.message.content

    assert asyncio.run(ask())


def tools() -> None:
    response = client.chat(
        model=MODEL,
        messages=[{"role": "user", "content": WEATHER}],
        tools=[get_weather],
        options=OPTIONS,
    )
    messages = [{"role": "user", "content": WEATHER}, response.message]
    for call in response.message.tool_calls or ():
        messages.append({"role": "tool", "content": "sunny", "tool_name": call.function.name})
    second = client.chat(model=MODEL, messages=messages, options=OPTIONS)
    assert second.done


def structured_output() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    response = client.chat(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], format=schema
    )
    assert json.loads(response.message.content or "")["city"] in ("Paris", "Rome")


def completions() -> None:
    whole = client.generate(
        model=MODEL, prompt="The capital of France is", raw=True, options=OPTIONS
    )
    assert whole.response
    pieces = client.generate(model=MODEL, prompt=QUESTION, options=OPTIONS, stream=True)
    assert "".join(piece.response for piece in pieces)


def models() -> None:
    assert [model.model for model in client.list().models] == [MODEL]
    assert [model.model for model in client.ps().models] == [MODEL]
    shown = client.show(MODEL)
    assert shown.details is not None
    assert shown.details.family
    assert "completion" in (shown.capabilities or ())
    assert client.pull(MODEL).status == "success"


def errors() -> None:
    status = 0
    try:
        client.chat(model="another-model", messages=[{"role": "user", "content": QUESTION}])
    except ollama.ResponseError as error:
        status = error.status_code
    assert status == 404
