"""The Jinja environment of chat templates, as Hugging Face's transformers sets it up.

It is a sandbox that distinguishes the template's own text from other text: literals of a template
compile to TemplateText, and operations that join text keep track of it. A template comes from a
file of unknown origin, so each rendering has a budget (`runtime.chat.budget`): blocks of statements
are charged for their nodes, operators, calls, filters and tests for their inputs and results.
"""

import operator
import threading
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import loopcontrols
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.tests import TESTS as JINJA_TESTS
from jinja2.utils import Namespace

from runtime.chat import formatting, prices
from runtime.chat.budget import (
    CALL,
    ENTRY_BYTES,
    MACRO,
    MAX_BITS,
    NODE,
    Budget,
    Exhausted,
    Group,
    entries,
)
from runtime.chat.filters import filters_of
from runtime.chat.template_access import may_access
from runtime.chat.template_code import GenerationTag, TrackingCodeGenerator, charge_tree
from runtime.chat.text import NoText, TemplateText, joined
from runtime.tokenizer import Watch, unwatched

PASSED_WITH_CALLS = ("_loop_vars", "_block_vars")
"""Arguments that Jinja passes with every call."""
MAX_SPREAD = 100
"""Maximum number of arguments from `*`."""
MAX_TIME_FORMAT_LENGTH = 256
"""Maximum length of a string from strftime."""

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "in": lambda left, right: left in right,
    "not in": lambda left, right: left not in right,
}
TEST_COMPARISONS = {
    **{"eq": "==", "equalto": "==", "ne": "!=", "gt": ">", "greaterthan": ">", "ge": ">="},
    **{"lt": "<", "lessthan": "<", "le": "<=", "in": "in"},
    **{name: name for name in ("==", "!=", ">", ">=", "<", "<=")},
}
"""Tests of Jinja that compare."""


class Refusal(TemplateError):
    """Raised by a template itself, with raise_exception."""


