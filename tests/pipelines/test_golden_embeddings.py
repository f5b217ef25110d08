"""Every encoder gives what llama.cpp gives, whatever texts are computed beside it."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipelines.conversion.architectures import ARCHITECTURES, describe
from pipelines.conversion.convert import convert
from pipelines.validation.steps import one_row
from runtime.embedding import Embedder, mean
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from tests.exactness import exact_model_of
from tests.tiny_encoders import TINY_ENCODERS
from tests.tiny_models import golden_tokens, write_tiny_model

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "embeddings.npz")
PAGE_SIZE = 8
PAGES = 8
EXACT = 2e-3
"""Most difference, over the root mean square: llama.cpp looks GELU up in a table of float16."""
ROUNDED = 0.02
"""The same with keys and values in float16."""


def error(vector: np.ndarray, name: str) -> float:
    expected = GOLDEN[name]
    return float(np.abs(vector - expected).max() / np.sqrt(np.square(expected).mean()))


def embedder(path: Path, settings: Settings, **changed: int) -> Embedder:
    prepared = path.with_suffix("")
    prepared.mkdir()
    convert(Source(path), prepared, path.stem)
    small = msgspec.structs.replace(settings, cache_tokens=256, page_size=PAGE_SIZE, threads=1)
    session = Session(prepared, settings=small)
    return Embedder(session, page_size=PAGE_SIZE, token_budget=changed.get("token_budget", 128))


@pytest.mark.parametrize("name", TINY_ENCODERS)
def test_graphs_mean_what_llama_cpp_computes(tmp_path: Path, name: str) -> None:
    path = write_tiny_model(tmp_path / f"{name}.gguf", TINY_ENCODERS[name])
    spec = describe(GGUFFile.open(path))
    exact = exact_model_of(path, pages=PAGES, page_size=PAGE_SIZE)
    rows = exact.run(one_row(golden_tokens(), pages=PAGES))
    assert spec.pooling is not None
    pooled = {"mean": mean(rows), "cls": rows[0], "last": rows[-1]}[spec.pooling.kind]
    assert error(pooled, name) < EXACT


@pytest.mark.parametrize("name", TINY_ENCODERS)
def test_a_text_has_the_same_bits_alone_and_in_company(
    tmp_path: Path, settings: Settings, name: str
) -> None:
    path = write_tiny_model(tmp_path / f"{name}.gguf", TINY_ENCODERS[name])
    model, text = embedder(path, settings), golden_tokens()
    (alone,) = model.vectors([text])
    assert error(alone, name) < ROUNDED
    among = model.vectors([text[:3], text, text[5:30], [7]])
    np.testing.assert_array_equal(among[1], alone)
    np.testing.assert_array_equal(among[3], model.vectors([[7]])[0])


def test_a_text_longer_than_a_step_is_computed_in_pieces(
    tmp_path: Path, settings: Settings
) -> None:
    tiny = TINY_ENCODERS["qwen3-embedding"]
    path = write_tiny_model(tmp_path / "whole.gguf", tiny)
    whole = embedder(path, settings).vectors([golden_tokens()])
    path = write_tiny_model(tmp_path / "pieces.gguf", tiny)
    pieces = embedder(path, settings, token_budget=7).vectors([golden_tokens()])
    np.testing.assert_array_equal(pieces[0], whole[0])


def test_every_encoder_has_a_golden_embedding() -> None:
    encoders = {name for name, row in ARCHITECTURES.items() if row.is_encoder}
    assert encoders <= {tiny.architecture for tiny in TINY_ENCODERS.values()}
    assert set(GOLDEN) == set(TINY_ENCODERS)
