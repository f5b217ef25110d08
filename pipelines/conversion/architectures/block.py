"""The tensors of one block -> Layer."""

from pipelines.conversion.architectures.architecture import Architecture
from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.expert_selection import expert_selection
from pipelines.conversion.architectures.latent import LatentShape
from pipelines.conversion.architectures.recurrence import recurrence_of
from pipelines.conversion.architectures.spec import (
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    Linear,
    Norm,
    Rotary,
)
from runtime.gguf import TensorInfo


class Blocks:
    """Reads the tensors of each block of a file. Used by one thread during describe."""

    def __init__(
        self,
        architecture: Architecture,
        keys: Keys,
        tensors: Tensors,
        *,
        width: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        latent: LatentShape | None,
        is_parallel: bool,
    ) -> None:
        """Take the widths that all blocks have."""
        self.architecture = architecture
        self.keys = keys
        self.tensors = tensors
        self.width = width
        self.heads = heads
        self.kv_heads = kv_heads
        self.head_dim = head_dim
        self.latent = latent
        self.is_parallel = is_parallel

    def layer(self, block: str, rotary: Rotary, window: int) -> Layer:
        """One block, with the norms that its family has."""
        row = self.architecture
        query_norm, key_norm = self.query_key_norms(block)
        before, after = row.norms != "after", row.norms in ("after", "both")
        attention_norm, feed_forward_norm = self.input_norms(block)
        return Layer(
            attention_norm=attention_norm if before else None,
            query_key_value=self.query_key_value(block),
            query_norm=query_norm,
            key_norm=key_norm,
            sinks=self.tensors.vector(f"{block}.attn_sinks.weight", self.heads)
            if row.sinks
            else None,
            gate=self.gate(block) if row.attention_gate else None,
            has_query_gate=row.query_gate,
            attention_output=self.tensors.linear(
                f"{block}.attn_output", self.width, self.heads * self.value_dim
            ),
            attention_output_norm=self.norm(f"{block}.{row.attention_output_norm}")
            if after
            else None,
            feed_forward_norm=feed_forward_norm,
            feed_forward=self.feed_forward_or_experts(block),
            feed_forward_output_norm=self.norm(f"{block}.{row.feed_forward_output_norm}")
            if after
            else None,
            rotary=rotary,
            window=window,
        )

    def recurrent_layer(self, block: str, rotary: Rotary) -> Layer:
        """One block without attention."""
        attention_norm, feed_forward_norm = self.input_norms(block)
        recurrence, output = recurrence_of(
            self.keys, self.tensors, self.architecture, block, self.width
        )
        return Layer(
            attention_norm=attention_norm,
            query_key_value=(),
            query_norm=None,
            key_norm=None,
            sinks=None,
            recurrence=recurrence,
            attention_output=output,
            attention_output_norm=None,
            feed_forward_norm=feed_forward_norm,
            feed_forward=self.feed_forward_or_experts(block),
            feed_forward_output_norm=None,
            rotary=rotary,
            window=0,
        )

    def norm(self, name: str) -> Norm:
        """A norm over whole rows, with a bias where the file has one."""
        if not self.architecture.norm_weights:
            return Norm(None)
        bias = f"{name}.bias"
        return Norm(
            self.tensors.vector(f"{name}.weight", self.width),
            self.tensors.vector(bias, self.width) if bias in self.tensors else None,
        )

    def input_norms(self, block: str) -> tuple[Norm | None, Norm | None]:
        """Of the inputs of attention and feed-forward."""
        row = self.architecture
        if row.norms == "after":
            return None, None
        first, second = f"{block}.{row.attention_norm}", f"{block}.{row.feed_forward_norm}"
        if self.is_parallel:
            # One norm for both may have the name of either.
            for one, other in ((first, second), (second, first)):
                if f"{other}.weight" not in self.tensors:
                    return self.norm(one), None
        return self.norm(first), self.norm(second)

    def query_key_norms(self, block: str) -> tuple[TensorInfo | None, TensorInfo | None]:
        """Of queries and keys, where the family or this file has such."""
        row = self.architecture
        is_missing = f"{block}.attn_q_norm.weight" not in self.tensors
        if row.query_key_norm == "none" or (row.query_key_norm_optional and is_missing):
            return None, None
        return (
            self.head_norm(f"{block}.attn_q_norm.weight", self.heads),
            self.head_norm(f"{block}.attn_k_norm.weight", self.kv_heads),
        )

    def head_norm(self, name: str, heads: int) -> TensorInfo:
        """A norm per head, or one over the heads together; after the rotation only the first."""
        if self.architecture.query_key_norm == "after":
            self.tensors.folded.add(name)
            return self.tensors.vector(name, self.head_dim)
        return self.tensors.vector(name, self.head_dim, heads * self.head_dim)

    @property
    def value_dim(self) -> int:
        """Width of what a head answers."""
        return self.head_dim if self.latent is None else self.latent.value

    def gate(self, block: str) -> Linear:
        """A factor for each value of the heads' answers, or one for each head."""
        name = f"{block}.attn_gate"
        rows = self.tensors.rows_of(f"{name}.weight")
        is_by_head = rows == self.heads
        return self.tensors.linear(
            name, self.heads if is_by_head else self.heads * self.value_dim, self.width
        )

    def query_key_value(self, block: str) -> tuple[Linear, ...] | LatentAttention:
        """Three matrices, or `attn_qkv` with the rows of all."""
        if self.latent is not None:
            return self.latent.read(self.tensors, block, self.width)
        query, each = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.architecture.query_gate:
            query *= 2
        if f"{block}.attn_qkv.weight" in self.tensors:
            return (self.tensors.linear(f"{block}.attn_qkv", query + 2 * each, self.width),)
        return (
            self.tensors.linear(f"{block}.attn_q", query, self.width),
            self.tensors.linear(f"{block}.attn_k", each, self.width),
            self.tensors.linear(f"{block}.attn_v", each, self.width),
        )

    def feed_forward_or_experts(self, block: str) -> FeedForward | Experts:
        """What the tensors of the block say; a family with experts has dense layers too."""
        routing = self.architecture.experts
        if routing is not None:
            self.keys.value("leading_dense_block_count")  # the tensors say it too
        if routing is None or f"{block}.ffn_gate_inp.weight" not in self.tensors:
            return self.feed_forward(block, "", self.hidden(block))
        tensors, width = self.tensors, self.width
        selection = expert_selection(self.keys, tensors, block, routing)
        count = selection.experts
        hidden = tensors.rows_of(f"{block}.ffn_gate_exps.weight")
        shared = shared_gate = None
        if f"{block}.ffn_up_shexp.weight" in tensors:
            rows = tensors.rows_of(f"{block}.ffn_up_shexp.weight")
            shared = self.feed_forward(block, "_shexp", rows)
            if f"{block}.ffn_gate_inp_shexp.weight" in tensors:
                shared_gate = tensors.vector(f"{block}.ffn_gate_inp_shexp.weight", width)
        return Experts(
            router=tensors.linear(f"{block}.ffn_gate_inp", count, width),
            gate=tensors.stacked(f"{block}.ffn_gate_exps", count, hidden, width),
            up=tensors.stacked(f"{block}.ffn_up_exps", count, hidden, width),
            down=tensors.stacked(f"{block}.ffn_down_exps", count, width, hidden),
            selection=selection,
            activation=routing.activation,
            shared=shared,
            shared_gate=shared_gate,
        )

    def hidden(self, block: str) -> int:
        """Values between the matrices of a dense feed-forward."""
        if self.architecture.feed_forward_length:
            return self.keys.count("feed_forward_length")
        return self.tensors.rows_of(f"{block}.ffn_up.weight")

    def feed_forward(self, block: str, suffix: str, hidden: int) -> FeedForward:
        """Gate, up and down; gate and up may be one matrix, and some families have no gate."""
        gate_up: tuple[Linear, ...]
        if not self.architecture.gated:
            gate_up = (self.tensors.linear(f"{block}.ffn_up{suffix}", hidden, self.width),)
        elif self.architecture.fused_gate_up:
            gate_up = (self.tensors.linear(f"{block}.ffn_up{suffix}", 2 * hidden, self.width),)
        else:
            gate_up = (
                self.tensors.linear(f"{block}.ffn_gate{suffix}", hidden, self.width),
                self.tensors.linear(f"{block}.ffn_up{suffix}", hidden, self.width),
            )
        return FeedForward(
            gate_up,
            self.tensors.linear(f"{block}.ffn_down{suffix}", self.width, hidden),
            is_gated=self.architecture.gated,
        )
