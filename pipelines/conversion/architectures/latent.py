"""Multi-head latent attention as files describe it, in their older and their newer form."""

from dataclasses import dataclass

from pipelines.conversion.architectures.directory import Keys, Tensors
from pipelines.conversion.architectures.spec import LatentAttention, Linear


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Widths of latent attention."""

    heads: int
    latent: int
    plain: int
    rotated: int
    value: int
    is_split: bool
    """The newer form: keys and values are made from a latent by two separate tensors."""

    @classmethod
    def of(cls, keys: Keys, heads: int) -> "LatentShape":
        """Read the sizes; in the newer form `key_length` is that of the cached row."""
        is_split = keys.value("attention.key_length_mla") is not None
        suffix = "_mla" if is_split else ""
        key = keys.count(f"attention.key_length{suffix}")
        value = keys.count(f"attention.value_length{suffix}")
        rotated = keys.count("rope.dimension_count")
        latent = keys.count("attention.kv_lora_rank")
        if rotated >= key:
            keys.fail("rope.dimension_count", f"is {rotated}, not less than the key length {key}")
        if not is_split and value > key:
            keys.refuse("attention.value_length", f"is {value}, more than the key length {key}")
        return cls(heads, latent, key - rotated, rotated, value, is_split)

    @property
    def key(self) -> int:
        """Width of a head's key."""
        return self.plain + self.rotated

    @property
    def kv_heads(self) -> int:
        """Heads of a page."""
        return 1 if self.is_split else self.heads

    @property
    def head_dim(self) -> int:
        """Width of a page's rows: a latent and the shared part of the key, or a head's key."""
        return self.rotated + (self.latent if self.is_split else self.plain)

    def read(self, tensors: Tensors, block: str, width: int) -> LatentAttention:
        """The projections of one block."""
        name, queries = f"{block}.attn_q", self.heads * self.key
        query: tuple[Linear, ...]
        query_norm = None
        if f"{name}_a.weight" in tensors:
            narrow = tensors.rows_of(f"{name}_a.weight")
            query_norm = tensors.vector(f"{name}_a_norm.weight", narrow)
            query = (
                tensors.linear(f"{name}_a", narrow, width),
                tensors.linear(f"{name}_b", queries, narrow),
            )
        else:
            query = (tensors.linear(name, queries, width),)
        key_value: tuple[Linear, ...]
        if self.is_split:
            key_value = (
                tensors.stacked(f"{block}.attn_k_b", self.heads, self.latent, self.plain),
                tensors.stacked(f"{block}.attn_v_b", self.heads, self.value, self.latent),
            )
        else:
            rows = self.heads * (self.plain + self.value)
            key_value = (tensors.linear(f"{block}.attn_kv_b", rows, self.latent),)
        return LatentAttention(
            query=query,
            query_norm=query_norm,
            latent=tensors.linear(f"{block}.attn_kv_a_mqa", self.latent + self.rotated, width),
            latent_norm=tensors.vector(f"{block}.attn_kv_a_norm.weight", self.latent),
            key_value=key_value,
            plain=self.plain,
            rotated=self.rotated,
            value=self.value,
        )
