"""The first call of a text that is still being written, as far as it is certain.

Its name comes first, then its arguments as they arrive. Only calls whose arguments are written as
JSON are found here; all others are known once they are complete.
"""

import json
import re
from dataclasses import dataclass, replace

from runtime.chat.json_place import JsonPlace
from runtime.chat.tool_call_parsers import (
    Call,
    FirstOf,
    Named,
    Reader,
    Tools,
    keyed_objects,
    known_objects,
    objects,
    rest_of_array,
)

LONGEST_HEAD = 1024
"""Characters in front of the arguments."""
OBJECT_HEAD = re.compile(
    r'\s*\[?\s*\{\s*(?:"(?:id|type|tool_call_id)"\s*:\s*"[^"\\]*"\s*,\s*)*'
    r'"(?:name|tool_name)"\s*:\s*"(?P<name>[^"\\]+)"\s*,\s*'
    r'"(?:arguments|parameters|args|input)"\s*:\s*(?=\{)'
)

KEYED_HEAD = re.compile(r'\s*\[?\s*\{\s*"(?P<name>[^"\\]+)"\s*:\s*(?=\{)')


@dataclass(frozen=True, slots=True)
class _Head:
    """A call's name and id, and where its arguments begin. Immutable."""

    name: str
    id: str | None
    place: int


class BegunCall:
    """A call whose name is complete. Owned by its parser."""

    def __init__(self, head: _Head) -> None:
        self.name = head.name
        self.id = head.id
        self._place = JsonPlace()
        self._parts: list[str] = []
        self._ended = False

    @classmethod
    def of(cls, read: Reader, text: str, tools: Tools) -> "BegunCall | None":
        """Return the call that the text of a format with this reader begins, of a known tool."""
        head = _head(read, text[:LONGEST_HEAD])
        if head is None or head.name not in tools:
            return None
        begun = cls(head)
        begun.add(text[head.place :])
        return begun

    @property
    def arguments(self) -> str:
        """The arguments so far: the text of a JSON object, or its beginning."""
        return "".join(self._parts)

    def add(self, text: str) -> None:
        """Go on with the text of the call; what comes behind the arguments is left out."""
        if self._ended:
            return
        end = self._place.value_end(text)
        self._parts.append(text[:end])
        self._place.move(text[:end])
        self._ended = self._place.depth <= 0

    def completed(self, call: Call) -> Call:
        """Return the complete call with its arguments as they were written, if it is this one."""
        try:
            is_this = json.loads(self.arguments) == json.loads(call.arguments)
        except (ValueError, RecursionError):
            return call
        is_this = is_this and call.name == self.name
        return replace(call, arguments=self.arguments) if is_this else call


def _head(read: Reader, text: str) -> _Head | None:
    """Return the beginning of the first call, or None if it is not complete."""
    match read:
        case Named():
            before, found, after = text.partition(read.separator)
            matched = read.head.fullmatch(before.strip())
            arguments = after.lstrip()
            if not found or matched is None or not arguments.startswith("{"):
                return None
            place = len(text) - len(arguments)
            return _Head(matched["name"].strip(), matched.groupdict().get("id"), place)
        case FirstOf():
            return next(filter(None, (_head(each, text) for each in read.readers)), None)
    if read is keyed_objects:
        matched = KEYED_HEAD.match(text)
    elif read in (objects, known_objects, rest_of_array):
        matched = OBJECT_HEAD.match(text)
    else:
        return None
    return matched and _Head(matched["name"].strip(), None, matched.end())
