"""Jinja's filters that keep track of the template's text, or behave as in transformers."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from jinja2.filters import do_title
from markupsafe import escape

from runtime.chat.budget import Budget
from runtime.chat.prices import METHODS
from runtime.chat.text import joined, respelled


class Printer(Protocol):
    """The part of a sandbox that its filters use."""

    @property
    def budget(self) -> Budget:
        """Of the rendering that this thread does."""

    def text(self, value: Any) -> str:
        """A value as it is printed."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return a value's attribute or item."""

    def percent(self, template: str, values: Any) -> str:
        """`template % values`."""

    def concat(self, parts: Iterable[Any]) -> str:
        """Concatenate the parts."""


def filters_of(sandbox: Printer) -> dict[str, Callable[..., Any]]:
    """Return the filters by name, for a sandbox that charges for them."""
    text = sandbox.text

    def join(items: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        parts: list[Any] = []
        for item in items:
            if attribute is not None:
                item = sandbox.getitem(item, attribute)
            parts += (d, item) if parts else (item,)
        return sandbox.concat(parts)

    def replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
        given, old, new = text(s), text(old), text(new)
        METHODS["replace"](sandbox.budget, given, old, new)
        return given.replace(old, new, -1 if count is None else count)

    def indent(s: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        space = width if isinstance(width, str) else " " * width
        # A line feed at the end begins an empty line.
        lines = (text(s) + "\n").splitlines()
        parts: list[str] = [space] if first else []
        for place, line in enumerate(lines):
            if place:
                parts += ("\n", space) if line or blank else ("\n",)
            parts.append(line)
        return joined(parts)

    return {
        "join": join,
        "replace": replace,
        "indent": indent,
        "tojson": to_json,
        "format": lambda value, *args, **named: sandbox.percent(text(value), named or args),
        "title": lambda s: respelled(text(s), do_title(text(s))),
        "string": text,
        # Nothing here is written as HTML, so no text is other than safe.
        "safe": lambda value: value,
        **dict.fromkeys(("e", "escape", "forceescape"), lambda value: str(escape(text(value)))),
    }


def to_json(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the escapes that HTML would need, which Jinja's own filter makes."""
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
