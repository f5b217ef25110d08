"""A tiny random model of any supported architecture, as a description and as a GGUF file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from tests.block_formats import weights as weights_of
from tests.models import byte_level_vocabulary
from tests.tiny_recurrences import Recurrent, Value

QKV = ("attn_q", "attn_k", "attn_v")


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """The shape of a model; keys of `metadata` stand below the architecture's name."""

    architecture: str
    layers: int = 3
    embedding: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    value_dim: int = 0
    """0: the head's width."""
    feed_forward: int = 96
    varied: "Varied | None" = None
    context: int = 256
    norms: Sequence[str] = ("attn_norm", "ffn_norm")
    query_key_norm: str = ""
    """A norm per "head" or over the whole "width", or one of its own for each of the "heads"."""
    norm_biases: bool = False
    norm_weights: bool = True
    epsilon_key: str = "attention.layer_norm_rms_epsilon"
    fused: Sequence[str] = ()
    """Of "attn_qkv" and "ffn_up"."""
    biases: Sequence[str] = ()
    tied: bool = True
    gated: bool = True
    """The feed-forward has a gate."""
    attention_gate: str = ""
    """A factor of what the heads answer, for each "head" or each "value"."""
    embedding_norm: bool = False
    streams: int = 0
    """Residual streams, as Gemma 3n has them."""
    position_embedding: bool = False
    sinks: bool = False
    sink_layers: Sequence[int] = ()
    """Only these, where there are some."""
    divisors: Mapping[str, float] = field(default_factory=dict)
    """Tensors of rope divisors, each with its largest."""
    metadata: Mapping[str, Value] = field(default_factory=dict)
    latent: "Latent | None" = None
    recurrent: Recurrent | None = None
    query_gate: bool = False
    recurrent_layers: Sequence[int] = ()
    """Layers that have it in the place of attention, or beside it."""
    beside_attention: bool = False
    one_part: bool = False
    """A layer is a recurrence, attention or, in `feed_forward_layers`, a feed-forward."""
    feed_forward_layers: Sequence[int] = ()
    bare_norms: Sequence[str] = ()
    """Norms whose names do not end in "weight"."""
    latent_experts: int = 0
    """Width of what experts read; 0: the model's own."""
    output_norm: str = "output_norm"
    """Empty in a model without."""
    token_types: int = 0
    first_norm: bool = True
    """The first block has an `attn_norm`."""
    projected: int = 0
    """Width between two matrices behind the pooled row."""
    classifier_input: bool = False
    classes: Sequence[str] = ()
    """Names of what a text is scored for."""
    inner_norms: bool = False
    """What goes into the output matrices is normalized."""
    scales: Sequence[str] = ()
    """Matrices with a factor."""
    indexer: bool = False
    """Keys are selected."""
    block_indexer: bool = False
    """Blocks of keys are selected, in layers with experts."""
    experts: int = 0
    used: int = 3
    """Experts that answer for a token."""
    dense: int = 0
    """Layers at the beginning that have no experts."""
    selection_bias: bool = False
    selection_bias_name: str = "exp_probs_b.bias"
    shared: int = 0
    """Rows of a shared expert."""
    shared_gate: bool = True
    beside: int = 0
    """Rows of a feed-forward beside the experts."""
    format: str = "F32"
    formats: Mapping[str, str] = field(default_factory=dict)
    """Of matrices that have another, by the last part of their names."""
    gain: float = 1.5
    """Of matrices: through many layers a large one makes much of any rounding."""
    embedding_gain: float = 4.0


