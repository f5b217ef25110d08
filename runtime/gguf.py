"""Reads a GGUF file: metadata and tensor directory from a memory map, tensor data as views on it.

The layout is that of the GGUF specification (ggml/docs/gguf.md), versions 2 and 3, little endian.
"""

import math
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, overload

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from runtime.errors import GGUFError, UnsupportedModel

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
# Bounds on what a header may make us walk or decode; real models stay a hundred times below them.
MAX_STRING_BYTES = 1 << 24
MAX_ARRAY_LENGTH = 1 << 24
LONG_STRING = 256

STRING, ARRAY = 8, 9
SCALARS: dict[int, struct.Struct] = {
    number: struct.Struct("<" + code)
    for number, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
BOOL = 7
LENGTH = SCALARS[10]

# What later rooms read; a key below `{arch}.` is checked for the file's own architecture.
KNOWN_KEYS: dict[str, str] = {
    "general.architecture": "text",
    "general.name": "text",
    "general.alignment": "integer",
    "tokenizer.ggml.model": "text",
    "tokenizer.ggml.pre": "text",
    "tokenizer.ggml.tokens": "array of text",
    "tokenizer.ggml.merges": "array of text",
    "tokenizer.ggml.scores": "array of numbers",
    "tokenizer.ggml.token_type": "array of integers",
    "tokenizer.ggml.bos_token_id": "integer",
    "tokenizer.ggml.eos_token_id": "integer",
    "tokenizer.ggml.eot_token_id": "integer",
    "tokenizer.ggml.eom_token_id": "integer",
    "tokenizer.ggml.unknown_token_id": "integer",
    "tokenizer.ggml.padding_token_id": "integer",
    "tokenizer.ggml.add_bos_token": "flag",
    "tokenizer.ggml.add_eos_token": "flag",
    "tokenizer.ggml.add_space_prefix": "flag",
    "tokenizer.ggml.remove_extra_whitespaces": "flag",
    "tokenizer.chat_template": "text",
    "{arch}.context_length": "integer",
    "{arch}.embedding_length": "integer",
    "{arch}.block_count": "integer",
    "{arch}.vocab_size": "integer",
    "{arch}.feed_forward_length": "integer or array of integers",
    "{arch}.attention.head_count": "integer or array of integers",
    "{arch}.attention.head_count_kv": "integer or array of integers",
    "{arch}.attention.key_length": "integer",
    "{arch}.attention.value_length": "integer",
    "{arch}.attention.layer_norm_rms_epsilon": "number",
    "{arch}.attention.layer_norm_epsilon": "number",
    "{arch}.rope.dimension_count": "integer",
    "{arch}.rope.freq_base": "number",
    "{arch}.rope.scaling.type": "text",
    "{arch}.rope.scaling.factor": "number",
    "{arch}.rope.scaling.original_context_length": "integer",
    "{arch}.expert_count": "integer",
    "{arch}.expert_used_count": "integer",
}


class StringArray(Sequence[str]):
    """Array of strings in a GGUF header, decoded on first use. Immutable."""

    def __init__(self, raw: memoryview, count: int, where: str) -> None:
        """Take `count` length-prefixed strings that fill `raw`; `where` names them in errors."""
        self.raw = raw
        self._count = count
        self._where = where

    @cached_property
    def _strings(self) -> tuple[str, ...]:
        data = bytes(self.raw)
        strings: list[str] = []
        position = 0
        unpack = LENGTH.unpack_from
        try:
            for _ in range(self._count):
                start = position + 8
                position = start + unpack(data, position)[0]
                strings.append(data[start:position].decode())
        except UnicodeDecodeError:
            raise GGUFError(
                f"{self._where}[{len(strings)}] is not UTF-8; get the file again or convert it anew"
            ) from None
        return tuple(strings)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self._strings)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self._strings[index]

    def __repr__(self) -> str:
        return f"StringArray({self._count} strings)"


Value = bool | int | float | str | StringArray | npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where and how a tensor is stored. `shape` is in NumPy order: contiguous columns last."""

    name: str
    format: str
    """GGML name of the block format: F32, F16, Q4_1, ..."""
    shape: tuple[int, ...]
    offset: int
    """Absolute, in bytes from the start of the file."""
    size: int
    """Bytes."""

    @property
    def rows(self) -> int:
        """Product of all dimensions but the last."""
        return math.prod(self.shape[:-1])

    @property
    def columns(self) -> int:
        """Weights of one row."""
        return self.shape[-1] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of blocks."""
        return self.size // self.rows


