"""Builds the ONNX graph of a model; its weights are external data inside the GGUF itself.

The graph is one step over rows of any length: see StepInputs for its inputs. The pools of pages and
of states go through all layers by aliasing, which also orders each layer's write before the next's.
"""

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper

from pipelines.conversion.architectures import (
    FeedForward,
    Layer,
    LayerInput,
    ModelSpec,
    Norm,
    StreamMixing,
)
from pipelines.conversion.attention import AttentionNodes
from pipelines.conversion.feed_forward import FeedForwardNodes
from pipelines.conversion.nodes import Nodes
from pipelines.conversion.pools import Pool, States
from pipelines.conversion.recurrence import recurrence_nodes, state_writers
from pipelines.conversion.streams import StreamNodes
from runtime.gguf import GGUFFile, TensorInfo
from runtime.interface import (
    LOGIT_ROWS,
    LOGITS,
    PAGE_POOL,
    PAGE_POOL_OUT,
    POSITIONS,
    STATE_POOL,
    STATE_POOL_OUT,
    TOKEN_IDS,
    GraphValue,
    graph_inputs,
    graph_outputs,
)
from runtime.manifest import GRAPH_VERSION, PageLayout
from runtime.ops.schema import DOMAIN, DOMAIN_VERSION

OPSET = 18
"""Of ONNX's own operators: the newest whose Cast, Pad and Reshape the ROCm provider has."""
IR_VERSION = 10


def build(spec: ModelSpec, file: GGUFFile) -> ModelProto:
    """Build the graph of a model.

    Its inputs and outputs are those of `runtime.interface`, its operators those of
    `runtime.ops.schema`. Weights are uint8 [rows, row_bytes] at their place in the GGUF, named as
    its tensors.
    """
    return _Builder(spec, file).model()


