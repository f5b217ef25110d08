"""Bodies of OpenAI's chat completions API, as far as it is served here.

Source of names, defaults and ranges: OpenAI's API reference, "Create chat completion". `top_k`,
`ignore_eos` and variables of the template (`chat_template_kwargs`, `continue_final_message` and
so on) are extensions that other servers have too.
"""

from typing import Any, Self

import msgspec

from api.completions import WHOLE_CONTEXT, OpenAIRequest, Usage
from api.known_fields import unknown_fields
from api.reasoning import ReasoningBody
from api.request_body import decode
from api.schemas import Conversation, Number, one_of
from api.tool_calls import NO_TOOLS, ToolCall, ToolCallDelta, ToolUse
from runtime.errors import InvalidRequest
from runtime.sampling import COUNTS

FOR_THE_TEMPLATE = ("reasoning_effort", "enable_thinking", "documents")
"""Fields that are variables of the template, which `chat_template_kwargs` may name too."""


class ChatBody(ReasoningBody, frozen=True, kw_only=True):
    """JSON body of POST /v1/chat/completions. Unknown fields are ignored."""

    messages: list[dict[str, Any]]
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    enable_thinking: bool | None = None
    documents: list[dict[str, Any]] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = None
    """vLLM's, taken either way: a template writes BOS itself, and it is never doubled."""
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Number | None = None
    """Number of most likely tokens returned with each token, with logprobs."""

    def _answer_logprobs(self) -> int | None:
        asked = msgspec.structs.replace(self, n_probs=self.n_probs or None)
        named = one_of(asked, "top_logprobs", "n_probs")
        count = 0 if named is None else int(COUNTS["top_logprobs"].checked(*named))
        if self.logprobs or asked.n_probs:
            return count
        if count:
            raise InvalidRequest(
                "top_logprobs comes with logprobs; send logprobs: true", field="top_logprobs"
            )
        return None

    def conversation(self, tools: ToolUse = NO_TOOLS) -> Conversation:
        """The template's variables. Raises InvalidRequest naming the field that does not fit."""
        if not self.messages:
            raise InvalidRequest("messages must hold at least one message")
        for place, message in enumerate(self.messages):
            _check_message(place, message)
        fields = {name: getattr(self, name) for name in FOR_THE_TEMPLATE}
        variables = self.reasoning_variables()
        variables |= {name: value for name, value in fields.items() if value is not None}
        if tools.tools:
            variables["tools"] = list(tools.tools)
        continue_final = self._continues()
        return Conversation(
            tuple(self.messages),
            {**variables, **(self.chat_template_kwargs or {})},
            self.add_generation_prompt is not False and not continue_final,
            continue_final,
        )

    def _continues(self) -> bool:
        """Whether the answer continues the last message, as by default for an assistant's."""
        if self.continue_final_message and self.add_generation_prompt:
            raise InvalidRequest(
                "continue_final_message and add_generation_prompt exclude each other; send one"
            )
        if self.continue_final_message is not None:
            return self.continue_final_message
        last = self.messages[-1]
        if any(last.get(name) is True for name in ("prefix", "partial")):
            return True
        is_begun = last["role"] == "assistant" and bool(last.get("content"))
        return is_begun and not last.get("tool_calls") and self.add_generation_prompt is None


class ChatRequest(OpenAIRequest, frozen=True):
    """A checked request of POST /v1/chat/completions."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request body. Raises InvalidRequest naming the field that does not fit."""
        given = decode(body, ChatBody)
        return cls.of_body(given, unknown_fields(body, given.__struct_fields__))

    @classmethod
    def of_body(cls, given: ChatBody, unknown: tuple[str, ...]) -> Self:
        """Check a body, of which `unknown` fields were ignored. Raises InvalidRequest likewise."""
        tools = ToolUse.of(given.tools, given.tool_choice, given.parallel_tool_calls)
        options = given.options(tools)
        conversation = given.conversation(tools)
        made = cls.of(given, unknown, (conversation,), given.limit(WHOLE_CONTEXT))
        generate = msgspec.structs.replace(made.generate, options=options)
        return msgspec.structs.replace(made, generate=generate)


class AssistantMessage(msgspec.Struct, frozen=True):
    """The answer."""

    content: str | None
    """None if there are only calls."""
    role: str = "assistant"
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning: str | msgspec.UnsetType = msgspec.UNSET
    """The same, under the name that newer clients read."""
    tool_calls: tuple[ToolCall, ...] | msgspec.UnsetType = msgspec.UNSET


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Addition of a chunk to the answer; the first one has the role."""

    role: str | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: tuple[ToolCallDelta, ...] | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of a completion."""

    index: int = 0
    message: AssistantMessage
    logprobs: msgspec.Raw | None = None
    finish_reason: str | None


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Addition of a chunk to an answer."""

    index: int = 0
    delta: Delta
    logprobs: msgspec.Raw | None = None
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
    prompt_logprobs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk of a stream."""

    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    """Omitted in a stream that did not request it; otherwise null in all but its last chunk."""


def _check_message(place: int, message: dict[str, Any]) -> None:
    """Refuse a message whose role or content is of another type than OpenAI's."""
    if not isinstance(message.get("role"), str):
        raise InvalidRequest(f"messages[{place}].role must be a text")
    content = message.get("content")
    if content is not None and not isinstance(content, str | list):
        raise InvalidRequest(f"messages[{place}].content must be a text, an array of parts or null")
    for name in ("tool_calls", "function_call"):
        kind, expected = (list, "an array") if name == "tool_calls" else (dict, "an object")
        if message.get(name) is not None and not isinstance(message[name], kind):
            raise InvalidRequest(f"messages[{place}].{name} must be {expected} or null")
