"""Tool calls as models write them: readers from the text of a call to its name and arguments."""

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from runtime.chat.written_values import (
    json_decoder,
    parsed_json,
    plain_value,
    python_value,
    typed,
)
from runtime.tokenizer import well_formed

NAMES = ("name", "tool_name", "function")
"""Names under which formats have a tool's name in JSON."""
ARGUMENTS = ("arguments", "parameters", "args", "input")
QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
"""A text in Python's notation, in which models write line ends as they are."""
CDATA, CDATA_END = "<![CDATA[", "]]>"
MAX_DEPTH = 100

Tools: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The JSON schema of each tool's parameters, by the tool's name."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. Immutable."""

    name: str
    arguments: str
    """The text of a JSON object."""
    id: str | None = None
    """The one that the model gave it, if its format has one that is unique."""


Reader: TypeAlias = Callable[[str, Tools], list[Call] | None]
"""Parses the calls in a text between the marks of a format; None if it is malformed."""


def objects(text: str, tools: Tools) -> list[Call] | None:
    """Parse calls as JSON objects, in sequence or in an array."""
    decoder = json_decoder()
    found: list[Call] = []
    place = _skip(text, 0)
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return None
        for each in value if isinstance(value, list) else [value]:
            call = _of_object(each)
            if call is None:
                return None
            found.append(call)
        place = _skip(text, place)
    return found or None


def known_objects(text: str, tools: Tools) -> list[Call] | None:
    """Calls as JSON objects that nothing marks, and which so must name a tool that there is."""
    found = objects(text, tools)
    return found if found and all(call.name in tools for call in found) else None


def rest_of_array(text: str, tools: Tools) -> list[Call] | None:
    """Calls as JSON objects in an array whose bracket belongs to the mark before it."""
    return objects("[" + text, tools)


def keyed_objects(text: str, tools: Tools) -> list[Call] | None:
    """Calls as JSON objects of one key, the tool's name, whose value is the arguments."""
    value = parsed_json(text)
    found: list[Call] = []
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict) or len(each) != 1:
            return None
        ((name, arguments),) = each.items()
        if not isinstance(arguments, dict):
            return None
        found.append(_call(name, arguments))
    return found or None


@dataclass(frozen=True, slots=True)
class Named:
    """A reader of a head that has the name, a separator, and the arguments as JSON. Immutable."""

    head: re.Pattern[str]
    """With the group `name` and perhaps `id`."""
    separator: str
    fenced: bool
    """Whether the arguments stand between the separator and three backticks."""

    def __call__(self, text: str, tools: Tools) -> list[Call] | None:
        """Parse the one call of a text."""
        before, found, after = text.partition(self.separator)
        match = self.head.fullmatch(before.strip())
        if self.fenced:
            after = after.rstrip().removesuffix("```")
        arguments = parsed_json(after) if found and match else None
        if match is None or not isinstance(arguments, dict):
            return None
        return [_call(match["name"], arguments, match.groupdict().get("id"))]


def named(head: str, separator: str, *, fenced: bool = False) -> Named:
    """Return the reader of calls whose head fits a pattern."""
    return Named(re.compile(head), separator, fenced)


@dataclass(frozen=True, slots=True)
class Tagged:
    """A reader of calls whose arguments are in tags of their own. Immutable."""

    opening: re.Pattern[str]
    """Of a call, with the group `name`."""
    ending: re.Pattern[str]
    key: re.Pattern[str]
    """The opening of an argument, with the group `key`, and `text` if it says what is a text."""
    value_end: str
    cdata: bool
    """Whether a text may stand between XML's marks of one."""

    def __call__(self, text: str, tools: Tools) -> list[Call] | None:
        """Parse the calls of a text."""
        found: list[Call] = []
        place = 0
        while (place := _spaces(text, place)) < len(text):
            begun = self.opening.match(text, place)
            if begun is None:
                return None
            place = begun.end()
            name = begun["name"].strip()
            arguments: dict[str, Any] = {}
            while (argument := self.argument(text, place, tools.get(name, {}))) is not None:
                key, arguments[key], place = argument
            if (ended := self.ending.match(text, place)) is None:
                return None
            place = ended.end()
            found.append(_call(name, arguments))
        return found or None

    def argument(
        self, text: str, place: int, schema: Mapping[str, Any]
    ) -> tuple[str, Any, int] | None:
        """Return the complete argument at a place: its key, its value, and where it ends.

        schema: that of the tool's parameters.
        """
        begun = self.key.match(text, place)
        if begun is None:
            return None
        is_marked = self.cdata and text.startswith(CDATA, begun.end())
        inner_end = text.find(CDATA_END, begun.end()) if is_marked else begun.end()
        end = text.find(self.value_end, inner_end) if inner_end >= 0 else -1
        if end < 0:
            return None
        value: Any = text[begun.end() : end]
        if is_marked:
            value = value.removeprefix(CDATA).rstrip().removesuffix(CDATA_END)
        elif begun.groupdict().get("text") not in ("true", "string"):
            value = typed(_unwrapped(value), _schema(schema, begun["key"]))
        return begun["key"], value, end + len(self.value_end)