class _Builder(Nodes):
    """Writes the parts of a model. Used by one thread for one model."""

    def __init__(self, spec: ModelSpec, file: GGUFFile) -> None:
        super().__init__([path.name for path in file.paths], spec.epsilon)
        self.spec = spec
        self.file = file
        states = sum(map(state_writers, spec.layers))
        self.attention = AttentionNodes(self, spec, file)
        self.feed_forward = FeedForwardNodes(self, spec)
        self.streams = self.stream_nodes()
        self.states = States(Pool(STATE_POOL, STATE_POOL_OUT, writers=states))

    def model(self) -> ModelProto:
        """Return the whole graph, from token ids to logits."""
        spec = self.spec
        self.attention.prepare()
        hidden, residual = self.embedding(), ""
        parts = self.layer_embedding(hidden)
        if self.streams is not None:
            hidden = self.streams.of(hidden)
        for index, layer in enumerate(spec.layers):
            hidden, residual = self.layer(index, layer, hidden, residual, parts)
        self.head(hidden, residual)
        if not spec.attention_layers:
            self.plain("Identity", PAGE_POOL_OUT, PAGE_POOL)
        layout = page_layout(spec)
        graph = helper.make_graph(
            self.nodes,
            spec.architecture,
            [_value_info(each) for each in graph_inputs(layout)],
            [_value_info(each) for each in graph_outputs(layout, result_width(spec))],
            list(self.initializers.values()),
        )
        return helper.make_model(
            graph,
            producer_name="rocmforge",
            producer_version=GRAPH_VERSION,
            ir_version=IR_VERSION,
            opset_imports=[
                helper.make_opsetid("", OPSET),
                helper.make_opsetid(DOMAIN, DOMAIN_VERSION),
            ],
        )

    def embedding(self) -> str:
        """Write the input of the first block: the tokens' rows, scaled, with positions, normed."""
        self.rows("embedding", self.spec.embedding, TOKEN_IDS)
        hidden = self.scaled("embedding", self.spec.embedding_scale)
        if self.spec.position_embedding is not None:
            position = self.rows("position_embedding", self.spec.position_embedding, POSITIONS)
            hidden = self.plain("Add", "embedding.positioned", hidden, position)
        if self.spec.token_type is not None:
            hidden = self.plain("Add", "embedding.typed", hidden, self.first_type())
        if self.spec.embedding_norm is not None:
            hidden, _ = self.norm("token_embd_norm", self.spec.embedding_norm, hidden, "")
        return hidden

    def first_type(self) -> str:
        """The embedding of the first type of tokens, which all tokens have."""
        info = self.spec.token_type
        assert info is not None
        if len(info.shape) == 1:
            return self.vector(info)
        first = self.stored("token_type.first", np.zeros(1, np.int32))
        return self.rows("token_type", info, first)

    def rows(self, name: str, info: TensorInfo, ids: str) -> str:
        """Write the rows of a matrix that `ids` select; return their name."""
        self.node(
            "RowLookup",
            {"blocks": self.blocks(info), "ids": ids},
            {"rows": name},
            format=info.format,
            columns=info.columns,
        )
        return name

    def layer_embedding(self, hidden: str) -> tuple[str, ...]:
        """Write each layer's own embedding of the tokens (transformers' modeling_gemma3n.py)."""
        weights = self.spec.layer_embedding
        if weights is None:
            return ()
        (width,), name = weights.norm.shape, "layer_embedding"
        own = self.scaled(self.rows(name, weights.tokens, TOKEN_IDS), width**0.5)
        share = self.linear(f"{name}.share", weights.projection, hidden)
        share = self.scaled(share, self.spec.embedding_length**-0.5)
        normed = self.rms_norm(f"{name}.norm", share, self.vector(weights.norm))
        both = self.scaled(self.plain("Add", f"{name}.both", normed, own), 2**-0.5)
        layers = len(self.spec.layers)
        parts = tuple(f"{name}.{index}" for index in range(layers))
        self.split(both, parts, (width,) * layers)
        return parts

    def layer(
        self, index: int, layer: Layer, hidden: str, residual: str, parts: tuple[str, ...]
    ) -> tuple[str, str]:
        """Write a transformer block; return what it adds last and the residual stream."""
        block = f"blk.{index}"
        if layer.mixing is not None and self.streams is not None:
            part = parts[index]
            return self.mixed_layer(block, layer, self.streams, layer.mixing, hidden, part), ""
        attended = before = hidden
        if layer.attention_output is not None or layer.recurrence is not None:
            normed, residual = self.norm(
                f"{block}.attn_norm", layer.attention_norm, hidden, residual
            )
            attended, before = self.attended(block, layer, normed), residual
        if layer.feed_forward is None:
            return attended, residual
        if self.spec.is_parallel:
            if layer.feed_forward_norm is not None:
                normed, _ = self.norm(f"{block}.ffn_input", layer.feed_forward_norm, residual, "")
            fed = self.feed_forward.of(block, layer.feed_forward, normed, before)
            return self.plain("Add", f"{block}.parallel", attended, fed), residual
        if layer.attention_output_norm is not None:
            attended, _ = self.norm(
                f"{block}.attn_output_norm", layer.attention_output_norm, attended, ""
            )
        normed, residual = self.norm(
            f"{block}.ffn_input", layer.feed_forward_norm, attended, residual
        )
        if self.spec.normalizes_stream:
            residual = normed
        fed = self.feed_forward.of(block, layer.feed_forward, normed, before)
        if layer.feed_forward_output_norm is not None:
            fed, _ = self.norm(f"{block}.ffn_output_norm", layer.feed_forward_output_norm, fed, "")
        if layer.beside is not None:
            normed, _ = self.norm(f"{block}.ffn_norm_exps", layer.beside_norm, before, "")
            beside = self.feed_forward.experts(f"{block}.ffn_beside", layer.beside, normed, before)
            fed = self.plain("Add", f"{block}.ffn_both", fed, beside)
        if layer.stream_norm is not None:
            total = self.plain("Add", f"{block}.fed", fed, residual)
            return self.norm(f"{block}.stream_norm", layer.stream_norm, total, "")[0], ""
        if layer.layer_input is not None:
            residual = self.plain("Add", f"{block}.fed", fed, residual)
            fed = self.layer_input(block, layer.layer_input, residual, parts[index])
        if layer.output_scale is None:
            return fed, residual
        total = self.plain("Add", f"{block}.output", fed, residual)
        scale = self.vector(layer.output_scale)
        return self.plain("Mul", f"{block}.output.scaled", total, scale), ""

    def stream_nodes(self) -> StreamNodes | None:
        """Return what writes the streams of a model that has several."""
        if self.spec.streams is None:
            return None
        return StreamNodes(
            self,
            self.spec.streams,
            self.spec.embedding_length,
            lambda name, weights, hidden: self.norm(name, weights, hidden, "")[0],
        )

    def mixed_layer(
        self,
        block: str,
        layer: Layer,
        streams: StreamNodes,
        mixing: StreamMixing,
        hidden: str,
        part: str,
    ) -> str:
        """Write a block that computes one of several streams; return all of them."""
        assert layer.layer_input is not None
        assert isinstance(layer.feed_forward, FeedForward)
        predictions, active = streams.predicted(block, mixing, hidden)
        normed, _ = self.norm(f"{block}.attn_norm", layer.attention_norm, active, "")
        bypass = streams.bypassed(block, mixing, normed)
        attended = self.attended(block, layer, normed)
        attended, _ = self.norm(
            f"{block}.attn_output_norm", layer.attention_output_norm, attended, ""
        )
        attended = self.plain("Add", f"{block}.attended", attended, active)
        both = self.scaled(self.plain("Add", f"{block}.bypassed", attended, bypass), 2**-0.5)
        normed, _ = self.norm(f"{block}.ffn_input", layer.feed_forward_norm, both, "")
        fed = self.feed_forward.dense(f"{block}.ffn", layer.feed_forward, normed, mixing.cutoff)
        fed, _ = self.norm(f"{block}.ffn_output_norm", layer.feed_forward_output_norm, fed, "")
        computed = self.plain("Add", f"{block}.computed", fed, both)
        corrected = streams.corrected(block, mixing, predictions, active, computed)
        first, _ = streams.parted(f"{block}.corrected", corrected)
        scale = self.vector(mixing.output_scale)
        first = self.plain("Mul", f"{block}.first.scaled", first, scale)
        added = self.layer_input(block, layer.layer_input, first, part)
        return streams.with_input(block, corrected, added)

    def layer_input(self, block: str, weights: LayerInput, hidden: str, part: str) -> str:
        """Write what the layer's own embedding adds to the residual stream."""
        gate, gated = self.linear(f"{block}.inp_gate", weights.gate, hidden), f"{block}.inp_act"
        inputs = {"gate": gate, "up": part}
        self.node("GatedActivation", inputs, {"y": gated}, activation=self.spec.activation)
        projected = self.linear(f"{block}.inp_proj", weights.projection, gated)
        return self.norm(f"{block}.inp_norm", weights.norm, projected, "")[0]

    def attended(self, block: str, layer: Layer, hidden: str) -> str:
        """Write attention of a normed input or what replaces it, times the residual scale."""
        parts: list[str] = []
        if layer.attention_output is not None:
            mixed = self.attention.of(block, layer, hidden) if layer.has_attention else hidden
            if layer.attention_inner_norm is not None:
                weights_of_norm = self.vector(layer.attention_inner_norm)
                mixed = self.rms_norm(f"{block}.attn_sub_norm", mixed, weights_of_norm)
            parts.append(self.linear(f"{block}.attn_output", layer.attention_output, mixed))
        if layer.recurrence is not None:
            parts.append(recurrence_nodes(self, self.states, block, layer.recurrence, hidden))
        output = parts[0] if len(parts) == 1 else self.plain("Add", f"{block}.mixed", *parts)
        return self.scaled(output, self.spec.residual_scale)

    def head(self, hidden: str, residual: str) -> str:
        """Write logits, of the wanted rows only: the output matrix is the model's largest."""
        spec = self.spec
        hidden = self.gather("output.hidden", hidden)
        if self.streams is not None:
            hidden = self.streams.merged(hidden)
        if residual:
            residual = self.gather("output.residual", residual)
        normed, _ = self.norm("output_norm", spec.output_norm, hidden, residual)
        if spec.output is None:
            return self.pooled(normed)
        steps: list[tuple[str, tuple[str, ...]]] = []
        if spec.logit_scale != 1:
            steps.append(("Mul", (self.number(spec.logit_scale),)))
        if spec.logit_softcap:
            cap = self.number(spec.logit_softcap)
            steps += [("Div", (cap,)), ("Tanh", ()), ("Mul", (cap,))]
        # The last step is the one called logits.
        names = [*(f"{LOGITS}.{index}" for index in range(len(steps))), LOGITS]
        logits = self.linear(names[0], spec.output, normed)
        for name, (kind, operands) in zip(names[1:], steps, strict=True):
            logits = self.plain(kind, name, logits, *operands)
        return logits

    def pooled(self, hidden: str) -> str:
        """Write what is pooled, of the wanted rows; scores, where the model has a classifier.

        The mean of products is the product of the mean, so projections may come before it.
        """
        pooling = self.spec.pooling
        assert pooling is not None
        for index, linear in enumerate(pooling.projections):
            hidden = self.linear(f"output.projection.{index}", linear, hidden)
        if pooling.classifier_input is not None:
            hidden = self.linear("cls", pooling.classifier_input, hidden)
            hidden = self.plain("Tanh", "cls.tanh", hidden)
        if pooling.classifier is not None:
            hidden = self.linear("cls.scores", pooling.classifier, hidden)
        return self.plain("Softmax" if pooling.is_softmax else "Identity", LOGITS, hidden)

    def norm(self, name: str, weights: Norm | None, hidden: str, residual: str) -> tuple[str, str]:
        """Add to the residual stream and normalize; return the normed values and the stream.

        Without a residual the input is the stream itself, without a norm nothing is normed.
        """
        total = f"{name}.residual" if residual else hidden
        if weights is None:
            if residual:
                self.plain("Add", total, hidden, residual)
            return total, total
        kind = "RMSNorm" if self.spec.norm_kind == "rms" else "LayerNorm"
        if weights.weight is None:
            weight = self.stored("norm.ones", np.ones(self.spec.embedding_length, np.float32))
        else:
            weight = self.vector(weights.weight)
        normed = self.normed(kind, name, hidden, weight, residual)
        if weights.bias is not None:
            normed = self.plain("Add", f"{name}.biased", normed, self.vector(weights.bias))
        return normed, total

    def gather(self, name: str, rows: str) -> str:
        """Write the rows of tokens whose logits are wanted."""
        self.nodes.append(helper.make_node("Gather", [rows, LOGIT_ROWS], [name], name, axis=0))
        return name


def page_layout(spec: ModelSpec) -> PageLayout:
    """Return the shape of the page pool and of the states that the model's graph takes."""
    return PageLayout(
        layers=spec.attention_layers,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        state_values=spec.state_values,
    )


def result_width(spec: ModelSpec) -> int:
    """Values of a row of the graph's result: logits, or a vector that is pooled."""
    if spec.pooling is None:
        return spec.vocabulary_size
    return spec.pooling.width or spec.embedding_length


def _value_info(value: GraphValue) -> ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_value_info(value.name, kind, value.shape)
