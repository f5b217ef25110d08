"""outlines, which asks the server for its grammars."""

from typing import Literal

import openai
import outlines
from pydantic import BaseModel

from tests.clients.given import ENOUGH, KEY, MODEL, QUESTION, URL

client = openai.OpenAI(base_url=URL, api_key=KEY)
model = outlines.from_openai(client, MODEL)


class Answer(BaseModel):
    city: Literal["Paris", "Rome"]
    is_capital: bool


def chat() -> None:
    assert model(QUESTION, max_tokens=ENOUGH)


def stream() -> None:
    assert "".join(model.stream(QUESTION, max_tokens=ENOUGH))


def structured_output() -> None:
    assert Answer.model_validate_json(model(QUESTION, Answer))


def guided() -> None:
    """A choice and an expression, by its model of vLLM's server."""
    guided_model = outlines.from_vllm(client, MODEL)
    assert guided_model(QUESTION, Literal["Paris", "Rome"]) in ("Paris", "Rome")
    assert guided_model("How many?", outlines.types.regex("[0-9]{2}")).isdigit()
