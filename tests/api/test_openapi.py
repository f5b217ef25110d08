"""The OpenAPI document: every route is in it, with the fields and ranges that are checked."""

import subprocess
from typing import Any

import falcon.inspect
import pytest
from jsonschema import Draft202012Validator

from api.app import create_app
from api.openapi.document import document
from api.schemas import SamplingFields
from api.services import Services
from runtime.sampling import RANGES
from runtime.settings import Settings
from tests.api.openapi_check import check, program
from tests.api.serving import Serving

NOT_DESCRIBED = ("HEAD", "OPTIONS")
FOR_PEOPLE = ("/", "/page/{name}")


def fields_of(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = document()["components"]["schemas"][name]["properties"]
    return fields


def test_every_route_is_described_and_no_other(settings: Settings) -> None:
    app = falcon.inspect.inspect_app(create_app(Services(settings=settings)))
    served = {
        (method.method, route.path.replace(":path}", "}"))
        for route in app.routes
        for method in route.methods
        if method.method not in NOT_DESCRIBED and not method.internal
        if route.path not in FOR_PEOPLE
    }
    paths = document()["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == served


def test_the_document_is_served_and_its_schemas_are_valid(serving: Serving) -> None:
    served = serving.get("/openapi.json").json()
    assert served == document()
    assert served["openapi"].startswith("3.1")
    for schema in served["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_reference_is_to_something() -> None:
    made = document()
    names = {f"#/components/schemas/{name}" for name in made["components"]["schemas"]}
    assert set(references(made)) <= names


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for each in value.values() for found in references(each)]
    if isinstance(value, list):
        return [found for each in value for found in references(each)]
    return []


@pytest.mark.parametrize("body", ["GenerateBody", "ChatBody", "LlamaCppCompletionBody", "Options"])
def test_sampling_fields_have_the_ranges_that_they_are_checked_with(body: str) -> None:
    fields = fields_of(body)
    assert set(SamplingFields.__struct_fields__) <= fields.keys()
    assert fields["temperature"]["maximum"] == RANGES["temperature"].most
    assert fields["top_k"]["type"] == ["integer", "null"]
    assert fields["repeat_penalty"]["minimum"] == RANGES["repetition_penalty"].least


def test_a_field_that_a_route_refuses_is_not_described() -> None:
    assert "prompt_logprobs" in fields_of("CompletionBody")
    assert "prompt_logprobs" not in fields_of("LlamaCppCompletionBody")


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/generate", "DocumentedError"),
        ("/v1/completions", "OpenAIErrorBody"),
        ("/v1/messages", "AnthropicErrorBody"),
        ("/api/chat", "OllamaError"),
        ("/completion", "LlamaCppErrorBody"),
    ],
)
def test_errors_have_the_form_of_their_dialect(path: str, form: str) -> None:
    responses = document()["paths"][path]["post"]["responses"]
    for status in ("400", "401", "404", "503"):
        content = responses[status]["content"]["application/json"]
        assert content["schema"] == {"$ref": f"#/components/schemas/{form}"}


@pytest.mark.slow
@pytest.mark.skipif(program() is None, reason="schemathesis is not installed: make setup")
def test_schemathesis_finds_no_server_error_and_no_answer_that_is_not_described() -> None:
    few = ["--max-examples", "3", "--phases", "fuzzing", "--seed", "1", "--no-shrink"]
    ended = check(few, subprocess.PIPE)
    assert ended.returncode == 0, ended.stdout
