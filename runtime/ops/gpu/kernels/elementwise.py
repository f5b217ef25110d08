"""Norms, gated activation and the rotation's angles."""

import triton
import triton.language as tl


@triton.jit
def rms_norm(
    y, total, x, residual, weight, width, has_residual, has_total, epsilon, BLOCK: tl.constexpr
):
    """Y = sum / sqrt(mean(sum^2) + epsilon) * weight with sum = x + residual.

    Program g: the g-th group of `width` consecutive values; `total` gets the sums where wanted.
    """
    start = tl.program_id(0).to(tl.int64) * width
    squares = tl.zeros([BLOCK], tl.float32)
    for first in range(0, width, BLOCK):
        at = first + tl.arange(0, BLOCK)
        value = summed(x, residual, start, at, width, has_residual)
        if has_total != 0:
            tl.store(total + start + at, value, mask=at < width)
        squares += value * value
    scale = 1.0 / tl.sqrt_rn(tl.sum(squares, axis=0) / width + epsilon)
    for first in range(0, width, BLOCK):
        at = first + tl.arange(0, BLOCK)
        value = summed(x, residual, start, at, width, has_residual)
        factor = tl.load(weight + at, mask=at < width)
        tl.store(y + start + at, value * scale * factor, mask=at < width)


@triton.jit
def layer_norm(
    y, total, x, residual, weight, width, has_residual, has_total, epsilon, BLOCK: tl.constexpr
):
    """Y = (sum - mean) / sqrt(mean((sum - mean)^2) + epsilon) * weight with sum = x + residual.

    Program t: row t of `width` values; `total` gets the sums where wanted.
    """
    start = tl.program_id(0).to(tl.int64) * width
    sums = tl.zeros([BLOCK], tl.float32)
    for first in range(0, width, BLOCK):
        at = first + tl.arange(0, BLOCK)
        value = summed(x, residual, start, at, width, has_residual)
        if has_total != 0:
            tl.store(total + start + at, value, mask=at < width)
        sums += value
    mean = tl.sum(sums, axis=0) / width
    squares = tl.zeros([BLOCK], tl.float32)
    for first in range(0, width, BLOCK):
        at = first + tl.arange(0, BLOCK)
        distance = summed(x, residual, start, at, width, has_residual) - mean
        squares += tl.where(at < width, distance * distance, 0.0)
    scale = 1.0 / tl.sqrt_rn(tl.sum(squares, axis=0) / width + epsilon)
    for first in range(0, width, BLOCK):
        at = first + tl.arange(0, BLOCK)
        distance = summed(x, residual, start, at, width, has_residual) - mean
        factor = tl.load(weight + at, mask=at < width)
        tl.store(y + start + at, distance * scale * factor, mask=at < width)


@triton.jit
def summed(x, residual, start, at, width, has_residual):
    """Values of x + residual in the columns `at` of a row, zero from `width` on."""
    value = tl.load(x + start + at, mask=at < width, other=0.0)
    if has_residual != 0:
        value += tl.load(residual + start + at, mask=at < width, other=0.0)
    return value


@triton.jit
def tanh(x):
    """Hyperbolic tangent in float32."""
    return 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)


@triton.jit
def gated_activation(y, gate, up, elements, kind, BLOCK: tl.constexpr):
    """Y = activation(gate) * up; kind 0 is silu, 1 gelu, 2 gpt-oss's clamped silu."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < elements
    g = tl.load(gate + at, mask=mask, other=0.0)
    u = tl.load(up + at, mask=mask, other=0.0)
    if kind == 0:
        g = g / (1.0 + tl.exp(-g))
    elif kind == 1:
        g = 0.5 * g * (1.0 + tanh(0.7978845608028654 * (g + 0.044715 * g * g * g)))
    else:
        g = tl.minimum(g, 7.0)
        g = g / (1.0 + tl.exp(-1.702 * g))
        u = tl.maximum(tl.minimum(u, 7.0), -7.0) + 1.0
    tl.store(y + at, g * u, mask=mask)


@triton.jit
def rotary_angles(angles, positions, inverse_frequencies, half, magnitude, BLOCK: tl.constexpr):
    """Cosines, then sines, of a token's angles. Program t: token t.

    Angles go up to 10^5 and more, so they are brought into one turn in float64.
    """
    token = tl.program_id(0)
    position = tl.load(positions + token).to(tl.float64)
    start = token.to(tl.int64) * 2 * half
    for first in range(0, half, BLOCK):
        at = first + tl.arange(0, BLOCK)
        mask = at < half
        angle = position * tl.load(inverse_frequencies + at, mask=mask, other=0.0).to(tl.float64)
        turns = tl.floor(angle * 0.15915494309189535 + 0.5)
        reduced = (angle - turns * 6.283185307179586).to(tl.float32)
        tl.store(angles + start + at, tl.cos(reduced) * magnitude, mask=mask)
        tl.store(angles + start + half + at, tl.sin(reduced) * magnitude, mask=mask)
