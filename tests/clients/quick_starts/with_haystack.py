"""Haystack's OpenAIChatGenerator and OpenAIGenerator."""

from typing import Literal

from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from pydantic import BaseModel

from tests.clients.given import ENOUGH, KEY, MODEL, QUESTION, URL, WEATHER

generator = OpenAIChatGenerator(
    model=MODEL,
    api_base_url=URL,
    api_key=Secret.from_token(KEY),
    generation_kwargs={"max_tokens": ENOUGH},
)


class Answer(BaseModel, extra="forbid"):
    city: Literal["Paris", "Rome"]


def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def chat() -> None:
    (reply,) = generator.run([ChatMessage.from_user(QUESTION)])["replies"]
    assert reply.text


def stream() -> None:
    chunks: list[StreamingChunk] = []
    generator.run([ChatMessage.from_user(QUESTION)], streaming_callback=chunks.append)
    assert "".join(chunk.content for chunk in chunks)


def tools() -> None:
    (reply,) = generator.run(
        [ChatMessage.from_user(WEATHER)],
        tools=[create_tool_from_function(get_weather)],
        generation_kwargs={"tool_choice": "required", "parallel_tool_calls": False},
    )["replies"]
    assert reply.tool_calls[0].arguments["city"] in ("Paris", "Rome")


def structured_output() -> None:
    (reply,) = generator.run(
        [ChatMessage.from_user(QUESTION)], generation_kwargs={"response_format": Answer}
    )["replies"]
    assert Answer.model_validate_json(reply.text)
