"""ModelSpec -> ONNX graph whose weights are external data inside the GGUF itself.

The graph is one step over rows of any length: see StepInputs for its inputs. The pools of pages and
of states go through all layers by aliasing, which also orders each layer's write before the next's.
"""

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from pipelines.conversion.architectures import (
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    Linear,
    ModelSpec,
    Norm,
    QueryTemperature,
    Rotary,
)
from pipelines.conversion.latent_attention import LatentAttentionNodes
from pipelines.conversion.nodes import Nodes, Value
from pipelines.conversion.pools import Pool, States
from pipelines.conversion.recurrence import recurrence_nodes, state_writers
from runtime.gguf import GGUFFile, TensorInfo
from runtime.interface import (
    LOGIT_ROWS,
    LOGITS,
    PAGE_POOL,
    PAGE_POOL_OUT,
    PAGE_TABLE,
    POSITIONS,
    ROW_STARTS,
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
        super().__init__(file.path.name, spec.epsilon)
        self.spec = spec
        self.file = file
        self.angles: dict[Rotary, str] = {}
        states = sum(map(state_writers, spec.layers))
        self.page_pool = Pool(PAGE_POOL, PAGE_POOL_OUT, writers=spec.attention_layers)
        self.states = States(Pool(STATE_POOL, STATE_POOL_OUT, writers=states))

    def model(self) -> ModelProto:
        """The whole graph, from token ids to logits."""
        spec = self.spec
        for layer in spec.layers:
            if layer.has_attention:
                self.rotary_angles(layer.rotary)
        if spec.query_temperature is not None:
            self.temperature(spec.query_temperature)
        hidden, residual = self.embedding(), ""
        for index, layer in enumerate(spec.layers):
            hidden, residual = self.layer(f"blk.{index}", layer, hidden, residual)
        self.head(hidden, residual)
        layout = page_layout(spec)
        graph = helper.make_graph(
            self.nodes,
            spec.architecture,
            [_value_info(each) for each in graph_inputs(layout)],
            [_value_info(each) for each in graph_outputs(layout, spec.vocabulary_size)],
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

    def rotary_angles(self, rotary: Rotary) -> str:
        """Angles of the step's tokens, computed once for all layers that are rotated alike."""
        if rotary not in self.angles:
            prefix = f"rotary.{len(self.angles)}" if self.angles else "rotary"
            self.angles[rotary] = f"{prefix}.angles"
            frequencies = np.asarray(rotary.inverse_frequencies, np.float32)
            self.node(
                "RotaryAngles",
                {
                    "positions": POSITIONS,
                    "inverse_frequencies": self.stored(
                        f"{prefix}.inverse_frequencies", frequencies
                    ),
                },
                {"angles": self.angles[rotary]},
                magnitude=rotary.magnitude,
            )
        return self.angles[rotary]

    def temperature(self, temperature: QueryTemperature) -> None:
        """Factors [T, 1] of the queries by position: 1 + scale * ln(1 + floor(p / length))."""
        name = "temperature"
        position = f"{name}.position"
        self.nodes.append(
            helper.make_node("Cast", [POSITIONS], [position], position, to=TensorProto.FLOAT)
        )
        lengths = self.plain("Div", f"{name}.lengths", position, self.number(temperature.length))
        whole = self.plain("Floor", f"{name}.whole", lengths)
        counted = self.plain("Add", f"{name}.counted", whole, self.number(1.0))
        logarithm = self.plain("Log", f"{name}.logarithm", counted)
        scaled = self.plain("Mul", f"{name}.scaled", logarithm, self.number(temperature.scale))
        factor = self.plain("Add", f"{name}.factor", scaled, self.number(1.0))
        column = self.stored(f"{name}.column", np.array([-1, 1], np.int64))
        self.plain("Reshape", name, factor, column)

    def embedding(self) -> str:
        """Rows of the step's tokens, with what is done to them before the first block."""
        self.rows("embedding", self.spec.embedding, TOKEN_IDS)
        hidden = self.scaled("embedding", self.spec.embedding_scale)
        if self.spec.position_embedding is not None:
            position = self.rows("position_embedding", self.spec.position_embedding, POSITIONS)
            hidden = self.plain("Add", "embedding.positioned", hidden, position)
        if self.spec.embedding_norm is not None:
            hidden, _ = self.norm("token_embd_norm", self.spec.embedding_norm, hidden, "")
        return hidden

    def rows(self, name: str, info: TensorInfo, ids: str) -> str:
        """Rows of a matrix."""
        self.node(
            "RowLookup",
            {"blocks": self.blocks(info), "ids": ids},
            {"rows": name},
            format=info.format,
            columns=info.columns,
        )
        return name

    def layer(self, block: str, layer: Layer, hidden: str, residual: str) -> tuple[str, str]:
        """One transformer block; gives what it adds last and the residual stream."""
        normed, residual = self.norm(f"{block}.attn_norm", layer.attention_norm, hidden, residual)
        attended = self.attended(block, layer, normed)
        if self.spec.is_parallel:
            if layer.feed_forward_norm is not None:
                normed, _ = self.norm(f"{block}.ffn_norm", layer.feed_forward_norm, residual, "")
            fed = self.fed(block, layer.feed_forward, normed)
            return self.plain("Add", f"{block}.parallel", attended, fed), residual
        if layer.attention_output_norm is not None:
            attended, _ = self.norm(
                f"{block}.post_attention_norm", layer.attention_output_norm, attended, ""
            )
        normed, residual = self.norm(
            f"{block}.ffn_norm", layer.feed_forward_norm, attended, residual
        )
        fed = self.fed(block, layer.feed_forward, normed)
        if layer.feed_forward_output_norm is not None:
            fed, _ = self.norm(f"{block}.post_ffw_norm", layer.feed_forward_output_norm, fed, "")
        return fed, residual

    def attended(self, block: str, layer: Layer, hidden: str) -> str:
        """Attention of a normed input or what stands in its place, times the residual scale."""
        if layer.recurrence is None:
            mixed = self.attention(block, layer, hidden)
        else:
            mixed = recurrence_nodes(self, self.states, block, layer.recurrence, hidden)
        output = self.linear(f"{block}.attn_output", layer.attention_output, mixed)
        return self.scaled(output, self.spec.residual_scale)

    def attention(self, block: str, layer: Layer, hidden: str) -> str:
        """Attention of a normed input over the pages."""
        spec = self.spec
        pool, next_pool = self.page_pool.written_by(block)
        shape: dict[str, Value] = {
            "layer": self.page_pool.written - 1,
            "heads": spec.heads,
            "kv_heads": spec.kv_heads,
            "head_dim": spec.head_dim,
        }
        rows = {"positions": POSITIONS, "row_starts": ROW_STARTS, "page_table": PAGE_TABLE}
        latent = None
        if isinstance(layer.query_key_value, LatentAttention):
            latent = LatentAttentionNodes(self, block, layer.query_key_value, spec.heads)
            query, key, value = latent.query_key_value(hidden)
        else:
            query, key, value = self.query_key_value(block, layer, layer.query_key_value, hidden)
        if spec.query_temperature is not None:
            query = self.plain("Mul", f"{block}.attn_q_temperature", query, "temperature")
        rotated, attended = f"{block}.rotary", f"{block}.attention"
        self.node(
            "RotaryPageWrite",
            {
                **rows,
                "q": query,
                "k": key,
                "v": value,
                "angles": self.rotary_angles(layer.rotary),
                "pool": pool,
            },
            {"q_rotated": rotated, "pool_written": next_pool},
            style=layer.rotary.style,
            **shape,
        )
        if spec.norm_follows_rotary:
            rotated = self.product_norm(block, layer, rotated)
        self.node(
            "PagedAttention",
            {
                **rows,
                "q": rotated,
                "pool": next_pool,
                "sinks": self.vector(layer.sinks) if layer.sinks else "",
            },
            {"y": attended},
            scale=spec.attention_scale,
            window=layer.window,
            softcap=spec.attention_softcap,
            **shape,
        )
        if latent is not None:
            attended = latent.answers(attended)
        if layer.gate is not None:
            attended = self.gated_answers(block, layer.gate, hidden, attended)
        if layer.has_query_gate:
            opened = self.plain("Sigmoid", f"{block}.attn_gate_open", f"{block}.attn_gate")
            attended = self.plain("Mul", f"{block}.attn_gated", attended, opened)
        return attended

    def gated_answers(self, block: str, weights: Linear, hidden: str, attended: str) -> str:
        """The heads' answers, each value or each head times the sigmoid of its gate."""
        gate = self.linear(f"{block}.attn_gate", weights, hidden)
        gate = self.plain("Sigmoid", f"{gate}_open", gate)
        heads = self.spec.heads
        if weights.weight.rows != heads:
            return self.plain("Mul", f"{gate}_answers", attended, gate)
        by_head = self.reshaped(f"{attended}.heads", attended, heads, -1)
        gate = self.reshaped(f"{gate}.heads", gate, heads, 1)
        answers = self.plain("Mul", f"{gate}_answers", by_head, gate)
        return self.reshaped(f"{answers}.flat", answers, -1)

    def query_key_value(
        self, block: str, layer: Layer, linears: tuple[Linear, ...], hidden: str
    ) -> tuple[str, ...]:
        """Projections of the input; queries and keys normed where that comes before rotation."""
        names = tuple(f"{block}.attn_{each}" for each in "qkv")
        spec = self.spec
        if len(linears) == 1:
            fused = self.linear(f"{block}.attn_qkv", linears[0], hidden)
            each = spec.kv_heads * spec.head_dim
            queries = spec.heads * spec.head_dim * (2 if layer.has_query_gate else 1)
            self.split(fused, names, (queries, each, each))
        else:
            for name, linear in zip(names, linears, strict=True):
                self.linear(name, linear, hidden)
        if layer.has_query_gate:
            names = (self.query_of(block, names[0]), *names[1:])
        query, key, value = (self.clamped(name) for name in names)
        if layer.query_norm is None or layer.key_norm is None:
            return query, key, value
        if spec.norm_follows_rotary:
            ones = self.stored("key_norm.ones", np.ones(spec.head_dim, np.float32))
            return query, self.rms_norm(f"{key}_norm", key, ones), value
        query = self.rms_norm(f"{query}_norm", query, self.vector(layer.query_norm))
        return query, self.rms_norm(f"{key}_norm", key, self.vector(layer.key_norm)), value

    def query_of(self, block: str, both: str) -> str:
        """The queries of what also holds a gate behind each; the gate is `block`.attn_gate."""
        heads, head_dim = self.spec.heads, self.spec.head_dim
        parts = tuple(f"{block}.attn_{each}_heads" for each in ("query", "gate"))
        by_head = self.reshaped(f"{both}.heads", both, heads, 2 * head_dim)
        self.split(by_head, parts, (head_dim, head_dim), axis=2)
        query, gate = parts
        self.reshaped(f"{block}.attn_gate", gate, heads * head_dim)
        return self.reshaped(f"{block}.attn_query", query, heads * head_dim)

    def clamped(self, name: str) -> str:
        """Values within the bounds of the family."""
        if not self.spec.clamp:
            return name
        bounds = self.number(-self.spec.clamp), self.number(self.spec.clamp)
        return self.plain("Clip", f"{name}.clamped", name, *bounds)

    def product_norm(self, block: str, layer: Layer, query: str) -> str:
        """The norm of rotated queries, with the weights of the keys' norm multiplied in.

        A norm divides by a length, which a rotation keeps, so keys are divided before they are
        rotated and written; their weights act in the dot product as well from the queries' side.
        """
        assert layer.query_norm is not None
        assert layer.key_norm is not None
        weights = self.file.dequantize(layer.query_norm.name)
        weights = weights * self.file.dequantize(layer.key_norm.name)
        name = f"{block}.attn_q_norm"
        return self.rms_norm(name, query, self.stored(f"{name}.product", weights))

    def fed(self, block: str, weights: FeedForward | Experts, hidden: str) -> str:
        """Feed-forward of a normed input, times the residual scale."""
        if isinstance(weights, FeedForward):
            fed = self.feed_forward(f"{block}.ffn", weights, hidden)
        else:
            fed = self.experts(f"{block}.ffn", weights, hidden)
        return self.scaled(fed, self.spec.residual_scale)

    def experts(self, name: str, weights: Experts, hidden: str) -> str:
        """Write the selected experts, and the shared one if there is one."""
        router = self.linear(f"{name}_router", weights.router, hidden)
        matrices = {"gate": weights.gate, "up": weights.up, "down": weights.down}
        selection = weights.selection
        inputs = {"x": hidden, "router": router}
        inputs |= {port: self.blocks(each.weight) for port, each in matrices.items()}
        vectors = {f"{port}_bias": each.bias for port, each in matrices.items()}
        vectors["selection_bias"] = selection.selection_bias
        inputs |= {port: self.vector(each) for port, each in vectors.items() if each}
        fed = f"{name}_experts"
        self.node(
            "MixtureOfExperts",
            inputs,
            {"y": fed},
            columns=weights.gate.weight.columns,
            hidden=weights.down.weight.columns,
            formats=" ".join(each.weight.format for each in matrices.values()),
            used=selection.used,
            gating=selection.gating,
            renormalize=int(selection.renormalized),
            groups=selection.groups,
            groups_used=selection.groups_used,
            scale=selection.scale,
            activation=weights.activation,
        )
        if weights.shared is None:
            return fed
        shared = self.feed_forward(f"{name}_shared", weights.shared, hidden)
        if weights.shared_gate is not None:
            gate = self.linear(
                f"{name}_shared_gate_logit", Linear(weights.shared_gate, None), hidden
            )
            opened = self.plain("Sigmoid", f"{name}_shared_gate_open", gate)
            shared = self.plain("Mul", f"{name}_shared_gated", shared, opened)
        return self.plain("Add", f"{name}_answers", fed, shared)

    def feed_forward(self, name: str, weights: FeedForward, hidden: str) -> str:
        """A feed-forward; the nodes are called `name`_gate, `name`_up and so on."""
        if not weights.is_gated:
            return self.plain_feed_forward(name, weights, hidden)
        gate, up, gated = f"{name}_gate", f"{name}_up", f"{name}_act"
        if len(weights.gate_up) == 1:
            fused = self.linear(f"{name}_gate_up", weights.gate_up[0], hidden)
            self.split(fused, (gate, up), (weights.gate_up[0].weight.rows // 2,) * 2)
        else:
            for each, linear in zip((gate, up), weights.gate_up, strict=True):
                self.linear(each, linear, hidden)
        self.node(
            "GatedActivation",
            {"gate": gate, "up": up},
            {"y": gated},
            activation=self.spec.activation,
        )
        return self.linear(f"{name}_down", weights.down, gated)

    def plain_feed_forward(self, name: str, weights: FeedForward, hidden: str) -> str:
        """A feed-forward without a gate."""
        up, activated = f"{name}_up", f"{name}_act"
        (linear,) = weights.gate_up
        self.linear(up, linear, hidden)
        if self.spec.activation == "relu_squared":
            positive = self.plain("Relu", f"{name}_relu", up)
            self.plain("Mul", activated, positive, positive)
        else:
            self.node(
                "GatedActivation",
                {"gate": up, "up": self.ones_like(up)},
                {"y": activated},
                activation=self.spec.activation,
            )
        return self.linear(f"{name}_down", weights.down, activated)

    def head(self, hidden: str, residual: str) -> str:
        """Logits of the wanted rows only: the output matrix is the largest of the model."""
        spec = self.spec
        hidden = self.gather("output.hidden", hidden)
        residual = self.gather("output.residual", residual)
        normed, _ = self.norm("output_norm", spec.output_norm, hidden, residual)
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

    def norm(self, name: str, weights: Norm | None, hidden: str, residual: str) -> tuple[str, str]:
        """Add to the residual stream and normalize; gives the normed values and the stream.

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
        self.nodes.append(helper.make_node("Gather", [rows, LOGIT_ROWS], [name], name, axis=0))
        return name


def page_layout(spec: ModelSpec) -> PageLayout:
    """Shape of the page pool that the model's graph takes."""
    return PageLayout(
        layers=spec.attention_layers,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        state_values=spec.state_values,
    )


def _value_info(value: GraphValue) -> ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_value_info(value.name, kind, value.shape)
