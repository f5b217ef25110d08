"""Every architecture computes what llama.cpp computes, at once and step by step."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipelines.conversion.architectures import ARCHITECTURES, describe
from pipelines.conversion.convert import convert, graph_of
from pipelines.conversion.graph import page_layout
from pipelines.validation.reference import ReferenceModel
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.step import StepInputs
from tests.exactness import exact_model_of
from tests.tiny_models import (
    GOLDEN_ROWS,
    GOLDEN_TOKENS,
    TINY_MODELS,
    DeltaAttention,
    StateSpace,
    golden_tokens,
    write_tiny_model,
)

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "logits.npz")
PAGE_SIZE = 4
PAGES = GOLDEN_TOKENS // PAGE_SIZE
EXACT = 5e-5
"""Most difference, over the standard deviation of the logits, in float32 throughout."""
TABULATED = 2e-3
"""The same with GELU, which llama.cpp looks up in a table of float16."""
ROUNDED = 0.02
"""The same with a cache in float16, as it is served."""


def step(tokens: list[int], start: int = 0) -> StepInputs:
    """A step of one sequence whose pages lie in the pool backwards."""
    return StepInputs(
        token_ids=np.array(tokens, np.int32),
        positions=np.arange(start, start + len(tokens), dtype=np.int32),
        row_starts=np.array([0, len(tokens)], np.int32),
        page_table=np.arange(PAGES, dtype=np.int32)[None, ::-1].copy(),
        logit_rows=np.arange(len(tokens), dtype=np.int32),
    )


def golden_error(logits: np.ndarray, name: str) -> float:
    expected = GOLDEN[name]
    return float(np.abs(logits[-GOLDEN_ROWS:] - expected).max() / expected.std())


def session(path: Path, settings: Settings) -> Session:
    prepared = path.with_suffix("")
    prepared.mkdir()
    convert(Source(path), prepared, path.stem)
    small = msgspec.structs.replace(
        settings, cache_tokens=GOLDEN_TOKENS, page_size=PAGE_SIZE, threads=1
    )
    return Session(prepared, settings=small)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_graphs_mean_what_llama_cpp_computes(tmp_path: Path, name: str) -> None:
    path = write_tiny_model(tmp_path / f"{name}.gguf", TINY_MODELS[name])
    spec = describe(GGUFFile.open(path))
    most = TABULATED if spec.activation == "gelu" else EXACT
    exact = exact_model_of(path, pages=PAGES, page_size=PAGE_SIZE)
    assert golden_error(exact.run(step(golden_tokens())), name) < most


@pytest.mark.parametrize("name", TINY_MODELS)
def test_sessions_compute_it_at_once_and_step_by_step(
    tmp_path: Path, settings: Settings, name: str
) -> None:
    path = write_tiny_model(tmp_path / f"{name}.gguf", TINY_MODELS[name])
    model, tokens = session(path, settings), golden_tokens()
    whole = model.run(step(tokens)).copy()
    assert golden_error(whole, name) < ROUNDED
    parts = [model.run(step(tokens[:33])).copy()]
    parts += [model.run(step([tokens[at]], at)).copy() for at in range(33, len(tokens))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", ["granitehybrid", "kimi-linear"])
def test_axes_of_one_value_may_be_left_out(tmp_path: Path, name: str) -> None:
    tiny = TINY_MODELS[name]
    assert isinstance(tiny.recurrent, StateSpace | DeltaAttention)
    short = replace(tiny, recurrent=replace(tiny.recurrent, has_short_shapes=True))
    path = write_tiny_model(tmp_path / f"{name}.gguf", short)
    file = GGUFFile.open(path)
    layout = page_layout(describe(file))
    graph = graph_of(describe(file), file)
    exact = ReferenceModel(graph, [path], layout, pages=PAGES, page_size=PAGE_SIZE)
    assert golden_error(exact.run(step(golden_tokens())), name) < ROUNDED


def test_every_supported_architecture_has_golden_logits() -> None:
    generating = {name for name, row in ARCHITECTURES.items() if not row.is_encoder}
    assert {tiny.architecture for tiny in TINY_MODELS.values()} == generating
    assert set(GOLDEN) == set(TINY_MODELS)
