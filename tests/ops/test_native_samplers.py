"""The native samplers against their definition in NumPy, bit for bit, on every instruction set."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.sampling import AllowedLogits, SamplingParameters, StepLogits
from runtime.sampling.adjustments import Adjustments
from runtime.sampling.rows import Row, drawn, kept, template_of
from runtime.token_mask import TokenMask
from tests.runtime.exact_sampling import Left, row_of, weights_of
from tests.runtime.sampler_strategies import parameters_of_all_samplers, special_rows_of

AT_HAND = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIZES = st.sampled_from((1, 2, 63, 64, 65, 300, 1000, 5000))


@AT_HAND
@given(st.data())
def test_what_is_left_is_what_the_definition_leaves(
    instruction_set: str, data: st.DataObject
) -> None:
    logits = data.draw(special_rows_of(data.draw(SIZES)))
    wanted = data.draw(parameters_of_all_samplers())
    xtc = data.draw(st.sampled_from((0.0, 0.7)))
    tokens, weights = kept(row_of(logits, wanted, xtc=xtc))
    expected = Left(logits, wanted, xtc)
    assert tokens.tolist() == expected.tokens.tolist()
    assert weights.tolist() == expected.weights.tolist()


@AT_HAND
@given(st.data())
def test_the_token_is_the_one_that_the_definition_draws(
    instruction_set: str, data: st.DataObject
) -> None:
    """Few candidates are looked at first, so borders and draws lie far behind them as well."""
    logits = data.draw(special_rows_of(data.draw(SIZES)))
    wanted = data.draw(parameters_of_all_samplers())
    chance = data.draw(st.floats(0, 1, exclude_max=True))
    xtc = data.draw(st.sampled_from((0.0, 0.7)))
    (token,) = drawn([row_of(logits, wanted, chance, xtc)])
    assert token == expected_token(logits, wanted, chance, xtc)


@AT_HAND
@given(st.data())
def test_a_mask_and_changes_are_as_if_they_stood_in_the_logits(
    instruction_set: str, data: st.DataObject
) -> None:
    logits = data.draw(special_rows_of(data.draw(SIZES)))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    mask = random.random(data.draw(st.sampled_from((logits.size, logits.size + 9)))) < 0.7
    mask[0] = True
    wanted = data.draw(parameters_of_all_samplers())
    biases = random.permutation(logits.size)[:90].astype(np.int64)
    added = random.standard_normal(biases.size).astype(np.float32)
    biased = SamplingParameters(logit_bias=tuple(zip(biases.tolist(), added.tolist(), strict=True)))
    step = AllowedLogits(StepLogits(logits[np.newaxis]))
    step.allow(0, TokenMask.of(mask))
    row = Row(
        template_of(wanted, logits.size), step, 0, (0.4, 0.6), Adjustments(biased, (), frozenset())
    )
    changed = np.where(mask[: logits.size], logits, np.float32(-np.inf))
    changed[biases] += added
    assert drawn([row]) == [expected_token(changed, wanted, 0.4, 0.6)]
    assert kept(row)[0].tolist() == Left(changed, wanted, 0.6).tokens.tolist()


def test_the_sums_of_a_long_row_are_exact() -> None:
    """So the last of equal tokens that a mass reaches is known without an order of additions."""
    logits = np.log(np.random.default_rng(1).random(150_000)).astype(np.float32)
    order = np.argsort(-logits, kind="stable")
    sums = np.cumsum(weights_of(logits, 1.0)[order])
    for top_p in (0.1, 0.9, 0.999):
        tokens, _ = kept(row_of(logits, SamplingParameters(top_k=0, top_p=top_p)))
        assert tokens.tolist() == order[: 1 + (sums < top_p * sums[-1]).sum()].tolist()


def expected_token(
    logits: np.ndarray, wanted: SamplingParameters, chance: float, xtc: float
) -> int:
    """The definition's token; of all tokens one is drawn in the order of their ids."""
    if wanted.greedy:
        return int(logits.argmax())
    if wanted.draws_of_all and not 0 < wanted.top_k < logits.size:
        sums = np.cumsum(weights_of(logits, wanted.temperature))
        return int(((sums <= chance * sums[-1]) & (sums < sums[-1])).sum())
    return Left(logits, wanted, xtc).drawn(chance)
