"""Reads the number and width of each layer's attention heads from a file's metadata."""

from collections.abc import Sequence

from pipelines.conversion.architectures.architecture import Architecture
from pipelines.conversion.architectures.directory import Keys
from pipelines.conversion.architectures.latent import LatentShape
from pipelines.conversion.architectures.spec import Heads


def heads_of_layers(
    keys: Keys,
    architecture: Architecture,
    latent: LatentShape | None,
    windows: Sequence[int],
    width: int,
) -> tuple[Heads, ...]:
    """Return the heads of each layer; `kv` is 0 if the layer has no attention.

    windows: sliding window of each layer, 0 for global attention. width: embedding_length.
    """
    layers = len(windows)
    if architecture.recurrent_layers == "all":
        return (Heads(0, 0, 0, 0),) * layers
    if architecture.layered:
        counts = keys.counts("attention.head_count", None, layers)
    else:
        counts = (keys.count("attention.head_count"),) * layers
    if latent is not None:
        head_dim = latent.head_dim
        kv_counts = (latent.kv_heads,) * layers
        if architecture.recurrence != "none":
            stated = keys.counts("attention.head_count_kv", None, layers)
            kv_counts = tuple(latent.kv_heads if each else 0 for each in stated)
        return tuple(Heads(counts[0], kv, head_dim, latent.value) for kv in kv_counts)
    kv_counts = _kv_counts(keys, architecture, counts)
    default = max(1, width // max(*counts, 1))
    key = keys.count("attention.key_length", default)
    value = keys.count("attention.value_length", default)
    sliding_key, sliding_value = key, value
    if architecture.layered:
        sliding_key = keys.count("attention.key_length_swa", key)
        sliding_value = keys.count("attention.value_length_swa", value)
    elif value != key:
        keys.refuse("attention.value_length", f"differs from the key length {key}")
    if value > key or sliding_value > sliding_key:
        keys.refuse("attention.value_length", f"is {value}, more than the key length {key}")
    return tuple(
        Heads(count, kv, sliding_key, sliding_value) if window else Heads(count, kv, key, value)
        for count, kv, window in zip(counts, kv_counts, windows, strict=True)
    )


def _kv_counts(keys: Keys, architecture: Architecture, heads: Sequence[int]) -> tuple[int, ...]:
    """Return the number of key-value heads of each layer."""
    key, layers = "attention.head_count_kv", len(heads)
    is_recurrent = architecture.recurrence != "none"
    if architecture.layered or is_recurrent:
        counts = keys.counts(key, max(heads), layers)
    else:
        counts = (keys.count(key, heads[0]),) * layers
    if is_recurrent and len(set(counts) - {0}) != 1:
        keys.refuse(key, "differs between layers with attention")
    for count, kv in zip(heads, counts, strict=True):
        if kv == 0 and not is_recurrent and not architecture.attention_optional:
            keys.refuse(key, "is 0 in a layer")
        if kv and (count == 0 or count % kv):
            keys.fail("attention.head_count", f"is {count}, no multiple of the {kv} KV heads")
    return counts
