"""Answers in a form that the client gives, by every name of a field that is served."""

import json
from typing import Any

import openai
import pydantic
import pytest

from runtime.grammar import Matcher
from tests.api.serving import Serving

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Ann", "Bob"]}, "age": {"type": "integer", "maximum": 9}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 200,
    "seed": 7,
}
GRAMMAR = 'root ::= "ab" [0-9]{2}'


def content(serving: Serving, **fields: Any) -> str:
    response = serving.post("/v1/chat/completions", json={**CHAT, **fields})
    assert response.status_code == 200, response.text
    [choice] = response.json()["choices"]
    assert choice["finish_reason"] == "stop"
    text: str = choice["message"]["content"]
    return text


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"json_schema": SCHEMA},
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
    ],
)
def test_a_schema_is_held_under_every_name(serving: Serving, fields: dict[str, Any]) -> None:
    answer = json.loads(content(serving, **fields))
    assert list(answer) == ["name", "age"]
    assert answer["name"] in ("Ann", "Bob")


@pytest.mark.parametrize("field", ["regex", "grammar", "choice"])
def test_vllm_s_other_kinds_are_held_by_both_names(serving: Serving, field: str) -> None:
    value = {"regex": "ab[0-9]{2}", "grammar": GRAMMAR, "choice": ["ab12"]}[field]
    for fields in ({f"guided_{field}": value}, {"structured_outputs": {field: value}}):
        text = content(serving, **fields)
        assert text[:2] == "ab"
        assert text[2:].isdigit()
        assert len(text) == 4


def test_llama_cpp_s_grammar_is_held_in_a_completion_too(serving: Serving) -> None:
    body = {"prompt": "hello", "max_tokens": 50, "grammar": GRAMMAR}
    [choice] = serving.post("/v1/completions", json=body).json()["choices"]
    assert choice["text"].startswith("ab")
    assert choice["finish_reason"] == "stop"


def test_values_that_ask_for_nothing_are_taken(serving: Serving) -> None:
    nothing = {"response_format": {"type": "text"}, "grammar": "", "guided_choice": []}
    plain = serving.post("/v1/chat/completions", json={**CHAT, "temperature": 0, "max_tokens": 5})
    asked = {**CHAT, "temperature": 0, "max_tokens": 5, "structured_outputs": {}, **nothing}
    answer = serving.post("/v1/chat/completions", json=asked)
    assert answer.json()["choices"] == plain.json()["choices"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"json_schema": {"not": {}}}, "keyword not"),
        ({"guided_regex": "(?=a)b"}, "guided_regex cannot be honoured"),
        ({"grammar": "root ::= x"}, "no rule x"),
        ({"guided_choice": ["a", ""]}, "guided_choice"),
        ({"grammar": GRAMMAR, "guided_regex": "a"}, "only one of grammar and guided_regex"),
        ({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, "only one of json and regex"),
        ({"structured_outputs": {"structural_tag": "a"}}, "structural_tag is not supported"),
        ({"structured_outputs": {"choice": [1]}}, "choice has a value of another type"),
        ({"response_format": {"type": "json_schema"}}, "json_schema.schema is missing"),
        ({"response_format": {"type": "xml"}}, "response_format.type must be"),
        ({"guided_json": "{"}, "guided_json is no JSON"),
    ],
)
def test_what_cannot_be_held_is_refused_by_its_field(
    serving: Serving, fields: dict[str, Any], named: str
) -> None:
    response = serving.post("/v1/chat/completions", json={**CHAT, **fields})
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]
    assert response.json()["error"]["param"] is not None or "only one" in named


def test_openai_s_parse_gives_an_object_of_the_client_s_own_class(serving: Serving) -> None:
    class Person(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=8)
        age: int = pydantic.Field(ge=0, le=120)
        tags: list[bool] = pydantic.Field(max_length=2)

    client = openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)
    with client:
        completion = client.chat.completions.parse(
            model="tiny", messages=CHAT["messages"], max_tokens=200, seed=7, response_format=Person
        )
    assert isinstance(completion.choices[0].message.parsed, Person)


def test_a_fault_in_a_grammar_fails_that_request_alone(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = {"prompt": "hello the world", "temperature": 0, "max_tokens": 8}
    before = serving.post("/v1/completions", json=greedy).json()["choices"]

    def fails(*_: object) -> None:
        raise ValueError("/secret")

    monkeypatch.setattr(Matcher, "advance", fails)
    failed = serving.post("/v1/completions", json={**greedy, "guided_regex": "[a-z]{5}"})
    assert failed.status_code == 500
    assert "secret" not in failed.text
    assert serving.post("/v1/completions", json=greedy).json()["choices"] == before
