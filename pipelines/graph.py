"""ModelSpec -> ONNX graph whose weights are external data inside the GGUF itself.

The graph is one step over rows of any length: see StepInputs for its inputs. The page pool goes
through all layers by aliasing, which also orders each layer's write before the next layer's.
"""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from pipelines.architectures import Layer, Linear, ModelSpec
from runtime.gguf import GGUFFile, TensorInfo
from runtime.manifest import GRAPH_VERSION

DOMAIN = "com.rocmforge"
DOMAIN_VERSION = 1
OPSET = 21
IR_VERSION = 10

FREQUENCIES = "rotary.inverse_frequencies"
ANGLES = "rotary.angles"
"""The one weight that conversion computes and stores in the graph itself."""

Attribute = str | int | float


def build(spec: ModelSpec, file: GGUFFile) -> ModelProto:
    """Build the graph of a model.

    Inputs (int32): token_ids [T], positions [T], row_starts [B + 1], page_table [B, P],
    logit_rows [R]; page_pool float16 [layers, pages, 2, kv_heads, page_size, head_dim].
    Outputs: logits float32 [R, vocabulary]; page_pool_out, the pool written in place.
    Weights are uint8 [rows, row_bytes] at their place in the GGUF, named as its tensors.
    """
    return _Builder(spec, file).model()