def tagged(call: str, call_end: str, key: str, value_end: str, *, cdata: bool = False) -> Tagged:
    """Return the reader of calls whose opening, end and arguments' opening fit patterns."""
    opening, ending, argument = (re.compile(rf"\s*{each}") for each in (call, call_end, key))
    return Tagged(opening, ending, argument, value_end, cdata)


@dataclass(frozen=True, slots=True)
class FirstOf:
    """A reader that tries several. Immutable."""

    readers: tuple[Reader, ...]

    def __call__(self, text: str, tools: Tools) -> list[Call] | None:
        """Parse the calls of a text by the first reader that can."""
        return next(filter(None, (reader(text, tools) for reader in self.readers)), None)


def nested(separator: str) -> Reader:
    """Return a reader of XML in which a separator stands in front of every tag.

    An argument is an element, an entry of an object one within it, and items are `item`s.
    """
    tag = re.compile(r"<(?P<end>/?)(?P<name>[^>]*)>(?P<text>.*)", re.DOTALL)
    head = re.compile(r'invoke name="(?P<name>[^"]*)"')

    def read(text: str, tools: Tools) -> list[Call] | None:
        before, *pieces = text.split(separator)
        root = _Element("")
        open_elements = [root]
        for piece in pieces:
            found = tag.fullmatch(piece)
            if found is None or len(open_elements) > MAX_DEPTH:
                return None
            if not found["end"]:
                inner = _Element(found["name"], found["text"])
                open_elements[-1].inner.append(inner)
                open_elements.append(inner)
            elif open_elements.pop().name.partition(" ")[0] != found["name"] or (
                not open_elements or found["text"].strip()
            ):
                return None
        if before.strip() or open_elements != [root]:
            return None
        calls = []
        for each in root.inner:
            named = head.fullmatch(each.name)
            if named is None or each.text.strip():
                return None
            schema = tools.get(named["name"], {})
            arguments = {one.name: one.value(_inner(schema, one.name)) for one in each.inner}
            calls.append(_call(named["name"], arguments))
        return calls or None

    return read


@dataclass(slots=True)
class _Element:
    """An element of XML. Owned by one call."""

    name: str
    text: str = ""
    inner: list["_Element"] = field(default_factory=list)

    def value(self, schema: Any) -> Any:
        """The value of an argument with a schema."""
        kind = schema.get("type") if isinstance(schema, Mapping) else None
        if not self.inner:
            if kind in ("array", "object") and not self.text.strip():
                return [] if kind == "array" else {}
            return typed(self.text, schema)
        if kind != "object" and all(each.name == "item" for each in self.inner):
            return [each.value(_inner(schema, None)) for each in self.inner]
        return {each.name: each.value(_inner(schema, each.name)) for each in self.inner}


def _inner(schema: Any, key: str | None) -> Any:
    """The schema of an entry of a value, or of its items."""
    if not isinstance(schema, Mapping):
        return None
    entries = schema.get("properties")
    if key is None:
        return schema.get("items")
    return entries.get(key) if isinstance(entries, Mapping) else None


def first_of(*readers: Reader) -> FirstOf:
    """Return a reader that tries each of these."""
    return FirstOf(readers)


