"""instructor over the openai package, in its modes of tools and of JSON schemas."""

from typing import Literal

import instructor
from openai import OpenAI
from pydantic import BaseModel

from tests.clients.given import KEY, MODEL, QUESTION, URL


class Answer(BaseModel, extra="forbid"):
    city: Literal["Paris", "Rome"]
    is_capital: bool


def ask(mode: instructor.Mode) -> None:
    client = instructor.from_openai(OpenAI(base_url=URL, api_key=KEY), mode=mode)
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        response_model=Answer,
        max_retries=0,
    )
    assert isinstance(answer, Answer)


def tools() -> None:
    ask(instructor.Mode.TOOLS)


def structured_output() -> None:
    ask(instructor.Mode.JSON_SCHEMA)
