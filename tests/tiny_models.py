"""A tiny random model of every supported architecture: what the golden logits are made of."""

from collections.abc import Mapping

import numpy as np

from tests.tiny_model import QKV, Value
from tests.tiny_model import Latent as Latent
from tests.tiny_model import ShortConvolution as ShortConvolution
from tests.tiny_model import TinyModel as TinyModel
from tests.tiny_model import write_tiny_model as write_tiny_model

BOTH_NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
AFTER_NORMS = ("post_attention_norm", "post_ffw_norm")
EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
LAYER_NORM = "attention.layer_norm_epsilon"
YARN: Mapping[str, Value] = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}
WINDOW: Mapping[str, Value] = {"attention.sliding_window": 8}
LONGROPE: Mapping[str, Value] = {
    "rope.scaling.type": "longrope",
    "rope.scaling.attn_factor": 1.19,
    "attention.sliding_window": 8,
}
DEEPSEEK: Mapping[str, Value] = {**YARN, "rope.scaling.yarn_log_multiplier": 0.0707}
LONG_SHORT = {"rope_factors_long.weight": 9.0, "rope_factors_short.weight": 1.5}

TINY_MODELS: Mapping[str, TinyModel] = {
    "llama": TinyModel(architecture="llama"),
    "llama-3.1": TinyModel(
        architecture="llama", tied=False, divisors={"rope_freqs.weight": 8.0}, biases=QKV
    ),
    "llama-linear": TinyModel(
        architecture="llama",
        metadata={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "llama-yarn": TinyModel(architecture="llama", metadata=YARN),
    "mixtral": TinyModel(architecture="llama", experts=8, tied=False),
    "qwen2moe": TinyModel(architecture="qwen2moe", experts=8, shared=64, biases=QKV, tied=False),
    "qwen3moe": TinyModel(architecture="qwen3moe", experts=8, query_key_norm="head", tied=False),
    "gpt-oss": TinyModel(
        architecture="gpt-oss",
        layers=4,
        norms=("attn_norm", "post_attention_norm"),
        experts=6,
        biases=(*QKV, "attn_output", "ffn_gate_inp", *EXPERTS),
        sinks=True,
        tied=False,
        metadata={**YARN, **WINDOW},
    ),
    "deepseek2": TinyModel(
        architecture="deepseek2",
        latent=Latent(query=32),
        experts=8,
        dense=1,
        selection_bias=True,
        shared=192,
        shared_gate=False,
        tied=False,
        metadata={
            **DEEPSEEK,
            "leading_dense_block_count": 1,
            "expert_shared_count": 2,
            "expert_gating_func": 2,
            "expert_weights_norm": True,
            "expert_weights_scale": 2.5,
            "expert_group_count": 4,
            "expert_group_used_count": 2,
        },
    ),
    # llama.cpp lets only models of certain depths have queries of one matrix.
    "deepseek2-lite": TinyModel(
        architecture="deepseek2",
        layers=26,
        embedding=32,
        heads=2,
        feed_forward=32,
        gain=0.7,
        latent=Latent(),
        experts=8,
        dense=1,
        shared=32,
        shared_gate=False,
        tied=False,
        metadata={**DEEPSEEK, "leading_dense_block_count": 1, "expert_shared_count": 1},
    ),
    "deepseek2-whole": TinyModel(
        architecture="deepseek2",
        latent=Latent(query=32, value=16, split=False),
        experts=8,
        dense=1,
        shared=96,
        shared_gate=False,
        tied=False,
        metadata={
            **DEEPSEEK,
            "rope.scaling.yarn_log_multiplier": 0.1,
            "leading_dense_block_count": 1,
            "expert_shared_count": 1,
            "expert_weights_scale": 16.0,
        },
    ),
    "deepseek": TinyModel(
        architecture="deepseek",
        experts=8,
        dense=1,
        shared=192,
        shared_gate=False,
        tied=False,
        metadata={"leading_dense_block_count": 1, "expert_shared_count": 2},
    ),
    "dots1": TinyModel(
        architecture="dots1",
        kv_heads=4,
        query_key_norm="head",
        experts=8,
        dense=1,
        selection_bias=True,
        shared=96,
        shared_gate=False,
        tied=False,
        metadata={
            "leading_dense_block_count": 1,
            "expert_shared_count": 1,
            "expert_gating_func": 2,
            "expert_weights_norm": True,
            "expert_weights_scale": 2.5,
        },
    ),
    "glm4moe": TinyModel(
        architecture="glm4moe",
        norms=("attn_norm", "post_attention_norm"),
        biases=QKV,
        experts=8,
        dense=1,
        selection_bias=True,
        shared=96,
        shared_gate=False,
        tied=False,
        metadata={
            "rope.dimension_count": 8,
            "leading_dense_block_count": 1,
            "expert_shared_count": 1,
            "expert_weights_norm": True,
        },
    ),
    "glm4moe-normed": TinyModel(
        architecture="glm4moe",
        norms=("attn_norm", "post_attention_norm"),
        query_key_norm="head",
        experts=8,
        selection_bias=True,
        shared=96,
        shared_gate=False,
        metadata={"expert_shared_count": 1, "expert_gating_func": 2},
    ),
    "olmoe": TinyModel(
        architecture="olmoe", kv_heads=4, query_key_norm="width", experts=8, tied=False
    ),
    "mistral3": TinyModel(
        architecture="mistral3",
        head_dim=32,
        metadata={
            **YARN,
            "rope.scaling.original_context_length": 12,
            "rope.scaling.yarn_beta_fast": 4.0,
            "rope.scaling.yarn_beta_slow": 0.5,
            "rope.scaling.yarn_log_multiplier": 0.7,
            "attention.temperature_scale": 0.4,
        },
    ),
    "qwen2": TinyModel(architecture="qwen2", biases=QKV, tied=False),
    "qwen3": TinyModel(architecture="qwen3", head_dim=32, query_key_norm="head"),
    "qwen3-yarn": TinyModel(architecture="qwen3", query_key_norm="head", metadata=YARN),
    "gemma": TinyModel(architecture="gemma", head_dim=32),
    "gemma2": TinyModel(
        architecture="gemma2",
        layers=4,
        head_dim=32,
        norms=BOTH_NORMS,
        metadata={
            **WINDOW,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
        },
    ),
    "gemma3": TinyModel(
        architecture="gemma3",
        layers=7,
        head_dim=32,
        norms=BOTH_NORMS,
        query_key_norm="head",
        metadata={
            **WINDOW,
            "rope.freq_base": 1e6,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    ),
    "phi3": TinyModel(architecture="phi3", fused=("attn_qkv", "ffn_up"), tied=False),
    "phi3-long": TinyModel(
        architecture="phi3",
        fused=("attn_qkv", "ffn_up"),
        divisors=LONG_SHORT,
        metadata={**LONGROPE, "rope.scaling.original_context_length": 64},
    ),
    "phi3-short": TinyModel(
        architecture="phi3",
        fused=("attn_qkv", "ffn_up"),
        divisors=LONG_SHORT,
        metadata={**LONGROPE, "rope.scaling.original_context_length": 256},
    ),
    "smollm3": TinyModel(architecture="smollm3", layers=5),
    "granite": TinyModel(
        architecture="granite",
        metadata={
            "attention.scale": 0.1,
            "embedding_scale": 3.0,
            "residual_scale": 0.4,
            "logit_scale": 2.5,
        },
    ),
    "granitemoe": TinyModel(
        architecture="granitemoe",
        experts=8,
        shared=64,
        shared_gate=False,
        metadata={"embedding_scale": 3.0, "residual_scale": 0.4, "logit_scale": 2.5},
    ),
    "internlm2": TinyModel(architecture="internlm2", tied=False),
    "ernie4_5": TinyModel(architecture="ernie4_5"),
    "seed_oss": TinyModel(
        architecture="seed_oss", norms=("attn_norm", "post_attention_norm"), biases=QKV
    ),
    "exaone": TinyModel(architecture="exaone", divisors={"rope_freqs.weight": 8.0}),
    "olmo2": TinyModel(architecture="olmo2", norms=AFTER_NORMS, query_key_norm="width", tied=False),
    "olmo3": TinyModel(
        architecture="olmo2",
        layers=5,
        norms=AFTER_NORMS,
        query_key_norm="width",
        tied=False,
        metadata={**YARN, **WINDOW},
    ),
    "exaone4": TinyModel(architecture="exaone4", norms=AFTER_NORMS, query_key_norm="head"),
    # llama.cpp lets no model of fewer layers slide.
    "exaone4-sliding": TinyModel(
        architecture="exaone4",
        layers=64,
        embedding=32,
        heads=2,
        kv_heads=1,
        feed_forward=32,
        norms=AFTER_NORMS,
        query_key_norm="head",
        metadata=WINDOW,
    ),
    "glm4": TinyModel(
        architecture="glm4",
        norms=BOTH_NORMS,
        fused=("ffn_up",),
        biases=QKV,
        tied=False,
        metadata={"rope.dimension_count": 8},
    ),
    "command-r": TinyModel(
        architecture="command-r",
        norms=("attn_norm",),
        epsilon_key=LAYER_NORM,
        metadata={"logit_scale": 0.25},
    ),
    "cohere2": TinyModel(
        architecture="cohere2",
        layers=5,
        norms=("attn_norm",),
        epsilon_key=LAYER_NORM,
        metadata={**WINDOW, "logit_scale": 0.25},
    ),
    "lfm2": TinyModel(
        architecture="lfm2",
        layers=5,
        query_key_norm="head",
        recurrent=ShortConvolution(),
        recurrent_layers=(0, 1, 3),
        output_norm="token_embd_norm",
    ),
    "lfm2moe": TinyModel(
        architecture="lfm2moe",
        layers=4,
        query_key_norm="head",
        recurrent=ShortConvolution(taps=4),
        recurrent_layers=(0, 2, 3),
        output_norm="token_embd_norm",
        experts=8,
        dense=1,
        selection_bias=True,
        metadata={"leading_dense_block_count": 1, "expert_gating_func": 2},
    ),
    "hunyuan-dense": TinyModel(architecture="hunyuan-dense", head_dim=32, query_key_norm="head"),
}
"""By the name of their golden logits."""


GOLDEN_TOKENS = 40
GOLDEN_ROWS = 3
"""The last tokens, whose logits are kept."""


def golden_tokens() -> list[int]:
    """The same for every model: bytes of the vocabulary."""
    drawn = np.random.default_rng(1).integers(3, 259, GOLDEN_TOKENS)
    return [int(token) for token in drawn]
