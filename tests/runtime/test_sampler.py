import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.errors import InvalidRequest
from runtime.sampling import MIN_TEMPERATURE, Sampler, SamplingParameters, StepLogits

LARGEST = float(np.finfo(np.float32).max)
BORDER_LOGITS = (0.0, -0.0, 1.0, 1e-45, MIN_TEMPERATURE, 1e30, LARGEST, -LARGEST, -np.inf)
BORDER_TEMPERATURES = (0.0, 5e-324, 7e-46, 1e-45, 1e-40, 1.17e-38, MIN_TEMPERATURE, 1e-30, 2.0)
BORDER_SHARES = (0.0, 5e-324, 1e-300, 1e-45, 1e-7, 0.5, 1 - 2**-24, 1 - 2**-53, 1.0)

logit_rows = arrays(np.float32, st.integers(1, 60), elements=st.floats(-20, 20, width=32))


def draws(parameters: SamplingParameters, logits: np.ndarray, count: int = 200) -> list[int]:
    sampler, rows = Sampler(parameters), StepLogits(logits[np.newaxis])
    return [sampler.sample(rows, 0) for _ in range(count)]


@given(logit_rows)
def test_temperature_zero_takes_the_likeliest_lowest_token(logits: np.ndarray) -> None:
    assert draws(SamplingParameters(temperature=0.0), logits, 3) == [int(np.argmax(logits))] * 3


@given(logit_rows, st.integers(1, 8))
def test_top_k_draws_only_from_the_k_likeliest(logits: np.ndarray, top_k: int) -> None:
    kept = set(np.argsort(-logits, kind="stable")[:top_k].tolist())
    parameters = SamplingParameters(top_k=top_k, top_p=1.0, seed=1)
    assert set(draws(parameters, logits, 50)) <= kept


@given(st.integers(1, 700), st.integers(1, 60), st.integers(1, 6), st.integers(0, 99))
def test_top_k_of_a_large_vocabulary_are_the_largest_lowest_ids_first(
    size: int, top_k: int, distinct: int, seed: int
) -> None:
    """Few distinct values, so that ties fall on every border."""
    logits = np.random.default_rng(seed).integers(0, distinct, size).astype(np.float32)
    # A second row, lest the rows of a step be mixed up.
    tokens = StepLogits(np.stack([logits[::-1], logits])).most_likely(1, top_k)
    assert tokens.tolist() == np.argsort(-logits, kind="stable")[:top_k].tolist()


@given(logit_rows, st.floats(0.0, 1.0))
def test_top_p_draws_from_the_smallest_set_that_reaches_it(logits: np.ndarray, p: float) -> None:
    order = np.argsort(-logits, kind="stable")
    probabilities = np.exp(logits[order].astype(np.float64) - logits.max())
    mass = np.cumsum(probabilities / probabilities.sum())
    count = int(np.searchsorted(mass, p - 1e-9)) + 2  # one more for rounding at the border
    parameters = SamplingParameters(top_k=0, top_p=p, seed=2)
    # Logits that differ too little to weigh differently may stand for each other.
    least = logits[order[:count][-1]] - 1e-6
    assert logits[draws(parameters, logits, 50)].min() >= least


@pytest.mark.parametrize("temperature", [0.7, 2.0])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.999])
def test_top_p_keeps_the_smallest_sufficient_set_before_the_temperature(
    temperature: float, top_p: float
) -> None:
    """Flat enough that the first candidates do not always reach the mass."""
    logits = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    parameters = SamplingParameters(temperature=temperature, top_k=0, top_p=top_p, seed=0)
    tokens, values = Sampler(parameters)._candidates(StepLogits(logits[np.newaxis]), 0)
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    needed = int(np.searchsorted(np.cumsum(probabilities[order]), top_p - 1e-6)) + 1
    assert abs(len(tokens) - min(needed, 5000)) <= 1
    assert set(tokens.tolist()) == set(order[: len(tokens)].tolist())
    assert values.tolist() == logits[tokens].tolist()


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=400),
    st.floats(0.001, 1.0, exclude_max=True),
)
def test_of_equal_weights_at_the_border_of_top_p_the_lower_ids_are_kept(
    powers: list[int], top_p: float
) -> None:
    logits = np.array(powers, np.float32)
    parameters = SamplingParameters(top_k=0, top_p=top_p, seed=0)
    tokens, _ = Sampler(parameters)._candidates(StepLogits(logits[np.newaxis]), 0)
    order = np.argsort(-logits, kind="stable")
    assert sorted(tokens.tolist()) == sorted(order[: len(tokens)].tolist())
    probabilities = np.exp(logits[order].astype(np.float64))
    mass = np.cumsum(probabilities / probabilities.sum())
    assert mass[len(tokens) - 1] >= top_p - 1e-5
    assert len(tokens) == 1 or mass[len(tokens) - 2] < top_p + 1e-5


def border_rows() -> st.SearchStrategy[np.ndarray]:
    """Rows with the borders of float32 among their logits, and at least one that is finite."""
    one = st.sampled_from(BORDER_LOGITS) | st.floats(-LARGEST, LARGEST, width=32) | st.floats(-9, 9)
    return (
        st.tuples(st.lists(one, min_size=1, max_size=400), st.integers(1, 4))
        .map(lambda drawn: np.array(drawn[0] * drawn[1], np.float32))
        .filter(lambda row: bool(np.isfinite(row.max())))
    )


