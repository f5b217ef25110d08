import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.errors import InvalidRequest
from runtime.sampling import (
    MIN_TEMPERATURE,
    AllowedLogits,
    RowMemory,
    Sampler,
    SamplingParameters,
    StepLogits,
    sample,
)
from runtime.sampling.rows import drawn
from runtime.token_mask import TokenMask
from tests.runtime.exact_sampling import row_of
from tests.runtime.sampler_strategies import parameters_of_all_samplers, rows_of
from tests.runtime.sampling_definition import kept

LARGEST = float(np.finfo(np.float32).max)
BORDER_LOGITS = (0.0, -0.0, 1.0, 1e-45, MIN_TEMPERATURE, 1e30, LARGEST, -LARGEST, -np.inf)
BORDER_TEMPERATURES = (0.0, 5e-324, 7e-46, 1e-45, 1e-40, 1.17e-38, MIN_TEMPERATURE, 1e-30, 2.0)
BORDER_SHARES = (0.0, 5e-324, 1e-300, 1e-45, 1e-7, 0.5, 1 - 2**-24, 1 - 2**-53, 1.0)

logit_rows = arrays(np.float32, st.integers(1, 60), elements=st.floats(-20, 20, width=32))


def draws(parameters: SamplingParameters, logits: np.ndarray, count: int = 200) -> list[int]:
    sampler, rows = Sampler(parameters), StepLogits(logits[np.newaxis])
    found = sample([(sampler, rows, 0)] * count)
    for token in found:
        if isinstance(token, BaseException):
            raise token
    return [token for token in found if isinstance(token, int)]


@given(logit_rows)
def test_temperature_zero_takes_the_likeliest_lowest_token(logits: np.ndarray) -> None:
    assert draws(SamplingParameters(temperature=0.0), logits, 3) == [int(np.argmax(logits))] * 3


@given(logit_rows, st.integers(1, 8))
def test_top_k_draws_only_from_the_k_likeliest(logits: np.ndarray, top_k: int) -> None:
    kept = set(np.argsort(-logits, kind="stable")[:top_k].tolist())
    parameters = SamplingParameters(top_k=top_k, top_p=1.0, seed=1)
    assert set(draws(parameters, logits, 50)) <= kept


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
    found = draws(parameters, logits, 4)
    if parameters.greedy:
        assert found == [int(np.argmax(logits))] * 4
        return
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    kept = np.argsort(-logits, kind="stable")[: top_k or logits.size]
    total = weights[kept].sum()
    for token in found:
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


def test_a_token_without_weight_is_never_drawn() -> None:
    logits = np.full(300, -30.0, np.float32)
    logits[:126] = np.log(np.random.default_rng(6).random(126))
    for min_p in (0.0, 1e-30):
        wanted = SamplingParameters(top_k=0, top_p=1.0, min_p=min_p)
        (token,) = drawn([row_of(logits, wanted, chance=1 - 2**-53)])
        assert isinstance(token, int)
        assert 0 <= token < 126


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


@settings(max_examples=300)
@given(st.data())
def test_tokens_are_those_of_the_definition(data: st.DataObject) -> None:
    """A draw's chance lies where the definition's sums have the token, but for rounding."""
    wanted = data.draw(parameters_of_all_samplers())
    logits = data.draw(rows_of(data.draw(st.sampled_from((2, 30, 300, 700)))))
    token = Sampler(wanted).sample(StepLogits(logits[np.newaxis]), 0)
    generator = np.random.default_rng(wanted.seed)
    draw = generator.random()
    chance = generator.random() if wanted.leaves_out_likely else 0.0
    allowed = set()
    for slack in (0.0, 1e-5, -1e-5):
        likeliest = kept(logits.tolist(), wanted, chance, slack)
        if wanted.draws_of_all and not 0 < wanted.top_k < logits.size:
            likeliest.sort()  # of all tokens one is drawn in the order of their ids
        tokens, shares = zip(*likeliest, strict=True)
        ends = np.cumsum(shares)
        first, last = np.searchsorted(ends, (draw - 1e-4, draw + 1e-4), side="right")
        allowed |= set(tokens[first : last + 1])
    assert wanted.greedy or token in allowed


@settings(max_examples=100)
@given(st.data())
def test_a_row_is_drawn_in_company_as_it_is_alone(data: st.DataObject) -> None:
    size = 700
    wanted = data.draw(st.lists(parameters_of_all_samplers(), min_size=2, max_size=9))
    wanted = [
        dataclasses.replace(each, repetition_penalty=1.3) if index % 3 == 1 else each
        for index, each in enumerate(wanted)
    ]
    logits = np.stack([data.draw(rows_of(size)) for _ in wanted])
    prompt = list(range(0, 90, 3))
    step = StepLogits(logits)
    together = sample([(Sampler(each, prompt), step, row) for row, each in enumerate(wanted)])
    for row, each in enumerate(wanted):
        alone = StepLogits(logits[row : row + 1].copy())
        assert Sampler(each, prompt).sample(alone, 0) == together[row]


