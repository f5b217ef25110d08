"""Reads the tensors of each block of a file into a Layer."""

from pipelines.conversion.architectures.architecture import Architecture
from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.feed_forward import FeedForwards
from pipelines.conversion.architectures.latent import LatentShape
from pipelines.conversion.architectures.recurrence import recurrence_of
from pipelines.conversion.architectures.spec import (
    Experts,
    Heads,
    LatentAttention,
    Layer,
    LayerInput,
    Linear,
    Norm,
    Recurrence,
    Rotary,
    StreamMixing,
)
from runtime.gguf import TensorInfo

LARGEST_TWENTIETH = 1.6448533535003662
"""Standard deviations above the mean that 5 % of normally distributed values exceed."""


class Blocks:
    """Reads the tensors of each block of a file. Used by one thread during describe."""

    def __init__(
        self,
        architecture: Architecture,
        keys: Keys,
        tensors: Tensors,
        *,
        width: int,
        layers: int,
        latent: LatentShape | None,
        is_parallel: bool,
    ) -> None:
        """width: embedding_length. layers: number of blocks. latent: shape of latent attention."""
        self.architecture = architecture
        self.keys = keys
        self.tensors = tensors
        self.width = width
        self.layers = layers
        self.latent = latent
        self.is_parallel = is_parallel
        self.feed_forwards = FeedForwards(architecture, keys, tensors, width=width, layers=layers)

    def layer(
        self, index: int, heads: Heads, rotary: Rotary, window: int, *, shares_from: int
    ) -> Layer:
        """Return a block with attention.

        shares_from: the first layer that reads keys and values of an earlier one.
        """
        block, row = f"blk.{index}", self.architecture
        if heads.kv == 0:
            return self.layer_without_attention(block, heads, rotary)
        if row.indexed:
            self.tensors.leave_out(f"{block}.indexer")
        query_norm, key_norm = self.query_key_norms(block, heads, is_shared=index >= shares_from)
        reads_pages_of = None
        if index >= shares_from:
            # The last sliding layer with its own pages comes just before the last global one.
            reads_pages_of = shares_from - (2 if window else 1)
        before, after = row.norms != "after", row.norms in ("after", "both")
        attention_norm, feed_forward_norm = self.input_norms(block)
        feed_forward = None if row.one_part else self.feed_forwards.of(block)
        stream_norm = self.norm(f"{block}.{row.stream_norm}") if row.stream_norm else None
        beside_norm = beside = None
        if isinstance(feed_forward, Experts) and row.experts and row.experts.beside == "block":
            beside_norm, beside = self.norm(f"{block}.ffn_norm_exps"), feed_forward
            feed_forward = self.feed_forwards.dense(block, "", self.width)
        return Layer(
            heads=heads,
            attention_norm=attention_norm if before else None,
            query_key_value=self.query_key_value(block, heads)
            if reads_pages_of is None
            else self.query_only(block, heads),
            reads_pages_of=reads_pages_of,
            query_norm=query_norm,
            key_norm=key_norm,
            sinks=self.sinks(f"{block}.attn_sinks.weight", heads),
            gate=self.gate(block, heads) if row.attention_gate else None,
            has_query_gate=row.query_gate,
            attention_inner_norm=self.tensors.vector(
                f"{block}.attn_sub_norm.weight", heads.count * heads.value
            )
            if row.inner_norms
            else None,
            recurrence=self.recurrence(block)
            if row.recurrent_layers == "beside_attention"
            else None,
            attention_output=self.tensors.linear(
                f"{block}.attn_output", self.width, heads.count * heads.value
            ),
            attention_output_norm=self.norm(f"{block}.{row.attention_output_norm}")
            if after
            else None,
            feed_forward_norm=None if row.one_part else feed_forward_norm,
            feed_forward=feed_forward,
            feed_forward_output_norm=self.norm(self.feed_forward_output_norm(block))
            if after
            else None,
            stream_norm=stream_norm,
            beside_norm=beside_norm,
            beside=beside,
            layer_input=self.layer_input(block),
            mixing=self.mixing(index) if row.streams else None,
            output_scale=self.output_scale(f"{block}.layer_output_scale.weight"),
            rotary=rotary,
            window=window,
        )

    def layer_without_attention(self, block: str, heads: Heads, rotary: Rotary) -> Layer:
        """Return a block of a feed-forward alone, or after a matrix that replaces attention."""
        row = self.architecture
        has_matrix = heads.count > 0 and not row.one_part
        is_empty = self.feed_forwards.hidden(block) == 0
        if is_empty and has_matrix:
            self.keys.refuse("feed_forward_length", "is 0 in a layer that attends")
        return Layer(
            heads=heads,
            attention_norm=self.norm(f"{block}.{row.attention_norm}") if has_matrix else None,
            query_key_value=(),
            query_norm=None,
            key_norm=None,
            sinks=None,
            attention_output=self.tensors.linear(f"{block}.attn_output", self.width, self.width)
            if has_matrix
            else None,
            attention_output_norm=None,
            feed_forward_norm=None if is_empty else self.norm(f"{block}.{row.feed_forward_norm}"),
            feed_forward=None if is_empty else self.feed_forwards.of(block),
            feed_forward_output_norm=None,
            rotary=rotary,
            window=0,
        )

    def recurrent_layer(self, block: str, heads: Heads, rotary: Rotary) -> Layer:
        """Return a block with a recurrence instead of attention."""
        attention_norm, feed_forward_norm = self.input_norms(block)
        one_part = self.architecture.one_part
        return Layer(
            heads=heads,
            attention_norm=attention_norm,
            query_key_value=(),
            query_norm=None,
            key_norm=None,
            sinks=None,
            recurrence=self.recurrence(block),
            attention_output=None,
            attention_output_norm=None,
            feed_forward_norm=None if one_part else feed_forward_norm,
            feed_forward=None if one_part else self.feed_forwards.of(block),
            feed_forward_output_norm=None,
            rotary=rotary,
            window=0,
        )

    def recurrence(self, block: str) -> Recurrence:
        """Return the block's recurrence."""
        return recurrence_of(self.keys, self.tensors, self.architecture, block, self.width)

    def norm(self, name: str) -> Norm:
        """Return a norm over whole rows, with a bias if the file has one."""
        if not self.architecture.norm_weights:
            return Norm(None)
        weight, bias = f"{name}.weight", f"{name}.bias"
        if weight not in self.tensors and name in self.tensors:
            weight = name  # in Falcon-H1 and PLaMo 3
        return Norm(
            self.tensors.vector(weight, self.width),
            self.tensors.vector(bias, self.width) if bias in self.tensors else None,
        )

    def input_norms(self, block: str) -> tuple[Norm | None, Norm | None]:
        """Return the norms of the inputs of attention and feed-forward."""
        row = self.architecture
        if row.norms == "after":
            return None, None
        first, second = f"{block}.{row.attention_norm}", f"{block}.{row.feed_forward_norm}"
        if self.is_parallel:
            # One norm for both may have the name of either.
            for one, other in ((first, second), (second, first)):
                if f"{other}.weight" not in self.tensors:
                    return self.norm(one), None
        if row.norms == "stream" or (
            row.first_norm_optional and block == "blk.0" and f"{first}.weight" not in self.tensors
        ):
            return None, self.norm(second)
        return self.norm(first), self.norm(second)

    def feed_forward_output_norm(self, block: str) -> str:
        """Return the tensor name of that norm; files of Grok have either of two."""
        older = f"{block}.layer_output_norm"
        is_older = f"{older}.weight" in self.tensors
        return older if is_older else f"{block}.{self.architecture.feed_forward_output_norm}"

    def sinks(self, name: str, heads: Heads) -> TensorInfo | None:
        """Return the attention sinks [heads], if this layer has them."""
        sinks = self.architecture.sinks
        if sinks == "none" or (sinks == "some" and name not in self.tensors):
            return None
        return self.tensors.vector(name, heads.count)

    def layer_input(self, block: str) -> LayerInput | None:
        """Return the weights that a layer's own embedding is applied with, if it has one."""
        name = "embedding_length_per_layer_input"
        width = self.keys.count_or_zero(name) if name in self.architecture.reads else 0
        if not width:
            return None
        return LayerInput(
            self.tensors.linear(f"{block}.inp_gate", width, self.width),
            self.tensors.linear(f"{block}.proj", self.width, width),
            self.norm(f"{block}.post_norm"),
        )

    def mixing(self, index: int) -> StreamMixing:
        """Return the weights that mix the residual streams around a block."""
        tensors, row, width = self.tensors, self.architecture, self.width
        block, streams = f"blk.{index}", self.architecture.streams
        rank = tensors.rows_of(f"{block}.laurel_l.weight")
        return StreamMixing(
            router=tensors.linear(f"{block}.altup_router", streams, width),
            router_norm=self.norm(f"{block}.altup_router_norm"),
            prediction=tensors.linear(f"{block}.altup_predict_coef", streams**2, streams),
            correction=tensors.linear(f"{block}.altup_correct_coef", streams, streams),
            output_scale=tensors.vector(f"{block}.altup_correct_scale.weight", width),
            left=tensors.linear(f"{block}.laurel_l", rank, width),
            right=tensors.linear(f"{block}.laurel_r", width, rank),
            bypass_norm=self.norm(f"{block}.laurel_post_norm"),
            cutoff=LARGEST_TWENTIETH if index < row.sparse_layers else 0.0,
        )

    def output_scale(self, name: str) -> TensorInfo | None:
        """Return the factor of the residual stream [1], if the layer has one."""
        return self.tensors.vector(name, 1) if name in self.tensors else None

    def query_key_norms(
        self, block: str, heads: Heads, *, is_shared: bool
    ) -> tuple[TensorInfo | Norm | None, TensorInfo | Norm | None]:
        """Return the norms of queries and keys, if the family or this file has them."""
        row = self.architecture
        is_missing = f"{block}.attn_q_norm.weight" not in self.tensors
        if row.query_key_norm == "none" or (row.query_key_norm_optional and is_missing):
            return None, None
        if row.query_key_norm_by_head:
            return (
                self.norm_by_head(f"{block}.attn_q_norm", heads.count, heads.width),
                self.norm_by_head(f"{block}.attn_k_norm", heads.kv, heads.width),
            )
        query_norm = self.head_norm(f"{block}.attn_q_norm.weight", heads.count, heads.width)
        if is_shared:
            return query_norm, None
        return query_norm, self.head_norm(f"{block}.attn_k_norm.weight", heads.kv, heads.width)

    def norm_by_head(self, name: str, heads: int, width: int) -> Norm:
        """Return a norm with separate weights, and maybe biases, for each head."""
        bias = f"{name}.bias"
        return Norm(
            self.tensors.table(f"{name}.weight", heads, width),
            self.tensors.table(bias, heads, width) if bias in self.tensors else None,
        )

    def head_norm(self, name: str, heads: int, width: int) -> TensorInfo:
        """Return a norm per head or over all heads; after the rotation only per head."""
        if self.architecture.query_key_norm == "after":
            self.tensors.folded.add(name)
            return self.tensors.vector(name, width)
        return self.tensors.vector(name, width, heads * width)

    def gate(self, block: str, heads: Heads) -> Linear:
        """Return the gate of the heads' outputs: one factor per value, or one per head."""
        name = f"{block}.attn_gate"
        rows = self.tensors.rows_of(f"{name}.weight")
        by_head, by_value = heads.count, heads.count * heads.value
        return self.tensors.linear(name, by_head if rows == by_head else by_value, self.width)

    def query_only(self, block: str, heads: Heads) -> tuple[Linear, ...]:
        """Return the query matrix alone; those of keys and values may exist and are not used."""
        for name in ("attn_k", "attn_v", "attn_k_norm"):
            self.tensors.leave_out(f"{block}.{name}")
        return (self.tensors.linear(f"{block}.attn_q", heads.count * heads.width, self.width),)

    def query_key_value(self, block: str, heads: Heads) -> tuple[Linear, ...] | LatentAttention:
        """Return three matrices, or one fused `attn_qkv`, or two if the keys are the values."""
        if self.latent is not None:
            return self.latent.read(self.tensors, block, self.width)
        query, key = heads.count * heads.width, heads.kv * heads.width
        value = heads.kv * heads.value
        if self.architecture.query_gate:
            query *= 2
        if f"{block}.attn_qkv.weight" in self.tensors:
            rows = query + key + value
            return (self.tensors.linear(f"{block}.attn_qkv", rows, self.width),)
        queries = self.tensors.linear(f"{block}.attn_q", query, self.width)
        keys = self.tensors.linear(f"{block}.attn_k", key, self.width)
        if self.architecture.value_norm and f"{block}.attn_v.weight" not in self.tensors:
            return queries, keys
        return queries, keys, self.tensors.linear(f"{block}.attn_v", value, self.width)