@given(
    border_rows(),
    st.sampled_from(BORDER_TEMPERATURES) | st.floats(0.0, 2.0),
    st.sampled_from((0, 1, 2, 399, 400, 401, 2**31, 2**63 - 1)) | st.integers(0, 1700),
    st.sampled_from(BORDER_SHARES) | st.floats(0.0, 1.0),
    st.integers(0, 5),
)
def test_every_draw_is_one_that_float64_allows(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    parameters = SamplingParameters(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    drawn = draws(parameters, logits, 4)
    if parameters.greedy:
        assert drawn == [int(np.argmax(logits))] * 4
        return
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    kept = np.argsort(-logits, kind="stable")[: top_k or logits.size]
    total = weights[kept].sum()
    for token in drawn:
        assert token in kept
        assert logits[token] > -np.inf
        # What is likelier by more than float32 rounds must not be enough already.
        likelier = weights[kept][weights[kept] > weights[token] * (1 + 1e-4)].sum()
        assert likelier < top_p * total + 1e-4 * total


@pytest.mark.parametrize("temperature", [5e-324, 1e-100, 7e-46, 1e-45, 1.1e-38])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (0, 0.9), (2, 1.0), (10**6, 0.9)])
def test_a_temperature_below_what_float32_holds_is_greedy(
    temperature: float, top_k: int, top_p: float
) -> None:
    logits = np.array([1.0, 3.0, 3.0, 2.0], np.float32)
    assert draws(SamplingParameters(temperature, top_k, top_p), logits, 3) == [1, 1, 1]


def test_a_token_without_weight_is_never_drawn_though_its_block_s_sum_is_rounded_up() -> None:
    """Sums of blocks are float32; a draw between one and the exact sum falls behind its tokens."""
    weights = np.random.default_rng(6).random(126).astype(np.float32)
    logits = np.full(128, -np.inf, np.float32)
    logits[:126] = np.log(weights)

    class LastDraw:
        def random(self) -> float:
            return 1 - 2**-53

    sampler = Sampler(SamplingParameters(top_k=0, top_p=1.0))
    sampler._generator = LastDraw()  # type: ignore[assignment]
    assert sampler.sample(StepLogits(logits[np.newaxis]), 0) < 126


def test_frequencies_follow_the_tempered_softmax() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    tempered = np.exp(logits.astype(np.float64) / 2.0)
    expected = tempered / tempered.sum()
    seen = draws(SamplingParameters(temperature=2.0, top_p=1.0, seed=3), logits, 20_000)
    # Four standard deviations of a proportion over 20,000 draws are below 0.0145.
    assert np.abs(np.bincount(seen) / len(seen) - expected).max() < 0.0145


@pytest.mark.parametrize("size", [3, 128, 300])
def test_every_token_of_a_whole_vocabulary_is_drawn_as_often_as_it_is_likely(size: int) -> None:
    logits = np.random.default_rng(4).standard_normal(size).astype(np.float32)
    expected = np.exp(logits.astype(np.float64))
    expected /= expected.sum()
    seen = draws(SamplingParameters(top_k=0, top_p=1.0, seed=5), logits, 20_000)
    deviation = np.sqrt(expected * (1 - expected) / len(seen))
    assert np.abs(np.bincount(seen, minlength=size) / len(seen) - expected).max() < (
        5 * deviation.max()
    )


@pytest.mark.parametrize(
    "parameters",
    [
        SamplingParameters(temperature=0.0),
        SamplingParameters(seed=1),
        SamplingParameters(temperature=0.7, top_k=0, top_p=0.95, seed=1),
        SamplingParameters(top_k=0, top_p=1.0, seed=1),
    ],
)
def test_a_row_is_drawn_in_company_as_it_is_alone(parameters: SamplingParameters) -> None:
    logits = np.random.default_rng(6).standard_normal((7, 1000)).astype(np.float32) * 3
    together = StepLogits(logits)
    for row in range(len(logits)):
        alone = Sampler(parameters).sample(StepLogits(logits[row : row + 1].copy()), 0)
        assert Sampler(parameters).sample(together, row) == alone


def test_a_seed_repeats_its_draws_and_another_does_not() -> None:
    logits = np.zeros(1000, np.float32)
    first = SamplingParameters(top_k=0, top_p=1.0, seed=7)
    other = SamplingParameters(top_k=0, top_p=1.0, seed=8)
    assert draws(first, logits) == draws(first, logits)
    assert draws(first, logits) != draws(other, logits)
    unseeded = SamplingParameters(top_k=0, top_p=1.0)
    assert draws(unseeded, logits) != draws(unseeded, logits)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_without_a_finite_maximum_are_refused(value: float) -> None:
    with pytest.raises(FloatingPointError):
        draws(SamplingParameters(), np.array([0.0, value], np.float32))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 1.1),
        ("top_p", float("nan")),
        ("seed", -1),
    ],
)
def test_a_parameter_out_of_range_is_named(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=field):
        SamplingParameters(**{field: value})  # type: ignore[arg-type]
