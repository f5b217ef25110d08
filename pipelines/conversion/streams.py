"""Writes parallel residual streams as nodes (AltUp, arXiv 2301.13310; Gemma 3n).

The streams are [T, streams, C]. A layer predicts the next value of each, computes the
first, and corrects all of them by the error of that prediction.
"""

from collections.abc import Callable

import numpy as np

from pipelines.conversion.architectures import Linear, Norm, StreamMixing, Streams
from pipelines.conversion.nodes import Nodes


class StreamNodes:
    """Writes the operations on the streams. Used by one thread for one model."""

    def __init__(
        self,
        nodes: Nodes,
        streams: Streams,
        width: int,
        norm: Callable[[str, Norm, str], str],
    ) -> None:
        """norm: writes a norm without a residual."""
        self.nodes = nodes
        self.streams = streams
        self.count = streams.count
        self.width = width
        self.norm = norm

    def of(self, hidden: str) -> str:
        """Return the streams of an embedding."""
        nodes, others = self.nodes, self.count - 1
        repeated = nodes.joined("streams.repeated", *[hidden] * others, axis=1)
        added = self.as_long_as("streams.added", self.streams.projection, repeated, hidden)
        first = nodes.reshaped("streams.first", hidden, 1, self.width)
        return nodes.joined("streams", first, added, axis=1)

    def merged(self, streams: str) -> str:
        """Return the mean of the streams, each projected back to the first."""
        nodes, others = self.nodes, self.count - 1
        first, rest = self.parted("output", streams)
        flat = nodes.reshaped("output.rest.flat", rest, others * self.width)
        returned = self.as_long_as("output.added", self.streams.return_projection, flat, first)
        parts = tuple(f"output.added.{index}" for index in range(others))
        nodes.split(returned, parts, (1,) * others, axis=1)
        total = first
        for index, part in enumerate(parts):
            flat_part = nodes.reshaped(f"{part}.flat", part, self.width)
            total = nodes.plain("Add", f"output.total.{index}", total, flat_part)
        return nodes.scaled(total, 1 / self.count)

    def as_long_as(self, name: str, weights: Linear, hidden: str, like: str) -> str:
        """Return the projected streams, each scaled to the Euclidean length of `like`."""
        nodes, others = self.nodes, self.count - 1
        product = nodes.grouped(f"{name}.product", weights, hidden, others)
        product = nodes.reshaped(f"{name}.streams", product, others, self.width)
        like = nodes.reshaped(f"{name}.like", like, 1, self.width)
        wanted = self.length(f"{name}.wanted", like)
        scaled = nodes.plain("Mul", f"{name}.scaled", product, wanted)
        return nodes.plain("Div", name, scaled, self.length(f"{name}.length", product))

    def length(self, name: str, streams: str) -> str:
        """Return the Euclidean length of each row."""
        axis = self.nodes.stored("last.axis", np.array([-1], np.int64))
        return self.nodes.plain("ReduceL2", name, streams, axis)

    def parted(self, name: str, streams: str) -> tuple[str, str]:
        """Return the first stream [T, C] and the others [T, streams - 1, C]."""
        first, rest = f"{name}.first", f"{name}.rest"
        self.nodes.split(streams, (first, rest), (1, self.count - 1), axis=1)
        return self.nodes.reshaped(f"{first}.flat", first, self.width), rest

    def modalities(self, name: str, weights: StreamMixing, hidden: str) -> str:
        """Return the router's coefficients of a stream, [T, streams]."""
        nodes = self.nodes
        normed = self.norm(f"{name}.norm", weights.router_norm, hidden)
        routed = nodes.linear(
            f"{name}.router", weights.router, nodes.scaled(normed, 1 / self.width)
        )
        return nodes.plain("Tanh", f"{name}.modalities", routed)

    def predicted(self, block: str, weights: StreamMixing, streams: str) -> tuple[str, str]:
        """Return predictions of all streams, and that of the first [T, C]."""
        nodes, name = self.nodes, f"{block}.altup_predict"
        first, _ = self.parted(f"{name}.before", streams)
        modalities = self.modalities(name, weights, first)
        flat = nodes.linear(f"{name}.coefficients", weights.prediction, modalities)
        coefficients = nodes.reshaped(f"{name}.matrix", flat, self.count, self.count)
        mixed = nodes.plain("MatMul", f"{name}.mixed", coefficients, streams)
        predictions = nodes.plain("Add", name, mixed, streams)
        return predictions, self.parted(name, predictions)[0]

    def corrected(
        self, block: str, weights: StreamMixing, predictions: str, active: str, computed: str
    ) -> str:
        """Return all streams, corrected by the error of the first one's prediction."""
        nodes, name = self.nodes, f"{block}.altup_correct"
        modalities = self.modalities(name, weights, computed)
        coefficients = nodes.linear(f"{name}.coefficients", weights.correction, modalities)
        coefficients = nodes.plain("Add", f"{name}.shares", coefficients, nodes.number(1.0))
        coefficients = nodes.reshaped(f"{name}.column", coefficients, self.count, 1)
        innovation = nodes.plain("Sub", f"{name}.innovation", computed, active)
        innovation = nodes.reshaped(f"{name}.innovation.row", innovation, 1, self.width)
        change = nodes.plain("Mul", f"{name}.change", innovation, coefficients)
        return nodes.plain("Add", name, change, predictions)

    def bypassed(self, block: str, weights: StreamMixing, normed: str) -> str:
        """Return norm(right(left(x))) + x."""
        nodes, name = self.nodes, f"{block}.laurel"
        narrow = nodes.linear(f"{name}_l", weights.left, normed)
        wide = nodes.linear(f"{name}_r", weights.right, narrow)
        return nodes.plain(
            "Add", name, self.norm(f"{name}_norm", weights.bypass_norm, wide), normed
        )

    def with_input(self, block: str, streams: str, added: str) -> str:
        """Return the streams with `added` added to all but the first."""
        nodes, name = self.nodes, f"{block}.streams"
        first, rest = self.parted(name, streams)
        row = nodes.reshaped(f"{name}.input", added, 1, self.width)
        rest = nodes.plain("Add", f"{name}.rest.added", rest, row)
        first = nodes.reshaped(f"{name}.first.row", first, 1, self.width)
        return nodes.joined(name, first, rest, axis=1)
