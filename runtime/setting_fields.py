"""Describes a field of Settings from its type: its description and its range, as a phrase."""

from collections.abc import Sequence

from msgspec import inspect


def close_name(name: str, known: Sequence[str], prefix: str = "") -> str:
    """Return a question whether a known name was meant, for the end of a message; else nothing."""
    import difflib  # as slow to import as all settings

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def description(field: inspect.Field) -> str:
    """Return a setting's description."""
    schema = field.type.extra_json_schema if isinstance(field.type, inspect.Metadata) else None
    return str((schema or {}).get("description", ""))


def takes(field: inspect.Field) -> str:
    """Return a setting's range as a phrase: "a whole number from 0 to 65535"."""
    kind = field.type.type if isinstance(field.type, inspect.Metadata) else field.type
    match kind:
        case inspect.LiteralType(values=values):
            *others, last = map(str, values)
            return f"{', '.join(others)} or {last}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=least, le=most, multiple_of=multiple):
            of = f" that is a multiple of {multiple}" if multiple else ""
            return f"a whole number from {least} to {most}{of}"
        case inspect.FloatType(gt=above, ge=least, le=most):
            if above is None:
                return f"a number from {least} to {most:.15g}"
            return f"a number above {above}, at most {most:.15g}"
        case inspect.DictType(key_type=inspect.LiteralType(values=values)):
            return f"a JSON object with a number or null for {', '.join(map(str, values))}"
        case inspect.DictType():
            return "a JSON object of numbers above 1"
        case inspect.StrType():
            return "text"
        case _:
            return "a path"
