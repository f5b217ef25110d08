"""The generator of large models writes files that convert, here in miniature."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.conversion.convert import convert
from pipelines.validation import validate
from runtime.gguf import GGUFFile
from runtime.settings import Settings
from runtime.source import Source
from tests.large_model import SHAPES, write_large_model


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_written_in_the_formats_of_q4_k_m(
    tmp_path: Path, settings: Settings, name: str
) -> None:
    shape = replace(
        SHAPES[name], layers=2, embedding=256, heads=4, kv_heads=1, feed_forward=512, vocabulary=300
    )
    path = write_large_model(tmp_path / "large.gguf", shape)
    tensors = GGUFFile.open(path).tensors
    assert {info.format for info in tensors.values()} == {"F32", "Q4_K", "Q6_K"}
    assert tensors["blk.1.ffn_up.weight"].shape == (512, 256)
    folder = tmp_path / "prepared"
    folder.mkdir()
    convert(Source(path), folder, "large")
    results = validate(folder, settings, names=["structure", "session", "logits"])
    assert [result.passed for result in results] == [True] * 3
