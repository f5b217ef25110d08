"""langchain-openai for Python."""

from typing import Literal

from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

from tests.clients.given import ENOUGH, KEY, MODEL, QUESTION, URL, WEATHER

model = ChatOpenAI(model=MODEL, base_url=URL, api_key=KEY, max_tokens=ENOUGH)


class Answer(BaseModel, extra="forbid"):
    """The answer to a question."""

    city: Literal["Paris", "Rome"]
    is_capital: bool


@tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def chat() -> None:
    answer = model.invoke([("system", "You are a helpful assistant."), ("human", QUESTION)])
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


def stream() -> None:
    pieces = [chunk.text for chunk in model.stream(QUESTION)]
    assert "".join(pieces)


def tools() -> None:
    with_tools = model.bind_tools([get_weather], tool_choice="any", parallel_tool_calls=False)
    answer = with_tools.invoke(WEATHER)
    result = get_weather.invoke(answer.tool_calls[0])
    assert isinstance(result, ToolMessage)
    assert result.content in ("It is sunny in Paris.", "It is sunny in Rome.")
    last = model.bind_tools([get_weather], tool_choice="none")
    assert last.invoke([("human", WEATHER), answer, result]).text


def tools_streamed() -> None:
    with_tools = model.bind_tools([get_weather], tool_choice="get_weather")
    first, *rest = with_tools.stream(WEATHER)
    whole = sum(rest, first)
    assert whole.tool_calls[0]["args"]["city"] in ("Paris", "Rome")


def structured_output() -> None:
    assert isinstance(model.with_structured_output(Answer).invoke(QUESTION), Answer)
    for method in ("function_calling", "json_schema"):
        structured = model.with_structured_output(Answer, method=method)
        assert isinstance(structured.invoke(QUESTION), Answer)


def completions() -> None:
    assert OpenAI(model=MODEL, base_url=URL, api_key=KEY, max_tokens=8).invoke(
        "The capital of France is"
    )
