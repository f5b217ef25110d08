"""Lists the attributes that a chat template may access."""

from jinja2.runtime import BlockReference, LoopContext, Macro, TemplateReference, Undefined
from jinja2.utils import Cycler, Namespace

METHODS_OF_TEXT = frozenset(
    {
        *("capitalize", "casefold", "lower", "swapcase", "title", "translate", "upper"),
        *("center", "expandtabs", "ljust", "rjust", "zfill", "format", "format_map", "join"),
        *("count", "endswith", "find", "index", "rfind", "rindex", "startswith", "replace"),
        *("isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower"),
        *("isnumeric", "isprintable", "isspace", "istitle", "isupper"),
        *("lstrip", "removeprefix", "removesuffix", "rstrip", "strip"),
        *("partition", "rpartition", "rsplit", "split", "splitlines"),
    }
)
PUBLIC: tuple[tuple[type | tuple[type, ...], frozenset[str]], ...] = (
    (str, METHODS_OF_TEXT),
    (dict, frozenset({"copy", "fromkeys", "get", "items", "keys", "values"})),
    ((list, tuple), frozenset({"count", "index", "grouper", "list"})),
    (LoopContext, frozenset(name for name in vars(LoopContext) if not name.startswith("_"))),
    (Cycler, frozenset({"current", "next", "reset"})),
    (Macro, frozenset({"arguments", "caller", "catch_kwargs", "catch_varargs", "name"})),
    (float, frozenset({"is_integer"})),
)
"""The attributes that a template may access, by type; none of other types."""

OPEN = (Namespace, Undefined, BlockReference, TemplateReference)
"""Types whose attributes are limited by Jinja's own sandbox alone."""


def may_access(value: object, attribute: str) -> bool:
    """Return whether a template may access an attribute of a value."""
    if isinstance(value, OPEN):
        return True
    return any(isinstance(value, kind) and attribute in names for kind, names in PUBLIC)
