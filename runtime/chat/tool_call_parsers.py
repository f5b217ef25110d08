"""Tool calls as models write them: readers from the text of a call to its name and arguments."""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from runtime.tokenizer import well_formed

NAMES = ("name", "tool_name", "function")
"""Names under which formats have a tool's name in JSON."""
ARGUMENTS = ("arguments", "parameters", "args", "input")
MAX_LITERAL_LENGTH = 10_000
"""Characters of a value in Python's writing, which some templates teach."""
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
    decoder = _decoder()
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
    value = _json(text)
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
        arguments = _json(after) if found and match else None
        if match is None or not isinstance(arguments, dict):
            return None
        return [_call(match["name"], arguments, match.groupdict().get("id"))]


def named(head: str, separator: str, *, fenced: bool = False) -> Named:
    """Return the reader of calls whose head fits a pattern."""
    return Named(re.compile(head), separator, fenced)


def tagged(call: str, call_end: str, key: str, value_end: str) -> Reader:
    """Return a reader of calls whose arguments are in tags of their own.

    Patterns: the opening of a call with its group `name`, its end, the opening of an argument with
    its group `key` (and `text`, where the tag says that it is a text), and the argument's end.
    """
    opening, ending = re.compile(rf"\s*{call}"), re.compile(rf"\s*{call_end}")
    argument, closing = re.compile(rf"\s*{key}"), re.compile(value_end)

    def read(text: str, tools: Tools) -> list[Call] | None:
        found: list[Call] = []
        place = 0
        while (place := _spaces(text, place)) < len(text):
            begun = opening.match(text, place)
            if begun is None:
                return None
            place = begun.end()
            name = begun["name"].strip()
            arguments: dict[str, Any] = {}
            while (begun := argument.match(text, place)) is not None:
                ended = closing.search(text, begun.end())
                if ended is None:
                    return None
                value = text[begun.end() : ended.start()]
                is_text = begun.groupdict().get("text") == "true"
                schema = _schema(tools, name, begun["key"])
                arguments[begun["key"]] = value if is_text else _typed(_unwrapped(value), schema)
                place = ended.end()
            if (ended := ending.match(text, place)) is None:
                return None
            place = ended.end()
            found.append(_call(name, arguments))
        return found or None

    return read


@dataclass(frozen=True, slots=True)
class FirstOf:
    """A reader that tries several. Immutable."""

    readers: tuple[Reader, ...]

    def __call__(self, text: str, tools: Tools) -> list[Call] | None:
        """Parse the calls of a text by the first reader that can."""
        return next(filter(None, (reader(text, tools) for reader in self.readers)), None)


def first_of(*readers: Reader) -> FirstOf:
    """Return a reader that tries each of these."""
    return FirstOf(readers)


def python_calls(text: str, tools: Tools) -> list[Call] | None:
    """Calls in Python's writing: `[name(key="value", ...), ...]`."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List) else [tree]
        found: list[Call] = []
        for node in nodes:
            if not isinstance(node, ast.Call) or node.args:
                return None
            if any(each.arg is None for each in node.keywords):
                return None
            given = {str(each.arg): _python_value(each.value) for each in node.keywords}
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
    return _plain_value(plain), match.end()


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


def _plain_value(text: str) -> Any:
    if text in ("None", "True", "False"):
        return {"None": None, "True": True, "False": False}[text]
    value = _json(text)
    return text if value is None and text != "null" else value


def _python_value(node: ast.expr) -> Any:
    """A literal; true, false and null are taken as JSON has them. Raises ValueError."""
    match node:
        case ast.Name(id="true" | "false" | "null"):
            return {"true": True, "false": False, "null": None}[node.id]
        case ast.List() | ast.Tuple():
            return [_python_value(each) for each in node.elts]
        case ast.Dict():
            return {
                str(_python_value(key)): _python_value(value)
                for key, value in zip(node.keys, node.values, strict=True)
                if key is not None
            }
    value = ast.literal_eval(node)
    if not isinstance(value, str | int | float | bool | None):
        raise ValueError("no value of JSON")
    return value


def _of_object(value: Any) -> Call | None:
    if not isinstance(value, dict):
        return None
    if isinstance(inner := value.get("function"), dict):
        value = inner
    name = next((value[key] for key in NAMES if isinstance(value.get(key), str)), None)
    given: Any = next((value[key] for key in ARGUMENTS if value.get(key) is not None), {})
    if isinstance(given, str):
        given = _json(given) if given.strip() else {}
    return _call(name, given) if name and isinstance(given, dict) else None


def _call(name: str, arguments: Mapping[str, Any], id: str | None = None) -> Call:
    """A call with its arguments as JSON. Raises ValueError for a number that is not finite."""
    encoded = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    return Call(well_formed(name).strip(), well_formed(encoded), id)


def _schema(tools: Tools, name: str, key: str) -> Any:
    properties = tools.get(name, {}).get("properties")
    return properties.get(key) if isinstance(properties, Mapping) else None


def _typed(text: str, schema: Any) -> Any:
    """Convert a value written without a type by its schema, or by its form if there is none."""
    kinds = set(_kinds(schema))
    value = _value(text)
    if value is None and text.strip() not in ("null", "None"):
        return text
    if not kinds:
        return text if isinstance(value, str) else value
    if "string" in kinds and (isinstance(value, str) or _kind(value) not in kinds):
        return text
    return value


def _kinds(schema: Any) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    kind = schema.get("type")
    yield from kind if isinstance(kind, list) else [kind] if isinstance(kind, str) else []
    yield from (_kind(value) for value in _listed(schema.get("enum")))
    for name in ("anyOf", "oneOf"):
        for each in _listed(schema.get(name)):
            yield from _kinds(each)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kind(value: Any) -> str:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
    return "null" if value is None else kinds.get(type(value), "object")


def _value(text: str) -> Any:
    """Parse a value in JSON's or Python's notation; None if it is in neither."""
    value = _json(text)
    if value is None and len(text) <= MAX_LITERAL_LENGTH and text.strip()[:1] in tuple("[{("):
        try:
            return _python_value(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    if value is None and text.strip() in ("True", "False"):
        return text.strip() == "True"
    return value


def _unwrapped(text: str) -> str:
    """Return a value without the line ends next to its tags."""
    return text.removeprefix("\n").removesuffix("\n")


def _skip(text: str, place: int) -> int:
    while place < len(text) and (text[place].isspace() or text[place] in ",;"):
        place += 1
    return place


def _json(text: str) -> Any:
    """Parse a JSON value; None if the text is none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
