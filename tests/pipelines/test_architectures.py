"""What is inferred from a GGUF, and what is refused by name."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.architectures import FeedForward, ModelSpec, describe
from runtime.errors import GGUFError, UnsupportedModel
from runtime.gguf import GGUFFile
from tests.models import write_tiny_llama


def described(folder: Path, **variant: object) -> ModelSpec:
    path = write_tiny_llama(folder / "tiny.gguf", **variant)  # type: ignore[arg-type]
    return describe(GGUFFile.open(path))


def test_widths_and_counts_come_from_the_file(tmp_path: Path) -> None:
    spec = described(tmp_path, layers=3, heads=4, kv_heads=2, embedding=64, head_dim=32)
    assert (len(spec.layers), spec.heads, spec.kv_heads, spec.head_dim) == (3, 4, 2, 32)
    assert spec.attention_scale == pytest.approx(32**-0.5)
    assert spec.layers[2].query_key_value[0].weight.shape == (4 * 32, 64)
    assert spec.vocabulary_size == spec.embedding.rows


def test_output_is_tied_only_where_the_file_has_none(tmp_path: Path) -> None:
    assert described(tmp_path, tied=True).output.weight.name == "token_embd.weight"
    assert described(tmp_path, tied=False).output.weight.name == "output.weight"


def test_biases_are_found(tmp_path: Path) -> None:
    layer = described(tmp_path, biases=True).layers[0]
    query, *_ = layer.query_key_value
    assert query.bias is not None
    assert query.bias.name == "blk.0.attn_q.bias"
    assert isinstance(layer.feed_forward, FeedForward)
    assert [linear.bias for linear in layer.feed_forward.gate_up] == [None, None]


def test_rotary_frequencies_are_scaled_and_divided(tmp_path: Path) -> None:
    plain = described(tmp_path).layers[0].rotary.inverse_frequencies
    assert plain == pytest.approx([10000.0 ** (-2 * i / 16) for i in range(8)])
    scaled = described(tmp_path, rope_scaling=4.0, rope_freqs=True)
    divisors = np.linspace(1.0, 8.0, 8)
    assert scaled.layers[1].rotary.inverse_frequencies == pytest.approx(
        np.array(plain) / 4 / divisors
    )
    assert scaled.folded == {"rope_freqs.weight"}


def test_scaling_of_type_none_ignores_its_factor(tmp_path: Path) -> None:
    metadata = {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 8.0}
    unscaled = described(tmp_path, metadata=metadata).layers[0].rotary
    assert unscaled == described(tmp_path).layers[0].rotary


@pytest.mark.parametrize(
    ("variant", "named"),
    [
        ({"architecture": "mamba"}, "architecture 'mamba'"),
        ({"metadata": {"split.count": 3}}, "one of 3 parts"),
        ({"format": "Q5_0"}, "block format Q5_0"),
        ({"metadata": {"llama.expert_count": 8}}, "llama.expert_count is 8"),
        ({"metadata": {"llama.logit_scale": 0.5}}, "llama.logit_scale is 0.5"),
        ({"metadata": {"llama.attention.sliding_window": 64}}, "sliding_window is 64"),
        ({"metadata": {"llama.attention.value_length": 8}}, "value_length"),
        ({"metadata": {"llama.rope.scaling.type": "dynamic"}}, "scaling.type is 'dynamic'"),
        ({"extra_tensors": {"blk.0.attn_q_norm.weight": np.ones(16)}}, "blk.0.attn_q_norm.weight"),
        ({"extra_tensors": {"blk.7.attn_q.weight": np.ones((64, 64))}}, "blk.7.attn_q.weight"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_refused_by_name(
    tmp_path: Path, variant: dict, named: str
) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        described(tmp_path, **variant)


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"llama.block_count": 3}, "'blk.2.attn_norm.weight' is missing"),
        ({"llama.embedding_length": 32}, r"'token_embd.weight' has shape \(\d+, 64\)"),
        ({"llama.feed_forward_length": 128}, r"shape \(96, 64\) instead of \(128, 64\)"),
        ({"llama.attention.head_count": 3}, "no multiple of the 2 KV heads"),
        ({"llama.rope.dimension_count": 24}, "no even number up to 16"),
        ({"llama.rope.freq_base": -1.0}, "rope.freq_base is -1.0, no positive number"),
        ({"llama.block_count": 0}, "block_count is 0, no positive integer"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(tmp_path: Path, metadata: dict, named: str) -> None:
    with pytest.raises(GGUFError, match=named):
        described(tmp_path, metadata=metadata)


def test_rope_divisors_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=r"rope_freqs\.weight"):
        described(tmp_path, extra_tensors={"rope_freqs.weight": np.zeros(8)})
