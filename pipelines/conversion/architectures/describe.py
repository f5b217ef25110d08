"""A GGUF file -> ModelSpec, or one error that names what does not fit or is not supported."""

from pipelines.conversion.architectures.choice import choice
from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.latent import LatentShape
from pipelines.conversion.architectures.recurrence import short_convolution
from pipelines.conversion.architectures.rotation import latent_scale, rotaries, windows
from pipelines.conversion.architectures.spec import (
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    Linear,
    ModelSpec,
    QueryTemperature,
    Rotary,
)
from pipelines.conversion.architectures.table import ARCHITECTURES, Architecture
from runtime.errors import UnsupportedModel
from runtime.gguf import GGUFFile, TensorInfo


def describe(file: GGUFFile) -> ModelSpec:
    """Describe the model of a GGUF file.

    Raises UnsupportedModel, naming what is not supported: an architecture, a block format, a
    tensor the graph would leave unread, a key that changes the arithmetic. Raises GGUFError for
    a missing key or tensor and for a wrong shape.
    """
    architecture = ARCHITECTURES.get(file.architecture)
    if architecture is None:
        raise UnsupportedModel(
            f"{file.path}: architecture {file.architecture!r} is not supported; "
            f"supported are: {', '.join(sorted(ARCHITECTURES))}"
        )
    if (parts := file.metadata.get("split.count", 1)) not in (0, 1):
        raise UnsupportedModel(
            f"{file.path} is one of {parts} parts (split.count); merge them with `llama-gguf-split`"
        )
    return _Reader(architecture, file).spec()