@dataclass(frozen=True, kw_only=True)
class Varied:
    """What differs between layers; each as many as there are layers, or none."""

    heads: Sequence[int] = ()
    kv_heads: Sequence[int] = ()
    head_dims: Sequence[int] = ()
    feed_forward: Sequence[int] = ()
    keys_as_values: Sequence[int] = ()
    """Layers without matrices of values."""
    shared: int = 0
    """Layers at the end that have no keys and values of their own."""
    layer_embedding: int = 0
    """Width of what each layer gets of each token."""

    def has_attention(self, layer: int) -> bool:
        """Whether the layer has heads, or a matrix in their place."""
        return not self.heads or self.heads[layer] > 0

    def is_empty(self, layer: int) -> bool:
        """Whether the layer has nothing at all."""
        return bool(self.feed_forward) and self.feed_forward[layer] == 0

    def keys(self) -> dict[str, Value]:
        """What stands in the file's metadata."""
        keys: dict[str, Value] = {}
        for key, values in (
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("feed_forward_length", self.feed_forward),
        ):
            if values:
                keys[key] = values
        return keys


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Widths of latent attention, whose rotated part `rope.dimension_count` gives."""

    width: int = 32
    plain: int = 16
    rotated: int = 8
    value: int = 24
    query: int = 0
    """Width that queries are narrowed to; 0 for no narrowing."""
    split: bool = True

    def keys(self, heads: int) -> dict[str, Value]:
        """What stands in the file's metadata."""
        keys: dict[str, Value] = {
            "attention.kv_lora_rank": self.width,
            "rope.dimension_count": self.rotated,
        }
        if self.query:
            keys["attention.q_lora_rank"] = self.query
        key = self.plain + self.rotated
        if not self.split:
            own = {"attention.key_length": key, "attention.value_length": self.value}
            return keys | own | {"attention.head_count_kv": heads}
        return keys | {
            "attention.head_count_kv": 1,
            "attention.key_length": self.width + self.rotated,
            "attention.value_length": self.width,
            "attention.key_length_mla": key,
            "attention.value_length_mla": self.value,
        }


def write_tiny_model(path: Path, model: TinyModel, *, seed: int = 0) -> Path:
    """Write the model with random weights and return its path."""
    writing = Writing(path, model, seed)
    writing.header()
    writing.weights()
    writing.close()
    return path


