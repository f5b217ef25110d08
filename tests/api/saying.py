"""A served model whose answer a test has written: a real engine whose logits are replaced."""

from collections.abc import Callable

import numpy as np

from runtime.sampling.logits import Logits, StepLogits
from runtime.step import StepInputs
from tests.api.serving import Serving

Says = Callable[..., Serving]
TEMPLATE = (
    "{#<tool_call>#}{% if tools %}T{% endif %}{{ messages[-1].content }}"
    "{% if open is defined %}<think>{% endif %}"
)
"""Short, and of the Hermes format."""
END = 2
"""The token that ends an answer."""


def saying(tokens: list[int]) -> Callable[[StepInputs, Callable[[StepInputs], Logits]], Logits]:
    """Steps whose likeliest tokens are these, for the one request there is."""
    first: list[int] = []

    def step(inputs: StepInputs, compute: Callable[[StepInputs], Logits]) -> Logits:
        logits = compute(inputs)
        assert isinstance(logits, StepLogits)
        values = np.zeros_like(logits.values)
        for row, token in enumerate(inputs.logit_rows):
            place = int(inputs.positions[token])
            first[:] = first or [place]
            said = place - first[0]
            values[row, tokens[said] if said < len(tokens) else END] = 1
        return StepLogits(values)

    return step