class _Reader:
    """Reads the keys and tensors of one file. Used by one thread during describe."""

    def __init__(self, architecture: Architecture, file: GGUFFile) -> None:
        self.architecture = architecture
        self.file = file
        self.keys = keys = Keys(file)
        self.tensors = Tensors(file)
        self.width = keys.count("embedding_length")
        self.heads = keys.count("attention.head_count")
        self.kv_heads_of = self._kv_heads_of_layers()
        self.kv_heads = max(self.kv_heads_of)
        self.latent: LatentShape | None = None
        if architecture.latent_attention:
            self.latent = LatentShape.of(keys, self.heads)
            self.kv_heads, self.head_dim = self.latent.kv_heads, self.latent.head_dim
            return
        if self.heads % self.kv_heads:
            keys.fail(
                "attention.head_count",
                f"is {self.heads}, no multiple of the {self.kv_heads} KV heads",
            )
        default = max(1, self.width // self.heads)
        self.head_dim = keys.count("attention.key_length", default)
        if keys.count("attention.value_length", default) != self.head_dim:
            keys.refuse("attention.value_length", f"differs from the key length {self.head_dim}")

    def _kv_heads_of_layers(self) -> tuple[int, ...]:
        """Key-value heads of each layer: one and the same number, or none where it is recurrent."""
        key = "attention.head_count_kv"
        if self.architecture.recurrence == "none":
            return (self.keys.count(key, self.heads),)
        counts = self.keys.counts(key, self.heads, self.keys.layer_count())
        if len(set(counts) - {0}) != 1:
            self.keys.refuse(key, "differs between layers with attention")
        return counts

    def spec(self) -> ModelSpec:
        """The whole model; every tensor is read and no key left out."""
        keys, tensors, row = self.keys, self.tensors, self.architecture
        count = keys.layer_count() - self.draft_layers()
        embedding = tensors.matrix("token_embd.weight", None, self.width)
        window_of = windows(keys, row, count)
        rotary_of = rotaries(keys, tensors, row, self.head_dim, window_of)
        layers = tuple(
            self.layer(index, rotary_of[index], window_of[index]) for index in range(count)
        )
        scale = self.attention_scale(count)
        if self.latent is not None:
            scale = latent_scale(keys, rotary_of[0], self.latent.key)
        is_tied = row.tied_only or "output.weight" not in tensors
        spec = ModelSpec(
            architecture=row.name,
            parameters=sum(info.rows * info.columns for info in self.file.tensors.values()),
            context_length=self.context_length(),
            vocabulary_size=embedding.rows,
            embedding_length=self.width,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            norm_kind=row.norm_kind,
            epsilon=keys.positive(
                "attention.layer_norm_rms_epsilon"
                if row.norm_kind == "rms"
                else "attention.layer_norm_epsilon"
            ),
            is_parallel=row.norms == "parallel",
            norm_follows_rotary=row.query_key_norm == "after",
            attention_scale=scale,
            attention_softcap=self.softcap("attn_logit_softcapping", row.attention_softcap),
            query_temperature=self.query_temperature(),
            activation=row.activation,
            embedding_scale=self.embedding_scale(),
            residual_scale=self.scale("residual_scale"),
            logit_scale=self.logit_scale(),
            logit_softcap=self.softcap("final_logit_softcapping", row.logit_softcap),
            embedding=embedding,
            layers=layers,
            output_norm=tensors.vector(f"{row.output_norm}.weight", self.width),
            output=Linear(embedding, None)
            if is_tied
            else tensors.linear("output", embedding.rows, self.width),
            folded=frozenset(tensors.folded),
        )
        tensors.refuse_unread()
        keys.refuse_unread()
        keys.expect_vocabulary(spec.vocabulary_size)
        return spec

    def draft_layers(self) -> int:
        """Blocks at the end that only guess tokens further ahead; they are left out."""
        key = "nextn_predict_layers"
        drafts = self.keys.count_or_zero(key) if key in self.architecture.reads else 0
        if drafts == 0:
            return 0
        count = self.keys.layer_count()
        if drafts >= count:
            self.keys.fail(key, f"is {drafts} of {count} layers")
        for index in range(count - drafts, count):
            self.tensors.leave_out(f"blk.{index}")
        return drafts

    def layer(self, index: int, rotary: Rotary, window: int) -> Layer:
        """One block, with the norms that its family has."""
        block = f"blk.{index}"
        if self.architecture.recurrence != "none" and self.kv_heads_of[index] == 0:
            return self.recurrent_layer(block, rotary)
        norms, query_key_norm = self.architecture.norms, self.architecture.query_key_norm
        query_norm = key_norm = None
        is_optional = self.architecture.query_key_norm_optional
        if is_optional and f"{block}.attn_q_norm.weight" not in self.tensors:
            query_key_norm = "none"
        if query_key_norm != "none":
            query_norm = self.head_norm(f"{block}.attn_q_norm.weight", self.heads)
            key_norm = self.head_norm(f"{block}.attn_k_norm.weight", self.kv_heads)
        return Layer(
            attention_norm=self.norm(f"{block}.attn_norm", norms != "after"),
            query_key_value=self.query_key_value(block),
            query_norm=query_norm,
            key_norm=key_norm,
            sinks=self.tensors.vector(f"{block}.attn_sinks.weight", self.heads)
            if self.architecture.sinks
            else None,
            attention_output=self.tensors.linear(
                f"{block}.attn_output", self.width, self.heads * self.value_dim
            ),
            attention_output_norm=self.norm(
                f"{block}.post_attention_norm", norms in ("after", "both")
            ),
            feed_forward_norm=self.norm(
                f"{block}.{self.architecture.feed_forward_norm}", norms in ("before", "both")
            ),
            feed_forward=self.feed_forward_or_experts(block),
            feed_forward_output_norm=self.norm(
                f"{block}.post_ffw_norm", norms in ("after", "both")
            ),
            rotary=rotary,
            window=window,
        )

    def recurrent_layer(self, block: str, rotary: Rotary) -> Layer:
        """One block without attention."""
        recurrence = short_convolution(self.keys, self.tensors, block, self.width)
        return Layer(
            attention_norm=self.norm(f"{block}.attn_norm", True),
            query_key_value=(),
            query_norm=None,
            key_norm=None,
            sinks=None,
            recurrence=recurrence,
            attention_output=self.tensors.linear(
                f"{block}.shortconv.out_proj", self.width, self.width
            ),
            attention_output_norm=None,
            feed_forward_norm=self.norm(f"{block}.{self.architecture.feed_forward_norm}", True),
            feed_forward=self.feed_forward_or_experts(block),
            feed_forward_output_norm=None,
            rotary=rotary,
            window=0,
        )

    def norm(self, name: str, exists: bool) -> TensorInfo | None:
        return self.tensors.vector(f"{name}.weight", self.width) if exists else None

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

    def query_key_value(self, block: str) -> tuple[Linear, ...] | LatentAttention:
        """Three matrices, or `attn_qkv` with the rows of all."""
        if self.latent is not None:
            return self.latent.read(self.tensors, block, self.width)
        query, each = self.heads * self.head_dim, self.kv_heads * self.head_dim
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
            return self.feed_forward(block, "", self.keys.count("feed_forward_length"))
        tensors, width = self.tensors, self.width
        chosen = choice(self.keys, tensors, block, routing)
        count = chosen.experts
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
            choice=chosen,
            activation=routing.activation,
            shared=shared,
            shared_gate=shared_gate,
        )

    def feed_forward(self, block: str, suffix: str, hidden: int) -> FeedForward:
        """Gate, up and down; gate and up may be one matrix."""
        gate_up: tuple[Linear, ...]
        if self.architecture.fused_gate_up:
            gate_up = (self.tensors.linear(f"{block}.ffn_up{suffix}", 2 * hidden, self.width),)
        else:
            gate_up = (
                self.tensors.linear(f"{block}.ffn_gate{suffix}", hidden, self.width),
                self.tensors.linear(f"{block}.ffn_up{suffix}", hidden, self.width),
            )
        return FeedForward(
            gate_up, self.tensors.linear(f"{block}.ffn_down{suffix}", self.width, hidden)
        )

    def scale(self, key: str, default: float = 1.0) -> float:
        """A factor that only the families which use it may have."""
        return self.keys.scale(key, default) if key in self.architecture.reads else default

    def softcap(self, key: str, default: float) -> float:
        return self.keys.softcap(key, default) if key in self.architecture.reads else default

    def attention_scale(self, layers: int) -> float:
        """By default 1 / sqrt(head_dim)."""
        default: float = self.head_dim**-0.5
        if layers == self.architecture.scaled_by_width_at:
            default = (self.width // self.heads) ** -0.5
        return self.scale("attention.scale", default)

    def context_length(self) -> int:
        """Most tokens of a prompt and its answer together: one of each at least."""
        length = self.keys.count("context_length")
        if length < 2:
            self.keys.refuse("context_length", f"is {length}, which has no place for an answer")
        return length

    def embedding_scale(self) -> float:
        default: float = self.width**0.5 if self.architecture.embedding_by_width else 1.0
        return self.scale("embedding_scale", default)

    def logit_scale(self) -> float:
        if self.architecture.logit_scale == "none":
            return 1.0
        scale = self.keys.scale("logit_scale")
        return 1 / scale if self.architecture.logit_scale == "divide" else scale

    def query_temperature(self) -> QueryTemperature | None:
        """Only where the file asks for it; its length is by default the original context."""
        scale = self.scale("attention.temperature_scale", 0.0)
        if scale == 0:
            return None
        context = self.keys.count("context_length")
        original = self.keys.count("rope.scaling.original_context_length", context)
        length = self.keys.count("attention.temperature_length", original)
        return QueryTemperature(scale, length)
