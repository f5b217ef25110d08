"""Describes a GGUF file as a ModelSpec, or raises an error that names what is unsupported."""

from dataclasses import replace
from typing import Literal

from pipelines.conversion.architectures.architecture import Architecture
from pipelines.conversion.architectures.block import Blocks
from pipelines.conversion.architectures.directory import MAX_LAYERS, Keys, Tensors
from pipelines.conversion.architectures.heads import heads_of_layers
from pipelines.conversion.architectures.kinds import expect_model
from pipelines.conversion.architectures.latent import LatentShape
from pipelines.conversion.architectures.pooling import pooling_of
from pipelines.conversion.architectures.recurrence import recurrent_layers
from pipelines.conversion.architectures.rotation import latent_scale, rotaries, windows
from pipelines.conversion.architectures.spec import (
    ALIBI_COLUMNS,
    Heads,
    Layer,
    LayerEmbedding,
    Linear,
    ModelSpec,
    Norm,
    Pooling,
    QueryTemperature,
    Streams,
)
from pipelines.conversion.architectures.table import ARCHITECTURES
from runtime.errors import UnsupportedModel
from runtime.gguf import GGUFFile, TensorInfo

EPSILONS = {
    "rms": "attention.layer_norm_rms_epsilon",
    "layer": "attention.layer_norm_epsilon",
}
"""Keys of what is added to the variance, by kind of norm."""


