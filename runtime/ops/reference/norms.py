"""RMSNorm and LayerNorm of a residual stream."""

import numpy as np

from runtime.ops.reference.blocks import Float32


def rms_norm(
    x: Float32, weight: Float32, residual: Float32 | None = None, *, epsilon: float
) -> tuple[Float32, Float32]:
    """float32 [T, C], [W], [T, C] -> (normalized [T, C], sum [T, C]).

    sum = x + residual; normalized = sum / sqrt(mean(sum^2) + epsilon) * weight, the mean taken over
    each group of W adjacent values (W = C for a layer, W = D for a norm per head).
    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
    """
    total = x if residual is None else x + residual
    groups = total.reshape(len(x), x.shape[1] // len(weight), len(weight))
    mean_square = np.mean(np.square(groups), axis=-1, keepdims=True, dtype=np.float64)
    scale = 1 / np.sqrt(mean_square + epsilon)
    return (groups * scale * weight).astype(np.float32).reshape(x.shape), total


def layer_norm(
    x: Float32, weight: Float32, residual: Float32 | None = None, *, epsilon: float
) -> tuple[Float32, Float32]:
    """float32 [T, C], [C], [T, C] -> (normalized [T, C], sum [T, C]).

    sum = x + residual; normalized = (sum - mean) / sqrt(variance + epsilon) * weight over each row.
    Ba, Kiros and Hinton, "Layer Normalization", 2016.
    """
    total = x if residual is None else x + residual
    centered = total - np.mean(total, axis=-1, keepdims=True, dtype=np.float64)
    variance = np.mean(np.square(centered), axis=-1, keepdims=True)
    return (centered / np.sqrt(variance + epsilon) * weight).astype(np.float32), total
