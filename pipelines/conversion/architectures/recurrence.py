"""Recurrent layers as files describe them."""

from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.spec import ShortConvolution


def short_convolution(keys: Keys, tensors: Tensors, block: str, width: int) -> ShortConvolution:
    """The gated convolution of one block (LFM2)."""
    taps = keys.count("shortconv.l_cache")
    if taps < 2:
        keys.fail("shortconv.l_cache", f"is {taps}, which keeps nothing")
    return ShortConvolution(
        projection=tensors.linear(f"{block}.shortconv.in_proj", 3 * width, width),
        taps=tensors.table(f"{block}.shortconv.conv.weight", width, taps),
    )
