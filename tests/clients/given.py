"""What a quick start is given: the server it asks, the server's model, and a tool to offer.

Imports nothing, for every client's own environment runs it.
"""

import os

URL = os.environ["OPENAI_BASE_URL"]
"""Of the routes, with /v1 at its end."""
KEY = os.environ["OPENAI_API_KEY"]
"""Any text: the server asks for none."""
MODEL = os.environ["OPENAI_MODEL"]
"""The name that the server has given its model."""
QUESTION = "What is the capital of France?"
WEATHER = "What is the weather like in Paris?"
ENOUGH = 200
"""Tokens of an answer that is to end by itself."""


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


GET_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
"""`get_weather` as OpenAI's requests offer it."""
