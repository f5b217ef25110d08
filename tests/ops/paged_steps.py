"""Random steps for the operators on the page pool: rows, positions, pages and heads."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class PagedStep:
    """`lengths[b]` is a row's context after the step, of which the last `new[b]` are its tokens."""

    lengths: tuple[int, ...]
    new: tuple[int, ...]
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    page_size: int = 8
    layers: int = 2

    @property
    def tokens(self) -> int:
        return sum(self.new)

    @property
    def positions(self) -> np.ndarray:
        pieces = [np.arange(n - k, n) for n, k in zip(self.lengths, self.new, strict=True)]
        return np.concatenate([*pieces, np.zeros(0)]).astype(np.int32)

    @property
    def row_starts(self) -> np.ndarray:
        return np.cumsum([0, *self.new]).astype(np.int32)

    @property
    def pages_per_row(self) -> int:
        return -(-max(self.lengths) // self.page_size) + 1

    @property
    def pages(self) -> int:
        return len(self.lengths) * self.pages_per_row + 3

    def page_table(self, random: np.random.Generator) -> np.ndarray:
        """Every row has pages of its own, scattered over the pool; unused entries are -1."""
        table = random.permutation(self.pages)[: len(self.lengths) * self.pages_per_row]
        table = table.reshape(len(self.lengths), self.pages_per_row).astype(np.int32)
        used = -(-np.array(self.lengths) // self.page_size)
        return np.where(np.arange(self.pages_per_row) < used[:, None], table, -1).astype(np.int32)

    def pool(self, random: np.random.Generator) -> np.ndarray:
        shape = (self.layers, self.pages, 2, self.kv_heads, self.page_size, self.head_dim)
        return random.standard_normal(shape).astype(np.float16)

    def activations(self, random: np.random.Generator, heads: int) -> np.ndarray:
        return random.standard_normal((self.tokens, heads * self.head_dim)).astype(np.float32)

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            "layer": self.layers - 1,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
        }
