"""pydantic-ai's agents."""

import asyncio
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, RunContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from tests.clients.given import ENOUGH, KEY, MODEL, QUESTION, URL, WEATHER

model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=URL, api_key=KEY))
settings = ModelSettings(max_tokens=ENOUGH, parallel_tool_calls=False)


class Answer(BaseModel, extra="forbid"):
    city: Literal["Paris", "Rome"]
    is_capital: bool


def chat() -> None:
    agent = Agent(model, instructions="Be concise.", model_settings=settings)
    result = agent.run_sync(QUESTION)
    assert result.output
    assert result.usage.output_tokens > 0


def stream() -> None:
    async def ask() -> list[str]:
        async with Agent(model, model_settings=settings).run_stream(QUESTION) as result:
            return [piece async for piece in result.stream_text(delta=True)]

    assert "".join(asyncio.run(ask()))


def tools() -> None:
    """The agent offers its tool once, and the object it must end with as another one."""
    asked = []
    agent = Agent(model, output_type=Answer, model_settings=settings)

    async def until_asked(_: RunContext[None], tool: ToolDefinition) -> ToolDefinition | None:
        return None if asked else tool  # a small model would ask again and again

    @agent.tool_plain(prepare=until_asked)
    def get_weather(city: Literal["Paris", "Rome"]) -> str:
        """The weather in a city."""
        asked.append(city)
        return f"It is sunny in {city}."

    result = agent.run_sync(WEATHER)
    assert isinstance(result.output, Answer)
    assert set(asked) <= {"Paris", "Rome"}


def structured_output() -> None:
    """By a tool that must be called, and by a response format."""
    for output in (Answer, NativeOutput(Answer)):
        agent = Agent(model, output_type=output, model_settings=settings)
        assert isinstance(agent.run_sync(QUESTION).output, Answer)
