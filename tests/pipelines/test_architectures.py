"""Properties inferred from a GGUF, and files that are refused by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from pipelines.conversion.architectures import (
    Experts,
    FeedForward,
    Layer,
    Linear,
    ModelSpec,
    describe,
)
from runtime.errors import GGUFError, UnsupportedModel
from runtime.gguf import GGUFFile
from tests.models import byte_level_vocabulary, write_tiny_llama
from tests.tiny_models import TINY_MODELS, write_tiny_model


def described(folder: Path, **variant: object) -> ModelSpec:
    path = write_tiny_llama(folder / "tiny.gguf", **variant)  # type: ignore[arg-type]
    return describe(GGUFFile.open(path))


def projections(layer: Layer) -> tuple[Linear, ...]:
    assert isinstance(layer.query_key_value, tuple)
    return layer.query_key_value


def test_widths_and_counts_come_from_the_file(tmp_path: Path) -> None:
    spec = described(tmp_path, layers=3, heads=4, kv_heads=2, embedding=64, head_dim=32)
    assert (len(spec.layers), spec.heads, spec.kv_heads, spec.head_dim) == (3, 4, 2, 32)
    assert spec.attention_scale == pytest.approx(32**-0.5)
    query, *_ = projections(spec.layers[2])
    assert query.weight.shape == (4 * 32, 64)
    assert spec.vocabulary_size == spec.embedding.rows


def test_output_is_tied_only_where_the_file_has_none(tmp_path: Path) -> None:
    for tied, name in ((True, "token_embd.weight"), (False, "output.weight")):
        output = described(tmp_path, tied=tied).output
        assert output is not None
        assert output.weight.name == name


def test_biases_are_found(tmp_path: Path) -> None:
    layer = described(tmp_path, biases=True).layers[0]
    query, *_ = projections(layer)
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


def tiny(folder: Path, name: str, **changes: object) -> ModelSpec:
    model = replace(TINY_MODELS[name], **changes)  # type: ignore[arg-type]
    return describe(GGUFFile.open(write_tiny_model(folder / "tiny.gguf", model)))


def windows(spec: ModelSpec) -> list[int]:
    return [layer.window for layer in spec.layers]


def rotated(spec: ModelSpec) -> list[bool]:
    return [bool(layer.rotary.inverse_frequencies) for layer in spec.layers]


def test_the_last_layer_of_a_period_is_global(tmp_path: Path) -> None:
    assert windows(tiny(tmp_path, "gemma2")) == [8, 0, 8, 0]
    assert windows(tiny(tmp_path, "gemma3")) == [8, 8, 8, 8, 8, 0, 8]
    assert windows(tiny(tmp_path, "cohere2")) == [8, 8, 8, 0, 8]
    assert windows(tiny(tmp_path, "olmo2")) == [0, 0, 0]


@pytest.mark.parametrize(
    ("pattern", "expected"), [(3, [8, 8, 0, 8]), (0, [8] * 4), ([0, 1, 1, 0], [0, 8, 8, 0])]
)
def test_files_may_name_the_layers_that_slide(
    tmp_path: Path, pattern: int | list[int], expected: list[int]
) -> None:
    metadata = {"attention.sliding_window": 8, "attention.sliding_window_pattern": pattern}
    assert windows(tiny(tmp_path, "gemma2", metadata=metadata)) == expected


def test_some_layers_are_not_rotated(tmp_path: Path) -> None:
    assert rotated(tiny(tmp_path, "smollm3")) == [True, True, True, False, True]
    assert rotated(tiny(tmp_path, "cohere2")) == [True, True, True, False, True]
    assert rotated(tiny(tmp_path, "exaone4")) == [True, True, True]
    no_rotation = {"rope.scaling.finetuned": False}
    assert rotated(tiny(tmp_path, "granite", metadata=no_rotation)) == [False] * 3


def test_latent_attention_caches_what_its_file_allows(tmp_path: Path) -> None:
    split, whole = tiny(tmp_path, "deepseek2"), tiny(tmp_path, "deepseek2-whole")
    assert (split.kv_heads, split.head_dim) == (1, 32 + 8)
    assert (whole.kv_heads, whole.head_dim) == (4, 16 + 8)
    # DeepSeek-V2's own: (1 + 0.1 * 0.707 ln(factor))^2 / sqrt(key width)
    magnitude = 1 + 0.0707 * np.log(4)
    assert split.attention_scale == pytest.approx(magnitude**2 * 24**-0.5)
    assert split.layers[0].rotary.magnitude == 1


def test_one_depth_of_a_family_has_a_bias_in_place_of_a_rotation(tmp_path: Path) -> None:
    rotary, biased = tiny(tmp_path, "baichuan"), tiny(tmp_path, "baichuan-13b")
    assert (rotary.alibi, biased.alibi) == (0, 8)
    assert all(rotated(rotary))
    assert not any(rotated(biased))


def test_a_model_of_chunks_is_served_as_far_as_one_chunk_goes(tmp_path: Path) -> None:
    metadata = {"context_length": 1 << 20}
    assert tiny(tmp_path, "llama4", metadata=metadata).context_length == 8192


def test_heads_may_differ_between_layers(tmp_path: Path) -> None:
    spec = tiny(tmp_path, "openelm")
    assert [(layer.heads.count, layer.heads.kv) for layer in spec.layers] == [
        (4, 2), (6, 3), (2, 1),
    ]  # fmt: skip
    assert (spec.kv_heads, spec.head_dim) == (3, 16)


def test_the_last_layers_may_attend_to_pages_of_earlier_ones(tmp_path: Path) -> None:
    spec = tiny(tmp_path, "gemma4-e2b")
    assert [layer.reads_pages_of for layer in spec.layers] == [None, None, None, 1, 1, 2]
    assert spec.attention_layers == 3


def test_layers_that_only_guess_ahead_are_left_out(tmp_path: Path) -> None:
    metadata = {**TINY_MODELS["deepseek2"].metadata, "nextn_predict_layers": 1}
    spec = tiny(tmp_path, "deepseek2", metadata=metadata)
    assert len(spec.layers) == 2
    assert "blk.2.attn_norm.weight" in spec.folded


@pytest.mark.parametrize(
    ("key", "value", "gating"),
    [("expert_gating_func", 1, "softmax"), ("expert_gating_func", 0, "sigmoid")],
)
def test_the_gating_function_is_the_files_or_what_its_bias_needs(
    tmp_path: Path, key: str, value: int, gating: str
) -> None:
    metadata = {**TINY_MODELS["deepseek2"].metadata, key: value}
    experts = tiny(tmp_path, "deepseek2", metadata=metadata).layers[1].feed_forward
    assert isinstance(experts, Experts)
    assert experts.selection.gating == gating


def test_scaling_is_for_global_layers_where_the_family_says_so(tmp_path: Path) -> None:
    sliding, *_, of_global, _ = (layer.rotary for layer in tiny(tmp_path, "gemma3").layers)
    assert sliding.inverse_frequencies[1] == pytest.approx(10000 ** (-1 / 16))
    assert of_global.inverse_frequencies[1] == pytest.approx(1e6 ** (-1 / 16) / 8)


def test_the_largest_gemmas_scale_queries_by_width(tmp_path: Path) -> None:
    small = {"embedding": 32, "heads": 2, "kv_heads": 1, "feed_forward": 32, "head_dim": 32}
    assert tiny(tmp_path, "gemma2", **small).attention_scale == pytest.approx(32**-0.5)
    large = tiny(tmp_path, "gemma2", layers=46, **small)
    assert large.attention_scale == pytest.approx(16**-0.5)


@pytest.mark.parametrize(
    ("name", "metadata", "named"),
    [
        ("qwen2", {"attention.sliding_window": 8}, "sliding_window is 8"),
        ("qwen2", {"attention.scale": 0.5}, "attention.scale is 0.5"),
        ("qwen3", {"rope.dimension_sections": [8, 8, 0, 0]}, "dimension_sections is"),
        ("llama", {"logit_scale": 2.0}, "logit_scale is 2.0"),
        ("qwen3moe", {"expert_group_count": 4}, "expert_group_count is 4"),
    ],
)
def test_what_a_family_does_not_use_is_refused(
    tmp_path: Path, name: str, metadata: dict, named: str
) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        tiny(tmp_path, name, metadata=metadata)


@pytest.mark.parametrize(
    ("variant", "named"),
    [
        ({"architecture": "t5"}, "architecture 't5'"),
        ({"format": "Q8_1"}, "block format Q8_1"),
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
    ("metadata", "told"),
    [
        ({"general.type": "mmproj"}, "projector .*; prepare the model it came with"),
        ({"general.type": "adapter"}, "an adapter .*; merge it into its model"),
        ({"general.type": "imatrix"}, "an importance matrix"),
        ({"general.type": "controlvector"}, "a control vector"),
    ],
    ids=str,
)
def test_a_file_that_is_no_model_is_refused_by_what_it_is(
    tmp_path: Path, metadata: dict, told: str
) -> None:
    with pytest.raises(UnsupportedModel, match=told):
        described(tmp_path, metadata=metadata)


def test_a_vocabulary_without_weights_is_refused(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    byte_level_vocabulary().write(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UnsupportedModel, match="a vocabulary without any weights"):
        describe(GGUFFile.open(tmp_path / "vocabulary.gguf"))


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
