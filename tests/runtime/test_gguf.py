"""The GGUF reader: what it reads, and that nothing but GGUFError comes of a damaged file."""

import contextlib
import os
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import GGUFError, UnsupportedModel
from runtime.gguf import GGUFFile, StringArray, Unread
from tests.models import write_tiny_llama


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tied=False)


def header(*, version: int = 3, tensors: int = 0, values: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values)


def text(string: str) -> bytes:
    return struct.pack("<Q", len(string.encode())) + string.encode()


def value(key: str, kind: int, payload: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + payload


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def parse(folder: Path, data: bytes) -> GGUFFile:
    path = folder / "made.gguf"
    path.write_bytes(data)
    return GGUFFile.open(path)


def test_reads_what_the_writer_wrote(tiny: Path) -> None:
    file = GGUFFile.open(tiny)
    assert (file.version, file.alignment, file.size) == (3, 32, tiny.stat().st_size)
    assert file.architecture == "llama"
    assert file.metadata["llama.embedding_length"] == 64
    assert file.metadata["tokenizer.ggml.add_bos_token"] is False
    tokens = file.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, StringArray)
    assert tokens[:3] == ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    assert len(tokens) == len(list(tokens)) == file.metadata["llama.vocab_size"]
    info = file.tensors["blk.1.ffn_down.weight"]
    assert (info.format, info.shape, info.row_bytes) == ("Q4_1", (64, 96), 60)
    assert (info.rows, info.columns, info.size) == (64, 96, 64 * 60)


def test_agrees_with_the_reader_of_the_gguf_package(tiny: Path) -> None:
    reference = {tensor.name: tensor for tensor in gguf.GGUFReader(tiny).tensors}
    file = GGUFFile.open(tiny)
    assert list(file.tensors) == list(reference)
    for name, info in file.tensors.items():
        assert info.offset == reference[name].data_offset
        assert file.data(name).tobytes() == reference[name].data.tobytes()


