"""Bodies of Ollama's API, translated to a request of a chat or of a completion.

Source of names and meanings: docs/api.md of Ollama.
"""

from typing import Any, Self

import msgspec

from api.answer_options import AnswerOptions
from api.chat import ChatBody, ChatRequest
from api.completions import NO_LIMIT, CompletionBody, OpenAIRequest
from api.known_fields import unknown_fields
from api.request_body import decode
from api.schemas import Number, SamplingFields
from runtime.errors import InvalidRequest
from runtime.finite_json import finite_json

LATEST = ":latest"
"""What Ollama's clients add to a name without a tag."""
FILLS_CONTEXT = -2
"""A num_predict that the context alone ends, as -1 does."""


class Options(SamplingFields, frozen=True, kw_only=True):
    """The `options` of a body: how tokens are picked, and where the answer ends."""

    num_predict: Number | None = None
    stop: str | list[str] | None = None


class OllamaBody(msgspec.Struct, frozen=True, kw_only=True):
    """Common fields of the bodies that generate; null means the default."""

    model: str | None = None
    stream: bool | None = None
    """Whether the answer is streamed; by default so."""
    format: str | dict[str, Any] | None = None
    """`json`, or a JSON schema."""
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    """Whether the model reasons, or how much."""
    cache_salt: str | None = None
    keep_alive: Number | str | None = None

    @property
    def unloads(self) -> bool:
        """Whether a request without a prompt asks to unload the model rather than to load it."""
        return self.keep_alive in (0, "0")

    def _fields(self) -> dict[str, Any]:
        """Return the fields of OpenAI's bodies that these are. Raises InvalidRequest."""
        body = finite_json(self.options or {})
        options = decode(body, Options)
        unknown_fields(body, Options.__struct_fields__)
        fields = {name: getattr(options, name) for name in SamplingFields.__struct_fields__}
        limit = options.num_predict
        return {
            **fields,
            "model": model_name(self.model),
            "cache_salt": self.cache_salt,
            "keep_alive": self.keep_alive,
            "stop": options.stop,
            "stream": self.stream is not False,
            "max_tokens": NO_LIMIT if limit is None or limit == FILLS_CONTEXT else limit,
            "response_format": _form(self.format),
        }

    def _chat(self, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> ChatBody:
        """Return the body of a chat. Raises InvalidRequest naming the field that does not fit."""
        return ChatBody(
            **self._fields(),
            messages=messages,
            tools=tools,
            thinking=bool(self.think) if self.think is not None else None,
            reasoning_effort=self.think if isinstance(self.think, str) else None,
        )


class OllamaChatBody(OllamaBody, frozen=True, kw_only=True):
    """JSON body of POST /api/chat."""

    messages: list[dict[str, Any]] | None = None
    tools: list[Any] | None = None


class OllamaGenerateBody(OllamaBody, frozen=True, kw_only=True):
    """JSON body of POST /api/generate."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    """Whether the prompt is the whole text, without the model's template."""


class OllamaRequest(OpenAIRequest, frozen=True):
    """A checked request of /api/chat or /api/generate."""

    @classmethod
    def parse_chat(cls, body: bytes) -> OpenAIRequest | OllamaBody:
        """Read a body of /api/chat; one without messages only loads or unloads the model.

        Raises InvalidRequest naming the field that does not fit.
        """
        given = decode(body, OllamaChatBody)
        unknown = unknown_fields(body, given.__struct_fields__)
        if not given.messages:
            return given
        messages = [_message(place, message) for place, message in enumerate(given.messages)]
        return ChatRequest.of_body(given._chat(messages, given.tools), unknown)

    @classmethod
    def parse_generate(cls, body: bytes) -> OpenAIRequest | OllamaBody:
        """Read a body of /api/generate likewise."""
        given = decode(body, OllamaGenerateBody)
        unknown = unknown_fields(body, given.__struct_fields__)
        if not given.prompt:
            return given
        if given.raw:
            return cls._raw(given, given.prompt, unknown)
        system = [{"role": "system", "content": given.system}] if given.system else []
        messages = [*system, {"role": "user", "content": given.prompt}]
        return ChatRequest.of_body(given._chat(messages), unknown)

    @classmethod
    def _raw(cls, given: OllamaGenerateBody, prompt: str, unknown: tuple[str, ...]) -> Self:
        completion = CompletionBody(**given._fields(), prompt=prompt)
        made = cls.of(completion, unknown, (prompt,), completion.limit(NO_LIMIT))
        options = AnswerOptions(parse_reasoning=False)
        generate = msgspec.structs.replace(made.generate, options=options)
        return msgspec.structs.replace(made, generate=generate)


def model_name(given: str | None) -> str | None:
    """Return a model's name without the tag that means its newest version."""
    return given.removesuffix(LATEST) if given else None


def _message(place: int, message: dict[str, Any]) -> dict[str, Any]:
    """Return OpenAI's message for Ollama's. Raises InvalidRequest for one with images."""
    if message.get("images"):
        raise InvalidRequest(
            f"messages[{place}].images: images are not supported here; leave them out",
            field=f"messages[{place}].images",
        )
    made = {name: value for name, value in message.items() if name != "images"}
    if made.get("thinking"):
        made["reasoning_content"] = made["thinking"]
    if made.get("tool_name"):
        made["name"] = made["tool_name"]
    return made


def _form(given: str | dict[str, Any] | None) -> dict[str, Any] | None:
    """Return OpenAI's response_format. Raises InvalidRequest."""
    match given:
        case None | "":
            return None
        case "json":
            return {"type": "json_object"}
        case dict(schema):
            return {"type": "json_schema", "json_schema": {"schema": schema}}
    raise InvalidRequest('format must be "json" or a JSON schema', field="format")
