"""Prices of string methods and Jinja filters, which are charged before they run.

Operations not listed here are charged by the size of their input. Those listed produce more than
their input, or read it more than once.
"""

from collections.abc import Callable
from typing import Any

from jinja2.exceptions import SecurityError

from runtime.chat.budget import CALL, ENTRY, ENTRY_BYTES, Budget, entries

Price = Callable[..., None]
"""Pays a budget for an operation on a value with these arguments."""

WIDTH = 4
"""Maximum bytes per character."""
PIECE_BYTES = 200
"""Overhead of a short string."""
TEXT = 4
"""Work of a character that is looked at in Python's text functions."""
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def default(budget: Budget, value: Any, *given: Any, **named: Any) -> None:
    """Charge for each letter of a text or each entry of a list, but not for nested values."""
    size = len(value) * TEXT if isinstance(value, str) else entries(value) * CALL
    for each in (*given, *named.values()):
        size += TEXT * (len(each) if isinstance(each, str) else entries(each))
    budget.spend(CALL + size)


def constant(budget: Budget, *given: Any, **named: Any) -> None:
    """Charge a constant price."""
    budget.spend(CALL)


def whole(budget: Budget, value: Any, *given: Any, **named: Any) -> None:
    """Charge for a list and everything nested in it, and for sorting its entries."""
    budget.spend(TEXT * budget.size(value) + CALL * entries(value))
    default(budget, value, *given, **named)


def _search(budget: Budget, text: str, *given: Any, **named: Any) -> None:
    """Charge for a substring search, which may be tried at every position."""
    wanted = 1
    for each in (*given, *named.values()):
        wanted = max(wanted, budget.size(each))
    budget.spend(CALL + searched(len(text), wanted, backwards=True))


def searched(length: int, wanted: int, backwards: bool = False) -> int:
    """Return the work of finding `wanted` letters in `length`; a long forward search is linear."""
    if wanted > length:
        return 1
    if backwards or length < 2500 or wanted < 100:
        return (length - wanted + 1) * wanted // 2 + length
    return 10 * length


def _replace(budget: Budget, text: str, old: Any, new: Any, count: Any = -1) -> None:
    if not (isinstance(old, str) and isinstance(new, str)):
        return  # Python refuses it
    _search(budget, text, old)
    found = text.count(old)
    budget.check((len(text) + found * len(new)) * WIDTH + found * PIECE_BYTES)
    budget.spend(TEXT * len(text) + found * (CALL + len(new)))


def _split(budget: Budget, text: str, sep: Any = None, maxsplit: Any = -1) -> None:
    if isinstance(sep, str) and sep:
        _search(budget, text, sep)
        parts = text.count(sep) + 1
    else:
        parts = len(text) // 2 + 1
    if isinstance(maxsplit, int) and 0 <= maxsplit < parts:
        parts = maxsplit + 1
    budget.spend(TEXT * len(text) + parts * CALL)
    budget.hold(len(text) * WIDTH + parts * PIECE_BYTES)


def _lines(budget: Budget, text: str, keepends: Any = False) -> None:
    budget.spend(TEXT * len(text))
    parts = sum(map(text.count, LINE_ENDS)) + 1
    budget.spend(parts * CALL)
    budget.hold(len(text) * WIDTH + parts * PIECE_BYTES)


