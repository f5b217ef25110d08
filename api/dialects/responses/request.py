"""Bodies of OpenAI's Responses API, translated to a request of a chat.

Source of names and meanings: OpenAI's API reference, "Create a model response".
"""

from typing import Any, Self

import msgspec

from api.chat import ChatBody, ChatRequest
from api.known_fields import unknown_fields
from api.request_body import decode
from api.response_store import ResponseStore
from api.schemas import Number
from runtime.errors import InvalidRequest

Message = dict[str, Any]


class ResponsesBody(msgspec.Struct, frozen=True, kw_only=True):
    """JSON body of POST /v1/responses; null means the default."""

    model: str | None = None
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: Number | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    """`format` of the answer."""
    reasoning: dict[str, Any] | None = None
    stream: bool | None = None
    store: bool | None = None
    """Whether the response may be continued; by default so."""
    metadata: dict[str, Any] | None = None
    truncation: str | None = None
    cache_salt: str | None = None
    include: list[str] | None = None
    """Further parts of the answer, none of which are made here."""

    def chat(self, messages: tuple[Message, ...]) -> ChatBody:
        """Return the same request as a chat. Raises InvalidRequest naming the field at fault."""
        if self.truncation not in (None, "disabled"):
            raise InvalidRequest(
                "truncation must be disabled: no message is dropped here", field="truncation"
            )
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        effort = (self.reasoning or {}).get("effort")
        return ChatBody(
            model=self.model,
            cache_salt=self.cache_salt,
            messages=[*system, *messages],
            max_completion_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            tools=[_tool(place, tool) for place, tool in enumerate(self.tools)]
            if self.tools
            else None,
            tool_choice=_choice(self.tool_choice),
            parallel_tool_calls=self.parallel_tool_calls,
            response_format=_form((self.text or {}).get("format")),
            reasoning_effort=effort if isinstance(effort, str) else None,
            thinking=False if effort == "none" else None,
            stream=self.stream,
        )


class ResponsesRequest(ChatRequest, frozen=True, kw_only=True):
    """A checked request of POST /v1/responses."""

    given: ResponsesBody
    messages: tuple[Message, ...]
    """The conversation so far, without instructions."""
    size: int
    """Bytes of the bodies that the conversation came in."""

    @classmethod
    def parse_continued(cls, body: bytes, store: ResponseStore, owner: str | None = None) -> Self:
        """Read a request body and the conversation that it continues, which is of the same owner.

        Raises InvalidRequest naming the field that does not fit, ResponseNotFound.
        """
        given = decode(body, ResponsesBody)
        unknown = unknown_fields(body, given.__struct_fields__)
        before: tuple[Message, ...] = ()
        size = len(body)
        if given.previous_response_id is not None:
            known = store.get(given.previous_response_id, owner)
            before, size = known.messages, size + known.size
        messages = (*before, *_messages(given.input))
        made = ChatRequest.of_body(given.chat(messages), unknown)
        fields = {name: getattr(made, name) for name in made.__struct_fields__}
        return cls(**fields, given=given, messages=messages, size=size)


def _messages(given: str | list[dict[str, Any]]) -> list[Message]:
    """Return the messages of the items of an input."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[Message] = []
    thoughts = ""
    names: dict[str, str] = {}
    for place, item in enumerate(given):
        where = f"input[{place}]"
        match item:
            case {"type": "function_call", "call_id": str(call_id), "name": str(name)}:
                names[call_id] = name
                function = {"name": name, "arguments": item.get("arguments") or "{}"}
                call = {"id": call_id, "type": "function", "function": function}
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": ""})
                messages[-1].setdefault("tool_calls", []).append(call)
            case {"type": "function_call_output", "call_id": str(call_id)}:
                output = _content(f"{where}.output", item.get("output"))
                result: Message = {"role": "tool", "tool_call_id": call_id, "content": output}
                if call_id in names:
                    result["name"] = names[call_id]
                messages.append(result)
            case {"type": "reasoning"}:
                thoughts += _thought(item)
                continue
            case {"role": str(role)} if item.get("type", "message") == "message":
                content = _content(f"{where}.content", item.get("content"))
                messages.append({"role": role, "content": content})
            case _:
                kind = str(item.get("type"))[:64]
                raise InvalidRequest(f"{where} is of type {kind}, which is not supported here")
        if thoughts and messages[-1]["role"] == "assistant":
            messages[-1].setdefault("reasoning_content", thoughts)
        thoughts = ""
    return messages


def _content(where: str, content: Any) -> str | list[Message]:
    """Return the content of a message: a text or parts. Raises InvalidRequest."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a text or an array of parts", field=where)
    parts: list[Message] = []
    for place, part in enumerate(content):
        match part:
            case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
                parts.append({"type": "text", "text": text})
            case {"type": "refusal", "refusal": str(text)}:
                parts.append({"type": "text", "text": text})
            case _:
                kind = str(part.get("type") if isinstance(part, dict) else part)[:64]
                raise InvalidRequest(
                    f"{where}[{place}] is of type {kind}, which is not supported here: send text",
                    field=where,
                )
    return parts


def _thought(item: dict[str, Any]) -> str:
    """Return the text of a reasoning item: its content, else its summary."""
    for name in ("content", "summary"):
        parts = item.get(name)
        if isinstance(parts, list) and parts:
            return "".join(str(p.get("text") or "") for p in parts if isinstance(p, dict))
    return ""


def _tool(place: int, tool: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a tool as chats have it. Raises InvalidRequest."""
    if tool.get("type") != "function":
        raise InvalidRequest(
            f"tools[{place}] is of type {str(tool.get('type'))[:64]}, which is not run here; offer "
            "functions",
            field="tools",
        )
    named = ("name", "description", "parameters", "strict")
    function = {name: tool[name] for name in named if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _choice(given: str | dict[str, Any] | None) -> Any:
    """Return tool_choice as chats have it."""
    match given:
        case {"type": "allowed_tools", "mode": mode, "tools": tools}:
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
    return given


def _form(given: Any) -> dict[str, Any] | None:
    """Return response_format as chats have it. Raises InvalidRequest."""
    match given:
        case None:
            return None
        case {"type": "json_schema"}:
            return {"type": "json_schema", "json_schema": given}
        case {"type": "text" | "json_object"}:
            return dict(given)
    raise InvalidRequest(
        "text.format.type must be text, json_object or json_schema", field="text.format"
    )