class Variables(Namespace):
    """Jinja's namespace; printing it does not show its contents, which may include itself."""

    def __repr__(self) -> str:
        return "<Namespace>"


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles and runs templates. Immutable once made; any thread may render."""

    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, GenerationTag],
            optimized=False,  # constant folding while compiling would not be charged
        )
        self.code_generator_class = TrackingCodeGenerator
        self._rendering = threading.local()
        self.own = lru_cache(4096)(TemplateText.wholly_own)
        own_filters = filters_of(self)
        for name, function in {**JINJA_FILTERS, **own_filters}.items():
            self.filters[name] = self._paid(function, prices.FILTERS.get(name, prices.default))
        del self.filters["urlize"]  # its time has no bound that is worth the trouble
        for name, comparison in TEST_COMPARISONS.items():
            self.tests[name] = self._comparing(comparison)
        for name in ("lower", "upper"):
            self.tests[name] = self._of_text(JINJA_TESTS[name])
        self.tests["none"] = lambda value: value is None or isinstance(value, NoText)
        self.globals.pop("lipsum")
        self.globals["namespace"] = Variables
        self.globals["raise_exception"] = _refuse

    @contextmanager
    def rendering(self, watch: Watch = unwatched) -> Iterator[Budget]:
        """Return a context in which this thread may spend one budget."""
        self._rendering.budget = Budget(watch)
        try:
            yield self._rendering.budget
        finally:
            del self._rendering.budget

    @property
    def budget(self) -> Budget:
        """Of the rendering that this thread does."""
        budget: Budget = self._rendering.budget
        return budget

    def step(self, nodes: int) -> bool:
        """Charge for a block of statements, or a loop's condition; return True."""
        return self.budget.step(nodes)

    def text(self, value: Any) -> str:
        """Return a value as it is printed."""
        if isinstance(value, str):
            return value
        budget = self.budget
        budget.spend(CALL + prices.TEXT * budget.size(value))
        budget.check(budget.size(value) * prices.WIDTH)
        return str(budget.made(str(value)))

    def concat(self, parts: Iterable[Any]) -> TemplateText:
        """Concatenate the parts that a template outputs."""
        budget = self.budget
        texts: list[str] = []
        length = 0
        for part in parts:
            text = part if isinstance(part, str) else self.text(part)
            texts.append(text)
            length += len(text)
            budget.check(2 * length)  # joined, then copied
            budget.spend(NODE)
        made = joined(texts)
        budget.made(made)
        budget.hold(len(made.own) * ENTRY_BYTES)
        return made

    def compare(self, left: Any, comparison: str, right: Any) -> Any:
        """Return `left == right` and so on; charges for both, nested values included."""
        budget = self.budget
        budget.spend(CALL)
        if comparison in ("in", "not in"):
            if isinstance(right, str):
                length = len(left) if isinstance(left, str) else 0
                budget.spend(prices.searched(len(right), length))
            elif isinstance(right, dict):
                budget.spend(budget.size(left))
            else:
                each = min(budget.size(left) + 1, budget.size(right))
                budget.spend(entries(right) * (NODE + each // 8))
        elif isinstance(left, str | Group) and isinstance(right, str | Group):
            budget.spend(min(budget.size(left), budget.size(right)))
        return COMPARISONS[comparison](left, right)

    def sliced(self, obj: Any, start: Any, stop: Any, step: Any) -> Any:
        """`obj[start:stop:step]`."""
        self.budget.spend(CALL)
        return self.budget.made(obj[start:stop:step])

    def spread(self, arguments: Any) -> Any:
        """Return the arguments for `*` or `**`."""
        if not isinstance(arguments, list | tuple | dict) or len(arguments) > MAX_SPREAD:
            raise SecurityError(f"it spreads more than {MAX_SPREAD} arguments, or no list")
        return arguments

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute an operation whose result may be large."""
        budget = self.budget
        budget.spend(CALL)
        if isinstance(left, int | float) and isinstance(right, int | float):
            _check_bits(operator, left, right)
        elif operator == "%" and isinstance(left, str):
            return self.percent(left, right)
        elif operator == "*":
            self._pay_repeated(left, right)
            self._pay_repeated(right, left)
        elif operator == "-" and isinstance(left, KeysView | ItemsView):
            raise SecurityError("it takes keys from keys, which is not supported")
        elif isinstance(left, str) and isinstance(right, str):
            budget.check((len(left) + len(right)) * prices.WIDTH)
        return budget.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, called: Any, /, *args: Any, **named: Any) -> Any:
        """Call a macro or a method, which is charged first."""
        budget = self.budget
        name, owner = getattr(called, "__name__", ""), getattr(called, "__self__", None)
        if isinstance(owner, str):
            return self._call_method(context, called, name, owner, args, named)
        budget.spend(MACRO if isinstance(called, Macro | type) else 2 * CALL)
        if isinstance(owner, Group):
            wanted = args if isinstance(owner, dict) else (owner, *args)
            budget.spend(sum(map(budget.size, wanted)))
        if isinstance(owner, LoopContext):
            budget.spend(sum(map(budget.size, args)))
        if isinstance(called, type) or name in ("copy", "fromkeys"):
            made = len(named) + entries(owner) + sum(map(entries, args))
            budget.hold(ENTRY_BYTES * (made + 4))
        return super().call(context, called, *args, **named)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`."""
        self.budget.spend(CALL)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`; charges for the whole key."""
        budget = self.budget
        # Values other than mappings are tried as items first, then as attributes.
        budget.spend(CALL if isinstance(obj, dict | list | str) else 4 * CALL)
        if not isinstance(argument, str):
            budget.spend(budget.size(argument))
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether a template may access an attribute."""
        return super().is_safe_attribute(obj, attr, value) and may_access(obj, attr)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return a str.format that records which text is the template's own."""
        owner, name = getattr(value, "__self__", None), getattr(value, "__name__", "")
        if not isinstance(owner, str) or name not in ("format", "format_map"):
            return None
        text: str = owner

        def filled(*args: Any, **named: Any) -> str:
            if name == "format_map":
                (named,), args = args, ()
            self.budget.spend(CALL + len(text) + text.count("{") * 8 * CALL)
            fields = formatting.Fields(SandboxedFormatter(self), args, named, self._formatted)
            return self.concat(fields.fill(text))

        return filled

    def percent(self, template: str, values: Any) -> str:
        """`template % values`."""
        self.budget.spend(CALL + len(template) + template.count("%") * 8 * CALL)
        return self.concat(formatting.percent(template, values, self._formatted))

    def _formatted(self, value: Any) -> str:
        """Return a value as it is inserted into a text."""
        text = self.text(value)
        self.budget.spend(len(text))
        return text

    def _call_method(
        self,
        context: Context,
        called: Any,
        name: str,
        owner: str,
        args: tuple[Any, ...],
        named: dict[str, Any],
    ) -> Any:
        given = {key: value for key, value in named.items() if key not in PASSED_WITH_CALLS}
        price: prices.Price = prices.METHODS.get(name, prices.default)
        price(self.budget, owner, *args, **given)
        if name == "join" and args:
            return self.concat(_between(owner, args[0]))
        return self.budget.made(super().call(context, called, *args, **named))

    def _pay_repeated(self, value: Any, count: Any) -> None:
        if isinstance(value, str | list | tuple) and isinstance(count, int):
            spans = 0
            if isinstance(value, TemplateText) and value.own != ((0, len(value)),):
                spans = len(value.own)
            times = max(count, 0)
            width = prices.WIDTH if isinstance(value, str) else 16
            self.budget.check(times * (len(value) * width + spans * ENTRY_BYTES))
            self.budget.spend(times * (len(value) + spans * CALL))

    def _paid(self, function: Callable[..., Any], price: prices.Price) -> Callable[..., Any]:
        """Wrap a filter so that its input, then its result, are charged."""
        injected = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def paid(*args: Any, **named: Any) -> Any:
            price(self.budget, *args[injected:], **named)
            return self.budget.made(function(*args, **named))

        return paid

    def _comparing(self, comparison: str) -> Callable[[Any, Any], Any]:
        return lambda left, right: self.compare(left, comparison, right)

    def _of_text(self, test: Any) -> Callable[[Any], Any]:
        return lambda value: test(self.text(value))

    def _generate(
        self,
        source: nodes.Template,
        name: str | None,
        filename: str | None,
        defer_init: bool = False,
    ) -> str:
        charge_tree(source)
        return super()._generate(source, name, filename, defer_init)


def _between(separator: str, items: Iterable[Any]) -> Iterator[Any]:
    """Yield the arguments of str.join, which must be strings."""
    for place, item in enumerate(items):
        if not isinstance(item, str):
            raise TypeError(f"sequence item {place}: expected str instance")
        if place:
            yield separator
        yield item


def _check_bits(operator: str, left: float, right: float) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        made = bits * right if operator == "**" else bits + right.bit_length()
        if operator in ("*", "**") and made > MAX_BITS:
            raise Exhausted("it computes too large a number")


def _refuse(message: object) -> None:
    raise Refusal(message if isinstance(message, str) else type(message).__name__)


SANDBOX = Sandbox()