@given(rows_of(700), st.sets(st.integers(0, 720), min_size=1), st.integers(0, 50), st.booleans())
def test_of_allowed_tokens_those_are_drawn_that_minus_infinity_elsewhere_gives(
    logits: np.ndarray, allowed: set[int], seed: int, penalized: bool
) -> None:
    mask = np.isin(np.arange(720), sorted(allowed))
    mask[5] = True
    elsewhere = np.where(mask[:700], logits, np.float32(-np.inf))
    for fields in ({}, {"top_k": 0}, {"top_k": 0, "top_p": 1.0}, {"temperature": 0.0}):
        penalty = 1.5 if penalized else 1.0
        wanted = SamplingParameters(seed=seed, repetition_penalty=penalty, **fields)
        prompt = [5, 5, *sorted(allowed & set(range(700)))[:20]]
        masked = AllowedLogits(StepLogits(logits[np.newaxis]))
        masked.allow(0, TokenMask.of(mask))
        expected = Sampler(wanted, prompt).sample(StepLogits(elsewhere[np.newaxis]), 0)
        assert Sampler(wanted, prompt).sample(masked, 0) == expected


@given(st.lists(rows_of(200), min_size=3, max_size=3), st.data())
def test_rows_with_and_without_a_mask_are_sampled_together(
    rows: list[np.ndarray], data: st.DataObject
) -> None:
    tokens = data.draw(st.sets(st.integers(0, 149), min_size=1))
    shorter = np.isin(np.arange(150), sorted(tokens))
    step = AllowedLogits(StepLogits(np.stack(rows)))
    step.allow(1, TokenMask.of(shorter))
    rows[1] = np.where(np.isin(np.arange(200), sorted(tokens)), rows[1], np.float32(-np.inf))
    for fields in ({}, {"top_k": 5}, {"top_k": 0, "top_p": 1.0}, {"temperature": 0.0}):
        wanted = SamplingParameters(seed=3, **fields)
        together = sample([(Sampler(wanted), step, row) for row in range(3)])
        alone = [Sampler(wanted).sample(StepLogits(row[np.newaxis]), 0) for row in rows]
        assert together == alone


def test_what_goes_wrong_with_one_row_ends_that_row_alone() -> None:
    logits = np.zeros((3, 50), np.float32)
    logits[1] = np.nan
    biased = SamplingParameters(temperature=0.0, min_tokens=1)
    everything = frozenset(range(50))
    step = StepLogits(logits)
    found = sample(
        [
            (Sampler(SamplingParameters(seed=1)), step, 0),
            (Sampler(SamplingParameters(seed=1)), step, 1),
            (Sampler(biased, ends=everything), step, 2),
        ]
    )
    assert isinstance(found[0], int)
    assert [type(token) for token in found[1:]] == [FloatingPointError] * 2


class ElsewhereLogits(StepLogits):
    """Logits of which only the likeliest is known; those of row 1 cannot be fetched."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(values)
        self._tokens = np.array(self.likeliest, np.int64)
        self._largest = values.max(axis=1)

    def row(self, row: int) -> np.ndarray:
        if row == 1:
            raise OSError("the device is gone")
        return super().row(row)

    def memory(self, row: int) -> RowMemory:
        known = self._tokens[row:].ctypes.data, self._largest[row:].ctypes.data, 1
        return RowMemory(0, 0, self.vocabulary_size, *known)


def test_logits_that_are_elsewhere_are_fetched_only_if_known_ones_do_not_suffice() -> None:
    values = np.random.default_rng(1).standard_normal((3, 50)).astype(np.float32)
    elsewhere = ElsewhereLogits(values)
    one = SamplingParameters(seed=1, top_k=1, typical_p=0.5)
    assert sample([(Sampler(one), elsewhere, row) for row in range(3)]) == elsewhere.likeliest
    all_ = SamplingParameters(seed=1, top_k=0)
    found = sample([(Sampler(all_), elsewhere, row) for row in range(3)])
    here = sample([(Sampler(all_), StepLogits(values), row) for row in range(3)])
    assert [found[0], found[2]] == [here[0], here[2]]
    assert isinstance(found[1], OSError)


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


@pytest.mark.parametrize(
    "fields",
    [
        {"typical_p": 0.25, "top_p": 0.5},
        {"typical_p": 0.25, "min_p": 0.9},
        {"xtc_probability": 1.0, "xtc_threshold": 0.001, "temperature": 0.0},
        {"dynatemp_range": 1.0, "temperature": 0.5},
    ],
)
def test_what_the_first_candidates_do_not_settle_is_found_among_more(
    fields: dict[str, float],
) -> None:
    """Of 3,000 tokens many are equal, so that the rules' borders lie behind the first ones."""
    logits = np.round(np.random.default_rng(0).standard_normal(3000)).astype(np.float32)
    wanted = SamplingParameters(**{"top_k": 0, "top_p": 1.0, "seed": 0, **fields})  # type: ignore[arg-type]
    allowed = {token for token, _ in kept(logits.tolist(), wanted, 0.0, 1e-5)}
    assert set(draws(wanted, logits, 100)) <= allowed
