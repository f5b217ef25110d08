"""What each GPU kernel computes, in NumPy, on the very arguments that the launcher hands over.

A function is called as the kernel, with its arguments by their names in the manifest (pointers are
addresses), its constants, and the grid: it checks that the grid covers what there is to compute.
"""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.ops.gpu.layouts import BLOCK_FORMATS
from runtime.ops.gpu.planes import Planes, unpack
from runtime.ops.reference import choose, expert_activation, layer_norm, rms_norm, rotate
from runtime.ops.reference import rotary_angles as angles_of

KEY_BYTES = 256
LOG2_E = float(np.log2(np.e))
KINDS = ("silu", "gelu", "clamped_silu")


@dataclass(frozen=True)
class Launch:
    """One launch: arguments and constants by name."""

    kernel: str
    variant: str
    arguments: SimpleNamespace
    constants: Mapping[str, int]
    grid: tuple[int, int, int]


def view(address: int, dtype: npt.DTypeLike, *shape: int) -> np.ndarray:
    """The memory at an address as an array, writable."""
    count = int(np.prod(shape, dtype=np.int64))
    assert address or count == 0, "a kernel reads a null pointer"
    if count == 0:
        return np.zeros(shape, dtype)
    memory = (ctypes.c_char * (count * np.dtype(dtype).itemsize)).from_address(address)
    return np.ndarray(shape, dtype, memoryview(memory))


def repeated(address: int, inner: int, repeat: int, outer: int, size: int) -> np.ndarray:
    """What `size` values of a result find of an operand [outer, inner] with repeated rows."""
    rows = view(address, np.float32, outer, inner).repeat(repeat, axis=0).reshape(-1)
    return np.resize(rows, size)


