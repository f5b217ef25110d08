import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.gguf import GGUFFile
from runtime.ops.packing import pack, packed_shape
from runtime.packed_weights import packed_weights
from tests.models import write_tiny_llama
from tests.tiny_models import TINY_MODELS, write_tiny_model

SHA = "0123456789abcdef" * 4


def test_every_matrix_of_a_packed_format_is_packed_and_no_vector(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    file = GGUFFile.open(tiny_gguf)
    arrays = packed_weights(tiny_gguf, SHA, tmp_path)
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
    arrays = packed_weights(model, SHA, tmp_path)
    assert ("blk.0.ffn_gate_exps.weight" in arrays) is is_packed


def test_the_copy_is_written_once_and_mapped_from_then_on(tiny_gguf: Path, tmp_path: Path) -> None:
    packed_weights(tiny_gguf, SHA, tmp_path)
    (path,) = tmp_path.iterdir()
    before = path.stat()
    again = packed_weights(tiny_gguf, SHA, tmp_path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert list(tmp_path.iterdir()) == [path]
    assert not any(array.flags.writeable for array in again.values())


def test_a_copy_that_was_cut_short_is_made_again(tiny_gguf: Path, tmp_path: Path) -> None:
    expected = {name: a.copy() for name, a in packed_weights(tiny_gguf, SHA, tmp_path).items()}
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size // 2)
    again = packed_weights(tiny_gguf, SHA, tmp_path)
    assert all(np.array_equal(again[name], array) for name, array in expected.items())


def test_without_a_place_to_write_the_model_runs_unpacked(
    tiny_gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "packed").write_text("a file where the folder should be")
    assert packed_weights(tiny_gguf, SHA, tmp_path / "packed") == {}
    assert "slower" in caplog.text


def test_a_model_without_packed_formats_makes_no_file(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "plain.gguf", format="F32")
    assert packed_weights(model, SHA, tmp_path / "packed") == {}
    assert not (tmp_path / "packed").exists()
