"""Random models on which exactness is measured: wide enough for every block format."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from tests.block_formats import INTEGER_FORMATS, PLAIN_FORMATS
from tests.tiny_model import Latent, TinyModel, Varied
from tests.tiny_models import TINY_MODELS
from tests.tiny_recurrences import (
    DeltaAttention,
    DeltaNet,
    Recurrent,
    Selective,
    StateSpace,
    Value,
)

WIDTH = 256
"""Columns of every matrix, so that all formats have whole blocks."""
EACH_ARCHITECTURE = ("Q8_0", "Q4_K")
HEAD_DIM = 64
POSITIONS = 200
POSITIONS_OF_EXPERTS = 300
MODELS_OF_EXPERTS = 6
"""Where rounding makes another expert the best, one position differs by much: it takes more."""
SCALED_EMBEDDINGS: Mapping[str, float] = {"gemma": 0.7, "granite": 2.0, "minicpm3": 0.5}
"""Gains of the embeddings of families that scale them: else every token only repeats itself."""
MAX_LAYERS = 10
"""Models that are deeper are so only because llama.cpp asks for it; their families have others."""
FALLBACK = "Q8_0"
"""Of the matrices that have fewer columns, as llama.cpp's own quantizer does."""


def exact_models() -> Iterator[tuple[str, str]]:
    """Names and formats: every architecture in two formats, llama in all."""
    for name, tiny in TINY_MODELS.items():
        if tiny.layers > MAX_LAYERS:
            continue
        for format in EACH_ARCHITECTURE:
            yield name, format
    for format in [*PLAIN_FORMATS, *INTEGER_FORMATS]:
        if format not in EACH_ARCHITECTURE:
            yield "llama", format


def exact_model(name: str, format: str) -> TinyModel:
    """The tiny model of that name, wider, with all its matrices in one format."""
    tiny = TINY_MODELS[name]
    latent = tiny.latent
    if latent is not None:
        query = WIDTH if latent.query else 0
        latent = Latent(
            width=WIDTH, plain=64, rotated=32, value=64, query=query, split=latent.split
        )
    embedding_gain = next(
        (gain for family, gain in SCALED_EMBEDDINGS.items() if name.startswith(family)), 4.0
    )
    few_columns = dict.fromkeys(("attn_k_b", "ssm_dt", "ssm_f_b", "ssm_g_b"), FALLBACK)
    return replace(
        tiny,
        embedding=WIDTH,
        heads=4,
        kv_heads=min(tiny.kv_heads, 4),
        head_dim=_head_dim(tiny),
        value_dim=HEAD_DIM if tiny.value_dim else 0,
        varied=_varied(tiny.varied),
        feed_forward=WIDTH,
        shared=WIDTH if tiny.shared else 0,
        beside=WIDTH if tiny.beside else 0,
        latent_experts=WIDTH if tiny.latent_experts else 0,
        latent=latent,
        recurrent=_recurrent(tiny),
        metadata=_metadata(tiny),
        format=format,
        formats=few_columns,
        gain=min(tiny.gain, 1.0),
        embedding_gain=embedding_gain,
        context=max(tiny.context, positions_of(tiny)),
    )


def _recurrent(tiny: TinyModel) -> Recurrent | None:
    if isinstance(tiny.recurrent, DeltaNet):
        return replace(tiny.recurrent, heads=WIDTH // 64, key_heads=2, head_dim=64)
    if isinstance(tiny.recurrent, StateSpace):
        return replace(tiny.recurrent, state_size=64)
    if isinstance(tiny.recurrent, DeltaAttention):
        return replace(tiny.recurrent, head_dim=64)
    if isinstance(tiny.recurrent, Selective):
        return replace(tiny.recurrent, rank=32)
    return tiny.recurrent


def positions_of(tiny: TinyModel) -> int:
    """How many positions are measured."""
    return POSITIONS_OF_EXPERTS if tiny.experts else POSITIONS


def seeds_of(tiny: TinyModel) -> range:
    """The random models that are measured."""
    return range(MODELS_OF_EXPERTS if tiny.experts else 1)


def _head_dim(tiny: TinyModel) -> int:
    """Width of a head; of the widest where they differ, or of keys where values are narrower."""
    if tiny.varied is not None and tiny.varied.head_dims:
        return 2 * HEAD_DIM
    return HEAD_DIM + HEAD_DIM // 2 if tiny.value_dim else HEAD_DIM


def _varied(varied: Varied | None) -> Varied | None:
    """The same with whole blocks in every row: heads by four, everything else as wide as can be."""
    if varied is None:
        return None
    narrow = min(varied.head_dims, default=0)
    least = min(varied.feed_forward, default=0)
    return replace(
        varied,
        heads=[-(-each // 4) * 4 for each in varied.heads],
        kv_heads=[each if each < 3 else 4 for each in varied.kv_heads],
        head_dims=[HEAD_DIM if each == narrow else 2 * HEAD_DIM for each in varied.head_dims],
        feed_forward=[WIDTH if each == least else 2 * WIDTH for each in varied.feed_forward],
        layer_embedding=WIDTH if varied.layer_embedding else 0,
    )


def _metadata(tiny: TinyModel) -> dict[str, Value]:
    changed = dict(tiny.metadata)
    if "expert_shared_count" in changed:
        changed["expert_shared_count"] = 1
    for key in (
        "attention.key_length_swa",
        "attention.value_length_swa",
        "rope.dimension_count_swa",
    ):
        if key in changed:
            changed[key] = HEAD_DIM
    if changed.get("embedding_length_per_layer_input"):
        changed["embedding_length_per_layer_input"] = WIDTH
    if "moe_latent_size" in changed:
        changed["moe_latent_size"] = WIDTH
    if changed.get("feed_forward_length"):
        changed["feed_forward_length"] = 2 * WIDTH
    return changed


def exact_tokens(count: int) -> list[int]:
    """The same for every model: bytes of the vocabulary."""
    drawn = np.random.default_rng(2).integers(3, 259, count)
    return [int(token) for token in drawn]
