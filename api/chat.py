"""Bodies of OpenAI's chat completions API, as far as it is served here.

Source of names, defaults and ranges: OpenAI's API reference, "Create chat completion". `top_k`,
`ignore_eos` and `chat_template_kwargs` are extensions that other servers have too.
"""

from typing import Any, Self

import msgspec

from api.completions import WHOLE_CONTEXT, OpenAIBody, OpenAIRequest, Usage, limit_of
from api.request_body import decode
from api.schemas import Conversation, Number
from runtime.errors import InvalidRequest

ONLY_VALUES: dict[str, Any] = {
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "tools": [],
    "functions": [],
    "response_format": {"type": "text"},
    "modalities": ["text"],
}
"""Fields that would change the answer and are not served: their default, which alone is taken."""


class ContentPart(msgspec.Struct, frozen=True):
    """A part of a message; text alone is served."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message, as the template gets it. Of other fields none is handed on."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    def for_template(self) -> dict[str, Any]:
        """The fields that are set; the parts of a content as one text."""
        fields = msgspec.structs.asdict(self)
        given = {name: value for name, value in fields.items() if value is not None}
        return {**given, "content": self._text()}

    def _text(self) -> str:
        if not isinstance(self.content, list):
            return self.content or ""
        for part in self.content:
            if part.type != "text" or part.text is None:
                raise InvalidRequest(
                    f"a message has a part of type {part.type!r}; only text is served"
                )
        return "".join(part.text or "" for part in self.content)


class ChatBody(OpenAIBody, frozen=True, kw_only=True):
    """JSON body of POST /v1/chat/completions. Unknown keys are ignored."""

    messages: list[ChatMessage]
    max_completion_tokens: Number | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    top_logprobs: Any = None
    tools: Any = None
    functions: Any = None
    response_format: Any = None
    modalities: Any = None


class ChatRequest(OpenAIRequest, frozen=True):
    """A checked request of POST /v1/chat/completions."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request body. Raises InvalidRequest naming the field that does not fit."""
        given = decode(body, ChatBody)
        given.check(ONLY_VALUES)
        if not given.messages:
            raise InvalidRequest("messages must hold at least one message")
        messages = tuple(message.for_template() for message in given.messages)
        conversation = Conversation(messages, given.chat_template_kwargs or {})
        return cls.of(given, conversation, _max_tokens(given))


class AssistantMessage(msgspec.Struct, frozen=True):
    """The answer."""

    content: str
    role: str = "assistant"


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to the answer; the first one names the role."""

    role: str | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The one answer of a completion."""

    index: int = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: str | None


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What a chunk adds to the one answer."""

    index: int = 0
    delta: Delta
    logprobs: None = None
    finish_reason: str | None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of POST /v1/chat/completions."""

    id: str
    object: str = "chat.completion"
    created: int
    """Seconds since 1970."""
    model: str
    choices: tuple[ChatChoice, ...]
    usage: Usage


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk of a stream."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    """Left out of a stream that was not asked for it; null in all but its last chunk otherwise."""


def _max_tokens(given: ChatBody) -> int:
    """The limit under its new name or its old one."""
    for name in ("max_completion_tokens", "max_tokens"):
        if (limit := getattr(given, name)) is not None:
            return limit_of(name, limit)
    return WHOLE_CONTEXT
