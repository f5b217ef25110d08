"""How far logits may be from the exact model's, by the block formats of a file.

docs/exactness.md has the measurements that these limits follow from, of every format and of every
architecture in two formats; tests/pipelines/test_exactness.py compares both.
"""

from collections.abc import Mapping

FLOAT_FORMATS = frozenset({"F32", "F16", "BF16"})
SIMPLE_FORMATS = frozenset(
    {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4", "NVFP4", "Q1_0"}
)

OF_FLOATS = 0.001
"""Mean KL divergence, nats per token. Nothing is rounded: at most 7e-7 were measured, in sums of
another order."""
OF_SIMPLE = 0.05
"""Formats with one scale a block. Rounding activations to 8 bits, as llama.cpp does, costs 0.001 in
llama's architecture and in a trained model of 135 M; of 84 dense architectures at most 0.02."""
OF_SUPER_BLOCKS = 0.12
"""Formats with scales of scales. The same costs up to 0.004 in llama's architecture, where random
weights are further apart; of 83 dense architectures at most 0.053."""
OF_EXPERTS = 0.5
"""Models with experts: where two of them are nearly as good, rounding may choose the other, which
is no error. At most 0.15 were measured."""
OF_FLOAT_EXPERTS = 0.05
"""The same without rounding, where sums of another order choose in a tie."""

LEAST_SHARE = 0.01
"""Share of the bytes from which a format counts."""


def most_divergence(block_formats: Mapping[str, int], *, has_experts: bool) -> float:
    """Return the allowed mean divergence, nats per token: that of the format which costs most.

    block_formats: bytes of weights in each format.
    """
    total = sum(block_formats.values())
    used = {name for name, size in block_formats.items() if size >= LEAST_SHARE * total}
    if used <= FLOAT_FORMATS:
        return OF_FLOAT_EXPERTS if has_experts else OF_FLOATS
    if has_experts:
        return OF_EXPERTS
    return OF_SIMPLE if used <= FLOAT_FORMATS | SIMPLE_FORMATS else OF_SUPER_BLOCKS