def python_calls(text: str, tools: Tools) -> list[Call] | None:
    """Calls in Python's writing: `[name(key="value", ...), ...]`."""
    try:
        source = QUOTED.sub(lambda found: found[0].replace("\n", "\\n"), text.strip())
        tree = ast.parse(source, mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List) else [tree]
        found: list[Call] = []
        for node in nodes:
            if not isinstance(node, ast.Call) or node.args:
                return None
            if any(each.arg is None for each in node.keywords):
                return None
            given = {str(each.arg): python_value(each.value) for each in node.keywords}
            found.append(_call(ast.unparse(node.func), given))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return found or None


def braced(text: str, tools: Tools) -> list[Call] | None:
    """Parse a call in Gemma's form: `call:name{key:value}`, with its own quotes."""
    match = re.fullmatch(r"\s*call:(?P<name>[^{\s]+)\s*(?P<rest>\{.*)", text, re.DOTALL)
    if match is None:
        return None
    try:
        value, left = _braced_value(match["rest"], 0, 0)
    except ValueError:
        return None
    if match["rest"][left:].strip() or not isinstance(value, dict):
        return None
    return [_call(match["name"], value)]


BRACED_QUOTES = ('<|"|>', "<escape>", '"')
BRACED_PLAIN = re.compile(r"[^,{}\[\]]*")
BRACED_KEY = re.compile(r'\s*(?:<\|"\|>|")?([^:{}\[\],"<]*)(?:<\|"\|>|")?\s*:')


def _braced_value(text: str, place: int, level: int) -> tuple[Any, int]:
    """Return a value and its end. Raises ValueError."""
    if level > MAX_DEPTH:
        raise ValueError("nested too deep")
    place = _spaces(text, place)
    for quote in BRACED_QUOTES:
        if text.startswith(quote, place):
            begin = place + len(quote)
            end = text.index(quote, begin)
            return text[begin:end], end + len(quote)
    if text.startswith("{", place):
        return _braced_entries(text, place + 1, level)
    if text.startswith("[", place):
        items: list[Any] = []
        place = _spaces(text, place + 1)
        while not text.startswith("]", place):
            value, place = _braced_value(text, place, level + 1)
            items.append(value)
            place = _after_comma(text, place, "]")
        return items, place + 1
    match = BRACED_PLAIN.match(text, place)
    plain = match.group().strip() if match else ""
    if match is None or not plain:
        raise ValueError("a value is missing")
    return plain_value(plain), match.end()


def _braced_entries(text: str, place: int, level: int) -> tuple[dict[str, Any], int]:
    entries: dict[str, Any] = {}
    place = _spaces(text, place)
    while not text.startswith("}", place):
        key = BRACED_KEY.match(text, place)
        if key is None:
            raise ValueError("a key is missing")
        entries[key[1].strip()], place = _braced_value(text, key.end(), level + 1)
        place = _after_comma(text, place, "}")
    return entries, place + 1


def _after_comma(text: str, place: int, end: str) -> int:
    place = _spaces(text, place)
    if text.startswith(",", place):
        return _spaces(text, place + 1)
    if not text.startswith(end, place):
        raise ValueError("a comma is missing")
    return place


def _spaces(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _of_object(value: Any) -> Call | None:
    if not isinstance(value, dict):
        return None
    if isinstance(inner := value.get("function"), dict):
        value = inner
    name = next((value[key] for key in NAMES if isinstance(value.get(key), str)), None)
    given: Any = next((value[key] for key in ARGUMENTS if value.get(key) is not None), {})
    if isinstance(given, str):
        given = parsed_json(given) if given.strip() else {}
    return _call(name, given) if name and isinstance(given, dict) else None


def _call(name: str, arguments: Mapping[str, Any], id: str | None = None) -> Call:
    """A call with its arguments as JSON. Raises ValueError for a number that is not finite."""
    encoded = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    return Call(well_formed(name).strip(), well_formed(encoded), id)


def _schema(parameters: Mapping[str, Any], key: str) -> Any:
    properties = parameters.get("properties")
    return properties.get(key) if isinstance(properties, Mapping) else None


def _unwrapped(text: str) -> str:
    """Return a value without the line ends next to its tags."""
    return text.removeprefix("\n").removesuffix("\n")


def _skip(text: str, place: int) -> int:
    while place < len(text) and (text[place].isspace() or text[place] in ",;"):
        place += 1
    return place
