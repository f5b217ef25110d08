"""smolagents' OpenAIModel, and an agent that calls tools with it."""

from smolagents import OpenAIModel, tool

from tests.clients.given import ENOUGH, KEY, MODEL, QUESTION, URL, WEATHER

model = OpenAIModel(model_id=MODEL, api_base=URL, api_key=KEY, max_tokens=ENOUGH)


@tool
def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: the city's name
    """
    return f"It is sunny in {city}."


def chat() -> None:
    assert model([{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]).content


def stream() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    assert "".join(piece.content or "" for piece in model.generate_stream(messages))


def tools() -> None:
    """What a step of smolagents' ToolCallingAgent asks."""
    messages = [{"role": "user", "content": [{"type": "text", "text": WEATHER}]}]
    answer = model.generate(messages, tools_to_call_from=[get_weather], parallel_tool_calls=False)
    assert answer.tool_calls[0].function.name == "get_weather"
