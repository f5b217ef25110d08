"""litellm, by its `openai/` provider."""

import json
from enum import StrEnum

import litellm
from pydantic import BaseModel

from tests.clients.given import ENOUGH, GET_WEATHER, KEY, MODEL, QUESTION, URL, WEATHER

SERVER = {"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY}


class City(StrEnum):
    PARIS = "Paris"
    ROME = "Rome"


class Answer(BaseModel, extra="forbid"):
    city: City


def chat() -> None:
    answer = litellm.completion(
        **SERVER, messages=[{"role": "user", "content": QUESTION}], max_tokens=ENOUGH
    )
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens > 0


def stream() -> None:
    chunks = litellm.completion(
        **SERVER,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=ENOUGH,
        stream=True,
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def tools() -> None:
    answer = litellm.completion(
        **SERVER,
        messages=[{"role": "user", "content": WEATHER}],
        tools=[GET_WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    (call, *_) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


def structured_output() -> None:
    answer = litellm.completion(
        **SERVER, messages=[{"role": "user", "content": QUESTION}], response_format=Answer
    )
    assert Answer.model_validate_json(answer.choices[0].message.content)


def completions() -> None:
    answer = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}",
        api_base=URL,
        api_key=KEY,
        prompt="The capital of France is",
        max_tokens=8,
    )
    assert answer.choices[0].text
