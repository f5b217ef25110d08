"""Logprobs of generated tokens and of prompts, against their definition in NumPy."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from runtime.engine import Engine
from runtime.errors import ContextLengthExceeded, InvalidRequest, QueueFull
from runtime.generation import EngineRequest, FinishReason, Generation
from runtime.logprobs_memory import most_bytes
from runtime.sampling import SamplingParameters, StepLogits, TokenLogprobs, token_logprobs
from runtime.scoring import score
from runtime.session import Session
from runtime.settings import Settings
from runtime.step import PROMPT_LOGITS
from tests.held_session import HeldSession
from tests.waiting import SECONDS

GREEDY = SamplingParameters(temperature=0.0)
PROMPT = np.random.default_rng(3).integers(0, 256, 150).tolist()


def defined(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logarithms of the softmax of logits [..., V]."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    total: NDArray[np.float64] = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return total


@given(
    arrays(np.float32, st.integers(1, 300), elements=st.floats(-60, 60, width=32)),
    st.integers(0, 20),
    st.data(),
)
def test_they_are_the_logarithms_of_the_softmax(
    row: NDArray[np.float32], count: int, data: st.DataObject
) -> None:
    token = data.draw(st.integers(0, row.size - 1))
    found = token_logprobs(StepLogits(np.stack([row, row[::-1]])), 0, token, count)
    right = defined(row)
    assert found.logprob == pytest.approx(right[token], abs=2e-6)
    assert found.rank == 1 + (row > row[token]).sum()
    assert found.top_tokens.tolist() == np.argsort(-row, kind="stable")[:count].tolist()
    np.testing.assert_allclose(found.top_logprobs, right[found.top_tokens], atol=2e-6)


@given(st.integers(1, 5), st.integers(0, 4))
def test_a_row_has_the_same_bits_in_any_company(rows: int, at: int) -> None:
    values = np.random.default_rng(7).standard_normal((5, 1000)).astype(np.float32) * 9
    alone = token_logprobs(StepLogits(values[at : at + 1]), 0, 5, 3)
    for place, step in ((at, values), (0, values[at : at + rows].copy())):
        found = token_logprobs(StepLogits(step), place, 5, 3)
        assert found.logprob == alone.logprob
        assert found.top_logprobs.tolist() == alone.top_logprobs.tolist()


def test_the_impossible_has_a_number_and_what_is_not_finite_has_none() -> None:
    row = np.array([[0.0, -np.inf, -3e38]], np.float32)
    assert [token_logprobs(StepLogits(row), 0, token, 0).logprob for token in range(3)] == [
        0.0,
        -9999.0,
        -9999.0,
    ]
    with pytest.raises(FloatingPointError):
        token_logprobs(StepLogits(np.array([[np.nan, 1.0]], np.float32)), 0, 1, 0)


class Start:
    """Starts engines and ends them."""

    def __init__(self, prepared: Path, settings: Settings) -> None:
        self._prepared, self._settings = prepared, settings
        self._started: list[Engine] = []

    def __call__(self, **changes: object) -> Engine:
        chosen = msgspec.structs.replace(self._settings, **changes)
        self.session = HeldSession(Session(self._prepared, settings=chosen))
        engine = Engine(self.session, end_of_generation=frozenset(), settings=chosen)
        self._started.append(engine)
        engine.start()
        return engine

    def end(self) -> None:
        for engine in self._started:
            engine.stop()


@pytest.fixture
def start(prepared: Path, settings: Settings) -> Iterator[Start]:
    starter = Start(prepared, settings)
    yield starter
    starter.end()


@pytest.fixture
def scored(prepared: Path, settings: Settings, tmp_path: Path) -> NDArray[np.float64]:
    """What `rocmforge score` says of the prompt: [P, V]."""
    out = tmp_path / "logits.npy"
    score(prepared, np.array(PROMPT, np.int32), out, settings, lambda step: None)
    return defined(np.load(out))


def read(engine: Engine, prompt: list[int] = PROMPT, max_tokens: int = 0) -> Generation:
    """A request that asks for all there is."""
    request = EngineRequest(
        tuple(prompt), GREEDY, max_tokens, top_logprobs=2, prompt_top_logprobs=2
    )
    return engine.submit_all((request,)).each[0]


def ended(generation: Generation) -> Generation:
    assert generation.wait(SECONDS)
    assert generation.error is None
    return generation


def values(found: list[TokenLogprobs]) -> list[tuple[int, float, int, list[int], list[float]]]:
    return [
        (f.token, f.logprob, f.rank, f.top_tokens.tolist(), f.top_logprobs.tolist()) for f in found
    ]


def test_a_prompt_has_the_logprobs_that_its_score_has(
    start: Start, scored: NDArray[np.float64]
) -> None:
    found = ended(read(start())).prompt_logprobs
    assert [each.token for each in found] == PROMPT[1:]
    right = [scored[place, token] for place, token in enumerate(PROMPT[1:])]
    np.testing.assert_allclose([each.logprob for each in found], right, atol=2e-6)
    assert [each.top_tokens[0] for each in found] == scored[:-1].argmax(axis=1).tolist()


@pytest.mark.parametrize("budget", [1, 7, 256])
def test_cutting_company_and_caches_change_no_bit(start: Start, budget: int) -> None:
    right = values(ended(read(start())).prompt_logprobs)
    engine = start(token_budget=budget)
    others = [engine.submit(PROMPT[:40], GREEDY, 20) for _ in range(3)]
    first = [read(engine), read(engine, PROMPT[:100], 5)]
    for generation in (*others, *first):
        ended(generation)
    again = ended(read(engine))  # whose pages are known
    assert values(first[0].prompt_logprobs) == right
    assert values(first[1].prompt_logprobs) == right[:99]
    assert values(again.prompt_logprobs) == right


def test_preemption_changes_no_bit(start: Start) -> None:
    roomy = start()
    prompts = [PROMPT[place : place + 50] for place in range(0, 100, 10)]
    right = [ended(read(roomy, prompt, 60)) for prompt in prompts]
    tight = start(cache_tokens=160, page_size=8)
    found = [ended(g) for g in [read(tight, prompt, 60) for prompt in prompts]]
    assert tight.statistics().preemptions > 0
    for one, other in zip(found, right, strict=True):
        assert values(one.prompt_logprobs) == values(other.prompt_logprobs)
        assert values(one.logprobs) == values(other.logprobs)


def test_a_step_needs_few_logits_of_prompts(start: Start) -> None:
    engine = start(token_budget=256)
    most: list[int] = []

    def note(inputs, compute):
        most.append(len(inputs.logit_rows))
        return compute(inputs)

    start.session.fault = note
    for generation in [read(engine, PROMPT[:100]) for _ in range(3)]:
        ended(generation)
    assert max(most) <= PROMPT_LOGITS
    assert sum(most) == 3 * 99


def test_generated_tokens_have_those_of_the_model_whatever_the_sampling(start: Start) -> None:
    engine = start(prompt_lookup=True)
    prompt = (5, 6, 7, 8) * 8
    sampling = SamplingParameters(
        temperature=0.7, top_k=5, seed=3, repetition_penalty=1.3, logit_bias=((9, 5.0),)
    )
    request = EngineRequest(prompt, sampling, 40, top_logprobs=3)
    generation = ended(engine.submit_all((request,)).each[0])
    assert [each.token for each in generation.logprobs] == list(generation.tokens)
    whole = ended(read(engine, [*prompt, *generation.tokens]))
    of_answer = whole.prompt_logprobs[len(prompt) - 1 :]
    assert [each.logprob for each in generation.logprobs] == [each.logprob for each in of_answer]
    assert [each.rank for each in generation.logprobs] == [each.rank for each in of_answer]


def test_no_token_is_generated_where_none_is_asked_for(start: Start) -> None:
    engine = start(cache_tokens=64)
    plain = ended(engine.submit(PROMPT[:20], GREEDY, 0))
    assert (plain.tokens, plain.finish_reason) == ((), FinishReason.LENGTH)
    assert ended(engine.submit(PROMPT[:20], GREEDY, 3)).prefix_hit_tokens == 16
    ended(engine.submit(PROMPT[:64], GREEDY, 0))  # which fills the context
    with pytest.raises(ContextLengthExceeded):
        engine.submit(PROMPT[:64], GREEDY, 1)
    with pytest.raises(ContextLengthExceeded):
        engine.submit(PROMPT[:65], GREEDY, 0)
    assert engine.statistics().pages_used == 0


def test_requests_that_do_not_ask_have_none(start: Start) -> None:
    engine = start()
    asking, plain = read(engine, PROMPT[:20], 5), engine.submit(PROMPT[:20], GREEDY, 5)
    assert ended(plain).tokens == ended(asking).tokens
    assert (plain.logprobs, plain.prompt_logprobs) == ([], [])


def test_the_logprobs_of_all_requests_have_a_bound(start: Start) -> None:
    """Each counts with all it may come to, until its client is done with it."""
    asking = EngineRequest(tuple(PROMPT), GREEDY, 50, top_logprobs=20)
    one = 50 * (400 + 20 * 16)
    engine = start(logprobs_bytes=2 * one)
    with pytest.raises(InvalidRequest, match="--logprobs-bytes") as refused:
        engine.submit_all((asking,) * 3)
    assert refused.value.field == "logprobs"
    held = engine.submit_all((asking,) * 2)
    for generation in held.each:
        ended(generation)
    with pytest.raises(QueueFull, match="--logprobs-bytes"):
        engine.submit_all((asking,))
    ended(engine.submit(PROMPT, GREEDY, 50))  # which asks for none
    del held, generation
    gc.collect()
    ended(engine.submit_all((asking,)).each[0])


def test_no_request_takes_more_than_it_counts(start: Start) -> None:
    """Of as many likely tokens as can be asked for, and of none."""
    for likely in (0, 20):
        request = EngineRequest(
            tuple(PROMPT), GREEDY, 20, top_logprobs=likely, prompt_top_logprobs=likely
        )
        generation = ended(start().submit_all((request,)).each[0])
        arrays = [(t.top_tokens, t.top_logprobs) for t in generation.logprobs]
        arrays += [(t.top_tokens, t.top_logprobs) for t in generation.prompt_logprobs]
        entries = [*generation.logprobs, *generation.prompt_logprobs]
        assert len(entries) == 20 + len(PROMPT) - 1
        own = sum(
            sys.getsizeof(e) + sum(map(sys.getsizeof, (e.logprob, e.rank, e.token)))
            for e in entries
        )
        assert own + sum(sys.getsizeof(each) for pair in arrays for each in pair) <= most_bytes(
            generation
        )
