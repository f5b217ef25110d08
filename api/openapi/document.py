"""The OpenAPI document: schemas of bodies and answers, and the operations that use them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from api.dialects.ollama.request import Options
from api.error_bodies import (
    AnthropicErrorBody,
    LlamaCppErrorBody,
    OpenAIErrorBody,
    form_of,
)
from api.errors import ANSWERS
from api.logprobs import ChatLogprobs, CompletionLogprobs
from api.openapi import shapes
from api.openapi.operations import JSON, OPERATIONS, Operation, Parameter
from api.schemas import OTHER_NAMES, SamplingFields
from api.services import VERSION
from runtime.sampling import COUNTS, RANGES, Range

Schema = dict[str, Any]

VERSION_OF_OPENAPI = "3.1.0"
REFERENCE = "#/components/schemas/{name}"
ERRORS: Mapping[str, type] = {
    "documented": shapes.DocumentedError,
    "openai": OpenAIErrorBody,
    "anthropic": AnthropicErrorBody,
    "ollama": shapes.OllamaError,
    "llama_cpp": LlamaCppErrorBody,
}
"""Types of the forms of error_bodies."""
OF_BODIES = frozenset({413, 415})
NEVER_ON_A_ROUTE = frozenset({405, 499, 501, 505})
"""Statuses of other methods, of clients that are gone, of single routes and of other protocols."""
INSIDE: Mapping[tuple[str, str], Any] = {
    ("ChatBody", "messages"): list[shapes.ChatMessage],
    ("MessagesBody", "messages"): list[shapes.AnthropicMessage],
    ("OllamaChatBody", "messages"): list[shapes.ChatMessage] | None,
    ("OllamaChatBody", "options"): Options | None,
    ("OllamaGenerateBody", "options"): Options | None,
    ("Choice", "logprobs"): CompletionLogprobs | None,
    ("ChatChoice", "logprobs"): ChatLogprobs | None,
}
"""Types of fields that are read or written apart from the structure they are in."""
TEXT = {"type": "string"}
EVENTS = {"description": "A stream: lines of JSON, or events whose data is JSON"}


def document() -> Schema:
    """Return the document. It depends on nothing but the program's version."""
    types = [
        *(operation.body for operation in OPERATIONS if operation.body is not None),
        *(answer for operation in OPERATIONS for answer in operation.answers),
        *(operation.other[1] for operation in OPERATIONS if operation.other is not None),
        *ERRORS.values(),
        *INSIDE.values(),
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    schema_of = {repr(each): schema for each, schema in zip(types, schemas, strict=True)}
    _add_ranges(components)
    for (name, field), kind in INSIDE.items():
        components[name]["properties"][field] = schema_of[repr(kind)]
    for operation in OPERATIONS:
        _leave_out_unserved(operation.body, components)
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, schema_of)
    return {
        "openapi": VERSION_OF_OPENAPI,
        "info": {
            "title": "ROCmForge",
            "version": VERSION,
            "description": "Text generation over the APIs of OpenAI, Anthropic, Ollama and "
            "llama.cpp. Unknown fields of bodies are ignored; one that another server honours "
            "and this one does not is a 400.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _described(operation: Operation, schema_of: Mapping[str, Schema]) -> Schema:
    """Return the description of an operation."""
    found: Schema = {
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
    }
    if operation.is_open:
        found["security"] = []
    if operation.parameters:
        found["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        content = {JSON: {"schema": schema_of[repr(operation.body)]}}
        found["requestBody"] = {"required": True, "content": content}
    found["responses"] = {"200": _success(operation, schema_of), **_errors(operation, schema_of)}
    if operation.other is not None:
        status, answer = operation.other
        content = {} if answer is None else {JSON: {"schema": schema_of[repr(answer)]}}
        description = "Nothing is left" if answer is None else "Not as it should be"
        found["responses"][str(status)] = {"description": description, "content": content}
    return found


def _success(operation: Operation, schema_of: Mapping[str, Schema]) -> Schema:
    content: Schema = {operation.media_type: {"schema": EVENTS if operation.streams else TEXT}}
    if operation.answers:
        possible = [schema_of[repr(answer)] for answer in operation.answers]
        content = {JSON: {"schema": possible[0] if len(possible) == 1 else {"anyOf": possible}}}
    if operation.streams:
        content[operation.streams] = {"schema": EVENTS}
    return {"description": operation.summary, "content": content}


def _errors(operation: Operation, schema_of: Mapping[str, Schema]) -> dict[str, Schema]:
    """Return the responses that are errors, by their statuses."""
    content = {JSON: {"schema": schema_of[repr(ERRORS[form_of(operation.path)])]}}
    left_out = NEVER_ON_A_ROUTE if operation.body else NEVER_ON_A_ROUTE | OF_BODIES
    codes: dict[int, list[str]] = {}
    for code, answer in ANSWERS.items():
        if answer.status not in left_out or answer.status in operation.statuses:
            codes.setdefault(answer.status, []).append(code)
    return {
        str(status): {"description": ", ".join(codes[status]), "content": content}
        for status in sorted(codes)
    }


def _parameter(parameter: Parameter) -> Schema:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "schema": parameter.schema,
    }


def _identifier(operation: Operation) -> str:
    path = operation.path.translate(str.maketrans("/.-{}", "_____")).strip("_")
    return f"{operation.method}_{path}".replace("__", "_")


def _add_ranges(components: dict[str, Schema]) -> None:
    """Give the sampling fields of all bodies the ranges that they are checked with."""
    ranges = {name: allowed for name, allowed in RANGES.items()}
    for name, others in OTHER_NAMES.items():
        ranges |= {other: RANGES[name] for other in others}
    ranges |= {name: COUNTS[name] for name in ("n", "best_of", "prompt_logprobs", "top_logprobs")}
    for component in components.values():
        fields = component.get("properties", {})
        if not fields.keys() >= SAMPLING:
            continue
        for name, allowed in ranges.items():
            if name in fields:
                fields[name] = _numbers(allowed, least=LEAST.get(name))


SAMPLING = frozenset(SamplingFields.__struct_fields__)
LEAST = {"top_k": -1, "seed": -(2**63)}
"""Values below the range that mean one of it: all tokens, and a seed with a sign."""


def _numbers(allowed: Range, least: float | None = None) -> Schema:
    """Return the schema of a number that may be null."""
    schema: Schema = {
        "type": ["integer" if allowed.whole else "number", "null"],
        "minimum": allowed.least if least is None else least,
        "maximum": allowed.most,
        "default": None,
    }
    return schema | ({"description": allowed.meaning} if allowed.meaning else {})


def _leave_out_unserved(body: type | None, components: dict[str, Schema]) -> None:
    """Remove the fields that a body inherits and its route refuses."""
    for name in getattr(body, "not_served", ()):
        assert body is not None
        components[body.__name__]["properties"].pop(name, None)
