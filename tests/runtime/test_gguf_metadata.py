"""Metadata that nobody reads may be anything: random values change nothing about a model."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.conversion.architectures import describe
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.models import write_tiny_llama

STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each kind of number."""
HEADER = struct.Struct("<4sIQQ")
TEXT = "Once upon a time"


def string(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def numbers(kind: int) -> st.SearchStrategy[tuple[int, bytes]]:
    size = SIZES[kind]
    return st.tuples(st.just(kind), st.binary(min_size=size, max_size=size))


def arrays(of: st.SearchStrategy[tuple[int, bytes]]) -> st.SearchStrategy[tuple[int, bytes]]:
    """Arrays of elements that have the kind of the first."""

    def array(elements: list[tuple[int, bytes]]) -> tuple[int, bytes]:
        kind = elements[0][0] if elements else STRING
        same = [content for each, content in elements if each == kind]
        return ARRAY, struct.pack("<IQ", kind, len(same)) + b"".join(same)

    return st.lists(of, max_size=4).map(array)


STRINGS = st.tuples(st.just(STRING), st.binary(max_size=40).map(string))
VALUES = st.recursive(
    st.one_of(STRINGS, *map(numbers, SIZES)), lambda of: arrays(of), max_leaves=12
)
KEYS = st.text(st.characters(codec="utf-8"), max_size=20).map(lambda key: f"x.{key}")


def with_metadata(model: bytes, metadata: dict[str, tuple[int, bytes]]) -> bytes:
    """The same model with these keys in front of its own; its tensors stay aligned."""
    magic, version, tensors, values = HEADER.unpack_from(model)
    added = b"".join(
        string(key.encode()) + struct.pack("<I", kind) + content
        for key, (kind, content) in metadata.items()
    )
    last = string(b"y.padding") + struct.pack("<I", STRING)
    added += last + string(bytes(-(len(added) + len(last) + 8) % 32))
    start = HEADER.pack(magic, version, tensors, values + len(metadata) + 1)
    return start + added + model[HEADER.size :]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("metadata") / "tiny.gguf")


@settings(max_examples=40)
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_a_model_is_the_same_with_any_metadata_that_nobody_reads(
    tiny: Path, metadata: dict[str, tuple[int, bytes]]
) -> None:
    plain = GGUFFile.open(tiny)
    path = tiny.with_name("other.gguf")
    path.write_bytes(with_metadata(tiny.read_bytes(), metadata))
    file = GGUFFile.open(path)
    assert metadata.keys() <= file.metadata.keys()
    assert described(file) == described(plain)
    assert Tokenizer.from_gguf(file).encode(TEXT) == Tokenizer.from_gguf(plain).encode(TEXT)
    for name in plain.tensors:
        assert np.array_equal(file.data(name), plain.data(name))
    scalars = file.scalars()
    assert all(scalars[key] == value for key, value in plain.scalars().items())


def described(file: GGUFFile) -> Any:
    """What conversion reads of a file, without where its tensors lie."""
    spec = describe(file)
    return spec.parameters, spec.context_length, spec.vocabulary_size, spec.architecture


def test_an_array_of_numbers_may_have_any_length(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    count = (1 << 24) + 1
    values = ARRAY, struct.pack("<IQ", 0, count) + bytes(count)
    path.write_bytes(with_metadata(tiny.read_bytes(), {"x.large": values}))
    large = GGUFFile.open(path).metadata["x.large"]
    assert isinstance(large, np.ndarray)
    assert large.shape == (count,)
