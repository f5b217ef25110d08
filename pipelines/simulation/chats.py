"""A trace: chats with their system prompts and the lengths of their turns, as JSON Lines."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec

from runtime.errors import InvalidTrace

Count = Annotated[int, msgspec.Meta(ge=1)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0)]


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question and its answer, in tokens."""

    question: Count
    answer: Count
    think_ms: Milliseconds = 0
    """From the end of the answer before to this question; without meaning in the first turn."""


class Chat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A system prompt and turns, each of which has all before it as its prompt."""

    start_ms: Milliseconds
    """When its first question is asked."""
    system: str
    """Name of its system prompt: chats with the same name begin with the same tokens."""
    system_tokens: Annotated[int, msgspec.Meta(ge=0)]
    turns: Annotated[tuple[Turn, ...], msgspec.Meta(min_length=1)]

    @property
    def tokens(self) -> int:
        """Number of tokens after the last answer."""
        return self.system_tokens + sum(turn.question + turn.answer for turn in self.turns)


Trace = tuple[Chat, ...]


def read_trace(path: Path) -> Trace:
    """Read one chat per line. Raises InvalidTrace for a line that is none, OSError."""
    chats: list[Chat] = []
    lengths: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            chat = msgspec.json.decode(line, type=Chat)
        except msgspec.DecodeError as error:
            raise InvalidTrace(f"line {number} of {path} is no chat: {error}") from None
        length = lengths.setdefault(chat.system, chat.system_tokens)
        if length != chat.system_tokens:
            raise InvalidTrace(
                f"line {number} of {path} gives system prompt {chat.system!r} "
                f"{chat.system_tokens} tokens, and an earlier line {length}: name them differently"
            )
        chats.append(chat)
    if not chats:
        raise InvalidTrace(f"{path} has no chats; write one per line")
    return tuple(chats)


def trace_lines(chats: Iterable[Chat]) -> bytes:
    """Return the JSON Lines of a trace."""
    return b"".join(msgspec.json.encode(chat) + b"\n" for chat in chats)