@pytest.mark.parametrize("format", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"])
def test_dequantizes_every_format_to_the_written_weights(tmp_path: Path, format: str) -> None:
    exact = GGUFFile.open(write_tiny_llama(tmp_path / "exact.gguf", format="F32"))
    file = GGUFFile.open(write_tiny_llama(tmp_path / "made.gguf", format=format))
    name = "blk.0.attn_q.weight"
    weights = file.dequantize(name)
    assert weights.dtype == np.float32
    assert weights.shape == (64, 64)
    assert np.abs(weights - exact.dequantize(name)).max() < 0.05


def test_data_is_a_read_only_view(tiny: Path) -> None:
    data = GGUFFile.open(tiny).data("token_embd.weight")
    assert not data.flags.writeable
    assert not data.flags.owndata


def test_scalars_leave_out_arrays_and_long_strings(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "m.gguf", metadata={"a.long": "x" * 257, "a.short": "y"})
    scalars = GGUFFile.open(path).scalars()
    assert scalars["a.short"] == "y"
    assert scalars["llama.rope.freq_base"] == 10000.0
    assert not {"a.long", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"} & set(scalars)


def test_what_nobody_reads_may_be_anything(tmp_path: Path) -> None:
    pair = struct.pack("<IQ", 9, 2)
    inner = struct.pack("<IQ", 4, 1) + bytes(4)
    data = header(values=3)
    data += value("a.bytes", 8, struct.pack("<Q", 1) + b"\xff")
    data += value("a.nested", 9, pair + inner + struct.pack("<IQ", 8, 1) + text("x"))
    data += value("a.last", 4, b"\7\0\0\0")
    metadata = parse(tmp_path, data).metadata
    assert metadata["a.bytes"] == Unread("text that is not UTF-8")
    assert metadata["a.nested"] == Unread("array of arrays")
    assert metadata["a.last"] == 7


def test_format_without_a_definition_is_refused_by_name(tmp_path: Path) -> None:
    data = header(tensors=1) + tensor("w", (256,), 15, 0)  # Q8_K: an intermediate format
    file = parse(tmp_path, data.ljust(96, b"\0") + bytes(292))
    with pytest.raises(UnsupportedModel, match="'w' is Q8_K"):
        file.dequantize("w")


def test_every_cut_is_one_clear_error(tiny: Path, tmp_path: Path) -> None:
    whole = tiny.read_bytes()
    end = max(info.offset + info.size for info in GGUFFile.open(tiny).tensors.values())
    for length in [*range(0, 2000, 7), *range(2000, end, 997), end - 1]:
        with pytest.raises(GGUFError, match=r"made\.gguf"):
            parse(tmp_path, whole[:length])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty; get the file again"),
        (b"GGML" + bytes(20), "does not start with 'GGUF'"),
        (header(version=1), "version is version 1"),
        (header(version=3 << 24), "version is big-endian version 3"),
        (header(tensors=1 << 60), "tensor count runs past the end"),
        (header(values=1 << 63), "metadata count runs past the end"),
        (header(values=1) + bytes(13), r"metadata key 0 \(''\) is empty"),
        (header(values=2) + value("a", 0, b"\1") * 2 + bytes(9), "'a'.* appears twice"),
        (header(values=1) + value("a", 13, bytes(9)), "'a' has value type 13"),
        (header(values=1) + value("a", 8, b"\xff" * 8), "'a' is a string of 18446744073709551615"),
        (header(values=1) + value("a", 8, struct.pack("<Q", 100)), "'a' runs past the end"),
        (header(values=1) + struct.pack("<Q", 1) + b"\xff" + bytes(9), "key 0 is not UTF-8"),
        (
            header(values=1) + value("tokenizer.ggml.pre", 8, struct.pack("<Q", 1) + b"\xff"),
            "'tokenizer.ggml.pre' is not of type text",
        ),
        (header(values=1) + value("a", 9, struct.pack("<IQ", 4, 99)), "'a' runs past the end"),
        (header(values=1) + value("a", 9, struct.pack("<IQ", 8, 1 << 40)), "'a' has 1099511627776"),
        (header(values=1) + value("a", 9, struct.pack("<IQ", 4, 1 << 40)), "'a' runs past the end"),
        (header(values=1) + value("a", 9, struct.pack("<IQ", 8, 99)), "'a' runs past the end"),
        (
            header(values=1) + value("a", 9, struct.pack("<IQQQ", 8, 2, 9, 0)),
            "'a' runs past the end",
        ),
        (
            header(values=1) + value("a", 9, struct.pack("<IQQ", 8, 1, 1 << 62)),
            "'a' holds a string of 4611686018427387904 bytes",
        ),
        (header(values=1) + value("a", 9, struct.pack("<IQ", 9, 1)), "'a' runs past the end"),
        (
            header(values=1) + value("a", 9, struct.pack("<IQ", 9, 1) * 9),
            "'a' is arrays in arrays, more than 8 deep",
        ),
        (header(values=1) + value("a", 9, struct.pack("<IQ", 77, 0)), "'a' has element type 77"),
        (header(values=1) + value("general.alignment", 4, b"\3\0\0\0"), "alignment' is 3, no"),
        (header(values=1) + value("general.alignment", 8, text("32")), "not of type integer"),
        (
            header(values=2)
            + value("general.architecture", 8, text("llama"))
            + value("llama.block_count", 6, bytes(4)),
            "'llama.block_count' is not of type integer",
        ),
        (header(tensors=1) + tensor("", (1,), 0, 0), "tensor 0 has an empty name"),
        (header(tensors=1) + tensor("w", (1,) * 5, 0, 0), "'w' has 5 dimensions"),
        (header(tensors=1) + tensor("w", (4, 0), 0, 0), "'w' has no elements"),
        (header(tensors=1) + tensor("w", (32,), 4, 0), "'w' has type 4, which"),
        (header(tensors=1) + tensor("w", (33,), 2, 0) + bytes(99), "no whole number of Q4_0"),
        (header(tensors=1) + tensor("w", (2,), 0, 4) + bytes(99), "'w' has offset 4"),
        (header(tensors=1) + tensor("w", (2,), 0, 320) + bytes(99), "'w' ends past the end"),
        (header(tensors=1) + tensor("w", (1 << 63,) * 4, 0, 0), "'w' ends past the end"),
        (header(tensors=2) + tensor("w", (2,), 0, 0) * 2 + bytes(99), "'w' appears twice"),
        (
            header(tensors=2)
            + tensor("v", (9,), 0, 0)
            + tensor("w", (2,), 0, 32)
            + bytes(99),
            "'w' overlaps another tensor",
        ),
    ],
)  # fmt: skip
def test_inconsistent_file_is_refused_by_field(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(GGUFError, match=problem):
        parse(tmp_path, data)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="does not exist"):
        GGUFFile.open(tmp_path / "none.gguf")
    with pytest.raises(GGUFError, match="cannot be read"):
        GGUFFile.open(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")  # nobody writes to it, and nobody waits for that
    with pytest.raises(GGUFError, match="is not a file"):
        GGUFFile.open(tmp_path / "pipe.gguf")


def test_missing_names_are_refused(tmp_path: Path) -> None:
    file = parse(tmp_path, header())
    with pytest.raises(GGUFError, match=r"general\.architecture is missing"):
        _ = file.architecture
    with pytest.raises(GGUFError, match="'w' is missing"):
        file.data("w")


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_file_opens_or_fails_with_our_error(
    tiny: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Overwritten bytes in the header, most often in its counts, and any cut."""
    damaged = bytearray(tiny.read_bytes())
    places = st.one_of(st.integers(0, 200), st.integers(0, 12000))
    patches = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, bytes(8)]))
    for place, patch in data.draw(st.lists(st.tuples(places, patches), min_size=1, max_size=4)):
        damaged[place : place + len(patch)] = patch
    length = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    with contextlib.suppress(GGUFError):
        file = parse(tmp_path, bytes(damaged[:length]))
        for name in file.tensors:
            assert file.data(name).size > 0
        for entry in file.metadata.values():
            if isinstance(entry, StringArray):
                list(entry)
