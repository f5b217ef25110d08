"""Writes attention over the pages as nodes.

All layers share one pool. A layer with fewer or narrower heads than the pages hold is padded with
zeros, which change no logit and no output.
"""

import numpy as np

from pipelines.conversion.alibi import with_alibi, write_alibi_columns
from pipelines.conversion.architectures import (
    Heads,
    LatentAttention,
    Layer,
    Linear,
    ModelSpec,
    Norm,
    Rotary,
)
from pipelines.conversion.latent_attention import LatentAttentionNodes
from pipelines.conversion.nodes import Nodes, Value
from pipelines.conversion.pools import Pool
from pipelines.conversion.query_temperature import write_query_temperature
from runtime.gguf import GGUFFile, TensorInfo
from runtime.interface import PAGE_POOL, PAGE_POOL_OUT, PAGE_TABLE, POSITIONS, ROW_STARTS

ROWS = {"positions": POSITIONS, "row_starts": ROW_STARTS, "page_table": PAGE_TABLE}


class AttentionNodes:
    """Writes the attention of one block after the other. Used by one thread for one model."""

    def __init__(self, nodes: Nodes, spec: ModelSpec, file: GGUFFile) -> None:
        self.nodes = nodes
        self.spec = spec
        self.file = file
        self.pool = Pool(PAGE_POOL, PAGE_POOL_OUT, writers=spec.attention_layers)
        self.written = PAGE_POOL
        """Current name of the pool."""
        self.places: dict[str, int] = {}
        """Index of each block's layer in the pool."""
        self.angles: dict[Rotary, str] = {}
        self.is_causal = spec.pooling is None or spec.pooling.is_causal

    def prepare(self) -> None:
        """Write the nodes that all blocks share."""
        for layer in self.spec.layers:
            if layer.has_attention:
                self.rotary_angles(layer.rotary)
        if self.spec.query_temperature is not None:
            write_query_temperature(self.nodes, self.spec.query_temperature)
        if self.spec.alibi:
            write_alibi_columns(self.nodes, self.spec.head_dim)

    def of(self, block: str, layer: Layer, hidden: str) -> str:
        """Write attention of a normed input over the pages; return its output [T, heads * V]."""
        spec, nodes = self.spec, self.nodes
        latent = None
        if isinstance(layer.query_key_value, LatentAttention):
            latent = LatentAttentionNodes(nodes, block, layer.query_key_value, layer.heads.count)
            query, key, value = latent.query_key_value(hidden)
        elif layer.reads_pages_of is not None:
            query, key, value = self.query(block, layer, layer.query_key_value, hidden), "", ""
        else:
            query, key, value = self.query_key_value(block, layer, layer.query_key_value, hidden)
        temperature = spec.query_temperature
        is_rotated = bool(layer.rotary.inverse_frequencies)
        if temperature is not None and (temperature.rotated_too or not is_rotated):
            query = nodes.plain("Mul", f"{block}.attn_q_temperature", query, "temperature")
        if layer.reads_pages_of is not None:
            rotated = self.rotated(block, layer, query)
            place = self.places[f"blk.{layer.reads_pages_of}"]
        else:
            rotated, place = self.written_to_pages(block, layer, query, key, value)
        if spec.norm_follows_rotary:
            rotated = self.product_norm(block, layer, rotated)
        attended = f"{block}.attention"
        nodes.node(
            "PagedAttention",
            {**ROWS, "q": rotated, "pool": self.written, "sinks": self.sinks(block, layer)},
            {"y": attended},
            scale=spec.attention_scale,
            window=layer.window,
            softcap=spec.attention_softcap,
            **({} if self.is_causal else {"causal": 0}),
            **self.shape(layer.heads, place),
        )
        if latent is not None:
            attended = latent.answers(attended)
        else:
            attended = self.answers(attended, layer.heads)
        if layer.gate is not None:
            attended = self.gated_answers(block, layer, layer.gate, hidden, attended)
        if layer.has_query_gate:
            opened = nodes.plain("Sigmoid", f"{block}.attn_gate_open", f"{block}.attn_gate")
            attended = nodes.plain("Mul", f"{block}.attn_gated", attended, opened)
        return nodes.scaled(attended, spec.value_scale)

    def shape(self, heads: Heads, place: int) -> dict[str, Value]:
        """Return the attributes of a block whose pages are layer `place` of the pool."""
        return {
            "layer": place,
            "heads": self.page_heads(heads),
            "kv_heads": self.spec.kv_heads,
            "head_dim": self.spec.head_dim,
        }

    def page_heads(self, heads: Heads) -> int:
        """Return the number of query heads after padding the KV heads to those of the pages."""
        return heads.count // heads.kv * self.spec.kv_heads

    def written_to_pages(
        self, block: str, layer: Layer, query: str, key: str, value: str
    ) -> tuple[str, int]:
        """Write keys and values to the pages; return rotated queries and the layer of the pool."""
        heads, before = layer.heads, self.written
        _, self.written = self.pool.written_by(block)
        place = self.places[block] = self.pool.written - 1
        if not isinstance(layer.query_key_value, LatentAttention):
            kv_heads = self.spec.kv_heads
            query = self.widened(query, heads.count, heads.width, self.page_heads(heads))
            key = self.widened(key, heads.kv, heads.width, kv_heads)
            value = self.widened(value, heads.kv, heads.value, kv_heads)
        if self.spec.alibi:
            query, key = with_alibi(
                self.nodes, self.spec, block, self.page_heads(heads), query, key
            )
        rotated = f"{block}.rotary"
        angles = self.rotary_angles(layer.rotary)
        self.nodes.node(
            "RotaryPageWrite",
            {**ROWS, "q": query, "k": key, "v": value, "angles": angles, "pool": before},
            {"q_rotated": rotated, "pool_written": self.written},
            style=layer.rotary.style,
            **self.shape(heads, place),
        )
        return rotated, place

    def widened(self, name: str, heads: int, width: int, page_heads: int) -> str:
        """Return heads padded with zeros to the width and number of heads of the pages."""
        head_dim = self.spec.head_dim
        if (heads, width) == (page_heads, head_dim):
            return name
        nodes, pads = self.nodes, (page_heads - heads, head_dim - width)
        behind = np.array([0, 0, 0, 0, *pads], np.int64)
        by_head = nodes.reshaped(f"{name}.heads", name, heads, width)
        zeros = nodes.stored(f"{pads[0]}_{pads[1]}.behind", behind)
        wide = nodes.plain("Pad", f"{name}.wide", by_head, zeros)
        return nodes.reshaped(f"{name}.flat", wide, page_heads * head_dim)

    def answers(self, attended: str, heads: Heads) -> str:
        """Return the output of a layer's heads, [T, heads * value], without the padding."""
        page_heads, head_dim, nodes = self.page_heads(heads), self.spec.head_dim, self.nodes
        if (heads.count, heads.value) == (page_heads, head_dim):
            return attended
        by_head = nodes.reshaped(f"{attended}.heads", attended, page_heads, head_dim)
        for axis, some, all_ in ((1, heads.count, page_heads), (2, heads.value, head_dim)):
            if some < all_:
                parts = f"{by_head}.{axis}", f"{by_head}.{axis}.rest"
                nodes.split(by_head, parts, (some, all_ - some), axis=axis)
                by_head = parts[0]
        return nodes.reshaped(f"{attended}.answers", by_head, heads.count * heads.value)

    def sinks(self, block: str, layer: Layer) -> str:
        """Return the attention sinks of a layer's heads, padded; "" if it has none."""
        if layer.sinks is None:
            return ""
        sinks, heads = self.nodes.vector(layer.sinks), layer.heads
        missing = self.page_heads(heads) - heads.count
        if not missing:
            return sinks
        behind = self.nodes.stored(f"{missing}.sinks_behind", np.array([0, missing], np.int64))
        return self.nodes.plain("Pad", f"{block}.attn_sinks.wide", sinks, behind)

    def rotated(self, block: str, layer: Layer, query: str) -> str:
        """Rotate the queries of a layer that reads another's pages, as RotaryPageWrite does."""
        nodes, heads, rotary = self.nodes, layer.heads, layer.rotary
        half, name = len(rotary.inverse_frequencies), f"{block}.rotary"
        query = self.widened(query, heads.count, heads.width, self.page_heads(heads))
        if not half:
            return query
        assert rotary.style == "neox"
        page_heads, head_dim = self.page_heads(heads), self.spec.head_dim
        angles = nodes.reshaped(f"{name}.angles", self.rotary_angles(rotary), 1, 2 * half)
        by_head = nodes.reshaped(f"{name}.heads", query, page_heads, head_dim)
        cosines, sines = f"{name}.cosines", f"{name}.sines"
        nodes.split(angles, (cosines, sines), (half, half), axis=2)
        first, second, rest = (f"{name}.{part}" for part in ("first", "second", "rest"))
        if head_dim == 2 * half:
            nodes.split(by_head, (first, second), (half, half), axis=2)
        else:
            nodes.split(by_head, (first, second, rest), (half, half, head_dim - 2 * half), axis=2)
        turned = []
        for kind, left, right in (("Sub", first, second), ("Add", second, first)):
            along = nodes.plain("Mul", f"{left}.along", left, cosines)
            across = nodes.plain("Mul", f"{right}.across", right, sines)
            turned.append(nodes.plain(kind, f"{left}.turned", along, across))
        parts = turned if head_dim == 2 * half else [*turned, rest]
        joined = nodes.joined(f"{name}.joined", *parts, axis=2)
        return nodes.reshaped(name, joined, page_heads * head_dim)

    def gated_answers(
        self, block: str, layer: Layer, weights: Linear, hidden: str, attended: str
    ) -> str:
        """Return the heads' outputs, each value or each head times the sigmoid of its gate."""
        nodes, heads = self.nodes, layer.heads.count
        gate = nodes.linear(f"{block}.attn_gate", weights, hidden)
        if self.spec.gate_function == "softplus":
            gate = nodes.softplus(f"{gate}_open", gate)
        else:
            gate = nodes.plain("Sigmoid", f"{gate}_open", gate)
        if weights.weight.rows != heads:
            return nodes.plain("Mul", f"{gate}_answers", attended, gate)
        by_head = nodes.reshaped(f"{attended}.by_head", attended, heads, -1)
        gate = nodes.reshaped(f"{gate}.by_head", gate, heads, 1)
        answers = nodes.plain("Mul", f"{gate}_answers", by_head, gate)
        return nodes.reshaped(f"{answers}.flat", answers, -1)

    def query(self, block: str, layer: Layer, linears: tuple[Linear, ...], hidden: str) -> str:
        """Write the queries alone, normalized."""
        (linear,), name = linears, f"{block}.attn_q"
        query = self.clamped(self.nodes.linear(name, linear, hidden))
        if layer.query_norm is None:
            return query
        return self.normed(query, layer.query_norm, layer.heads.count, layer.heads.width)

    def query_key_value(
        self, block: str, layer: Layer, linears: tuple[Linear, ...], hidden: str
    ) -> tuple[str, ...]:
        """Write queries, keys and values; the former normalized if that precedes rotation."""
        names = tuple(f"{block}.attn_{each}" for each in "qkv")
        spec, nodes, heads = self.spec, self.nodes, layer.heads
        if len(linears) == 1:
            fused = nodes.linear(f"{block}.attn_qkv", linears[0], hidden)
            queries = heads.count * heads.width * (2 if layer.has_query_gate else 1)
            widths = (queries, heads.kv * heads.width, heads.kv * heads.value)
            nodes.split(fused, names, widths)
        else:
            for name, linear in zip(names, linears, strict=False):
                nodes.linear(name, linear, hidden)
        if layer.has_query_gate:
            names = (self.query_of(block, names[0], heads), *names[1:])
        query, key = self.clamped(names[0]), self.clamped(names[1])
        value = key if len(linears) == 2 else self.clamped(names[2])
        if spec.normalizes_values:
            ones = nodes.stored(f"{heads.value}.ones", np.ones(heads.value, np.float32))
            value = nodes.rms_norm(f"{block}.attn_v_norm", value, ones)
        if spec.unit_query_key_norm and layer.rotary.inverse_frequencies:
            # A rotation keeps lengths, so these norms may come before it.
            ones = nodes.stored(f"{heads.width}.ones", np.ones(heads.width, np.float32))
            query = nodes.rms_norm(f"{query}_norm", query, ones)
            return query, nodes.rms_norm(f"{key}_norm", key, ones), value
        if layer.query_norm is None or layer.key_norm is None:
            return query, key, value
        if spec.norm_follows_rotary:
            ones = nodes.stored("key_norm.ones", np.ones(heads.width, np.float32))
            return query, nodes.rms_norm(f"{key}_norm", key, ones), value
        return (
            self.normed(query, layer.query_norm, heads.count, heads.width),
            self.normed(key, layer.key_norm, heads.kv, heads.width),
            value,
        )

    def normed(self, name: str, weights: TensorInfo | Norm, heads: int, width: int) -> str:
        """Queries or keys, with one norm for all heads or a LayerNorm of each."""
        nodes, normed = self.nodes, f"{name}_norm"
        if isinstance(weights, TensorInfo):
            return nodes.rms_norm(normed, name, nodes.vector(weights))
        assert weights.weight is not None
        ones = nodes.stored(f"{width}.ones", np.ones(width, np.float32))
        rows = nodes.stored(f"{width}.head_rows", np.array([-1, width], np.int64))
        by_head = nodes.plain("Reshape", f"{normed}.rows", name, rows)
        even = nodes.normed("LayerNorm", f"{normed}.even", by_head, ones, "")
        result = nodes.reshaped_rows(f"{normed}.heads", even, heads, width)
        result = nodes.plain("Mul", f"{normed}.weighted", result, nodes.vector(weights.weight))
        if weights.bias is not None:
            result = nodes.plain("Add", f"{normed}.biased", result, nodes.vector(weights.bias))
        return nodes.reshaped(normed, result, heads * width)

    def query_of(self, block: str, both: str, heads: Heads) -> str:
        """Split a projection into queries, which it returns, and `block`.attn_gate."""
        nodes, width = self.nodes, heads.width
        parts = tuple(f"{block}.attn_{each}_heads" for each in ("query", "gate"))
        by_head = nodes.reshaped(f"{both}.heads", both, heads.count, 2 * width)
        nodes.split(by_head, parts, (width, width), axis=2)
        query, gate = parts
        nodes.reshaped(f"{block}.attn_gate", gate, heads.count * width)
        return nodes.reshaped(f"{block}.attn_query", query, heads.count * width)

    def clamped(self, name: str) -> str:
        """Return values clamped to the bounds of the family."""
        if not self.spec.clamp:
            return name
        bounds = self.nodes.number(-self.spec.clamp), self.nodes.number(self.spec.clamp)
        return self.nodes.plain("Clip", f"{name}.clamped", name, *bounds)

    def product_norm(self, block: str, layer: Layer, query: str) -> str:
        """Return normalized rotated queries, times the weights of the keys' norm.

        A norm divides by a length, which a rotation keeps, so keys are divided before they are
        rotated and written. Their weights have the same effect when applied to the queries.
        """
        assert isinstance(layer.query_norm, TensorInfo)
        assert isinstance(layer.key_norm, TensorInfo)
        weights = self.file.dequantize(layer.query_norm.name)
        weights = weights * self.file.dequantize(layer.key_norm.name)
        name = f"{block}.attn_q_norm"
        return self.nodes.rms_norm(name, query, self.nodes.stored(f"{name}.product", weights))

    def rotary_angles(self, rotary: Rotary) -> str:
        """Return the angles of the step's tokens, computed once for layers with equal rotation."""
        if rotary not in self.angles:
            prefix = f"rotary.{len(self.angles)}" if self.angles else "rotary"
            self.angles[rotary] = f"{prefix}.angles"
            frequencies = np.asarray(rotary.inverse_frequencies, np.float32)
            self.nodes.node(
                "RotaryAngles",
                {
                    "positions": POSITIONS,
                    "inverse_frequencies": self.nodes.stored(
                        f"{prefix}.inverse_frequencies", frequencies
                    ),
                },
                {"angles": self.angles[rotary]},
                magnitude=rotary.magnitude,
            )
        return self.angles[rotary]
