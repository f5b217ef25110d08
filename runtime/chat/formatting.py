"""Formatting in templates, `%` and str.format, that keeps track of the template's text."""

import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from jinja2.exceptions import SecurityError

from runtime.chat.text import TemplateText, joined

MAX_WIDTH = 10_000
"""Width and precision of a field."""
MAX_SPECIFICATION_LENGTH = 100
FIELD = re.compile(
    r"%(?:\((?P<name>[^()]*)\))?(?P<flags>[#0\- +]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d*))?"
    r"[hlL]?(?P<kind>[diouxXeEfFgGcrsa%])"
)

Print = Callable[[Any], str]
"""A value as text, paid for."""


def percent(template: str, values: Any, text_of: Print) -> list[str]:
    """The parts of `template % values`.

    Raises what Python raises, and SecurityError for a field too wide.
    """
    given = _Values(values)
    parts: list[str] = []
    place = 0
    for field in FIELD.finditer(template):
        between = template[place : field.start()]
        if "%" in between:
            raise ValueError("unsupported format character")
        parts.append(between)
        parts.append("%" if field["kind"] == "%" else _field(field, given, text_of))
        place = field.end()
    if "%" in template[place:]:
        raise ValueError("incomplete format")
    given.check_all_taken()
    return [*parts, template[place:]]


class Fields:
    """Fields of str.format, which are filled in one by one. Owned by one formatting."""

    def __init__(
        self,
        lookup: Formatter,
        values: Sequence[Any],
        named: Mapping[str, Any],
        text_of: Print,
    ) -> None:
        """Take the arguments of a formatting; `lookup` finds fields as the sandbox allows."""
        self._lookup = lookup
        self._values = values
        self._named = named
        self._text_of = text_of
        self._number = 0

    def fill(self, template: str) -> list[str]:
        """The parts of the text with its fields filled in.

        Raises what Python raises, and SecurityError for a field too wide.
        """
        wholly_own = isinstance(template, TemplateText) and template.own == ((0, len(template)),)
        parts: list[str] = []
        for literal, name, specification, conversion in Formatter().parse(template):
            parts.append(TemplateText.wholly_own(literal) if wholly_own else literal)
            if name is not None:
                parts.append(self._filled(name, specification or "", conversion))
        return parts

    def _filled(self, name: str, specification: str, conversion: str | None) -> str:
        if name == "" or name[0] in ".[":
            name, self._number = f"{self._number}{name}", self._number + 1
        value = self._lookup.get_field(name, self._values, self._named)[0]
        if conversion is not None:
            text = self._text_of(value)
            value = text if conversion == "s" else self._lookup.convert_field(value, conversion)
        if "{" in specification:
            specification = "".join(self.fill(specification))
        if not specification:
            return self._text_of(value)
        if len(specification) > MAX_SPECIFICATION_LENGTH:
            raise SecurityError("it formats text in too long a way")
        for number in re.findall(r"\d+", specification):
            _wide(int(number))
        text = format(value, specification)
        if not isinstance(value, str) or value not in text:
            return text
        start = text.index(value)
        return joined((text[:start], value, text[start + len(value) :]))


class _Values:
    """The right operand of a `%`, read in order or by name. Owned by one formatting."""

    def __init__(self, values: Any) -> None:
        self._all = values if isinstance(values, tuple) else (values,)
        self._named = values if isinstance(values, Mapping) else None
        self._taken = 0

    def named(self, name: str) -> Any:
        if self._named is None:
            raise TypeError("format requires a mapping")
        return self._named[name]

    def next(self) -> Any:
        if self._taken >= len(self._all):
            raise TypeError("not enough arguments for format string")
        self._taken += 1
        return self._all[self._taken - 1]

    def check_all_taken(self) -> None:
        if self._named is None and self._taken < len(self._all):
            raise TypeError("not all arguments converted during string formatting")


def _field(field: re.Match[str], given: _Values, text_of: Print) -> str:
    flags = field["flags"]
    width = _wide(given.next() if field["width"] == "*" else int(field["width"] or 0))
    precision = field["precision"]
    if precision is not None:
        precision = _wide(given.next() if precision == "*" else int(precision or 0))
    value = given.next() if field["name"] is None else given.named(field["name"])
    if width < 0:
        flags, width = flags + "-", -width
    if field["kind"] == "s":
        text = text_of(value)
        text = text if precision is None else text[:precision]
        space = " " * (width - len(text))
        return joined((text, space) if "-" in flags else (space, text))
    if field["kind"] in "ra":
        text_of(value)
    form = f"%{flags}{width or ''}{'' if precision is None else f'.{precision}'}{field['kind']}"
    return str(form % (value,))


def _wide(number: Any) -> int:
    if not isinstance(number, int):
        raise TypeError("* wants int")
    if abs(number) > MAX_WIDTH:
        raise SecurityError(f"it formats text wider than {MAX_WIDTH} characters")
    return number
