"""Reads the feed-forward of one block, dense or with experts."""

from typing import Literal

import numpy as np

from pipelines.conversion.architectures.architecture import Architecture, Routing
from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.expert_selection import expert_selection
from pipelines.conversion.architectures.spec import Experts, FeedForward, Linear, Xielu


class FeedForwards:
    """Reads the feed-forwards of a file's blocks. Used by one thread during describe."""

    def __init__(
        self, architecture: Architecture, keys: Keys, tensors: Tensors, *, width: int, layers: int
    ) -> None:
        """width: of the residual stream."""
        self.architecture = architecture
        self.keys = keys
        self.tensors = tensors
        self.width = width
        self.layers = layers

    def of(self, block: str) -> FeedForward | Experts:
        """Return what the block's tensors are; a family with experts may have dense layers."""
        routing = self.architecture.experts
        if routing is not None:
            self.keys.value("leading_dense_block_count")  # known from the tensors
        if routing is None or f"{block}.ffn_gate_inp.weight" not in self.tensors:
            return self.dense(block, "", self.hidden(block))
        tensors, width = self.tensors, self.width
        selection = expert_selection(self.keys, tensors, block, routing)
        count = selection.experts
        is_fused = f"{block}.ffn_gate_up_exps.weight" in tensors
        name_of_up = "ffn_gate_up_exps" if is_fused else "ffn_up_exps"
        rows_of_up = tensors.rows_of(f"{block}.{name_of_up}.weight")
        hidden = rows_of_up // 2 if is_fused else rows_of_up
        limit = self.limit(block, "swiglu_clamp_exp")
        latent = self.expert_latent(block)
        inner = latent[0].weight.rows if latent is not None else width
        shared = shared_gate = None
        if routing.beside == "dense" and f"{block}.ffn_up.weight" in tensors:
            shared = self.dense(block, "", self.hidden(block))
        elif f"{block}.ffn_up_shexp.weight" in tensors:
            rows = tensors.rows_of(f"{block}.ffn_up_shexp.weight")
            shared = self.dense(block, "_shexp", rows)
            if f"{block}.ffn_gate_inp_shexp.weight" in tensors:
                shared_gate = tensors.vector(f"{block}.ffn_gate_inp_shexp.weight", width)
        return Experts(
            router=tensors.linear(f"{block}.ffn_gate_inp", count, width),
            gate=tensors.stacked(f"{block}.ffn_gate_exps", count, hidden, inner)
            if self.architecture.gated and not is_fused
            else None,
            up=tensors.stacked(f"{block}.{name_of_up}", count, rows_of_up, inner),
            down=tensors.stacked(f"{block}.ffn_down_exps", count, inner, hidden),
            selection=selection,
            activation=routing.capped if limit and routing.capped != "none" else routing.activation,
            limit=limit,
            reads_stream=routing.reads_stream,
            scales_input=self.scales_input(routing, selection.used),
            shared=shared,
            blend=1.0 if shared is None else routing.blend,
            latent=latent,
            shared_gate=shared_gate,
        )

    def limit(self, block: str, key: str) -> float:
        """Return the limit of a layer's capped activation; 0 for none."""
        routing = self.architecture.experts
        if routing is None or routing.capped == "none" or self.keys.value(key) is None:
            return 0.0
        layer = int(block.removeprefix("blk."))
        return self.keys.numbers(f"{self.architecture.name}.{key}", self.layers)[layer]

    def expert_latent(self, block: str) -> tuple[Linear, Linear] | None:
        """Return the matrices before and after experts that are narrower than the model."""
        down, up = f"{block}.ffn_latent_down", f"{block}.ffn_latent_up"
        if f"{down}.weight" not in self.tensors:
            return None
        rows = self.tensors.rows_of(f"{down}.weight")
        return (
            self.tensors.linear(down, rows, self.width),
            self.tensors.linear(up, self.width, rows),
        )

    def scales_input(self, routing: Routing, used: int) -> bool:
        """Return whether an expert's weight scales its input; only with one expert per token."""
        if routing.scales_input and used != 1:
            self.keys.refuse("expert_used_count", f"is {used}, supported is 1")
        return routing.scales_input

    def hidden(self, block: str) -> int:
        """Return the hidden width of a dense feed-forward; 0 if the block has none."""
        if self.architecture.layered:
            index = int(block.removeprefix("blk."))
            return self.keys.counts("feed_forward_length", None, self.layers)[index]
        if self.architecture.feed_forward_length:
            return self.keys.count("feed_forward_length")
        return self.tensors.rows_of(f"{block}.ffn_up.weight")

    def dense(self, block: str, suffix: str, hidden: int) -> FeedForward:
        """Return gate, up and down; gate and up may be fused, and some families have no gate."""
        gate_up: tuple[Linear, ...]
        row = self.architecture
        limit = self.limit(block, "swiglu_clamp_shexp")
        if hidden == 0:
            self.keys.refuse("feed_forward_length", "is 0 in a layer that attends")
        if not row.gated:
            gate_up = (self.tensors.linear(f"{block}.ffn_up{suffix}", hidden, self.width),)
        elif row.fused_gate_up:
            gate_up = (self.tensors.linear(f"{block}.ffn_up{suffix}", 2 * hidden, self.width),)
        else:
            gate_up = (
                self.tensors.linear(f"{block}.ffn_gate{suffix}", hidden, self.width),
                self.tensors.linear(f"{block}.ffn_up{suffix}", hidden, self.width),
            )
        return FeedForward(
            gate_up,
            self.tensors.linear(f"{block}.ffn_down{suffix}", self.width, hidden),
            is_gated=row.gated,
            norm=self.tensors.vector(f"{block}.ffn_sub_norm.weight", hidden)
            if row.inner_norms
            else None,
            xielu=self.xielu(block) if row.activation == "xielu" else None,
            activation=self.own_activation(limit),
            limit=limit,
        )

    def own_activation(
        self, limit: float
    ) -> Literal["clamped_silu", "capped_silu", "silu_of_capped"] | None:
        """Return the activation of a feed-forward whose operator has no name for it."""
        row = self.architecture
        if row.activation == "clamped_silu":
            return "clamped_silu"
        if limit and row.experts is not None and row.experts.capped != "none":
            return row.experts.capped
        return None

    def xielu(self, block: str) -> Xielu:
        """Return the parameters of a layer's xIELU activation."""
        layer = int(block.removeprefix("blk."))
        positive, negative, linear, epsilon = (
            self.keys.numbers(f"xielu.{name}", self.layers)[layer]
            for name in ("alpha_p", "alpha_n", "beta", "eps")
        )
        return Xielu(softplus(positive), linear + softplus(negative), linear, epsilon)


def softplus(x: float) -> float:
    """Return ln(1 + e^x)."""
    return float(np.logaddexp(0.0, x))