class GGUFFile:
    """One open GGUF file; immutable, so any thread may read it. The map lives as long as a view."""

    path: Path
    version: int
    alignment: int
    size: int
    """Bytes of the file."""
    metadata: Mapping[str, Value]
    """Numbers, booleans and strings as Python values; arrays as NumPy views or `StringArray`."""
    tensors: Mapping[str, TensorInfo]

    def __init__(self, path: Path, mapping: mmap.mmap) -> None:
        """Parse the mapping; use `GGUFFile.open` for a path."""
        self.path = path
        self.size = len(mapping)
        self._bytes = np.frombuffer(mapping, np.uint8)
        reader = _Reader(path, mapping)
        self.version, tensor_count, value_count = reader.header()
        metadata = reader.metadata(value_count)
        _check_known_keys(reader, metadata)
        self.alignment = _alignment(reader, metadata)
        self.metadata = MappingProxyType(metadata)
        self.tensors = MappingProxyType(reader.tensors(tensor_count, self.alignment))

    @classmethod
    def open(cls, path: Path | str) -> "GGUFFile":
        """Map and parse the file.

        Raises GGUFError, naming the file and the field, for anything that is not a whole and
        consistent GGUF; nothing is allocated in a size that the file merely claims.
        """
        path = Path(path)
        try:
            with path.open("rb") as handle:
                mapping = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise GGUFError(f"{path} does not exist; check the path of the GGUF file") from None
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise GGUFError(f"{path} cannot be read as a GGUF file ({error})") from None
        return cls(path, mapping)

    @property
    def architecture(self) -> str:
        """`general.architecture`; raises GGUFError where the file has none."""
        architecture = self.metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise GGUFError(f"{self.path}: general.architecture is missing; convert the model anew")
        return architecture

    def scalars(self) -> dict[str, bool | int | float | str]:
        """Metadata without arrays and without strings of more than 256 characters."""
        return {
            key: value
            for key, value in self.metadata.items()
            if isinstance(value, bool | int | float)
            or (isinstance(value, str) and len(value) <= LONG_STRING)
        }

    def data(self, name: str) -> npt.NDArray[np.uint8]:
        """Stored bytes of a tensor: read-only uint8 view [rows, row_bytes], nothing is copied."""
        info = self._tensor(name)
        stored = self._bytes[info.offset : info.offset + info.size]
        return stored.reshape(info.rows, info.row_bytes)

    def dequantize(self, name: str) -> npt.NDArray[np.float32]:
        """Weights of a tensor as float32 of its shape, by gguf.quants, the reference of formats.

        Raises UnsupportedModel for a format that gguf.quants has no definition of.
        """
        info = self._tensor(name)
        try:
            weights = dequantize(self.data(name), GGMLQuantizationType[info.format])
        except NotImplementedError:
            raise UnsupportedModel(
                f"{self.path}: tensor {name!r} is {info.format}, which cannot be dequantized; "
                "choose a file in another format"
            ) from None
        return np.asarray(weights, np.float32).reshape(info.shape)

    def _tensor(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise GGUFError(f"{self.path}: tensor {name!r} is missing") from None


class _Reader:
    """Walks the header once, from front to back. Owned by the thread that opens the file."""

    def __init__(self, path: Path, mapping: mmap.mmap) -> None:
        self.path = path
        self.mapping = mapping
        self.view = memoryview(mapping)
        self.size = len(mapping)
        self.position = 0

    def fail(self, field: str, problem: str) -> NoReturn:
        raise GGUFError(f"{self.path}: {field} {problem}; get the file again or convert it anew")

    def header(self) -> tuple[int, int, int]:
        """Version, number of tensors, number of metadata values."""
        if self.size < len(MAGIC) or self.mapping[: len(MAGIC)] != MAGIC:
            raise GGUFError(f"{self.path} is not a GGUF file: it does not start with 'GGUF'")
        self.position = len(MAGIC)
        version = self.number(4, "version")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            kind = "big-endian version" if swapped in VERSIONS else "version"
            self.fail("version", f"is {kind} {min(version, swapped)}, little-endian 2 or 3 is read")
        tensors = self.number(10, "tensor count")
        values = self.number(10, "metadata count")
        self.expect_room(tensors, 24, "tensor count")
        self.expect_room(values, 13, "metadata count")
        return version, tensors, values

    def metadata(self, count: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for index in range(count):
            key = self.string(f"metadata key {index}")
            if not key or key in values:
                self.fail(f"metadata key {index}", f"({key!r}) is empty or appears twice")
            values[key] = self.value(key)
        return values

    def tensors(self, count: int, alignment: int) -> dict[str, TensorInfo]:
        found = [self.tensor(index) for index in range(count)]
        start = -(-self.position // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for name, kind, shape, offset in found:
            field = f"tensor {name!r}"
            if name in tensors:
                self.fail(field, "appears twice")
            if offset % alignment:
                self.fail(field, f"has offset {offset}, no multiple of the alignment {alignment}")
            block, block_bytes = GGML_QUANT_SIZES[kind]
            if (shape[-1] if shape else 1) % block:
                self.fail(field, f"has rows that are no whole number of {kind.name} blocks")
            size = math.prod(shape) // block * block_bytes
            if start + offset + size > self.size:
                self.fail(field, f"ends past the end of the file ({self.size} bytes)")
            tensors[name] = TensorInfo(name, kind.name, shape, start + offset, size)
        end = 0
        for info in sorted(tensors.values(), key=lambda info: info.offset):
            if info.offset < end:
                self.fail(f"tensor {info.name!r}", "overlaps another tensor")
            end = info.offset + info.size
        return tensors

    def tensor(self, index: int) -> tuple[str, GGMLQuantizationType, tuple[int, ...], int]:
        """Name, format, shape and offset (from the start of the data) of the next entry."""
        name = self.string(f"name of tensor {index}")
        field = f"tensor {name!r}"
        if not name:
            self.fail(f"tensor {index}", "has an empty name")
        dimensions = self.number(4, f"{field} dimension count")
        if dimensions > MAX_DIMENSIONS:
            self.fail(field, f"has {dimensions} dimensions, at most {MAX_DIMENSIONS} are read")
        shape = tuple(self.number(10, f"{field} shape") for _ in range(dimensions))[::-1]
        if 0 in shape:
            self.fail(field, f"has no elements (shape {shape})")
        number = self.number(4, f"{field} type")
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            self.fail(field, f"has type {number}, which this build does not know")
        return name, kind, shape, self.number(10, f"{field} offset")

    def value(self, key: str) -> Value:
        field = f"metadata {key!r}"
        kind = self.number(4, f"{field} type")
        if kind == STRING:
            return self.string(field)
        if kind == ARRAY:
            return self.array(field)
        if kind not in SCALARS:
            self.fail(field, f"has value type {kind}, which this build does not know")
        value = self.scalar(kind, field)
        return bool(value) if kind == BOOL else value

    def array(self, field: str) -> Value:
        kind = self.number(4, f"{field} element type")
        count = self.number(10, f"{field} length")
        if count > MAX_ARRAY_LENGTH:
            self.fail(field, f"has {count} elements, at most {MAX_ARRAY_LENGTH} are read")
        if kind == STRING:
            return self.strings(count, field)
        if kind == ARRAY:
            self.fail(field, "is an array of arrays, which no known model uses")
        if kind not in SCALARS:
            self.fail(field, f"has element type {kind}, which this build does not know")
        layout = SCALARS[kind]
        self.expect_room(count, layout.size, field)
        elements = np.frombuffer(self.mapping, layout.format, count, self.position)
        self.position += count * layout.size
        return elements != 0 if kind == BOOL else elements

    def strings(self, count: int, field: str) -> StringArray:
        """Find the end of `count` strings without decoding them: a vocabulary has 10^5."""
        self.expect_room(count, LENGTH.size, field)
        start = position = self.position
        mapping, unpack, longest = self.mapping, LENGTH.unpack_from, MAX_STRING_BYTES
        try:
            for _ in range(count):
                length = unpack(mapping, position)[0]
                if length > longest:
                    self.fail(field, f"holds a string of {length} bytes")
                position += 8 + length
        except struct.error:
            self.fail(field, "runs past the end of the file")
        if position > self.size:
            self.fail(field, "runs past the end of the file")
        self.position = position
        return StringArray(self.view[start:position], count, f"{self.path}: {field}")

    def string(self, field: str) -> str:
        length = self.number(10, f"{field} length")
        if length > MAX_STRING_BYTES:
            self.fail(field, f"is a string of {length} bytes, at most {MAX_STRING_BYTES} are read")
        self.expect_room(length, 1, field)
        start = self.position
        self.position += length
        try:
            return self.mapping[start : self.position].decode()
        except UnicodeDecodeError:
            self.fail(field, "is not UTF-8")

    def number(self, kind: int, field: str) -> int:
        return int(self.scalar(kind, field))

    def scalar(self, kind: int, field: str) -> int | float:
        layout = SCALARS[kind]
        self.expect_room(1, layout.size, field)
        value: int | float = layout.unpack_from(self.mapping, self.position)[0]
        self.position += layout.size
        return value

    def expect_room(self, count: int, size: int, field: str) -> None:
        """Fail unless `count` elements of at least `size` bytes fit into the rest of the file."""
        if count * size > self.size - self.position:
            self.fail(field, "runs past the end of the file")


def _alignment(reader: _Reader, metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        reader.fail("metadata 'general.alignment'", f"is {alignment}, no power of two")
    return alignment


def _check_known_keys(reader: _Reader, metadata: Mapping[str, Value]) -> None:
    architecture = metadata.get("general.architecture", "")
    for pattern, kind in KNOWN_KEYS.items():
        key = pattern.replace("{arch}", str(architecture))
        if key in metadata and not _is(kind, metadata[key]):
            reader.fail(f"metadata {key!r}", f"is not of type {kind}")


def _is(kind: str, value: Value) -> bool:
    array_kind = value.dtype.kind if isinstance(value, np.ndarray) else ""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return {
        "text": isinstance(value, str),
        "flag": isinstance(value, bool),
        "integer": is_integer,
        "number": is_integer or isinstance(value, float),
        "array of text": isinstance(value, StringArray),
        "array of integers": array_kind in ("i", "u"),
        "array of numbers": array_kind in ("i", "u", "f"),
        "integer or array of integers": is_integer or array_kind in ("i", "u"),
    }[kind]
