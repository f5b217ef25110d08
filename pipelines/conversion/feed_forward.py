"""Feed-forward blocks as nodes: dense or with experts, gated or not."""

import numpy as np

from pipelines.conversion.architectures import Experts, FeedForward, Linear, ModelSpec, Xielu
from pipelines.conversion.nodes import Nodes

CLAMP_LIMIT, CLAMP_SLOPE = 7.0, 1.702
"""Of gpt-oss's activation."""


class FeedForwardNodes:
    """Writes the feed-forward of one block after the other. Used by one thread for one model."""

    def __init__(self, nodes: Nodes, spec: ModelSpec) -> None:
        self.nodes = nodes
        self.spec = spec

    def of(self, block: str, weights: FeedForward | Experts, hidden: str, stream: str) -> str:
        """Write a block's feed-forward of a normed input; return its output [T, C], scaled.

        stream: the residual stream before the block.
        """
        if isinstance(weights, FeedForward):
            fed = self.dense(f"{block}.ffn", weights, hidden)
        else:
            fed = self.experts(f"{block}.ffn", weights, hidden, stream)
        return self.nodes.scaled(fed, self.spec.residual_scale)

    def dense(self, name: str, weights: FeedForward, hidden: str, cutoff: float = 0.0) -> str:
        """Write a feed-forward whose nodes are called `name`_gate, `name`_up and so on.

        cutoff: standard deviations above its row's mean from which a gate is open; 0: no cutoff.
        """
        if not weights.is_gated:
            return self.ungated(name, weights, hidden)
        gate, up, gated = f"{name}_gate", f"{name}_up", f"{name}_act"
        if len(weights.gate_up) == 1:
            fused = self.nodes.linear(f"{name}_gate_up", weights.gate_up[0], hidden)
            self.nodes.split(fused, (gate, up), (weights.gate_up[0].weight.rows // 2,) * 2)
        else:
            for each, linear in zip((gate, up), weights.gate_up, strict=True):
                self.nodes.linear(each, linear, hidden)
        opened = gate
        if cutoff:
            opened = self.above_cutoff(gate, weights.down.weight.columns, cutoff)
        if weights.activation is not None:
            self.bounded(gated, weights, opened, up)
        else:
            self.nodes.node(
                "GatedActivation",
                {"gate": opened, "up": up},
                {"y": gated},
                activation=self.spec.activation,
            )
        if weights.norm is not None:
            norm = self.nodes.vector(weights.norm)
            gated = self.nodes.rms_norm(f"{name}_sub_norm", gated, norm)
        return self.nodes.linear(f"{name}_down", weights.down, gated)

    def bounded(self, name: str, weights: FeedForward, gate: str, up: str) -> str:
        """Write an activation whose operands are bounded: see MixtureOfExperts for the formulas."""
        nodes, is_clamped = self.nodes, weights.activation == "clamped_silu"
        limit = CLAMP_LIMIT if is_clamped else weights.limit
        most = nodes.number(limit)
        up = nodes.plain("Clip", f"{up}.bounded", up, nodes.number(-limit), most)
        if weights.activation != "capped_silu":
            gate = nodes.plain("Min", f"{gate}.bounded", gate, most)
        slope = CLAMP_SLOPE if is_clamped else 1.0
        share = nodes.plain("Sigmoid", f"{gate}.share", nodes.scaled(gate, slope))
        opened = nodes.plain("Mul", f"{gate}.opened", gate, share)
        if weights.activation == "capped_silu":
            opened = nodes.plain("Min", f"{gate}.capped", opened, most)
        if is_clamped:
            up = nodes.plain("Add", f"{up}.raised", up, nodes.number(1.0))
        return nodes.plain("Mul", name, opened, up)

    def ungated(self, name: str, weights: FeedForward, hidden: str) -> str:
        """Write a feed-forward without a gate."""
        up, activated = f"{name}_up", f"{name}_act"
        (linear,) = weights.gate_up
        self.nodes.linear(up, linear, hidden)
        if weights.xielu is not None:
            self.xielu(activated, weights.xielu, up)
        elif self.spec.activation == "relu_squared":
            positive = self.nodes.plain("Relu", f"{name}_relu", up)
            self.nodes.plain("Mul", activated, positive, positive)
        else:
            self.nodes.node(
                "GatedActivation",
                {"gate": up, "up": self.nodes.ones_like(up)},
                {"y": activated},
                activation=self.spec.activation,
            )
        return self.nodes.linear(f"{name}_down", weights.down, activated)

    def xielu(self, name: str, curve: Xielu, hidden: str) -> str:
        """Write that activation: a square of what is positive, an exponential of the rest, a line.

        Where x is positive the exponential is that of epsilon, some -1e-6, in place of 0.
        """
        nodes = self.nodes
        positive = nodes.plain("Relu", f"{name}.positive", hidden)
        square = nodes.plain("Mul", f"{name}.square", positive, positive)
        square = nodes.plain("Mul", f"{name}.curved", square, nodes.number(curve.positive))
        negative = nodes.plain("Min", f"{name}.negative", hidden, nodes.number(0.0))
        bounded = nodes.plain("Min", f"{name}.bounded", negative, nodes.number(curve.epsilon))
        power = nodes.plain("Exp", f"{name}.power", bounded)
        power = nodes.plain("Sub", f"{name}.less_one", power, nodes.number(1.0))
        below = nodes.plain("Sub", f"{name}.below", power, negative)
        below = nodes.plain("Mul", f"{name}.bent", below, nodes.number(curve.negative))
        line = nodes.plain("Mul", f"{name}.line", hidden, nodes.number(curve.linear))
        both = nodes.plain("Add", f"{name}.both", square, below)
        return nodes.plain("Add", name, both, line)

    def above_cutoff(self, gate: str, hidden: int, cutoff: float) -> str:
        """Write max(gate - (mean + cutoff * deviation), 0) of each row (Gemma 3n).

        hidden: columns of the row, of which the deviation is taken.
        """
        axis = self.nodes.stored("last.axis", np.array([-1], np.int64))
        mean = self.nodes.plain("ReduceMean", f"{gate}.mean", gate, axis)
        apart = self.nodes.plain("Sub", f"{gate}.apart", gate, mean)
        squares = self.nodes.plain("ReduceSumSquare", f"{gate}.squares", apart, axis)
        variance = self.nodes.plain(
            "Mul", f"{gate}.variance", squares, self.nodes.number(1 / (hidden - 1))
        )
        deviation = self.nodes.plain("Sqrt", f"{gate}.deviation", variance)
        far = self.nodes.plain("Mul", f"{gate}.far", deviation, self.nodes.number(cutoff))
        bound = self.nodes.plain("Add", f"{gate}.bound", mean, far)
        return self.nodes.plain(
            "Relu", f"{gate}.opened", self.nodes.plain("Sub", f"{gate}.above", gate, bound)
        )

    def experts(self, name: str, weights: Experts, hidden: str, stream: str) -> str:
        """Write the selected experts, plus the shared one if there is one."""
        judged = stream if weights.reads_stream else hidden
        router = self.nodes.linear(f"{name}_router", weights.router, judged)
        matrices = {"up": weights.up, "down": weights.down}
        if weights.gate is not None:
            matrices = {"gate": weights.gate, **matrices}
        selection = weights.selection
        read = self.times_share(name, hidden, router) if weights.scales_input else hidden
        if weights.latent is not None:
            read = self.nodes.linear(f"{name}_latent", weights.latent[0], hidden)
        inputs = {"x": read, "router": router}
        inputs |= {port: self.nodes.blocks(each.weight) for port, each in matrices.items()}
        vectors = {f"{port}_bias": each.bias for port, each in matrices.items()}
        vectors["selection_bias"] = selection.selection_bias
        vectors |= {f"{port}_scale": each.scale for port, each in matrices.items()}
        if weights.gate is None and weights.activation != "relu_squared":
            vectors["gate_scale"] = weights.up.scale
        inputs |= {port: self.nodes.vector(each) for port, each in vectors.items() if each}
        fed = f"{name}_experts"
        self.nodes.node(
            "MixtureOfExperts",
            inputs,
            {"y": fed},
            columns=weights.up.weight.columns,
            hidden=weights.down.weight.columns,
            formats=" ".join(each.weight.format for each in matrices.values()),
            used=selection.used,
            gating=selection.gating,
            renormalize=int(selection.renormalized),
            groups=selection.groups,
            groups_used=selection.groups_used,
            scale=selection.scale,
            activation=weights.activation,
            limit=weights.limit,
        )
        if weights.latent is not None:
            fed = self.nodes.linear(f"{name}_wide", weights.latent[1], fed)
        if weights.shared is None:
            return fed
        shared = self.dense(f"{name}_shared", weights.shared, hidden)
        if weights.shared_gate is not None:
            gate = self.nodes.linear(
                f"{name}_shared_gate_logit", Linear(weights.shared_gate, None), hidden
            )
            opened = self.nodes.plain("Sigmoid", f"{name}_shared_gate_open", gate)
            shared = self.nodes.plain("Mul", f"{name}_shared_gated", shared, opened)
        both = self.nodes.plain("Add", f"{name}_answers", fed, shared)
        return self.nodes.scaled(both, weights.blend)

    def times_share(self, name: str, hidden: str, router: str) -> str:
        """Write the input times the sigmoid of the only expert's logit (Llama 4)."""
        axis = self.nodes.stored("router.axis", np.array([1], np.int64))
        largest = self.nodes.plain("ReduceMax", f"{name}_router_largest", router, axis)
        share = self.nodes.plain("Sigmoid", f"{name}_router_share", largest)
        return self.nodes.plain("Mul", f"{name}_router_shared", hidden, share)
