"""Scaling of queries by position, for long contexts (Llama 4)."""

import numpy as np

from pipelines.conversion.architectures import QueryTemperature
from pipelines.conversion.nodes import Nodes
from runtime.interface import POSITIONS


def write_query_temperature(nodes: Nodes, temperature: QueryTemperature) -> None:
    """Write `temperature`, the factors [T, 1] of the queries by position p.

    They are 1 + scale * ln(1 + (p + offset) // length).
    """
    name = "temperature"
    position = nodes.cast(f"{name}.position", POSITIONS)
    if temperature.offset:
        offset = nodes.number(temperature.offset)
        position = nodes.plain("Add", f"{name}.offset", position, offset)
    lengths = nodes.plain("Div", f"{name}.lengths", position, nodes.number(temperature.length))
    whole = nodes.plain("Floor", f"{name}.whole", lengths)
    counted = nodes.plain("Add", f"{name}.counted", whole, nodes.number(1.0))
    logarithm = nodes.plain("Log", f"{name}.logarithm", counted)
    scaled = nodes.plain("Mul", f"{name}.scaled", logarithm, nodes.number(temperature.scale))
    factor = nodes.plain("Add", f"{name}.factor", scaled, nodes.number(1.0))
    column = nodes.stored(f"{name}.column", np.array([-1, 1], np.int64))
    nodes.plain("Reshape", name, factor, column)
