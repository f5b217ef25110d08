"""Request bodies: strict JSON in UTF-8, with a clear error for each fault."""

import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import falcon
import msgspec

from api.origins import is_foreign
from runtime.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class _NoNumber:
    """Marks a number that cannot be used."""

    text: str


class _Named(msgspec.Struct):
    model: str | None = None


LET_GO_OF_BODY = "rocmforge.let_go_of_body"
"""Key of the WSGI environment: a function that frees the memory of a body that has been read."""
MAX_NESTING = 64
"""Maximum nesting of arrays and objects: less than any recursion of ours bears."""
SMALL_BYTES = 64 * 1024
MAX_DIGITS = 400
"""Maximum digits of a whole number; the largest float has 309."""
MAX_SHOWN = 40
"""Characters of a wrong value that are shown."""
GZIP = 16 + zlib.MAX_WBITS
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_UNICODE = (b"\xff\xfe", b"\xfe\xff")
SCALARS = frozenset({str, int, float, bool, type(None), _NoNumber, msgspec.UnsetType})
UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
SURROGATE_ESCAPE = re.compile(rb"\\u[dD]")
SURROGATE = re.compile("[\ud800-\udfff]")

Body = TypeVar("Body", bound=msgspec.Struct)


def read_json_body(request: falcon.Request, most_bytes: int) -> bytes:
    """Return the body of a request; gzip is decompressed.

    It is declared as JSON or, unless a page of another origin sends it, not declared.

    Raises falcon.HTTPContentTooLarge, falcon.HTTPUnsupportedMediaType or InvalidRequest.
    """
    # A page of another site could send a body without a type and without asking first.
    undeclared = "" if is_foreign(request) else falcon.MEDIA_JSON
    _check_media_type(request.content_type or undeclared)
    body = request.bounded_stream.read(most_bytes + 1)
    if (let_go := request.env.get(LET_GO_OF_BODY)) is not None:
        let_go()
    match (request.get_header("Content-Encoding") or "identity").strip().lower():
        case "identity":
            pass
        case "gzip" | "x-gzip":
            body = _unpacked(body, most_bytes)
        case _:
            raise falcon.HTTPUnsupportedMediaType(
                description="send the body as it is, or with Content-Encoding: gzip",
                headers={"Accept-Encoding": "gzip, identity"},
            )
    if len(body) > most_bytes:
        raise falcon.HTTPContentTooLarge(
            description=f"the request body is larger than {most_bytes} bytes"
        )
    if not body:
        raise InvalidRequest('the request has no body; send JSON such as {"prompt": "Hello"}')
    if body.startswith(OTHER_UNICODE) or b"\0" in body[:4]:
        raise falcon.HTTPUnsupportedMediaType(description="send the body as JSON in UTF-8")
    return body


def decode(body: bytes, kind: type[Body]) -> Body:
    """Read a JSON body in UTF-8.

    Raises InvalidRequest naming the field that does not fit. Refused are also numbers that are not
    finite, halves of UTF-16 pairs, and very deep nesting; and duplicate fields, if
    the body is small: a parser that sees it would take seconds for a large one.
    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    try:
        if len(body) <= SMALL_BYTES:
            return msgspec.convert(_parsed(body), kind)
        value = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the request body does not fit: {error}") from None
    except UnicodeDecodeError:
        raise InvalidRequest("the request body is not UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, json.JSONDecodeError) as error:
        raise InvalidRequest(f"the request body cannot be read as JSON: {error}") from None
    _check_nesting(value)
    return value


def model_of(body: bytes) -> str | None:
    """Return the model that a body names; None also for one that `decode` refuses."""
    try:
        return msgspec.json.decode(body.removeprefix(BYTE_ORDER_MARK), type=_Named).model
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _check_media_type(content_type: str) -> None:
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip().lower() != falcon.MEDIA_JSON:
        raise falcon.HTTPUnsupportedMediaType(
            description="send the body as JSON, with Content-Type: application/json"
        )
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' "').lower() not in UTF_8:
            raise falcon.HTTPUnsupportedMediaType(description="send the body as JSON in UTF-8")


def _unpacked(body: bytes, most_bytes: int) -> bytes:
    """Decompress gzip, up to one byte more than allowed."""
    packed = zlib.decompressobj(GZIP)
    try:
        unpacked = packed.decompress(body, most_bytes + 1)
    except zlib.error:
        raise InvalidRequest("the request body is not gzip, as its Content-Encoding says") from None
    if len(unpacked) <= most_bytes and (not packed.eof or packed.unused_data):
        raise InvalidRequest("the request body is not one whole gzip")
    return unpacked


def _parsed(body: bytes) -> Any:
    """Return the value of a small body. Raises what json.loads raises, and InvalidRequest."""
    refused: list[_NoNumber] = []

    def refuse(text: str) -> _NoNumber:
        refused.append(_NoNumber(text[:MAX_SHOWN]))
        return refused[-1]

    def number(text: str) -> float | _NoNumber:
        value = float(text)
        return value if math.isfinite(value) else refuse(text)

    def whole_number(text: str) -> int | _NoNumber:
        return int(text) if len(text) <= MAX_DIGITS else refuse(text)

    value = json.loads(
        body.decode(),
        object_pairs_hook=_object,
        parse_constant=refuse,
        parse_float=number,
        parse_int=whole_number,
    )
    _check_nesting(value)
    if refused or SURROGATE_ESCAPE.search(body):
        _check_values(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose fields is given twice."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = Counter(name for name, _ in pairs)
        twice = next(name for name, times in names.items() if times > 1)[:MAX_SHOWN]
        raise InvalidRequest(f"the request body has the field {twice!r} twice", field=twice)
    return value


def _check_nesting(value: Any) -> None:
    """Check the nesting level by level, without recursion. Raises InvalidRequest if too deep."""
    level = [] if value.__class__ in SCALARS else [value]
    for _ in range(MAX_NESTING):
        level = [
            child
            for parent in level
            for child in _children(parent)
            if child.__class__ not in SCALARS
        ]
        if not level:
            return
    raise _too_deep()


def _children(parent: Any) -> Iterable[Any]:
    if isinstance(parent, list | tuple):
        return parent
    return parent.values() if isinstance(parent, dict) else msgspec.structs.astuple(parent)


def _too_deep() -> InvalidRequest:
    return InvalidRequest(
        f"the request body holds more than {MAX_NESTING} arrays and objects in each other"
    )


def _check_values(value: Any) -> None:
    """Raise InvalidRequest for the first value that cannot be used."""
    for path, each in _walk(value):
        if isinstance(each, _NoNumber):
            raise InvalidRequest(
                f"{path} must be a finite number of at most {MAX_DIGITS} digits, not {each.text}",
                field=path,
            )
        if isinstance(each, str) and SURROGATE.search(each):
            raise InvalidRequest(f"{path} holds half of a UTF-16 pair", field=path)


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every value and every name of a field, with the path of its field."""
    waiting = [("", value)]
    while waiting:
        path, each = waiting.pop()
        yield path, each
        if isinstance(each, dict):
            below = [(f"{path}.{name}" if path else name, child) for name, child in each.items()]
            yield from ((path, name) for name in each)
        elif isinstance(each, list):
            below = [(f"{path}[{index}]", child) for index, child in enumerate(each)]
        else:
            continue
        waiting.extend(reversed(below))
