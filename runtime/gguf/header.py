"""Parses and validates the header of a mapped GGUF file.

The layout is that of the GGUF specification (ggml/docs/gguf.md), versions 2 and 3, little endian.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import numpy as np

from runtime.errors import GGUFError, TruncatedGGUF
from runtime.gguf.block_formats import FORMAT_OF_NUMBER, BlockFormat
from runtime.gguf.keys import mistyped_key
from runtime.gguf.values import LENGTH, StringArray, TensorInfo, Unread, Value

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
# Limits on what a header may make us read or decode; real models are a hundred times below them.
MAX_STRING_BYTES = 1 << 24
MAX_ARRAY_LENGTH = 1 << 24
MAX_ARRAY_DEPTH = 8

STRING, ARRAY = 8, 9
SCALARS: dict[int, struct.Struct] = {
    number: struct.Struct("<" + code)
    for number, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
BOOL = 7


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file. Immutable."""

    version: int
    alignment: int
    metadata: Mapping[str, Value]
    tensors: Mapping[str, TensorInfo]

    @classmethod
    def read(cls, path: Path, mapping: mmap.mmap) -> "Header":
        """Parse a mapped file. Raises GGUFError."""
        reader = HeaderReader(path, mapping)
        version, tensor_count, value_count = reader.header()
        metadata = reader.metadata(value_count)
        alignment = reader.alignment(metadata)
        tensors = reader.tensors(tensor_count, alignment)
        return cls(version, alignment, MappingProxyType(metadata), MappingProxyType(tensors))

    def integer(self, key: str) -> int | None:
        """Return a value that is a whole number; None if there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) else None


class HeaderReader:
    """Reads the header once, from front to back. Owned by the thread that opens the file.

    Every method raises GGUFError, naming the file and the field, for invalid bytes.
    """

    def __init__(self, path: Path, mapping: mmap.mmap) -> None:
        self._path = path
        self._mapping = mapping
        self._view = memoryview(mapping)
        self._size = len(mapping)
        self._position = 0

    def _fail(self, field: str, problem: str) -> NoReturn:
        raise GGUFError(f"{self._path}: {field} {problem}; get the file again or convert it anew")

    def _truncated(self, field: str, problem: str) -> NoReturn:
        raise TruncatedGGUF(f"{self._path}: {field} {problem}; get the rest of the file")

    def header(self) -> tuple[int, int, int]:
        """Return version, number of tensors and number of metadata values."""
        if self._size < len(MAGIC) or self._mapping[: len(MAGIC)] != MAGIC:
            raise GGUFError(f"{self._path} is not a GGUF file: it does not start with 'GGUF'")
        self._position = len(MAGIC)
        version = self._number(4, "version")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            kind = "big-endian version" if swapped in VERSIONS else "version"
            self._fail(
                "version", f"is {kind} {min(version, swapped)}, little-endian 2 or 3 is read"
            )
        tensors = self._number(10, "tensor count")
        values = self._number(10, "metadata count")
        self._expect_room(tensors, 24, "tensor count")
        self._expect_room(values, 13, "metadata count")
        return version, tensors, values

    def metadata(self, count: int) -> dict[str, Value]:
        """Return the next `count` metadata values by key; known keys have the required types."""
        values: dict[str, Value] = {}
        for index in range(count):
            key = self._string(f"metadata key {index}")
            if not key or key in values:
                self._fail(f"metadata key {index}", f"({key!r}) is empty or appears twice")
            values[key] = self._value(key)
        if (mistyped := mistyped_key(values)) is not None:
            key, kind = mistyped
            self._fail(f"metadata {key!r}", f"is not of type {kind}")
        return values

    def alignment(self, metadata: dict[str, Value]) -> int:
        """Return the power of two, in bytes, that every tensor's offset is a multiple of."""
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            self._fail("metadata 'general.alignment'", f"is {alignment}, no power of two")
        return alignment

    def tensors(self, count: int, alignment: int) -> dict[str, TensorInfo]:
        """Return the next `count` tensors by name, inside the file and without overlaps."""
        found = [self._tensor(index) for index in range(count)]
        start = -(-self._position // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for name, kind, shape, offset in found:
            field = f"tensor {name!r}"
            if name in tensors:
                self._fail(field, "appears twice")
            if offset % alignment:
                self._fail(field, f"has offset {offset}, no multiple of the alignment {alignment}")
            if (shape[-1] if shape else 1) % kind.weights:
                self._fail(field, f"has rows that are no whole number of {kind.name} blocks")
            size = math.prod(shape) // kind.weights * kind.bytes
            if start + offset + size > self._size:
                self._truncated(field, f"ends past the end of the file ({self._size} bytes)")
            tensors[name] = TensorInfo(name, kind.name, shape, start + offset, size)
        end = 0
        for info in sorted(tensors.values(), key=lambda info: info.offset):
            if info.offset < end:
                self._fail(f"tensor {info.name!r}", "overlaps another tensor")
            end = info.offset + info.size
        return tensors

    def _tensor(self, index: int) -> tuple[str, BlockFormat, tuple[int, ...], int]:
        """Return name, format, shape and offset (from the start of the data) of the next entry."""
        name = self._string(f"name of tensor {index}")
        field = f"tensor {name!r}"
        if not name:
            self._fail(f"tensor {index}", "has an empty name")
        dimensions = self._number(4, f"{field} dimension count")
        if dimensions > MAX_DIMENSIONS:
            self._fail(field, f"has {dimensions} dimensions, at most {MAX_DIMENSIONS} are read")
        shape = tuple(self._number(10, f"{field} shape") for _ in range(dimensions))[::-1]
        if 0 in shape:
            self._fail(field, f"has no elements (shape {shape})")
        number = self._number(4, f"{field} type")
        if (kind := FORMAT_OF_NUMBER.get(number)) is None:
            self._fail(field, f"has type {number}, which this build does not know")
        return name, kind, shape, self._number(10, f"{field} offset")

    def _value(self, key: str) -> Value:
        field = f"metadata {key!r}"
        kind = self._number(4, f"{field} type")
        if kind == STRING:
            return self._text(field)
        if kind == ARRAY:
            return self._array(field)
        if kind not in SCALARS:
            self._fail(field, f"has value type {kind}, which this build does not know")
        value = self._scalar(kind, field)
        return bool(value) if kind == BOOL else value

    def _array(self, field: str, depth: int = 1) -> Value:
        kind = self._number(4, f"{field} element type")
        count = self._number(10, f"{field} length")
        if count > MAX_ARRAY_LENGTH and kind not in SCALARS:  # numbers are not read one by one
            self._fail(field, f"has {count} elements, at most {MAX_ARRAY_LENGTH} are read")
        if kind == STRING:
            return self._strings(count, field)
        if kind == ARRAY:
            if depth == MAX_ARRAY_DEPTH:
                self._fail(field, f"is arrays in arrays, more than {MAX_ARRAY_DEPTH} deep")
            self._expect_room(count, 12, field)
            for _ in range(count):
                self._array(field, depth + 1)
            return Unread("array of arrays")
        if kind not in SCALARS:
            self._fail(field, f"has element type {kind}, which this build does not know")
        layout = SCALARS[kind]
        self._expect_room(count, layout.size, field)
        elements = np.frombuffer(self._mapping, layout.format, count, self._position)
        self._position += count * layout.size
        return elements != 0 if kind == BOOL else elements

    def _strings(self, count: int, field: str) -> StringArray:
        """Find the end of `count` strings without decoding them: a vocabulary has 10^5."""
        self._expect_room(count, LENGTH.size, field)
        start = position = self._position
        mapping, unpack, longest = self._mapping, LENGTH.unpack_from, MAX_STRING_BYTES
        try:
            for _ in range(count):
                length = unpack(mapping, position)[0]
                if length > longest:
                    self._fail(field, f"holds a string of {length} bytes")
                position += 8 + length
        except struct.error:
            self._truncated(field, "runs past the end of the file")
        if position > self._size:
            self._truncated(field, "runs past the end of the file")
        self._position = position
        return StringArray(self._view[start:position], count, f"{self._path}: {field}")

    def _text(self, field: str) -> str | Unread:
        """Return a text value's bytes; whether they must be UTF-8 depends on the key."""
        stored = self._string_bytes(field)
        try:
            return stored.decode()
        except UnicodeDecodeError:
            return Unread("text that is not UTF-8")

    def _string(self, field: str) -> str:
        """A name."""
        try:
            return self._string_bytes(field).decode()
        except UnicodeDecodeError:
            self._fail(field, "is not UTF-8")

    def _string_bytes(self, field: str) -> bytes:
        length = self._number(10, f"{field} length")
        if length > MAX_STRING_BYTES:
            self._fail(field, f"is a string of {length} bytes, at most {MAX_STRING_BYTES} are read")
        self._expect_room(length, 1, field)
        start = self._position
        self._position += length
        return self._mapping[start : self._position]

    def _number(self, kind: int, field: str) -> int:
        return int(self._scalar(kind, field))

    def _scalar(self, kind: int, field: str) -> int | float:
        layout = SCALARS[kind]
        self._expect_room(1, layout.size, field)
        value: int | float = layout.unpack_from(self._mapping, self._position)[0]
        self._position += layout.size
        return value

    def _expect_room(self, count: int, size: int, field: str) -> None:
        """Fail unless `count` elements of at least `size` bytes fit into the rest of the file."""
        if count * size > self._size - self._position:
            self._truncated(field, "runs past the end of the file")
