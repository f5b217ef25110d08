"""The engine over models whose layers carry a state: the same tokens however they are computed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.conversion.convert import convert
from runtime.sampling import SamplingParameters
from runtime.settings import Settings
from runtime.source import Source
from tests.runtime.test_engine import (
    GREEDY,
    Start,
    ended,
    expect_preemption_to_change_no_token,
    prompts,
)
from tests.tiny_models import TINY_MODELS, TinyModel, write_tiny_model

RECURRENT = [name for name, tiny in TINY_MODELS.items() if tiny.recurrent is not None]


@pytest.fixture(scope="module", params=RECURRENT)
def name(request: pytest.FixtureRequest) -> str:
    """A tiny random model of each kind."""
    value: str = request.param
    return value


@pytest.fixture(scope="module")
def recurrent(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(TINY_MODELS[name], tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def repetitive(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with small weights: it says much twice, so that guesses hold."""
    return written(replace(TINY_MODELS[name], gain=0.15), tmp_path_factory.mktemp(name))


def written(model: TinyModel, folder: Path) -> Path:
    (folder / "prepared").mkdir()
    gguf = write_tiny_model(folder / "tiny.gguf", model)
    convert(Source(gguf), folder / "prepared", "tiny")
    return folder / "prepared"


@pytest.fixture
def start(recurrent: Path, settings: Settings) -> Iterator[Start]:
    starter = Start(recurrent, settings)
    yield starter
    starter.end()


@pytest.fixture
def start_repetitive(repetitive: Path, settings: Settings) -> Iterator[Start]:
    starter = Start(repetitive, settings)
    yield starter
    starter.end()


def test_many_in_company_give_token_for_token_what_each_gives_alone(start) -> None:
    engine = start(token_budget=48, state_snapshot_bytes=0)
    alone = [ended(engine.submit(prompt, GREEDY, 20)) for prompt in prompts(10)]
    assert engine.statistics().prefix_hit_tokens == 0
    company = start(token_budget=48)
    together = [company.submit(prompt, GREEDY, 20) for prompt in prompts(10)]
    assert [ended(generation) for generation in together] == alone
    assert len(set(alone)) > 6


@pytest.mark.parametrize("budget", [1, 7, 100])
def test_the_size_of_the_chunks_changes_no_token(start, budget: int) -> None:
    whole = start(token_budget=256, prompt_lookup=False)
    cut = start(token_budget=budget)
    for prompt in prompts(3, shortest=30):
        assert ended(cut.submit(prompt, GREEDY, 12)) == ended(whole.submit(prompt, GREEDY, 12))


def test_preemption_and_recomputation_change_no_token(start) -> None:
    expect_preemption_to_change_no_token(start)


def test_a_known_beginning_is_not_computed_again_and_changes_no_token(start) -> None:
    engine, fresh = start(), start(state_snapshot_bytes=0)
    prompt = prompts(1, shortest=50)[0]
    first = engine.submit(prompt, GREEDY, 30)
    answered = [*prompt, *ended(first)]
    assert ended(engine.submit(prompt, GREEDY, 30)) == first.tokens
    # A chat goes on from the last page that its answer filled.
    again = engine.submit([*answered, 7, 8, 9], GREEDY, 20)
    assert ended(again) == ended(fresh.submit([*answered, 7, 8, 9], GREEDY, 20))
    assert again.prefix_hit_tokens == (len(answered) - 1) // 16 * 16
    assert fresh.statistics().prefix_hit_tokens == 0


def test_guesses_change_no_token_and_save_steps(start_repetitive) -> None:
    plain, guessing = start_repetitive(prompt_lookup=False), start_repetitive()
    requests = [
        (prompt, SamplingParameters(temperature=temperature, seed=7))
        for prompt in ([5, 6, 7, 8] * 8, *prompts(2))
        for temperature in (0.0, 0.6)
    ]
    expected = [ended(plain.submit(prompt, how, 60)) for prompt, how in requests]
    assert [ended(guessing.submit(prompt, how, 60)) for prompt, how in requests] == expected
    assert guessing.statistics().steps < plain.statistics().steps
    together = [guessing.submit(prompt, how, 60) for prompt, how in requests]
    assert [ended(generation) for generation in together] == expected