class Writing:
    def __init__(self, path: Path, model: TinyModel, seed: int) -> None:
        self.model = model
        self.random = np.random.default_rng(seed)
        self.vocabulary = byte_level_vocabulary()
        self.writer = GGUFWriter(path, model.architecture)

    def header(self) -> None:
        model = self.model
        keys: dict[str, Value] = {
            "context_length": model.context,
            "embedding_length": model.embedding,
            "block_count": model.layers,
            "feed_forward_length": model.feed_forward,
            "attention.head_count": model.heads,
            "attention.head_count_kv": model.kv_heads,
            "attention.key_length": model.head_dim,
            "attention.value_length": model.value_dim or model.head_dim,
            model.epsilon_key: 1e-5,
            "rope.dimension_count": model.head_dim,
            "rope.freq_base": 10000.0,
            "vocab_size": len(self.vocabulary.tokens),
            **(model.latent.keys(model.heads) if model.latent else {}),
            **(model.recurrent.keys(model) if model.recurrent else {}),
            **(model.varied.keys() if model.varied else {}),
            **model.metadata,
        }
        if model.experts:
            keys |= {"expert_count": model.experts, "expert_used_count": model.used}
            keys["expert_feed_forward_length"] = model.feed_forward
        if model.shared:
            keys["expert_shared_feed_forward_length"] = model.shared
        for key, value in keys.items():
            is_common = key.startswith("xielu.")
            self.add(key if is_common else f"{model.architecture}.{key}", value)
        if model.token_types:
            self.writer.add_token_type_count(model.token_types)
        if model.classes:
            self.writer.add_classifier_output_labels(list(model.classes))
        self.vocabulary.write(self.writer)

    def add(self, key: str, value: Value) -> None:
        if isinstance(value, bool):
            self.writer.add_bool(key, value)
        elif isinstance(value, int):
            self.writer.add_uint32(key, value)
        elif isinstance(value, float):
            self.writer.add_float32(key, value)
        elif isinstance(value, str):
            self.writer.add_string(key, value)
        else:
            self.writer.add_array(key, list(value))

    def weights(self) -> None:
        model = self.model
        width, tokens = model.embedding, len(self.vocabulary.tokens)
        self.matrix("token_embd", tokens, width, gain=model.embedding_gain)
        for name in ("altup_proj", "altup_unembd_proj") if model.streams else ():
            others = model.streams - 1
            self.matrix(name, others * width, width, stack=others)
        if model.position_embedding:
            self.matrix("position_embd", model.context, width, gain=4.0)
        if model.embedding_norm:
            self.norm("token_embd_norm")
        if model.varied and model.varied.layer_embedding:
            part = model.varied.layer_embedding
            self.matrix("per_layer_token_embd", tokens, part * model.layers, gain=4.0)
            self.matrix("per_layer_model_proj", part * model.layers, width)
            self.vector("per_layer_proj_norm.weight", part, mean=1.0)
        for block in (f"blk.{index}" for index in range(model.layers)):
            has_attention = not model.varied or model.varied.has_attention(int(block[4:]))
            for norm in model.norms:
                if norm == "attn_norm" and not has_attention:
                    continue
                if model.varied and model.varied.is_empty(int(block[4:])):
                    continue
                if norm == "attn_norm" and block == "blk.0" and not model.first_norm:
                    continue
                self.norm(f"{block}.{norm}")
            if model.sinks and int(block[4:]) in (model.sink_layers or range(model.layers)):
                self.vector(f"{block}.attn_sinks.weight", model.heads, mean=1.0)
            is_recurrent = int(block[4:]) in model.recurrent_layers
            is_fed = int(block[4:]) in model.feed_forward_layers or not model.one_part
            if model.recurrent and is_recurrent:
                model.recurrent.write(self, block)
            if has_attention and (
                model.beside_attention or not (is_recurrent or (model.one_part and is_fed))
            ):
                self.attention(block)
            if not is_fed:
                continue
            if model.experts and int(block[4:]) >= model.dense:
                self.experts(block)
                if model.beside:
                    self.feed_forward(block, replace(model, feed_forward=model.beside))
            else:
                self.feed_forward(block, model)
        if model.output_norm:
            self.norm(model.output_norm)
        self.behind_pooling()
        if not model.tied:
            self.matrix("output", tokens, width, gain=4.0)
        for name, largest in model.divisors.items():
            rotated = model.metadata.get("rope.dimension_count", model.head_dim)
            if model.latent:
                rotated = model.latent.rotated
            assert isinstance(rotated, int)
            divisors = np.linspace(1.0, largest, rotated // 2, dtype=np.float32)
            self.writer.add_tensor(name, divisors)

    def behind_pooling(self) -> None:
        """Write what a pooled row is multiplied with."""
        model, width = self.model, self.model.embedding
        if model.token_types:
            self.matrix("token_types", model.token_types, width, gain=4.0)
        if model.projected:
            self.matrix("dense_2", model.projected, width)
            self.matrix("dense_3", width, model.projected)
        if model.classifier_input:
            self.matrix("cls", width, width)
        if model.classes:
            self.matrix("cls.output", len(model.classes), width)

    def latent_attention(self, block: str, latent: Latent) -> None:
        width, heads = self.model.embedding, self.model.heads
        queries = heads * (latent.plain + latent.rotated)
        if latent.query:
            self.matrix(f"{block}.attn_q_a", latent.query, width)
            self.vector(f"{block}.attn_q_a_norm.weight", latent.query, mean=1.0)
            self.matrix(f"{block}.attn_q_b", queries, latent.query)
        else:
            self.matrix(f"{block}.attn_q", queries, width)
        self.matrix(f"{block}.attn_kv_a_mqa", latent.width + latent.rotated, width)
        self.vector(f"{block}.attn_kv_a_norm.weight", latent.width, mean=1.0)
        if latent.split:
            self.matrix(f"{block}.attn_k_b", heads * latent.width, latent.plain, stack=heads)
            self.matrix(f"{block}.attn_v_b", heads * latent.value, latent.width, stack=heads)
        else:
            self.matrix(f"{block}.attn_kv_b", heads * (latent.plain + latent.value), latent.width)
        self.matrix(f"{block}.attn_output", width, heads * latent.value)
        if self.model.indexer:
            self.indexer(f"{block}.indexer", latent.query)

    def indexer(self, name: str, narrow: int) -> None:
        """What selects keys."""
        heads, width = 2, 64
        self.matrix(f"{name}.attn_q_b", heads * width, narrow)
        self.matrix(f"{name}.attn_k", width, self.model.embedding)
        self.matrix(f"{name}.proj", heads, self.model.embedding)
        self.vector(f"{name}.k_norm.weight", width, mean=1.0)
        self.vector(f"{name}.k_norm.bias", width, mean=0.0)

    def attention(self, block: str) -> None:
        model = self.model
        if model.latent:
            return self.latent_attention(block, model.latent)
        index, varied = int(block[4:]), model.varied or Varied()
        heads = varied.heads[index] if varied.heads else model.heads
        kv_heads = varied.kv_heads[index] if varied.kv_heads else model.kv_heads
        width = varied.head_dims[index] if varied.head_dims else model.head_dim
        value = model.value_dim or width
        if kv_heads == 0:
            return self.matrix(f"{block}.attn_output", model.embedding, model.embedding)
        rows = {"q": heads * width, "k": kv_heads * width, "v": kv_heads * value}
        if index >= model.layers - varied.shared:
            rows = {"q": heads * width}
        elif index in varied.keys_as_values:
            del rows["v"]
        if model.query_gate:
            rows["q"] *= 2
        if "attn_qkv" in model.fused:
            self.matrix(f"{block}.attn_qkv", sum(rows.values()), model.embedding)
        else:
            for name, count in rows.items():
                self.matrix(f"{block}.attn_{name}", count, model.embedding)
        self.matrix(f"{block}.attn_output", model.embedding, heads * value)
        if model.inner_norms:
            self.vector(f"{block}.attn_sub_norm.weight", heads * value, mean=1.0)
        if model.block_indexer and index >= model.dense:
            for name, count in (("q", 2), ("k", 1)):
                self.matrix(f"{block}.indexer.{name}_proj", 64 * count, model.embedding)
                self.vector(f"{block}.indexer.{name}_norm.weight", 64, mean=1.0)
        if model.attention_gate:
            of_gate = heads if model.attention_gate == "head" else heads * value
            self.matrix(f"{block}.attn_gate", of_gate, model.embedding)
        for name in rows if model.query_key_norm else ():
            if name != "v" and model.query_key_norm == "heads":
                each = {"q": heads, "k": kv_heads}[name], width
                self.table(f"{block}.attn_{name}_norm.weight", *each)
            elif name != "v":
                count = width if model.query_key_norm == "head" else rows[name]
                self.vector(f"{block}.attn_{name}_norm.weight", count, mean=1.0)
        if varied.layer_embedding:
            self.matrix(f"{block}.inp_gate", varied.layer_embedding, model.embedding)
            self.matrix(f"{block}.proj", model.embedding, varied.layer_embedding)
            self.norm(f"{block}.post_norm")
            if not model.streams:
                self.vector(f"{block}.layer_output_scale.weight", 1, mean=1.0)
        if model.streams:
            self.mixing(block, model.streams)

    def mixing(self, block: str, streams: int) -> None:
        """Between the streams around a block."""
        width, rank = self.model.embedding, 64
        self.matrix(f"{block}.altup_correct_coef", streams, streams, gain=0.3)
        self.vector(f"{block}.altup_correct_scale.weight", width, mean=1.0)
        self.matrix(f"{block}.altup_predict_coef", streams**2, streams, gain=0.3)
        self.matrix(f"{block}.altup_router", streams, width, gain=0.5 * width)
        self.norm(f"{block}.altup_router_norm")
        self.matrix(f"{block}.laurel_l", rank, width)
        self.matrix(f"{block}.laurel_r", width, rank)
        self.norm(f"{block}.laurel_post_norm")

    def experts(self, block: str) -> None:
        model = self.model
        self.matrix(f"{block}.ffn_gate_inp", model.experts, model.embedding, gain=3.0)
        if model.selection_bias:
            self.vector(f"{block}.{model.selection_bias_name}", model.experts, mean=0.0)
        names = ("ffn_gate", "ffn_up", "ffn_down") if model.gated else ("ffn_up", "ffn_down")
        inner = model.latent_experts or model.embedding
        for name in names:
            shape, of_shared = (model.feed_forward, inner), (model.shared, model.embedding)
            if name == "ffn_down":
                shape, of_shared = shape[::-1], of_shared[::-1]
            rows, columns = shape
            if "ffn_gate_up_exps" in model.fused and name != "ffn_down":
                each, rows = "ffn_gate_up_exps", 2 * rows if name == "ffn_gate" else 0
            else:
                each = f"{name}_exps"
            if rows:
                matrices = model.experts
                self.matrix(f"{block}.{each}", matrices * rows, columns, stack=matrices)
            if model.shared:
                self.matrix(f"{block}.{name}_shexp", *of_shared)
        if model.latent_experts:
            self.matrix(f"{block}.ffn_latent_down", inner, model.embedding)
            self.matrix(f"{block}.ffn_latent_up", model.embedding, inner)
        if model.shared and model.shared_gate:
            self.vector(f"{block}.ffn_gate_inp_shexp.weight", model.embedding, mean=0.0)

    def feed_forward(self, block: str, model: TinyModel) -> None:
        if model.varied and model.varied.feed_forward:
            hidden = model.varied.feed_forward[int(block[4:])]
            model = replace(model, feed_forward=hidden, varied=None)
        if not model.feed_forward:
            return
        if model.inner_norms:
            self.vector(f"{block}.ffn_sub_norm.weight", model.feed_forward, mean=1.0)
        if not model.gated:
            self.matrix(f"{block}.ffn_up", model.feed_forward, model.embedding)
        elif "ffn_up" in model.fused:
            self.matrix(f"{block}.ffn_up", 2 * model.feed_forward, model.embedding)
        else:
            self.matrix(f"{block}.ffn_gate", model.feed_forward, model.embedding)
            self.matrix(f"{block}.ffn_up", model.feed_forward, model.embedding)
        self.matrix(f"{block}.ffn_down", model.embedding, model.feed_forward)

    def matrix(
        self, name: str, rows: int, columns: int, gain: float | None = None, stack: int = 0
    ) -> None:
        """A matrix, or `stack` of them one after the other."""
        gain = self.model.gain if gain is None else gain
        last = name.rpartition(".")[2]
        format = self.model.formats.get(last, self.model.format)
        kind = GGMLQuantizationType[format]
        stored = weights_of(self.random, format, rows, columns, gain / columns**0.5)
        if stack:
            stored = stored.reshape(stack, rows // stack, -1)
        self.writer.add_tensor(f"{name}.weight", stored, raw_dtype=kind)
        if last in self.model.scales:
            self.vector(f"{name}.scale", stack or 1, mean=1.0)
        if last in self.model.biases:
            self.vector(f"{name}.bias", rows, mean=0.0, stack=stack)

    def table(self, name: str, *shape: int) -> None:
        """A float32 array."""
        self.writer.add_tensor(name, self.random.standard_normal(shape, np.float32))

    def norm(self, name: str) -> None:
        """The weights of a norm over whole rows."""
        suffix = "" if name.rpartition(".")[2] in self.model.bare_norms else ".weight"
        if self.model.norm_weights:
            self.vector(f"{name}{suffix}", self.model.embedding, mean=1.0)
        if self.model.norm_biases:
            self.vector(f"{name}.bias", self.model.embedding, mean=0.0)

    def vector(self, name: str, length: int, *, mean: float, stack: int = 0) -> None:
        drawn = self.random.standard_normal(length, np.float32)
        if stack:
            drawn = drawn.reshape(stack, -1)
        self.writer.add_tensor(name, (mean + 0.3 * drawn).astype(np.float32))

    def close(self) -> None:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
