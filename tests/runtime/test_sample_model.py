"""The sample model's text, compared with llama.cpp's and with float32 arithmetic."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.conversion.convert import convert
from runtime.engine import Engine
from runtime.generation import Generation
from runtime.gguf import GGUFFile
from runtime.sampling import SamplingParameters
from runtime.scoring import score
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.tokenizer import Tokenizer
from tests.golden.agreement import agree
from tests.pipelines.llama import llama_logits
from tests.waiting import SECONDS

pytestmark = pytest.mark.sample

GOLDEN = Path(__file__).parent.parent / "golden"
PAGE_TOKENS = 160


@pytest.fixture(scope="module")
def sample(sample_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample model, converted."""
    folder = tmp_path_factory.mktemp("sample")
    convert(Source(sample_model), folder, "sample")
    return folder


@pytest.mark.parametrize("entry", json.loads((GOLDEN / "greedy.json").read_text()))
def test_greedy_text_is_llama_cpps_until_a_near_tie(
    sample: Path, settings: Settings, entry: dict[str, Any]
) -> None:
    engine = Engine(
        Session(sample, settings=settings), end_of_generation=frozenset(), settings=settings
    )
    engine.start()
    agree(engine, entry)
    engine.stop()


def test_sixteen_streams_give_what_each_gives_alone_and_seeds_repeat(
    sample: Path, settings: Settings
) -> None:
    settings = msgspec.structs.replace(settings, cache_tokens=4096)
    page = json.loads((GOLDEN / "greedy.json").read_text())[1]["tokens"]
    requests = [
        (page[start : start + 12], SamplingParameters(temperature=temperature, seed=start))
        for start in range(16)
        for temperature in ((0.0, 1.0) if start == 5 else (0.0,))
    ]

    def answers(together: bool) -> list[tuple[int, ...]]:
        # An engine of its own: what was computed before would be known pages.
        engine = Engine(
            Session(sample, settings=settings), end_of_generation=frozenset(), settings=settings
        )
        engine.start()
        generations: list[Generation] = []
        for prompt, sampling in requests:
            generations.append(engine.submit(prompt, sampling, 16))
            if not together:
                assert generations[-1].wait(SECONDS)
        assert all(generation.wait(SECONDS) for generation in generations)
        engine.stop()
        return [generation.tokens for generation in generations]

    alone = answers(together=False)
    assert answers(together=True) == alone
    assert len(set(alone)) > 12


def test_a_page_of_english_is_as_likely_as_with_float32_arithmetic(
    sample: Path, sample_model: Path, settings: Settings, tmp_path: Path
) -> None:
    file = GGUFFile.open(sample_model)
    tokens = np.array(
        Tokenizer.from_gguf(file).encode((GOLDEN / "page.txt").read_text())[:PAGE_TOKENS], np.int32
    )
    score(sample, tokens, tmp_path / "logits.npy", settings, lambda _: None)
    ours = log_softmax(np.load(tmp_path / "logits.npy"))
    exact = log_softmax(llama_logits(file, tokens.tolist()))
    assert perplexity(ours, tokens) == pytest.approx(perplexity(exact, tokens), rel=0.005)
    divergence = (np.exp(exact) * (exact - ours)).sum(axis=-1)
    # llama.cpp's own on such a page is 3.1e-3.
    assert divergence.mean() < 1.5e-3


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def perplexity(log_probabilities: NDArray[np.float64], tokens: NDArray[np.int32]) -> float:
    picked = log_probabilities[np.arange(len(tokens) - 1), tokens[1:]]
    return float(np.exp(-picked.mean()))
