"""simonw's llm, which reads of a server in its extra-openai-models.yaml."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import BaseModel

from tests.clients.given import ENOUGH, KEY, MODEL, QUESTION, URL, WEATHER, get_weather

_folder = TemporaryDirectory()
os.environ["LLM_USER_PATH"] = _folder.name
Path(_folder.name, "extra-openai-models.yaml").write_text(
    f"""
- model_id: rocmforge
  model_name: {MODEL}
  api_base: {URL}
  supports_tools: true
  supports_schema: true
- model_id: rocmforge-text
  model_name: {MODEL}
  api_base: {URL}
  completion: true
"""
)

import llm  # noqa: E402 - it reads the folder's place when it is imported

model = llm.get_model("rocmforge")
model.key = KEY


class Answer(BaseModel, extra="forbid"):
    city: Literal["Paris", "Rome"]


def chat() -> None:
    conversation = model.conversation()
    assert conversation.prompt(QUESTION, stream=False, max_tokens=ENOUGH).text()
    assert conversation.prompt("And of Italy?", stream=False, max_tokens=ENOUGH).text()


def stream() -> None:
    pieces = list(model.prompt(QUESTION, system="Be concise.", max_tokens=ENOUGH))
    assert "".join(pieces)


def tools() -> None:
    """llm leaves the choice to the model, which may call or not."""
    chain = model.chain(WEATHER, tools=[get_weather], options={"max_tokens": ENOUGH})
    assert list(chain.responses())


def structured_output() -> None:
    answer = model.prompt(QUESTION, schema=Answer, max_tokens=ENOUGH)
    assert Answer.model_validate_json(answer.text())


def completions() -> None:
    text_model = llm.get_model("rocmforge-text")
    text_model.key = KEY
    assert text_model.prompt("The capital of France is", max_tokens=8).text()
