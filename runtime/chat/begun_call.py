"""The first call of a text that is still being written, as far as it is certain.

Its name comes first, then its arguments as they arrive: by the letter where they are written as
JSON, one after the other where they are in tags. Other calls are known once they are complete.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runtime.chat.json_place import JsonPlace
from runtime.chat.tool_call_parsers import (
    Call,
    FirstOf,
    Named,
    Reader,
    Tagged,
    Tools,
    keyed_objects,
    known_objects,
    objects,
    rest_of_array,
)
from runtime.tokenizer import well_formed

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


class BegunTaggedCall:
    """A call with arguments in tags, whose name is complete. Owned by its parser."""

    id = None

    def __init__(self, name: str, read: Tagged, parameters: Mapping[str, Any]) -> None:
        """`parameters`: the schema of the tool's."""
        self.name = name
        self.arguments = "{"
        """The beginning of a JSON object, with the arguments that are complete."""
        self._read = read
        self._parameters = parameters
        self._text = ""
        """What is not read yet."""

    def add(self, text: str) -> None:
        """Go on with the text of the call."""
        self._text += text
        if self._read.value_end[-1] not in text:
            return
        place = 0
        while (found := self._read.argument(self._text, place, self._parameters)) is not None:
            key, value, place = found
            try:
                entry = json.dumps({key: value}, ensure_ascii=False, allow_nan=False)
            except ValueError:  # a number that is not finite: the call will be text
                break
            comma = ", " if self.arguments != "{" else ""
            self.arguments += comma + well_formed(entry[1:-1])
        self._text = self._text[place:]

    def completed(self, call: Call) -> Call:
        """Return the complete call with its arguments as they were given, if it is this one."""
        arguments = self.arguments + "}"
        is_this = call.name == self.name and json.loads(arguments) == json.loads(call.arguments)
        return replace(call, arguments=arguments) if is_this else call


def begun_call(read: Reader, text: str, tools: Tools) -> BegunCall | BegunTaggedCall | None:
    """Return the call that the text of a format with this reader begins, of a known tool."""
    begun: BegunCall | BegunTaggedCall
    if isinstance(read, Tagged):
        opening = read.opening.match(text[:LONGEST_HEAD])
        # A name without an end mark may go on.
        if opening is None or opening.end() == len(text):
            return None
        name, place = opening["name"].strip(), opening.end()
        if name not in tools:
            return None
        begun = BegunTaggedCall(name, read, tools[name])
    else:
        head = _head(read, text[:LONGEST_HEAD])
        if head is None or head.name not in tools:
            return None
        begun, place = BegunCall(head), head.place
    begun.add(text[place:])
    return begun


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
