import os
import resource
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime import packed_file
from runtime.files import locked
from runtime.gguf import GGUFFile
from runtime.ops.packing import pack, packed_shape
from runtime.packed_weights import PackedArrays, packed_path, packed_weights
from tests.models import write_tiny_llama
from tests.tiny_models import TINY_MODELS, write_tiny_model

NOBODY = 65534
SHA = "0123456789abcdef" * 4


def arrays_of(model: Path, folder: Path) -> PackedArrays:
    packed = packed_weights(GGUFFile.open(model), SHA, folder)
    return {} if packed is None else packed.arrays


def test_every_matrix_of_a_packed_format_is_packed_and_no_vector(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    file = GGUFFile.open(tiny_gguf)
    arrays = arrays_of(tiny_gguf, tmp_path)
    matrices = {name for name, info in file.tensors.items() if len(info.shape) == 2}
    assert arrays.keys() == matrices
    for name, array in arrays.items():
        info = file.tensors[name]
        shape = packed_shape(info.format, info.rows, info.columns)
        assert shape is not None
        expected = np.empty(shape, np.uint8)
        pack(info.format, file.data(name), expected)
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(("hidden", "is_packed"), [(96, True), (100, False)])
def test_experts_are_packed_where_each_begins_with_a_panel(
    tmp_path: Path, hidden: int, is_packed: bool
) -> None:
    experts = replace(TINY_MODELS["qwen3moe"], format="Q8_0", feed_forward=hidden, embedding=96)
    if not is_packed:  # rows of the down matrices are no whole blocks then
        experts = replace(experts, formats={"ffn_down_exps": "F32"})
    model = write_tiny_model(tmp_path / "experts.gguf", experts)
    arrays = arrays_of(model, tmp_path)
    assert ("blk.0.ffn_gate_exps.weight" in arrays) is is_packed


def test_the_copy_is_written_once_and_mapped_from_then_on(tiny_gguf: Path, tmp_path: Path) -> None:
    arrays_of(tiny_gguf, tmp_path)
    (path,) = tmp_path.iterdir()
    before = path.stat()
    again = arrays_of(tiny_gguf, tmp_path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert list(tmp_path.iterdir()) == [path]
    assert not any(array.flags.writeable for array in again.values())


def test_a_copy_that_was_cut_short_is_made_again(tiny_gguf: Path, tmp_path: Path) -> None:
    expected = {name: a.copy() for name, a in arrays_of(tiny_gguf, tmp_path).items()}
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size // 2)
    again = arrays_of(tiny_gguf, tmp_path)
    assert all(np.array_equal(again[name], array) for name, array in expected.items())


def test_without_a_place_to_write_the_model_runs_unpacked(
    tiny_gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "packed").write_text("a file where the folder should be")
    assert arrays_of(tiny_gguf, tmp_path / "packed") == {}
    assert "slower" in caplog.text


def test_a_model_without_packed_formats_makes_no_file(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "plain.gguf", format="F32")
    assert arrays_of(model, tmp_path / "packed") == {}
    assert not (tmp_path / "packed").exists()


def test_a_copy_whose_checksums_are_damaged_is_made_again(tiny_gguf: Path, tmp_path: Path) -> None:
    arrays_of(tiny_gguf, tmp_path)
    (path,) = tmp_path.iterdir()
    written = path.read_bytes()
    path.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
    arrays_of(tiny_gguf, tmp_path)
    assert path.read_bytes() == written


def test_what_was_written_to_meanwhile_is_not_kept(tiny_gguf: Path, tmp_path: Path) -> None:
    class Changed(Exception):
        pass

    def check() -> None:
        raise Changed

    with pytest.raises(Changed):
        packed_weights(GGUFFile.open(tiny_gguf), SHA, tmp_path, check)
    assert not list(tmp_path.glob("*.packed"))
    assert not list(tmp_path.glob(".*"))


def test_a_copy_is_the_same_however_its_parts_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Matrices of many panels, in pieces that end within them; checksums are of what is there."""
    model = write_tiny_llama(tmp_path / "m.gguf", format="Q4_1", embedding=64, feed_forward=2080)
    whole = packed_weights(GGUFFile.open(model), SHA, tmp_path / "whole")
    monkeypatch.setattr(packed_file, "PACKED_AT_ONCE", 1)
    monkeypatch.setattr(packed_file, "WRITTEN_AT_ONCE", 96)
    parts = packed_weights(GGUFFile.open(model), SHA, tmp_path / "parts")
    assert whole is not None
    assert parts is not None
    np.testing.assert_array_equal(parts.file.data, whole.file.data)
    assert parts.file.first_damage() is None


def test_a_second_process_waits_for_the_copy_and_takes_it(tiny_gguf: Path, tmp_path: Path) -> None:
    path = packed_path(tmp_path, SHA)
    found: list[PackedArrays] = []
    second = threading.Thread(target=lambda: found.append(arrays_of(tiny_gguf, tmp_path)))
    with locked(path.with_name(f"{path.name}.lock")):
        second.start()
        first = arrays_of_another(tiny_gguf, tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / path.name).replace(path)
        place = path.stat()
    second.join()
    assert path.stat() == place
    assert found[0].keys() == first.keys()


def arrays_of_another(model: Path, folder: Path) -> PackedArrays:
    """What the process before made: nobody waits for it, as the folder is another."""
    return arrays_of(model, folder)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file grows beyond 64 KiB: a write fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_on_a_full_disk_the_model_runs_unpacked_and_nothing_stays(
    tiny_gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert arrays_of(tiny_gguf, tmp_path) == {}
    assert list(tmp_path.iterdir()) == []
    assert "slower" in caplog.text


@pytest.fixture
def read_only_cache() -> Iterator[Path]:
    """A folder that this process reads but cannot write to, even where it began as root."""
    with tempfile.TemporaryDirectory() as place:
        cache = Path(place) / "cache"
        cache.mkdir()
        Path(place).chmod(0o755)
        yield cache
        os.seteuid(os.getuid())


def lock_up(cache: Path) -> None:
    cache.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


def test_a_read_only_cache_serves_the_copy_it_has(tiny_gguf: Path, read_only_cache: Path) -> None:
    gguf = GGUFFile.open(tiny_gguf)
    made = packed_weights(gguf, SHA, read_only_cache)
    assert made is not None
    made.file.path.chmod(0o444)
    lock_up(read_only_cache)
    found = packed_weights(gguf, SHA, read_only_cache)
    assert found is not None
    assert found.arrays.keys() == made.arrays.keys()


def test_a_read_only_cache_without_a_copy_leaves_the_model_unpacked(
    tiny_gguf: Path, read_only_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gguf = GGUFFile.open(tiny_gguf)
    lock_up(read_only_cache)
    assert packed_weights(gguf, SHA, read_only_cache) is None
    assert "slower" in caplog.text