def _strip(budget: Budget, text: Any, chars: Any = None) -> None:
    letters = budget.size(chars) if chars else 0
    budget.spend(CALL + budget.size(text) * (1 + letters // 8))


def _widen(budget: Budget, text: Any, *given: Any, **named: Any) -> None:
    wide = _number(*given, *named.values())
    budget.check((budget.size(text) + wide) * WIDTH)
    budget.spend(CALL + TEXT * budget.size(text) + wide)


def _tabs(budget: Budget, text: str, tabsize: Any = 8) -> None:
    wide = tabsize * (text.count("\t") + 1) if isinstance(tabsize, int) else 0
    budget.check((len(text) + wide) * WIDTH)
    budget.spend(CALL + TEXT * len(text) + wide)


def _translate(budget: Budget, text: str, table: Any) -> None:
    longest = max(map(budget.size, table.values()), default=1) if isinstance(table, dict) else 1
    budget.check(len(text) * longest * WIDTH)
    budget.spend(CALL + len(text) * (CALL + longest))


def _join(budget: Budget, separator: Any, items: Any) -> None:
    made = budget.size(items) + entries(items) * budget.size(separator)
    budget.check(made * WIDTH)
    budget.spend(CALL + entries(items) * CALL + made)


METHODS: dict[str, Price] = {
    **dict.fromkeys(("count", "find", "index", "rfind", "rindex"), _search),
    **dict.fromkeys(("startswith", "endswith"), default),
    **dict.fromkeys(("split", "rsplit"), _split),
    **dict.fromkeys(("partition", "rpartition"), _search),
    **dict.fromkeys(("strip", "lstrip", "rstrip"), _strip),
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _widen),
    "splitlines": _lines,
    "replace": _replace,
    "expandtabs": _tabs,
    "translate": _translate,
    "join": _join,
}
"""Of text."""


def _grown(times: int, work: int = TEXT) -> Price:
    """A filter whose result may be this many times as long as its input."""

    def price(budget: Budget, value: Any, *given: Any, **named: Any) -> None:
        size = budget.size(value)
        budget.check(size * times * WIDTH)
        budget.spend(CALL + size * work)
        default(budget, None, *given, **named)

    return price


def _listed(budget: Budget, value: Any) -> None:
    """A text becomes a list of its letters."""
    if isinstance(value, str):
        budget.check(len(value) * ENTRY_BYTES)
    budget.spend(CALL + entries(value) * ENTRY)


def _counted(budget: Budget, value: Any, *given: Any, **named: Any) -> None:
    """Charge for a filter that makes this many lists, or fills one up to this length."""
    default(budget, value)
    count = _number(*given, *named.values())
    budget.hold(count * ENTRY_BYTES)
    budget.spend(count * CALL)


def _summed(budget: Budget, value: Any, *given: Any, **named: Any) -> None:
    """Lists are added one to the other, each time all of them."""
    size = budget.size(value)
    whole(budget, value, *given, **named)
    if size > 4 * entries(value) + 4:
        budget.spend(entries(value) * size)
        budget.check(entries(value) * size // 8)


def _indented(
    budget: Budget, value: Any, width: Any = 4, first: Any = False, blank: Any = False
) -> None:
    text = value if isinstance(value, str) else ""
    wide = width if isinstance(width, int) else budget.size(width)
    _lines(budget, text)
    made = budget.size(value) + (sum(map(text.count, LINE_ENDS)) + 1) * max(wide, 0)
    budget.check(made * WIDTH)
    budget.spend(made)


def _wrapped(
    budget: Budget,
    value: Any,
    width: Any = 79,
    break_long_words: Any = True,
    wrapstring: Any = None,
    break_on_hyphens: Any = True,
) -> None:
    size = budget.size(value)
    narrow = max(width, 1) if isinstance(width, int) else 1
    budget.spend(CALL + 100 * size + size * size // (8 * narrow))
    between = budget.size(wrapstring or "")
    budget.check((size + (size // narrow + 1) * between) * WIDTH + 100 * size)


def _json(
    budget: Budget,
    value: Any,
    ensure_ascii: Any = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: Any = False,
) -> None:
    size = budget.size(value)
    wide = indent if isinstance(indent, int) else budget.size(indent or "")
    if wide > 100:
        raise SecurityError("it indents JSON further than 100 columns")
    between = budget.size(separators) if separators else 4
    # When indented, an entry at each level follows the spaces of all outer levels.
    made = size * (12 if ensure_ascii else 6) + size * between + size * max(wide, 0) * 4
    budget.check(made * WIDTH)
    work = 20 if indent is None else 100
    budget.spend(10 * CALL + size * (work + between + max(wide, 0)))


def _rounded(budget: Budget, value: Any, precision: Any = 0, method: Any = "common") -> None:
    if isinstance(precision, int) and abs(precision) > 100:
        raise SecurityError("it rounds to more than 100 places")
    budget.spend(CALL)


def _pages(budget: Budget, value: Any, *given: Any, **named: Any) -> None:
    """Printing with an indentation looks at everything again at each level."""
    size = budget.size(value)
    budget.spend(CALL + 2000 * size)
    budget.check(size * PIECE_BYTES)


def _tags(budget: Budget, value: Any) -> None:
    """Charge for a copy of the whole text per removed tag."""
    size = budget.size(value)
    budget.spend(CALL + TEXT * size + size * size // 32)


def _number(*given: Any) -> int:
    """The largest number of an operation's arguments."""
    return max([each for each in given if isinstance(each, int)], default=0)


FILTERS: dict[str, Price] = {
    **dict.fromkeys(("default", "d", "length", "count", "first", "last", "safe"), constant),
    **dict.fromkeys(("escape", "e", "forceescape"), _grown(6)),
    **dict.fromkeys(("urlencode", "xmlattr"), _grown(12, 100)),
    **dict.fromkeys(("upper", "lower", "capitalize", "truncate"), _grown(3)),
    "title": _grown(3, 40),
    "string": _grown(1, 1),
    **dict.fromkeys(("sort", "groupby", "unique", "dictsort", "min", "max"), whole),
    **dict.fromkeys(("batch", "slice"), _counted),
    "list": _listed,
    "wordcount": _grown(ENTRY_BYTES // WIDTH, ENTRY),
    "trim": _strip,
    "center": _widen,
    "indent": _indented,
    "wordwrap": _wrapped,
    "tojson": _json,
    "round": _rounded,
    "pprint": _pages,
    "striptags": _tags,
    "sum": _summed,
}
