"""JSON with finite numbers only: JSON has neither NaN nor infinity."""

from collections.abc import Iterator
from functools import cache
from math import isfinite
from typing import Any

import msgspec
from msgspec import inspect

SCALARS = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.StrType,
    inspect.EnumType,
    inspect.LiteralType,
    inspect.RawType,
)
"""Without floats; Raw is JSON that was written here."""


def finite_json(value: Any) -> bytes:
    """Return the JSON of a value, with paths as strings.

    Raises ValueError naming the place of a number that is not finite. msgspec itself would write
    null, which readers do not expect for a number.
    """
    encoded = msgspec.json.encode(value, enc_hook=str)
    if b"null" in encoded and _may_hold_floats(value.__class__):
        for place, number in _numbers(msgspec.to_builtins(value, enc_hook=str), "$"):
            if not isfinite(number):
                raise ValueError(f"{place} is {number}, which is no number in JSON")
    return encoded


@cache
def _may_hold_floats(kind: type[Any]) -> bool:
    """Whether values of a class may hold floats; a token's event, the most frequent, may not."""
    if not issubclass(kind, msgspec.Struct):
        return True
    waiting: list[inspect.Type] = [inspect.type_info(kind)]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        match each:
            case inspect.StructType(fields=fields):
                waiting += [field.type for field in fields]
            case inspect.UnionType(types=types):
                waiting += types
            case inspect.CollectionType(item_type=item):
                waiting.append(item)
            case inspect.TupleType(item_types=items):
                waiting += items
            case inspect.DictType(key_type=key, value_type=held):
                waiting += [key, held]
            case _ if not isinstance(each, SCALARS):
                return True
    return False


def _numbers(value: object, place: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _numbers(each, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _numbers(each, f"{place}[{index}]")
