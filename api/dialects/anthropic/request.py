"""Bodies of Anthropic's Messages API, translated to a request of a chat.

Source of names and meanings: Anthropic's API reference, "Create a Message".
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self

import msgspec

from api.chat import ChatBody, ChatRequest
from api.known_fields import unknown_fields
from api.request_body import decode
from api.schemas import Number
from runtime.errors import InvalidRequest

CHOICES: Mapping[str, str] = {"auto": "auto", "any": "required", "none": "none"}
"""OpenAI's words for the types of tool_choice that need no name."""


class MessagesBody(msgspec.Struct, frozen=True, kw_only=True):
    """JSON body of POST /v1/messages; null means the default."""

    model: str | None = None
    messages: list[dict[str, Any]]
    max_tokens: Number | None = None
    system: str | list[dict[str, Any]] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Number | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    """`effort`, and `format`: a JSON schema of the answer."""
    output_format: dict[str, Any] | None = None
    """An older place of output_config's format."""
    cache_salt: str | None = None

    def chat(self) -> ChatBody:
        """Return the same request as a chat. Raises InvalidRequest naming the field at fault."""
        config = self.output_config or {}
        effort, form = config.get("effort"), config.get("format") or self.output_format
        return ChatBody(
            model=self.model,
            cache_salt=self.cache_salt,
            messages=[*_system(self.system), *_messages(self.messages)],
            max_tokens=self.max_tokens,
            stop=self.stop_sequences,
            stream=self.stream,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            tools=[_tool(place, tool) for place, tool in enumerate(self.tools)]
            if self.tools
            else None,
            tool_choice=_choice(self.tool_choice),
            parallel_tool_calls=not (self.tool_choice or {}).get("disable_parallel_tool_use"),
            thinking=self.thinking or {"type": "disabled"},
            reasoning_effort=effort if isinstance(effort, str) else None,
            response_format=_form(form),
        )


class MessagesRequest(ChatRequest, frozen=True):
    """A checked request of POST /v1/messages."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request body. Raises InvalidRequest naming the field that does not fit."""
        given = decode(body, MessagesBody)
        if given.max_tokens is None:
            raise InvalidRequest("max_tokens is missing", field="max_tokens")
        return cls._of(given, body)

    @classmethod
    def parse_counted(cls, body: bytes) -> Self:
        """Read a body whose tokens are counted only. Raises InvalidRequest likewise."""
        return cls._of(decode(body, MessagesBody), body)

    @classmethod
    def _of(cls, given: MessagesBody, body: bytes) -> Self:
        return cls.of_body(given.chat(), unknown_fields(body, given.__struct_fields__))


def _system(given: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Return the system message, if there is one."""
    if not given:
        return []
    blocks = given if isinstance(given, list) else [{"type": "text", "text": given}]
    text = "\n".join(_text(f"system[{place}]", block) for place, block in enumerate(blocks))
    return [{"role": "system", "content": text}]


def _messages(given: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield OpenAI's messages for Anthropic's: the result of a tool is a message of its own."""
    called: dict[str, str] = {}
    """Names of the tools that were called, by the ids of the calls."""
    for place, message in enumerate(given):
        where, role, content = f"messages[{place}]", message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise InvalidRequest(f"{where}.role must be user, assistant or system", field=where)
        if isinstance(content, str):
            yield {"role": role, "content": content}
        elif not isinstance(content, list):
            raise InvalidRequest(
                f"{where}.content must be a text or an array of blocks", field=f"{where}.content"
            )
        elif role == "assistant":
            yield _said(f"{where}.content", content, called)
        else:
            yield from _heard(f"{where}.content", role, content, called)


def _said(where: str, blocks: list[Any], called: dict[str, str]) -> dict[str, Any]:
    """Return the message of an assistant's blocks."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for place, block in enumerate(blocks):
        match block:
            case {"type": "thinking", "thinking": str(thought)}:
                thoughts.append(thought)
            case {"type": "redacted_thinking"}:
                pass
            case {"type": "tool_use", "id": str(name_of_call), "name": str(name)}:
                called[name_of_call] = name
                function = {"name": name, "arguments": block.get("input") or {}}
                calls.append({"id": name_of_call, "type": "function", "function": function})
            case _:
                texts.append(_text(f"{where}[{place}]", block))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _heard(
    where: str, role: str, blocks: list[Any], called: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the messages of a user's blocks: results of tools, and texts between them."""
    texts: list[dict[str, Any]] = []
    for place, block in enumerate(blocks):
        match block:
            case {"type": "tool_result", "tool_use_id": str(name_of_call)}:
                if texts:
                    yield {"role": role, "content": texts}
                    texts = []
                told = _result(f"{where}[{place}]", block.get("content"))
                result = {"role": "tool", "tool_call_id": name_of_call, "content": told}
                if name_of_call in called:
                    result["name"] = called[name_of_call]
                yield result
            case _:
                texts.append({"type": "text", "text": _text(f"{where}[{place}]", block)})
    if texts:
        yield {"role": role, "content": texts}


def _result(where: str, content: Any) -> str:
    """Return the text of a tool's result."""
    if not isinstance(content, list):
        content = [{"type": "text", "text": content or ""}]
    return "\n".join(_text(f"{where}.content[{i}]", part) for i, part in enumerate(content))


def _text(where: str, block: Any) -> str:
    """Return the text of a block. Raises InvalidRequest for one that is no text."""
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "document", "source": {"type": "text", "data": str(text)}}:
            return text
        case {"type": str(kind)}:
            raise InvalidRequest(
                f"{where} is of type {kind[:64]}, which is not supported here: send its text",
                field=where,
            )
    raise InvalidRequest(f'{where} must be an object such as {{"type": "text", "text": "..."}}')


def _tool(place: int, tool: dict[str, Any]) -> dict[str, Any]:
    """Return OpenAI's description of a tool. Raises InvalidRequest for one that Anthropic runs."""
    kind = tool.get("type")
    if kind not in (None, "custom"):
        raise InvalidRequest(
            f"tools[{place}] is of type {str(kind)[:64]}, which Anthropic's servers run; offer "
            "tools with an input_schema",
            field=f"tools[{place}].type",
        )
    function = {
        "name": tool.get("name"),
        "description": tool.get("description") or "",
        "parameters": tool.get("input_schema"),
    }
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _choice(given: dict[str, Any] | None) -> Any:
    """Return OpenAI's tool_choice. Raises InvalidRequest."""
    match given:
        case None:
            return None
        case {"type": "tool", "name": str(name)}:
            return {"type": "function", "function": {"name": name}}
        case {"type": "auto" | "any" | "none" as kind}:
            return CHOICES[kind]
    raise InvalidRequest(
        "tool_choice.type must be auto, any, none, or tool with a name", field="tool_choice"
    )


def _form(given: Any) -> dict[str, Any] | None:
    """Return OpenAI's response_format. Raises InvalidRequest."""
    match given:
        case None:
            return None
        case {"type": "json_schema", "schema": dict(schema)}:
            return {"type": "json_schema", "json_schema": {"schema": schema}}
    raise InvalidRequest(
        "output_config.format must be of type json_schema, with a schema",
        field="output_config.format",
    )
