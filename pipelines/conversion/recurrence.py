"""Recurrent layers as nodes."""

from pipelines.conversion.architectures import ShortConvolution
from pipelines.conversion.nodes import Nodes
from pipelines.conversion.pools import States


def short_convolution(
    nodes: Nodes, states: States, block: str, weights: ShortConvolution, hidden: str
) -> str:
    """What a gated convolution makes of a normed input, before its output matrix."""
    width, _ = weights.taps.shape
    parts = tuple(f"{block}.shortconv_{each}" for each in "bcx")
    nodes.split(
        nodes.linear(f"{block}.shortconv_in", weights.projection, hidden), parts, (width,) * 3
    )
    before, after, inner = parts
    gated = nodes.plain("Mul", f"{block}.shortconv_bx", before, inner)
    inputs, outputs, offset = states.next(block, weights.state_values)
    name = f"{block}.shortconv"
    nodes.node(
        "CausalConvolution",
        {"x": gated, "weight": nodes.vector(weights.taps), **inputs},
        {"y": name, **outputs},
        offset=offset,
    )
    return nodes.plain("Mul", f"{block}.shortconv_gated", after, name)
