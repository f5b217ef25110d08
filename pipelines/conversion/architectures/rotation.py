"""Reads which layers have a sliding window, and each layer's rotary embedding."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipelines.conversion.architectures.architecture import Architecture
from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.spec import Heads, Rotary
from runtime.errors import GGUFError

Style = Literal["norm", "neox"]

SCALINGS = ("none", "linear", "yarn", "longrope")


def windows(keys: Keys, architecture: Architecture, layers: int) -> tuple[int, ...]:
    """The sliding window of every layer; 0 for a layer that attends to all positions."""
    if architecture.window_ignored:
        keys.value("attention.sliding_window")
    if architecture.window_period is None:
        return (0,) * layers
    window = keys.number("attention.sliding_window", architecture.window or 0)
    window = architecture.window_always if window and architecture.window_always else window
    if window < 0 or window != int(window) or window > np.iinfo(np.int32).max:
        keys.fail("attention.sliding_window", f"is {window:g}, no number of positions")
    slides = _sliding_layers(keys, architecture, layers)
    return tuple(int(window) if each else 0 for each in slides)


def _sliding_layers(keys: Keys, architecture: Architecture, layers: int) -> list[bool]:
    """From a flag for each layer, or from a period of which the last or first layer is global."""
    period = architecture.window_period or 0
    key = "attention.sliding_window_pattern"
    pattern = keys.value(key)
    if isinstance(pattern, np.ndarray) and pattern.dtype.kind in "biu":
        if len(pattern) < layers:
            keys.fail(key, f"has {len(pattern)} entries for {layers} layers")
        return [bool(each) for each in pattern[:layers]]
    if pattern is not None:
        if not isinstance(pattern, int) or isinstance(pattern, bool) or pattern < 0:
            keys.fail(key, f"is {pattern!r}, neither a period nor a flag for each layer")
        period = pattern
    of_global = 0 if architecture.window_first else period - 1
    return [period == 0 or index % period != of_global for index in range(layers)]


def rotaries(
    keys: Keys,
    tensors: Tensors,
    architecture: Architecture,
    heads: Sequence[Heads],
    windows: Sequence[int],
) -> tuple[Rotary, ...]:
    """The rotation of every layer."""
    style = _style(keys, architecture)
    if style is None or architecture.alibi_layers == len(windows):
        return (Rotary("neox", ()),) * len(windows)
    rotated = _rotated_layers(keys, architecture, len(windows))
    dimensions = _dimensions(keys, "rope.dimension_count", heads[0].width, heads, windows, False)
    sliding_dimensions = dimensions
    if architecture.layered:
        key = "rope.dimension_count_swa"
        sliding_dimensions = _dimensions(keys, key, dimensions, heads, windows, True)
    dimensions = int(dimensions * architecture.rotary_share)
    base = keys.positive("rope.freq_base", 10000.0)
    window_base = keys.positive("rope.freq_base_swa", architecture.window_base or base)
    divisors = _divisors(keys, tensors, dimensions)
    none = Rotary(style, ())
    everywhere = _scaled(keys, architecture, style, base, dimensions, divisors)
    sliding = everywhere
    if not architecture.window_scaled:
        sliding = Rotary(style, _tuple(_frequencies(window_base, sliding_dimensions)))
    elif (window_base, sliding_dimensions) != (base, dimensions):
        sliding = _scaled(keys, architecture, style, window_base, sliding_dimensions, divisors)
    if architecture.rotary_switch and not keys.flag("rope.scaling.finetuned", True):
        everywhere = sliding = none
    of_global = none if architecture.rotated == "sliding" and any(windows) else everywhere
    dense = keys.count_or_zero("leading_dense_block_count") if architecture.dense_rotated else 0
    return tuple(
        none
        if not rotated[index]
        else sliding
        if window
        else everywhere
        if index < dense
        else of_global
        for index, window in enumerate(windows)
    )


def _rotated_layers(keys: Keys, architecture: Architecture, layers: int) -> list[bool]:
    """Return whether each layer is rotated, as the file or the family states."""
    key = "attention.rope_pattern"
    if architecture.rotary_pattern and keys.value(key) is not None:
        return [bool(each) for each in keys.counts(key, None, layers)]
    period = architecture.unrotated_period
    return [not period or (index + 1) % period != 0 for index in range(layers)]


def _dimensions(
    keys: Keys,
    key: str,
    default: int,
    heads: Sequence[Heads],
    windows: Sequence[int],
    slides: bool,
) -> int:
    """Return how many values of a head are rotated, in sliding or in global layers."""
    dimensions = keys.count(key, default)
    widths = [each.width for each, window in zip(heads, windows, strict=True) if window]
    if not slides or not widths:
        widths = [each.width for each, window in zip(heads, windows, strict=True) if not window]
    narrowest = min(widths or [each.width for each in heads])
    if dimensions % 2 or dimensions > narrowest:
        keys.fail(key, f"is {dimensions}, no even number up to {narrowest}")
    return dimensions


def _style(keys: Keys, architecture: Architecture) -> Style | None:
    """Return which pairs are rotated; None if there is no rotation."""
    if architecture.rotary_style == "none":
        return None
    if architecture.rotary_sections == "refused":
        return architecture.rotary_style
    sections = keys.value("rope.dimension_sections")
    has_sections = isinstance(sections, np.ndarray) and bool(sections.any())
    is_neox = architecture.rotary_sections == "neox" and has_sections
    return "neox" if is_neox else architecture.rotary_style


def _scaled(
    keys: Keys,
    architecture: Architecture,
    style: Style,
    base: float,
    dimensions: int,
    divisors: np.ndarray,
) -> Rotary:
    """Return frequencies and magnitude after the file's scaling.

    Linear scaling is position interpolation (arXiv 2306.15595); YaRN (2309.00071) mixes scaled and
    unscaled frequencies by how often each turns within the original context (eq. 21 and 23), and
    multiplies by 1 + 0.1 ln(factor); LongRoPE (2402.13753) and Llama 3.1 come as `divisors`.
    """
    kind = keys.text("rope.scaling.type", "linear")
    if kind not in SCALINGS:
        keys.refuse("rope.scaling.type", f"is {kind!r}, supported are {', '.join(SCALINGS)}")
    factor = _factor(keys)
    magnitude = keys.positive("rope.scaling.attn_factor", 1.0)
    frequencies = _frequencies(base, dimensions)
    if kind == "yarn":
        kept = _kept_share(keys, base, dimensions, architecture.yarn_fast)
        frequencies = frequencies * (kept + (1 - kept) / factor)
        multiplier = keys.number("rope.scaling.yarn_log_multiplier", 0.0)
        if not (multiplier and architecture.latent_magnitude and architecture.latent_attention):
            magnitude *= _yarn_magnitude(factor, 1.0) / _yarn_magnitude(factor, multiplier)
    elif kind != "none":
        frequencies = frequencies / factor
    if architecture.query_key_norm == "after":
        magnitude = 1.0  # the norm takes it out again
    return Rotary(style, _tuple(frequencies / divisors), magnitude)


def latent_scale(keys: Keys, rotary: Rotary, key: int) -> float:
    """Scale of latent attention: 1 / sqrt(key width), times the square of YaRN's magnitude.

    That magnitude is for whole keys, since only a part of them is rotated (DeepSeek-V2's own
    code); its multiplier is a tenth in the files.
    """
    magnitude = rotary.magnitude
    if keys.text("rope.scaling.type", "linear") == "yarn":
        multiplier = 10 * keys.number("rope.scaling.yarn_log_multiplier", 0.0)
        magnitude *= _yarn_magnitude(_factor(keys), multiplier)
    scale: float = magnitude**2 * key**-0.5
    return scale


def _factor(keys: Keys) -> float:
    factor = keys.scale("rope.scaling.factor", keys.scale("rope.scale_linear"))
    if factor <= 0:
        keys.fail("rope.scaling.factor", f"is {factor!r}, no positive number")
    return factor


def _frequencies(base: float, dimensions: int) -> np.ndarray:
    """Inverse frequencies base^(-2i/R): RoFormer (arXiv 2104.09864) eq. 15."""
    exponents = np.arange(0, dimensions, 2, dtype=np.float64) / dimensions
    frequencies: np.ndarray = base**-exponents
    return frequencies


def _kept_share(keys: Keys, base: float, dimensions: int, default_fast: float) -> np.ndarray:
    """Return per pair the fraction that YaRN leaves unscaled: 1 for high frequencies, 0 for low."""
    context = keys.count("rope.scaling.original_context_length", keys.count("context_length"))

    def pair_that_turns(times: float) -> float:
        return dimensions * math.log(context / (times * 2 * math.pi)) / (2 * math.log(base))

    if base == 1.0:
        keys.fail("rope.freq_base", "is 1, with which YaRN is not defined")
    fast = keys.positive("rope.scaling.yarn_beta_fast", default_fast)
    slow = keys.positive("rope.scaling.yarn_beta_slow", 1.0)
    low = max(0, math.floor(pair_that_turns(fast)))
    high = min(dimensions - 1, math.ceil(pair_that_turns(slow)))
    ramp = (np.arange(dimensions // 2) - low) / max(0.001, high - low)
    share: np.ndarray = 1 - np.clip(ramp, 0, 1)
    return share


def _yarn_magnitude(factor: float, multiplier: float) -> float:
    return 1.0 if factor <= 1 else 1 + 0.1 * multiplier * math.log(factor)


def _divisors(keys: Keys, tensors: Tensors, dimensions: int) -> np.ndarray:
    """Return the divisors of the frequencies in the file's tensor; ones if there is none.

    LongRoPE has two sets. The long one is for a context beyond the original; the model is served
    with the whole context of its file, and keys in the cache cannot change over.
    """
    half = dimensions // 2
    divisors = np.ones(half)
    if "rope_freqs.weight" in tensors:
        divisors = tensors.divisors("rope_freqs.weight", half)
    names = [f"rope_factors_{length}.weight" for length in ("short", "long")]
    if any(name in tensors for name in names):
        if "rope_freqs.weight" in tensors:
            raise GGUFError(
                f"{tensors.file.path}: rope_freqs.weight and rope_factors_long.weight exclude each "
                "other; convert the model anew"
            )
        short, long = (tensors.divisors(name, half) for name in names)
        context = keys.count("context_length")
        original = keys.count("rope.scaling.original_context_length", context)
        divisors = long if context > original else short
    return divisors


def _tuple(frequencies: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in frequencies)
