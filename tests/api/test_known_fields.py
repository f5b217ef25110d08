"""Every field that any server knows is honoured, harmless, or refused by its name."""

import json
from typing import Any

import pytest

from api.chat import ChatBody, ChatRequest
from api.completions import CompletionBody, CompletionRequest
from api.known_fields import FALSE_MATTERS, HARMLESS, MAX_NAMED, UNSERVED, header_of, neutral_values
from api.schemas import GenerateBody, GenerateRequest
from runtime.errors import InvalidRequest
from tests.api.serving import Serving

BODIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "/generate": (GenerateBody, {"prompt": "a"}),
    "/v1/completions": (CompletionBody, {"prompt": "a"}),
    "/v1/chat/completions": (ChatBody, {"messages": [{"role": "user", "content": "a"}]}),
}
ROUTES = sorted(BODIES)
ODD: tuple[Any, ...] = (7.25, "odd", {"odd": [1]}, ["odd"])
"""Values of which no field has one as its default."""


def unknown(route: str, **fields: Any) -> tuple[str, ...]:
    """The fields of a body that a route ignores. Raises InvalidRequest."""
    body = json.dumps({**BODIES[route][1], **fields}).encode()
    if route == "/generate":
        return GenerateRequest.parse(body).unknown
    kind = ChatRequest if "chat" in route else CompletionRequest
    return kind.parse(body).generate.unknown


def unserved(route: str) -> list[str]:
    return [name for name in UNSERVED if name not in BODIES[route][0].__struct_fields__]


@pytest.mark.parametrize("route", ROUTES)
def test_a_known_field_that_is_not_honoured_is_refused_by_name(route: str) -> None:
    for name in unserved(route):
        for value in ODD:
            with pytest.raises(InvalidRequest, match=f"^{name} is not supported") as caught:
                unknown(route, **{name: value})
            assert caught.value.field == name


@pytest.mark.parametrize("route", ROUTES)
def test_a_value_that_asks_for_nothing_is_taken(route: str) -> None:
    for name in unserved(route):
        for value in neutral_values(name):
            assert unknown(route, **{name: value}) == ()


@pytest.mark.parametrize("route", ROUTES)
def test_false_is_refused_where_it_would_change_the_answer(route: str) -> None:
    for name in FALSE_MATTERS & set(unserved(route)):
        with pytest.raises(InvalidRequest, match=f"{name} is not supported here"):
            unknown(route, **{name: False})


@pytest.mark.parametrize("route", ROUTES)
def test_harmless_fields_are_taken_with_any_value(route: str) -> None:
    for value in ODD:
        assert unknown(route, **dict.fromkeys(HARMLESS, value)) == ()


@pytest.mark.parametrize("route", ROUTES)
def test_what_one_route_honours_is_known_on_the_others(route: str) -> None:
    honoured = {name for kind, _ in BODIES.values() for name in kind.__struct_fields__}
    elsewhere = honoured - set(BODIES[route][0].__struct_fields__)
    assert elsewhere <= set(UNSERVED)
    assert not HARMLESS & (honoured | set(UNSERVED))


@pytest.mark.parametrize("route", ROUTES)
def test_what_nobody_knows_is_ignored_and_named(route: str) -> None:
    assert unknown(route, max_tokns=3, temprature=[1e300]) == ("max_tokns", "temprature")
    many = {f"{index}" * 100: 10**300 for index in range(100)}
    named = unknown(route, **many)
    assert len(named) == MAX_NAMED
    assert max(map(len, named)) == 64


def test_truth_is_no_number() -> None:
    assert unknown("/v1/completions", mirostat=0) == ()
    with pytest.raises(InvalidRequest, match="mirostat"):
        unknown("/v1/completions", mirostat=True)
    with pytest.raises(InvalidRequest, match="prompt_embeds"):
        unknown("/v1/completions", prompt_embeds=0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/generate", "/generate/stream", *ROUTES[1:]])
def test_an_answer_names_what_was_ignored(serving: Serving, path: str, stream: bool) -> None:
    asked = BODIES[path.removesuffix("/stream")][1]
    body: dict[str, Any] = {
        **asked,
        "max_tokens": 1,
        "stream": stream,
        "max_tokns": 1,
        "\u00e9,\n": 2,
    }
    if "chat" in path:
        path, body["prompt"] = "/v1/completions", "a"
        del body["messages"]
    answer = serving.post(path, json=body)
    assert answer.status_code == 200
    assert answer.headers["X-Ignored-Fields"] == "max_tokns, ???"
    assert "X-Ignored-Fields" in answer.headers["Access-Control-Expose-Headers"]
    del body["max_tokns"], body["\u00e9,\n"]
    assert "X-Ignored-Fields" not in serving.post(path, json=body).headers


def test_the_log_names_what_was_ignored(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "rocmforge.api.access"):
        assert serving.generate(max_tokens=1, max_tokns=1).status_code == 200
    (line,) = (record.fields for record in caplog.records if hasattr(record, "fields"))
    assert line["ignored_fields"] == ("max_tokns",)


def test_a_model_that_is_not_served_is_refused_on_every_route(serving: Serving) -> None:
    for path, (_, asked) in BODIES.items():
        assert serving.post(path, json={**asked, "model": "nope"}).status_code == 404


def test_a_header_holds_printable_names() -> None:
    assert header_of(["a", "b\r\nX: y", "", "\u00e9"]) == "a, b??X:?y, ?, ?"
