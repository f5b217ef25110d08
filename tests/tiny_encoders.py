"""A tiny random model of every kind that pools: what the golden embeddings are made of."""

from collections.abc import Mapping
from typing import Any

from tests.tiny_model import QKV, TinyModel
from tests.tiny_models import BOTH_NORMS, LAYER_NORM, LAYER_NORMS

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
STREAM: Mapping[str, Any] = {
    **LAYER_NORMS,
    "norms": ("attn_output_norm", "layer_output_norm"),
    "output_norm": "",
    "embedding_norm": True,
    "kv_heads": 4,
    "token_types": 2,
}
"""Blocks that normalize the residual stream itself."""
BERT: Mapping[str, Any] = {
    **STREAM,
    "architecture": "bert",
    "gated": False,
    "position_embedding": True,
    "biases": (*QKV, "attn_output", "ffn_up", "ffn_down", "cls", "output"),
}
WHOLE: Mapping[str, Any] = {"attention.causal": False}

TINY_ENCODERS: Mapping[str, TinyModel] = {
    "bert": TinyModel(**BERT, metadata={**WHOLE, "pooling_type": CLS}),
    "bert-mean": TinyModel(**BERT, metadata={**WHOLE, "pooling_type": MEAN}),
    "bert-reranker": TinyModel(
        **BERT,
        classifier_input=True,
        classes=("score",),
        metadata={**WHOLE, "pooling_type": RANK},
    ),
    "jina-bert-v3": TinyModel(
        architecture="jina-bert-v3",
        **STREAM,
        gated=False,
        fused=("attn_qkv",),
        biases=("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
        metadata={**WHOLE, "pooling_type": MEAN},
    ),
    "nomic-bert": TinyModel(
        architecture="nomic-bert",
        **STREAM,
        fused=("attn_qkv",),
        metadata={**WHOLE, "pooling_type": MEAN},
    ),
    "modern-bert": TinyModel(
        architecture="modern-bert",
        layers=5,
        kv_heads=4,
        epsilon_key=LAYER_NORM,
        first_norm=False,
        fused=("attn_qkv", "ffn_up"),
        embedding_norm=True,
        metadata={
            **WHOLE,
            "pooling_type": CLS,
            "attention.sliding_window": 8,
            "rope.freq_base": 160000.0,
            "rope.freq_base_swa": 10000.0,
        },
    ),
    "gemma-embedding": TinyModel(
        architecture="gemma-embedding",
        layers=6,
        norms=BOTH_NORMS,
        query_key_norm="head",
        embedding_gain=0.5,
        projected=96,
        metadata={
            **WHOLE,
            "pooling_type": MEAN,
            "attention.sliding_window": 9,
            "rope.freq_base": 1e6,
            "dense_2_feat_in": 64,
            "dense_2_feat_out": 96,
            "dense_3_feat_in": 96,
            "dense_3_feat_out": 64,
        },
    ),
    "qwen3-embedding": TinyModel(
        architecture="qwen3", query_key_norm="head", metadata={"pooling_type": LAST}
    ),
    "qwen3-reranker": TinyModel(
        architecture="qwen3",
        query_key_norm="head",
        classes=("yes", "no"),
        metadata={"pooling_type": RANK},
    ),
}