def cover(tiles: int, size: int, of: int) -> None:
    """Assert that `of` needs exactly this many tiles of `size`."""
    assert tiles == -(-of // size), f"{tiles} tiles of {size} for {of}"


class Kernels:
    """The functions by the kernels' names, and the weights that were unpacked once."""

    def __init__(self) -> None:
        self._weights: dict[tuple[int, bytes, int, int, int], np.ndarray] = {}

    def run(self, launch: Launch) -> None:
        function: Callable[[Launch, Any], None] = getattr(self, launch.kernel)
        function(launch, launch.arguments)

    def weights(self, variant: str, a: Any, first: int, rows: int) -> np.ndarray:
        """float32 [rows, K] of the planes, from row `first` on."""
        # Memory that was freed may hold another matrix: its first codes tell them apart.
        beginning = view(a.codes, np.uint8, KEY_BYTES).tobytes()
        key = (a.codes, beginning, a.parts, first, rows)
        if key not in self._weights:
            self._weights[key] = weights_of(variant, a, first, rows)
        return self._weights[key]

    def row_lookup(self, launch: Launch, a: Any) -> None:
        tokens = launch.grid[0]
        cover(launch.grid[1], launch.constants["PARTS"], a.parts)
        weights = self.weights(launch.variant, a, 0, a.rows)
        ids = view(a.ids, np.int32, tokens)
        view(a.y, np.float32, tokens, a.parts * 32)[:] = weights[ids]

    def one_row(self, launch: Launch, a: Any) -> None:
        cover(launch.grid[0], launch.constants["ROWS"], a.rows)
        slots = launch.grid[1]
        experts = view(a.experts, np.int32, slots) if a.routed else np.zeros(slots, np.int32)
        for slot in range(slots):
            self._product(launch, a, np.array([slot]), int(experts[slot]), slots)

    def few_rows(self, launch: Launch, a: Any) -> None:
        self.many_rows(launch, a)

    def round_activations(self, launch: Launch, a: Any) -> None:
        cover(launch.grid[0], launch.constants["BLOCK"], a.elements)
        cut = np.clip(view(a.x, np.float32, a.elements), -65504, 65504)
        view(a.rounded, np.float16, a.elements)[:] = cut

    def sum_splits(self, launch: Launch, a: Any) -> None:
        cover(launch.grid[0], launch.constants["BLOCK"], a.entries)
        partial = view(a.partial, np.float32, a.splits, a.entries)
        view(a.y, np.float32, a.entries)[:] = partial.sum(axis=0)

    def many_rows(self, launch: Launch, a: Any) -> None:
        rows, tiles, splits = launch.constants["ROWS"], launch.grid[1], launch.grid[2]
        cover(launch.grid[0], launch.constants["COLUMNS"], a.rows)
        if not a.routed:
            cover(tiles, rows, a.count)
            # What the other splits would have is here in the first.
            view(a.y, np.float32, splits, a.count, a.rows)[1:] = 0
            self._product(launch, a, np.arange(a.count), 0, a.count)
            return
        assert splits == 1, "a product by experts is not split"
        slots = view(a.slots, np.int32, tiles, rows)
        seen: list[int] = []
        for expert, placed in zip(view(a.block_experts, np.int32, tiles), slots, strict=True):
            if expert >= 0:
                own = placed[placed >= 0]
                self._product(launch, a, own, int(expert), a.count)
                seen += own.tolist()
        assert sorted(seen) == list(range(a.count)), "a slot is placed not once"

    def _product(
        self, launch: Launch, a: Any, slots: np.ndarray, expert: int, slot_count: int
    ) -> None:
        weights = self.weights(launch.variant, a, expert * a.rows, a.rows)
        is_exact = launch.kernel == "one_row" or launch.variant == "f32"
        dtype = np.float32 if is_exact else np.float16
        x_rows = -(-slot_count // a.slots_per_row)
        x = view(a.x, dtype, x_rows, a.parts * 32)[slots // a.slots_per_row].astype(np.float32)
        y = x @ weights.T
        if a.has_bias:
            y += view(a.bias, np.float32, expert + 1, a.rows)[expert]
        view(a.y, np.float32, slot_count, a.rows)[slots] = y

    def rms_norm(self, launch: Launch, a: Any) -> None:
        assert (launch.variant == "narrow") == (a.width <= 256)
        self._norm(launch, a, rms_norm)

    def layer_norm(self, launch: Launch, a: Any) -> None:
        self._norm(launch, a, layer_norm)

    def _norm(self, launch: Launch, a: Any, normed: Callable[..., Any]) -> None:
        shape = (launch.grid[0], a.width)
        x, weight = view(a.x, np.float32, *shape), view(a.weight, np.float32, a.width)
        residual = view(a.residual, np.float32, *shape) if a.has_residual else None
        y, total = normed(x, weight, residual, epsilon=a.epsilon)
        view(a.y, np.float32, *shape)[:] = y
        if a.has_total:
            view(a.total, np.float32, *shape)[:] = total

    def gated_activation(self, launch: Launch, a: Any) -> None:
        cover(launch.grid[0], launch.constants["BLOCK"], a.elements)
        gate, up = (view(each, np.float32, 1, a.elements) for each in (a.gate, a.up))
        result = expert_activation(gate, up, activation=KINDS[a.kind])  # type: ignore[arg-type]
        view(a.y, np.float32, 1, a.elements)[:] = result

    def rotary_angles(self, launch: Launch, a: Any) -> None:
        positions = view(a.positions, np.int32, launch.grid[0])
        frequencies = view(a.inverse_frequencies, np.float32, a.half)
        view(a.angles, np.float32, launch.grid[0], 2 * a.half)[:] = angles_of(
            positions, frequencies, magnitude=a.magnitude
        )

    def rotary_page_write(self, launch: Launch, a: Any) -> None:
        tokens, programs, pieces = launch.grid
        assert programs == a.heads + 2 * a.kv_heads
        cover(pieces, launch.constants["BLOCK"], a.head_dim)
        q = view(a.q, np.float32, tokens, a.heads, a.head_dim)
        k, v = (view(each, np.float32, tokens, a.kv_heads, a.head_dim) for each in (a.k, a.v))
        angles = view(a.angles, np.float32, tokens, a.rotary_dim)
        style = "norm" if a.adjacent else "neox"
        rotated = view(a.q_rotated, np.float32, tokens, a.heads, a.head_dim)
        rotated[:] = rotate(q, angles, style=style)  # type: ignore[arg-type]
        keys = rotate(k, angles, style=style)  # type: ignore[arg-type]
        step = Step.of(a, a.rows)
        pool = step.pool(a)
        for row, begin, end in step.rows():
            at = step.positions[begin:end]
            pages, slots = step.page_table[row, at // a.page_size], at % a.page_size
            pool[pages, 0, :, slots] = keys[begin:end]
            pool[pages, 1, :, slots] = v[begin:end]

    def decode_attention(self, launch: Launch, a: Any) -> None:
        rows, groups, splits = launch.grid
        size, tile = launch.constants["SPLIT"], launch.constants["ROWS"]
        assert splits == max(1, -(-a.page_columns * a.page_size // size))
        step, heads = Step.of(a, rows), Groups.of(a, tile)
        assert groups == heads.count
        y = view(a.y, np.float32, step.tokens, a.heads, a.head_dim)
        for row, begin, end in step.rows():
            if end - begin > heads.tokens:
                continue
            keys, values = step.cached(a, row, int(step.positions[end - 1]) + 1)
            for group in range(groups):
                query = heads.queries(a, step, group, begin, end)
                for split in range(splits):
                    part = slice(split * size, min((split + 1) * size, keys.shape[1]))
                    if part.start >= keys.shape[1]:
                        break
                    state = attend(a, query, keys[query.kv_head], values[query.kv_head], part)
                    if splits == 1:
                        y[query.tokens, query.heads] = finish(a, *state, query.heads)
                    else:
                        heads.keep(a, launch.grid, row, group, split, state)

    def merge_attention(self, launch: Launch, a: Any) -> None:
        rows, groups, _ = launch.grid
        step, heads = Step.of(a, rows, has_pages=False), Groups.of(a, launch.constants["ROWS"])
        y = view(a.y, np.float32, step.tokens, a.heads, a.head_dim)
        for row, begin, end in step.rows():
            if end - begin > heads.tokens:
                continue
            used = -(-(int(step.positions[end - 1]) + 1) // launch.constants["SPLIT"])
            for group in range(groups):
                query = heads.queries(None, step, group, begin, end)
                merged = merge(
                    [
                        heads.kept(a, (rows, groups, a.splits), row, group, split, query)
                        for split in range(used)
                    ]
                )
                y[query.tokens, query.heads] = finish(a, *merged, query.heads)

    def prefill_attention(self, launch: Launch, a: Any) -> None:
        step, heads = Step.of(a, a.rows), Groups.of(a, launch.constants["ROWS"])
        decoded = Groups.of(a, launch.constants["DECODE_ROWS"]).tokens
        assert launch.grid[0] == step.tokens // heads.tokens + a.rows
        assert launch.grid[1] == heads.count
        y = view(a.y, np.float32, step.tokens, a.heads, a.head_dim)
        for row, begin, end in step.rows():
            if end - begin <= decoded:
                continue
            keys, values = step.cached(a, row, int(step.positions[end - 1]) + 1)
            whole = slice(0, keys.shape[1])
            for group in range(heads.count):
                query = heads.queries(a, step, group, begin, end)
                state = attend(a, query, keys[query.kv_head], values[query.kv_head], whole)
                y[query.tokens, query.heads] = finish(a, *state, query.heads)

    def route_tokens(self, launch: Launch, a: Any) -> None:
        tokens = launch.grid[0]
        logits = view(a.logits, np.float32, tokens, a.expert_count)
        experts = view(a.experts, np.int32, tokens, a.used)
        shares = view(a.shares, np.float32, tokens, a.used)
        bias = view(a.bias, np.float32, a.expert_count) if a.has_bias else None
        for token in range(tokens):
            experts[token], shares[token] = choose(
                logits[token],
                bias,
                used=a.used,
                gating="sigmoid" if a.is_sigmoid else "softmax",
                renormalize=bool(a.renormalize),
                groups=a.groups,
                groups_used=a.groups_used,
            )
        shares *= np.float32(a.scale)

    def place_groups(self, launch: Launch, a: Any) -> None:
        size = a.blocks * a.block_rows or a.tokens * a.groups
        cover(launch.grid[0], launch.constants["BLOCK"], size)
        slots = np.arange(a.tokens * a.groups).reshape(a.tokens, a.groups)
        if a.blocks == 0:
            view(a.experts, np.int32, *slots.shape)[:] = np.arange(a.groups)
            return
        of_group = -(-a.tokens // a.block_rows)
        used = of_group * a.groups
        block_experts = view(a.block_experts, np.int32, a.blocks)
        block_experts[:used] = np.repeat(np.arange(a.groups), of_group)
        block_experts[used:] = -1
        filled = np.full((a.groups, of_group * a.block_rows), -1)
        filled[:, : a.tokens] = slots.T
        placed = view(a.slots, np.int32, a.blocks * a.block_rows)
        placed[: filled.size] = filled.reshape(-1)

    def place_slots(self, launch: Launch, a: Any) -> None:
        assert launch.grid[0] == a.expert_count
        assert a.blocks == -(-a.count // a.block_rows) + a.expert_count
        experts = view(a.experts, np.int32, a.count)
        slots = view(a.slots, np.int32, a.blocks, a.block_rows)
        block_experts = view(a.block_experts, np.int32, a.blocks)
        block_experts[:] = -1
        block = 0
        for expert in range(a.expert_count):
            own = np.flatnonzero(experts == expert)
            for at in range(0, len(own), a.block_rows):
                some = own[at : at + a.block_rows]
                slots[block], slots[block, : len(some)] = -1, some
                block_experts[block] = expert
                block += 1

    def combine_answers(self, launch: Launch, a: Any) -> None:
        tokens = launch.grid[0]
        cover(launch.grid[1], launch.constants["BLOCK"], a.columns)
        answers = view(a.answers, np.float32, tokens, a.used, a.columns)
        shares = view(a.shares, np.float32, tokens, a.used)
        view(a.y, np.float32, tokens, a.columns)[:] = np.einsum("tu,tuc->tc", shares, answers)

    def gather_rows(self, launch: Launch, a: Any) -> None:
        cover(launch.grid[1], launch.constants["BLOCK"], a.row_size)
        indices = view(a.indices, np.int32, launch.grid[0])
        x = view(a.x, np.float32, a.rows, a.row_size)
        view(a.y, np.float32, launch.grid[0], a.row_size)[:] = x[indices]

    def row_maximum(self, launch: Launch, a: Any) -> None:
        rows = launch.grid[0]
        largest = view(a.x, np.float32, rows, a.row_size).max(axis=1)
        view(a.y, np.float32, rows)[:] = largest

    def map_values(self, launch: Launch, a: Any) -> None:
        cover(launch.grid[0], launch.constants["BLOCK"], a.size)
        dtype = np.int32 if launch.variant == "i32" else np.float32
        x = view(a.x, dtype, a.size).astype(np.float32)
        functions: tuple[Callable[[Any], Any], ...] = (
            lambda x: x,
            lambda x: 1 / (1 + np.exp(-x)),
            lambda x: np.maximum(x, 0),
            *(np.tanh, np.floor, np.log, np.exp, np.abs, np.negative),
            lambda x: np.clip(x, a.low, a.high),
        )
        view(a.y, np.float32, a.size)[:] = functions[a.kind](x)

    def map_pairs(self, launch: Launch, a: Any) -> None:
        cover(launch.grid[0], launch.constants["BLOCK"], a.size)
        left = repeated(a.a, a.a_inner, a.a_repeat, a.a_outer, a.size)
        right = repeated(a.b, a.b_inner, a.b_repeat, a.b_outer, a.size)
        functions = (np.add, np.subtract, np.multiply, np.divide, np.minimum)
        view(a.y, np.float32, a.size)[:] = functions[a.kind](left, right)

    def candidates(self, launch: Launch, a: Any) -> None:
        rows, blocks, _ = launch.grid
        size, count = launch.constants["BLOCK"], launch.constants["COUNT"]
        cover(blocks, size, a.entries)
        values = view(a.values, np.float32, rows, a.entries)
        columns = np.broadcast_to(np.arange(a.entries), values.shape)
        tokens = view(a.tokens, np.int32, rows, a.entries) if a.has_tokens else columns
        best_values = view(a.best_values, np.float32, rows, blocks, count)
        best_tokens = view(a.best_tokens, np.int32, rows, blocks, count)
        best_values[:], best_tokens[:] = -np.inf, 0x7FFFFFFF
        for block in range(blocks):
            some = slice(block * size, (block + 1) * size)
            # NaN first, then the largest, of equal ones the lowest token.
            order = np.lexsort((tokens[:, some], -values[:, some], ~np.isnan(values[:, some])))
            order = order[:, :count]
            found = best_values[:, block, : order.shape[1]]
            found[:] = np.take_along_axis(values[:, some], order, axis=1)
            their = best_tokens[:, block, : order.shape[1]]
            their[:] = np.take_along_axis(tokens[:, some], order, axis=1)


@dataclass(frozen=True)
class Step:
    """The rows of a step as the kernels on pages are given them."""

    row_starts: np.ndarray
    positions: np.ndarray
    page_table: np.ndarray

    @classmethod
    def of(cls, a: Any, rows: int, *, has_pages: bool = True) -> "Step":
        row_starts = view(a.row_starts, np.int32, rows + 1)
        table = view(a.page_table, np.int32, rows, a.page_columns) if has_pages else row_starts
        return cls(row_starts, view(a.positions, np.int32, int(row_starts[-1])), table)

    @property
    def tokens(self) -> int:
        return len(self.positions)

    def rows(self) -> list[tuple[int, int, int]]:
        """(row, its first token, the one after its last)"""
        starts = self.row_starts.tolist()
        return [(row, *pair) for row, pair in enumerate(pairwise(starts))]

    def pool(self, a: Any) -> np.ndarray:
        """This layer's pages, as far as the page table names them."""
        pages = int(self.page_table.max()) + 1
        return view(a.pool, np.float16, pages, 2, a.kv_heads, a.page_size, a.head_dim)

    def cached(self, a: Any, row: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values float32 [G, length, D] of a row."""
        pages = self.page_table[row, : -(-length // a.page_size)]
        flat = self.pool(a)[pages].transpose(1, 2, 0, 3, 4)
        flat = flat.reshape(2, a.kv_heads, -1, a.head_dim)[:, :, :length].astype(np.float32)
        return flat[0], flat[1]


@dataclass(frozen=True)
class Query:
    """Some heads of one key-value head, at all tokens of a row."""

    kv_head: int
    values: np.ndarray
    """[tokens * heads, D]"""
    positions: np.ndarray
    tokens: np.ndarray
    heads: np.ndarray


@dataclass(frozen=True)
class Groups:
    """How the query heads of a key-value head are cut into programs of `tile` query rows."""

    per_kv_head: int
    chunks: int
    tile: int
    count: int

    @classmethod
    def of(cls, a: Any, tile: int) -> "Groups":
        per_kv_head = a.heads // a.kv_heads
        chunks = -(-per_kv_head // tile)
        return cls(per_kv_head, chunks, tile, a.kv_heads * chunks)

    @property
    def tokens(self) -> int:
        """Tokens that a program takes."""
        return max(1, self.tile // self.per_kv_head)

    def queries(self, a: Any, step: Step, group: int, begin: int, end: int) -> Query:
        kv_head, chunk = divmod(group, self.chunks)
        first = kv_head * self.per_kv_head + chunk * self.tile
        own = min(self.per_kv_head - chunk * self.tile, self.tile)
        tokens = np.repeat(np.arange(begin, end), own)
        heads = np.tile(np.arange(first, first + own), end - begin)
        values = tokens
        if a is not None:
            values = view(a.q, np.float32, step.tokens, a.heads, a.head_dim)[tokens, heads]
        return Query(kv_head, values, step.positions[tokens], tokens, heads)

    def _places(
        self, a: Any, grid: tuple[int, int, int], row: int, group: int, split: int
    ) -> tuple[np.ndarray, np.ndarray]:
        rows, groups, splits = grid
        shape = (rows, groups, splits, a.row_states)
        sums = view(a.partial, np.float32, *shape, a.head_dim)[row, group, split]
        return sums, view(a.stats, np.float32, *shape, 2)[row, group, split]

    def keep(
        self, a: Any, grid: tuple[int, int, int], row: int, group: int, split: int, state: Any
    ) -> None:
        sums, statistics = self._places(a, grid, row, group, split)
        used = len(state[0])
        sums[:used], statistics[:used, 0], statistics[:used, 1] = state

    def kept(
        self, a: Any, grid: tuple[int, int, int], row: int, group: int, split: int, query: Query
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sums, statistics = self._places(a, grid, row, group, split)
        used = len(query.tokens)
        return sums[:used], statistics[:used, 0], statistics[:used, 1]


State = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Weighted sums [M, D], largest logits times log2 e [M], sums of weights [M]."""


def attend(a: Any, query: Query, keys: np.ndarray, values: np.ndarray, part: slice) -> State:
    """Attention to the positions of `part`."""
    logits = query.values @ keys[part].T * np.float32(a.scale)
    if a.softcap:
        logits = a.softcap * np.tanh(logits / a.softcap)
    at = np.arange(part.start, part.stop)[None]
    seen = at <= query.positions[:, None]
    if a.window:
        seen &= at > query.positions[:, None] - a.window
    logits = np.where(seen, logits * LOG2_E, -1e30)
    largest = logits.max(axis=1)
    weights = np.where(seen, np.exp2(logits - largest[:, None]), 0)
    return weights @ values[part], largest, weights.sum(axis=1)


def merge(states: list[State]) -> State:
    """Attention to all that the states attended to."""
    largest = np.max([state[1] for state in states], axis=0)
    kept = [np.exp2(state[1] - largest) for state in states]
    sums = sum(state[0] * each[:, None] for state, each in zip(states, kept, strict=True))
    weights = sum(state[2] * each for state, each in zip(states, kept, strict=True))
    return np.asarray(sums), largest, np.asarray(weights)


def finish(
    a: Any, sums: np.ndarray, largest: np.ndarray, weights: np.ndarray, heads: np.ndarray
) -> np.ndarray:
    """The weighted means, with the heads' sinks among the weights where there are some."""
    if a.has_sinks:
        sinks = view(a.sinks, np.float32, a.heads)[heads] * LOG2_E
        weights = weights + np.exp2(sinks - largest)
    means: np.ndarray = sums / weights[:, None]
    return means


def weights_of(variant: str, a: Any, first: int, rows: int) -> np.ndarray:
    """float32 [rows, K]: the weights that planes stand for, from row `first` on.

    The scalars that are handed over must be those of a format of that layout.
    """
    table = np.array([a.table_low, a.table_high], np.int64).view(np.int8).tolist()
    scalars = (variant, a.zero, a.unit_factor)
    name = next(
        name
        for name, each in BLOCK_FORMATS.items()
        # Of an entry of 0, which most often no code names, nothing is asked.
        if (each.layout.name, each.zero, each.unit_factor) == scalars
        and all(value in (0, given) for value, given in zip(each.table, table, strict=False))
    )
    layout, columns = BLOCK_FORMATS[name].layout, a.parts * 32
    planes = [
        view(address + first * size if address else 0, np.uint8, rows, size)
        for address, size in zip(
            (a.codes, a.high, a.subs, a.units), layout.plane_bytes(1, columns), strict=True
        )
    ]
    return unpack(name, Planes(*planes), columns)
