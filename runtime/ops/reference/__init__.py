"""The definition of every `com.rocmforge` operator in plain NumPy.

These functions define the operators; the kernels are tested against them. Arguments are the
inputs of the operator in `runtime.ops.schema`, then its attributes; that module explains the
letters in shapes. All arithmetic is float32 unless a docstring says otherwise.
"""

from collections.abc import Callable, Mapping
from typing import Any

from runtime.ops.reference.activations import gated_activation
from runtime.ops.reference.attention import (
    paged_attention,
    rotary_angles,
    rotary_page_write,
    rotate,
)
from runtime.ops.reference.blocks import dequantize_rows, row_bytes, row_lookup
from runtime.ops.reference.convolution import causal_convolution
from runtime.ops.reference.delta_net import gated_delta_net
from runtime.ops.reference.experts import choose, expert_activation, mixture_of_experts
from runtime.ops.reference.norms import layer_norm, rms_norm
from runtime.ops.reference.products import (
    grouped_quant_matmul,
    norm_quant_matmul,
    quant_matmul,
    quant_matmul_int8,
    quantize_activations,
)
from runtime.ops.reference.selective_scan import selective_scan

DEFINITIONS: Mapping[str, Callable[..., Any]] = {
    "RowLookup": row_lookup,
    "RMSNorm": rms_norm,
    "LayerNorm": layer_norm,
    "QuantMatMul": quant_matmul,
    "GroupedQuantMatMul": grouped_quant_matmul,
    "NormQuantMatMul": norm_quant_matmul,
    "RotaryAngles": rotary_angles,
    "RotaryPageWrite": rotary_page_write,
    "PagedAttention": paged_attention,
    "CausalConvolution": causal_convolution,
    "GatedDeltaNet": gated_delta_net,
    "SelectiveScan": selective_scan,
    "GatedActivation": gated_activation,
    "MixtureOfExperts": mixture_of_experts,
}
"""What each operator of the schema computes, by its name."""

__all__ = [
    "DEFINITIONS",
    "causal_convolution",
    "choose",
    "dequantize_rows",
    "expert_activation",
    "gated_activation",
    "gated_delta_net",
    "grouped_quant_matmul",
    "layer_norm",
    "mixture_of_experts",
    "norm_quant_matmul",
    "paged_attention",
    "quant_matmul",
    "quant_matmul_int8",
    "quantize_activations",
    "rms_norm",
    "rotary_angles",
    "rotary_page_write",
    "rotate",
    "row_bytes",
    "row_lookup",
    "selective_scan",
]
