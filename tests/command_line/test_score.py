"""`rocmforge score` on every architecture: in chunks it writes what llama.cpp computes."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipelines.conversion.convert import convert
from runtime.scoring import score
from runtime.settings import Settings
from runtime.source import Source
from tests.pipelines.test_golden_logits import ROUNDED, golden_error
from tests.tiny_models import TINY_MODELS, golden_tokens, write_tiny_model


@pytest.mark.parametrize("name", TINY_MODELS)
def test_chunks_of_a_sequence_are_scored_as_llama_cpp_does(
    tmp_path: Path, settings: Settings, name: str
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", TINY_MODELS[name])
    folder, out = tmp_path / "prepared", tmp_path / "logits.npy"
    folder.mkdir()
    convert(Source(path), folder, name)
    chunked = msgspec.structs.replace(settings, token_budget=16)
    tokens = np.array(golden_tokens(), np.int32)
    score(folder, tokens, out, chunked, lambda step: None)
    logits = np.load(out)
    assert logits.shape == (len(tokens), logits.shape[1])
    assert golden_error(logits, name) < ROUNDED
