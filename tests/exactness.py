"""Logits of a file as served and computed exactly, and their divergence."""

from pathlib import Path

import msgspec
import numpy as np

from pipelines.conversion.architectures import describe
from pipelines.conversion.convert import convert, graph_of
from pipelines.conversion.graph import page_layout
from pipelines.validation.comparison import log_softmax
from pipelines.validation.reference import ReferenceModel
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.step import StepInputs

PAGE_SIZE = 16
ZERO = 1e-5
"""Divergences up to this, in nats, count as none."""


def divergences(exact: np.ndarray, computed: np.ndarray) -> np.ndarray:
    """KL(exact || computed) at every position, nats."""
    likelihood = log_softmax(exact)
    each: np.ndarray = np.exp(likelihood) * (likelihood - log_softmax(computed))
    total: np.ndarray = each.sum(axis=-1)
    return total


def step(tokens: list[int]) -> StepInputs:
    """The whole sequence at once."""
    count = len(tokens)
    return StepInputs(
        token_ids=np.array(tokens, np.int32),
        positions=np.arange(count, dtype=np.int32),
        row_starts=np.array([0, count], np.int32),
        page_table=np.arange(-(-count // PAGE_SIZE), dtype=np.int32)[None],
        logit_rows=np.arange(count, dtype=np.int32),
    )


def exact_model_of(path: Path, *, pages: int, page_size: int = PAGE_SIZE) -> ReferenceModel:
    """A file's graph with the weights dequantized, computed in float32 throughout."""
    file = GGUFFile.open(path)
    spec = describe(file)
    return ReferenceModel(
        graph_of(spec, file),
        [path],
        page_layout(spec),
        pages=pages,
        page_size=page_size,
        pool_type=np.float32,
    )


def exact_logits(path: Path, tokens: list[int]) -> np.ndarray:
    """Float32 throughout: the exact logits."""
    return exact_model_of(path, pages=-(-len(tokens) // PAGE_SIZE)).run(step(tokens))


def our_logits(path: Path, tokens: list[int], folder: Path) -> np.ndarray:
    """As we serve the file."""
    prepared = folder / f"{path.stem}.prepared"
    prepared.mkdir()
    convert(Source(path), prepared, path.stem)
    settings = Settings(home=folder / "home", page_size=PAGE_SIZE)
    pages = -(-len(tokens) // PAGE_SIZE)
    session = Session(
        prepared, settings=msgspec.structs.replace(settings, cache_tokens=pages * PAGE_SIZE)
    )
    return session.run(step(tokens)).copy()