class _Builder:
    """Collects nodes and initializers in order. Used by one thread for one model."""

    def __init__(self, spec: ModelSpec, file: GGUFFile) -> None:
        self.spec = spec
        self.location = file.path.name
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}

    def model(self) -> ModelProto:
        """The whole graph, from token ids to logits."""
        spec = self.spec
        frequencies = np.asarray(spec.rotary.inverse_frequencies, np.float32)
        self.initializers[FREQUENCIES] = helper.make_tensor(
            FREQUENCIES, TensorProto.FLOAT, frequencies.shape, frequencies.tobytes(), raw=True
        )
        self.node(
            "RotaryAngles", ["positions", FREQUENCIES], [ANGLES], magnitude=spec.rotary.magnitude
        )
        self.node(
            "RowLookup",
            [self.blocks(spec.embedding), "token_ids"],
            ["embedding"],
            format=spec.embedding.format,
            columns=spec.embedding.columns,
        )
        hidden, residual, pool = "embedding", "", "page_pool"
        for index, layer in enumerate(spec.layers):
            is_last = index == len(spec.layers) - 1
            next_pool = "page_pool_out" if is_last else f"blk.{index}.page_pool"
            hidden, residual = self.layer(index, layer, hidden, residual, pool, next_pool)
            pool = next_pool
        logits = self.head(hidden, residual)
        graph = helper.make_graph(
            self.nodes,
            spec.architecture,
            self.inputs(),
            [
                _value(logits, TensorProto.FLOAT, ["R", spec.vocabulary_size]),
                self.pool_value(pool),
            ],
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

    def layer(
        self, index: int, layer: Layer, hidden: str, residual: str, pool: str, next_pool: str
    ) -> tuple[str, str]:
        """One transformer block; gives its feed-forward output and the residual stream."""
        spec, block = self.spec, f"blk.{index}"
        shape: dict[str, Attribute] = {
            "layer": index,
            "heads": spec.heads,
            "kv_heads": spec.kv_heads,
            "head_dim": spec.head_dim,
        }
        rows = ["positions", "row_starts", "page_table"]

        normed, residual = self.norm(f"{block}.attn_norm", layer.attention_norm, hidden, residual)
        query = self.linear(f"{block}.attn_q", layer.query, normed)
        key = self.linear(f"{block}.attn_k", layer.key, normed)
        value = self.linear(f"{block}.attn_v", layer.value, normed)
        rotated, attended = f"{block}.rotary", f"{block}.attention"
        self.node(
            "RotaryPageWrite",
            [query, key, value, *rows, ANGLES, pool],
            [rotated, next_pool],
            style=spec.rotary.style,
            **shape,
        )
        self.node(
            "PagedAttention",
            [rotated, next_pool, *rows],
            [attended],
            scale=spec.attention_scale,
            window=0,
            softcap=0.0,
            **shape,
        )
        hidden = self.linear(f"{block}.attn_output", layer.attention_output, attended)
        normed, residual = self.norm(f"{block}.ffn_norm", layer.feed_forward_norm, hidden, residual)
        gate = self.linear(f"{block}.ffn_gate", layer.gate, normed)
        up = self.linear(f"{block}.ffn_up", layer.up, normed)
        gated = f"{block}.ffn_act"
        self.node("GatedActivation", [gate, up], [gated], activation=spec.activation)
        return self.linear(f"{block}.ffn_down", layer.down, gated), residual

    def head(self, hidden: str, residual: str) -> str:
        """Logits of the wanted rows only: the output matrix is the largest of the model."""
        hidden = self.gather("output.hidden", hidden)
        residual = self.gather("output.residual", residual)
        normed, _ = self.norm("output_norm", self.spec.output_norm, hidden, residual)
        return self.linear("logits", self.spec.output, normed)

    def norm(self, name: str, weight: TensorInfo, hidden: str, residual: str) -> tuple[str, str]:
        """Add to the residual stream and normalize; the first norm's input is the stream."""
        inputs = [hidden, self.vector(weight)]
        if not residual:
            self.node("RMSNorm", inputs, [name], epsilon=self.spec.epsilon)
            return name, hidden
        total = f"{name}.residual"
        self.node("RMSNorm", [*inputs, residual], [name, total], epsilon=self.spec.epsilon)
        return name, total

    def linear(self, name: str, linear: Linear, hidden: str) -> str:
        inputs = [hidden, self.blocks(linear.weight)]
        if linear.bias is not None:
            inputs.append(self.vector(linear.bias))
        info = linear.weight
        self.node(
            "QuantMatMul",
            inputs,
            [name],
            format=info.format,
            columns=info.columns,
            rows=info.rows,
        )
        return name

    def gather(self, name: str, rows: str) -> str:
        self.nodes.append(helper.make_node("Gather", [rows, "logit_rows"], [name], name, axis=0))
        return name

    def node(
        self, kind: str, inputs: list[str], outputs: list[str], **attributes: Attribute
    ) -> None:
        """Append an operator of our domain; a node is called as its first output."""
        node = helper.make_node(kind, inputs, outputs, outputs[0], domain=DOMAIN)
        node.attribute.extend(
            helper.make_attribute(key, value) for key, value in attributes.items()
        )
        self.nodes.append(node)

    def blocks(self, info: TensorInfo) -> str:
        """A matrix as it is stored: uint8 [rows, row_bytes]."""
        return self.external(info, TensorProto.UINT8, (info.rows, info.row_bytes))

    def vector(self, info: TensorInfo) -> str:
        return self.external(info, TensorProto.FLOAT, info.shape)

    def external(self, info: TensorInfo, kind: int, shape: tuple[int, ...]) -> str:
        """The initializer that stands for bytes of the GGUF; one tensor gives one."""
        if info.name not in self.initializers:
            tensor = TensorProto(
                name=info.name,
                data_type=kind,
                dims=shape,
                data_location=TensorProto.EXTERNAL,
            )
            place = {"location": self.location, "offset": info.offset, "length": info.size}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self.initializers[info.name] = tensor
        return info.name

    def inputs(self) -> list[ValueInfoProto]:
        return [
            _value("token_ids", TensorProto.INT32, ["T"]),
            _value("positions", TensorProto.INT32, ["T"]),
            _value("row_starts", TensorProto.INT32, ["B_plus_1"]),
            _value("page_table", TensorProto.INT32, ["B", "P"]),
            _value("logit_rows", TensorProto.INT32, ["R"]),
            self.pool_value("page_pool"),
        ]

    def pool_value(self, name: str) -> ValueInfoProto:
        spec = self.spec
        return _value(
            name,
            TensorProto.FLOAT16,
            [len(spec.layers), "pages", 2, spec.kv_heads, "page_size", spec.head_dim],
        )


def _value(name: str, kind: int, shape: list[str | int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