def describe(file: GGUFFile) -> ModelSpec:
    """Describe the model of a GGUF file.

    Raises UnsupportedModel for a file that is no model (a projector, an adapter, ...), and where it
    names what is not supported: an architecture, a block format, a tensor the graph would leave
    unread, a key that changes the arithmetic. Raises GGUFError for a missing key or tensor and for
    a wrong shape.
    """
    expect_model(file)
    architecture = ARCHITECTURES.get(file.architecture)
    if architecture is None:
        raise UnsupportedModel(
            f"{file.path}: architecture {file.architecture!r} is not supported; "
            f"supported are: {', '.join(sorted(ARCHITECTURES))}"
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
        self.latent: LatentShape | None = None
        if architecture.latent_attention:
            self.latent = LatentShape.of(keys, keys.count("attention.head_count"))

    def spec(self) -> ModelSpec:
        """The whole model; every tensor is read and no key left out."""
        keys, tensors, row = self.keys, self.tensors, self.architecture
        count = keys.layer_count() - self.draft_layers()
        embedding = tensors.matrix("token_embd.weight", None, self.width)
        window_of = windows(keys, row, count)
        heads_of = heads_of_layers(keys, row, self.latent, window_of, self.width)
        rotary_of = rotaries(keys, tensors, row, heads_of, window_of)
        is_parallel = self.is_parallel()
        blocks = Blocks(
            row,
            keys,
            tensors,
            width=self.width,
            layers=count,
            latent=self.latent,
            is_parallel=is_parallel,
        )
        shares_from = self.shares_from(count)
        is_recurrent = recurrent_layers(keys, row, tuple(each.kv for each in heads_of))
        described = tuple(
            blocks.recurrent_layer(f"blk.{index}", each[0], each[1])
            if is_recurrent[index]
            else blocks.layer(index, *each, shares_from=shares_from)
            for index, each in enumerate(zip(heads_of, rotary_of, window_of, strict=True))
        )
        pooling = pooling_of(keys, tensors, row, self.width)
        normalizes_stream = row.norms == "stream"
        output_norm = None if normalizes_stream else blocks.norm(row.output_norm)
        layers = self.looped(described, output_norm) if row.loops and output_norm else described
        scale = self.attention_scale(count, heads_of[0])
        if self.latent is not None:
            scale = self.latent.key**-0.5
            if row.latent_magnitude:
                scale = latent_scale(keys, rotary_of[0], self.latent.key)
        norm_kind = self.norm_kind()
        alibi = self.alibi(count)
        spec = ModelSpec(
            architecture=row.name,
            parameters=sum(info.rows * info.columns for info in self.file.tensors.values()),
            context_length=self.context_length(),
            vocabulary_size=embedding.rows,
            embedding_length=self.width,
            heads=max(each.count for each in heads_of),
            kv_heads=max(each.kv for each in heads_of),
            head_dim=max(each.width for each in heads_of) + (ALIBI_COLUMNS if alibi else 0),
            norm_kind=norm_kind,
            epsilon=self.epsilon(norm_kind),
            is_parallel=is_parallel,
            norm_follows_rotary=row.query_key_norm == "after",
            normalizes_values=row.value_norm,
            gate_function=row.gate_function,
            value_scale=self.scale("attention.value_scale"),
            attention_scale=scale,
            attention_softcap=self.softcap("attn_logit_softcapping", row.attention_softcap),
            alibi=alibi,
            unit_query_key_norm=row.unit_query_key_norm,
            query_temperature=self.query_temperature(),
            clamp=self.softcap("attention.clamp_kqv", 0.0),
            activation=row.activation,
            embedding_scale=self.embedding_scale(),
            residual_scale=self.scale(
                "residual_scale", row.residual_depth * count**-0.5 if row.residual_depth else 1.0
            ),
            logit_scale=self.logit_scale(),
            logit_softcap=self.softcap("final_logit_softcapping", row.logit_softcap),
            embedding=embedding,
            position_embedding=self.position_embedding(),
            token_type=self.token_type(),
            embedding_norm=blocks.norm("token_embd_norm") if row.embedding_norm else None,
            layer_embedding=self.layer_embedding(count),
            streams=self.streams(),
            layers=layers,
            output_norm=output_norm,
            pooling=pooling,
            normalizes_stream=normalizes_stream,
            output=self.output(embedding, pooling),
            folded=frozenset(tensors.folded),
        )
        for key in row.ignores:
            keys.value(key)
        tensors.refuse_unread()
        keys.refuse_unread()
        keys.expect_vocabulary(spec.vocabulary_size)
        return spec

    def epsilon(self, kind: Literal["rms", "layer"]) -> float:
        """Of all norms; where only that of the other kind is stated (Nemotron-H), that one."""
        own, other = EPSILONS[kind], EPSILONS["layer" if kind == "rms" else "rms"]
        is_missing = self.keys.value(own) is None and self.keys.value(other) is not None
        return self.keys.positive(other if is_missing else own)

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

    def norm_kind(self) -> Literal["rms", "layer"]:
        """Which norm the blocks have, as family or file say."""
        if self.architecture.norm_kind == "stated":
            return "rms" if self.keys.value(EPSILONS["rms"]) is not None else "layer"
        return self.architecture.norm_kind

    def looped(self, layers: tuple[Layer, ...], norm: Norm) -> tuple[Layer, ...]:
        """The layers as often as they are gone through, with a norm between two rounds."""
        loops = self.keys.count("num_loops", 1)
        if loops * len(layers) > MAX_LAYERS:
            self.keys.fail("num_loops", f"is {loops}, which makes more than {MAX_LAYERS} layers")
        is_normed = not self.keys.flag("skip_loop_final_norm", False)
        between = replace(layers[-1], stream_norm=norm) if is_normed else layers[-1]
        return (*layers[:-1], between) * (loops - 1) + layers

    def is_parallel(self) -> bool:
        """Whether attention and feed-forward are parallel, as family, file or norms say."""
        row = self.architecture
        if row.without_norm == "parallel":
            return f"blk.0.{row.feed_forward_norm}.weight" not in self.tensors
        if row.norms == "parallel" and "use_parallel_residual" in row.reads:
            return self.keys.flag("use_parallel_residual", True)
        return row.norms == "parallel"

    def position_embedding(self) -> TensorInfo | None:
        """A row for every position of the context."""
        name = "position_embd.weight"
        if not self.architecture.position_embedding or name not in self.tensors:
            return None
        embedding = self.tensors.matrix(name, None, self.width)
        context = self.context_length()
        if embedding.rows < context:
            self.keys.fail("context_length", f"is {context}, but {name} has {embedding.rows} rows")
        return embedding

    def token_type(self) -> TensorInfo | None:
        """Embeddings of the types of tokens, where an encoder has such."""
        name = "token_types.weight"
        if not self.architecture.is_encoder or name not in self.tensors:
            return None
        if len(self.file.tensors[name].shape) == 1:
            return self.tensors.vector(name, self.width)
        return self.tensors.matrix(name, None, self.width)

    def output(self, embedding: TensorInfo, pooling: Pooling | None) -> Linear | None:
        """The matrix of the logits, which a model that pools does not need."""
        if pooling is not None:
            self.tensors.leave_out("output")
            return None
        if self.architecture.tied_only or "output.weight" not in self.tensors:
            return Linear(embedding, None)
        return self.tensors.linear("output", embedding.rows, self.width)

    def shares_from(self, layers: int) -> int:
        """The first layer that attends to keys and values of an earlier one."""
        if self.architecture.own_pages:
            return self.architecture.own_pages
        key = "attention.shared_kv_layers"
        if key not in self.architecture.reads:
            return layers
        shared = self.keys.count_or_zero(key)
        if shared > max(0, layers - 2):
            self.keys.fail(key, f"is {shared} of {layers} layers")
        return layers - shared

    def layer_embedding(self, layers: int) -> LayerEmbedding | None:
        """Embeddings for every layer, where the file has such."""
        name = "embedding_length_per_layer_input"
        width = self.keys.count_or_zero(name) if name in self.architecture.reads else 0
        if not width:
            return None
        rows = layers * width
        return LayerEmbedding(
            self.tensors.matrix("per_layer_token_embd.weight", None, rows),
            self.tensors.linear("per_layer_model_proj", rows, self.width),
            self.tensors.vector("per_layer_proj_norm.weight", width),
        )

    def scale(self, key: str, default: float = 1.0) -> float:
        """A factor that only the families which use it may have."""
        return self.keys.scale(key, default) if key in self.architecture.reads else default

    def softcap(self, key: str, default: float) -> float:
        """A bound that only the families which use it may have."""
        return self.keys.softcap(key, default) if key in self.architecture.reads else default

    def streams(self) -> Streams | None:
        """Matrices between the streams, in a family that has several."""
        count = self.architecture.streams
        if not count:
            return None
        shape = count - 1, self.width, self.width
        return Streams(
            count,
            self.tensors.stacked("altup_proj", *shape),
            self.tensors.stacked("altup_unembd_proj", *shape),
        )

    def alibi(self, layers: int) -> float:
        """The bias by distance in place of a rotation, where family or file want it."""
        row = self.architecture
        if row.alibi_layers and layers != row.alibi_layers:
            return 0.0
        return self.softcap("attention.max_alibi_bias", row.alibi)

    def attention_scale(self, layers: int, heads: Heads) -> float:
        """By default 1 / sqrt(width of a head)."""
        power = -1.0 if self.architecture.attention_by_width else -0.5
        default: float = self.architecture.attention_scale or max(1, heads.width) ** power
        if layers == self.architecture.scaled_by_width_at:
            default = (self.width // heads.count) ** -0.5
        return self.scale(self.architecture.attention_scale_key, default)

    def context_length(self) -> int:
        """Maximum tokens of a prompt and its answer together: at least one of each."""
        length = self.keys.count("context_length")
        if length < 2:
            self.keys.refuse("context_length", f"is {length}, which has no place for an answer")
        if self.architecture.indexed:
            blocks = self.keys.count("attention.indexer.top_k")
            return min(length, blocks * self.keys.count("attention.indexer.block_size", 1))
        chunk = self.architecture.chunk
        return min(length, chunk) if chunk else length

    def embedding_scale(self) -> float:
        by_width = self.architecture.embedding_by_width
        default = self.width**0.5 if by_width else self.architecture.embedding_scale
        return self.scale("embedding_scale", default)

    def logit_scale(self) -> float:
        if self.architecture.logit_scale == "none":
            return 1.0
        width, default = self.architecture.logit_width, self.architecture.default_logit_scale
        scale = self.keys.scale("logit_scale", width / self.width if width else default)
        return 1 / scale if self.architecture.logit_scale == "divide" else scale

    def query_temperature(self) -> QueryTemperature | None:
        """Only if the file asks for it; its length is by default the original context."""
        row = self.architecture
        if row.query_temperature:
            return QueryTemperature(row.query_temperature, row.chunk, offset=1, rotated_too=False)
        scale = self.scale("attention.temperature_scale", 0.0)
        if scale == 0:
            return None
        context = self.keys.count("context_length")
        original = self.keys.count("rope.scaling.original_context_length", context)
        length = self.keys.count("attention.temperature_length", original)
        return QueryTemperature(scale, length)
