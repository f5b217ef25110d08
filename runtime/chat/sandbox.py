"""The Jinja environment of chat templates: a sandbox that tells the template's text from others'.

Literals of a template compile to TemplateText, and what joins text keeps track of it. A template
comes from a file of unknown origin, so its loops, calls and the size of its texts are bounded.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from string import Formatter
from typing import Any

from jinja2 import Template, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_indent
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.chat.text import TemplateText, joined

MOST_STEPS = 1_000_000
"""Rounds of loops and calls of macros in one rendering: about a second."""
MOST_CHARACTERS = 1 << 25
"""Of any text that a template makes: four times the largest request."""
MOST_BITS = 4096
"""Of any integer that a template makes."""
WIDENING = frozenset({"center", "expandtabs", "format_map", "ljust", "rjust", "zfill"})
"""Methods that make text of any width out of a number; no template of a model needs them."""
UNBOUNDED = ("batch", "center", "format", "pprint", "slice", "urlize", "wordwrap")
"""Filters that do the same."""
WIDEST_INDENT = 100


class Refusal(TemplateError):
    """What a template raises itself, by raise_exception."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles and runs templates. Immutable once made; any thread may render."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationTag]
        )
        self.code_generator_class = TrackingCodeGenerator
        self._rendering = threading.local()
        self.own = TemplateText.wholly_own
        self.filters["tojson"] = _to_json
        self.filters["indent"] = _indent
        self.filters["join"] = self._join
        self.filters["replace"] = self._replace
        for name in UNBOUNDED:
            self.filters.pop(name)
        self.globals.pop("lipsum")
        self.globals["raise_exception"] = _refuse

    @contextmanager
    def rendering(self) -> Iterator[None]:
        """Within it, this thread may do MOST_STEPS steps."""
        self._rendering.steps = 0
        yield

    def step(self) -> str:
        """Count a round of a loop or a call of a macro."""
        self._rendering.steps += 1
        if self._rendering.steps > MOST_STEPS:
            raise SecurityError(f"it did not end within {MOST_STEPS} steps")
        return ""

    def concat(self, parts: Iterable[Any]) -> TemplateText:
        """Join what a template puts one behind the other."""
        texts: list[str] = []
        characters = 0
        for part in parts:
            texts.append(part if isinstance(part, str) else str(part))
            characters += len(texts[-1])
            _check_length(characters)
        return joined(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute what may grow without bounds, within bounds."""
        if operator == "+" and isinstance(left, str | list | tuple):
            _check_length(len(left) + (len(right) if isinstance(right, str | list | tuple) else 0))
        elif operator in ("*", "**"):
            self._check_product(operator, left, right)
        elif operator == "%" and isinstance(left, str):
            raise SecurityError("it formats text with %, which is not supported")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, called: Any, *args: Any, **named: Any) -> Any:
        """Call what a template calls; methods of text may not make it endless."""
        name, owner = getattr(called, "__name__", ""), getattr(called, "__self__", None)
        if isinstance(owner, str) and name == "replace" and len(args) >= 2:
            _check_length(len(owner) + owner.count(args[0]) * len(args[1]))
        if isinstance(owner, str) and name == "join" and args:
            return self._join(args[0], owner)
        return super().call(context, called, *args, **named)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may have an attribute."""
        widens = isinstance(obj, str) and attr in WIDENING
        return not widens and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """For str.format, a function that fills in whole values and keeps track of the text."""
        owner = getattr(value, "__self__", None)
        if not isinstance(owner, str) or getattr(value, "__name__", "") != "format":
            return None
        return lambda *args, **named: self._format(owner, args, named)

    def _generate(
        self,
        source: nodes.Template,
        name: str | None,
        filename: str | None,
        defer_init: bool = False,
    ) -> str:
        for node in source.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            assert isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock)
            tick = nodes.Call(nodes.EnvironmentAttribute("step"), [], [], None, None)
            node.body.insert(0, nodes.Output([tick]).set_lineno(node.lineno))
        return super()._generate(source, name, filename, defer_init)

    def _format(self, text: str, args: tuple[Any, ...], named: dict[str, Any]) -> str:
        own = isinstance(text, TemplateText) and text.own == ((0, len(text)),)
        parts: list[Any] = []
        values = iter(args)
        for literal, field, specification, conversion in Formatter().parse(text):
            parts.append(self.own(literal) if own else literal)
            if field is None:
                continue
            if specification or conversion or not (field == "" or field.isalnum()):
                raise SecurityError("it formats text in a way that is not supported")
            if field == "":
                parts.append(next(values, ""))
            else:
                parts.append(args[int(field)] if field.isdigit() else named[field])
        return self.concat(parts)

    def _replace(self, text: object, old: str, new: str, count: int = -1) -> str:
        given = text if isinstance(text, str) else str(text)
        _check_length(len(given) + (given.count(old) * len(new)))
        return given.replace(old, new, count)

    def _join(self, items: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
        parts: list[Any] = []
        for item in items:
            if attribute is not None:
                item = self.getitem(item, attribute)
            parts += (separator, item) if parts else (item,)
        return self.concat(parts)

    def _check_product(self, operator: str, left: Any, right: Any) -> None:
        for text, count in ((left, right), (right, left)):
            if isinstance(text, str | list | tuple) and isinstance(count, int):
                _check_length(len(text) * count)
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length()
            if (bits * right if operator == "**" else bits + right.bit_length()) > MOST_BITS:
                raise SecurityError("it computes too large a number")


class TrackingCodeGenerator(CodeGenerator):
    """Writes the literals of a template as its own text."""

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.own({''.join(group)!r})"

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:
        value = node.as_const(frame.eval_ctx)
        if isinstance(value, str):
            self.write(f"environment.own({str(value)!r})")
        else:
            super().visit_Const(node, frame)

    def visit_TemplateData(self, node: nodes.TemplateData, frame: Frame) -> None:
        self.write(f"environment.own({node.data!r})")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class GenerationTag(Extension):
    """`{% generation %}` marks for training what an assistant said; here it is its content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The content of the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=16)
def compiled(source: str) -> Template:
    """A template, compiled once. Raises what Jinja raises for a source that it cannot read."""
    return SANDBOX.from_string(source)


def _check_length(length: int) -> None:
    if length > MOST_CHARACTERS:
        raise SecurityError(f"it makes a text of more than {MOST_CHARACTERS} characters")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the escapes that HTML would need, which Jinja's own filter makes."""
    if isinstance(indent, int) and indent > WIDEST_INDENT:
        raise SecurityError("it indents JSON too far")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    if (width if isinstance(width, int) else len(width)) > WIDEST_INDENT:
        raise SecurityError("it indents text too far")
    return do_indent(text, width, first, blank)


def _refuse(message: object) -> None:
    raise Refusal(str(message))


SANDBOX = Sandbox()
