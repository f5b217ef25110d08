"""Experts by the GPU kernels, interpreted: routing, grouped products and the sum of answers."""

from typing import Any

import numpy as np
import pytest

from runtime.ops.gpu.layouts import BLOCK_FORMATS
from runtime.ops.reference import choose, grouped_quant_matmul, mixture_of_experts
from tests.block_formats import weights
from tests.ops.gpu.interpreter import ceiling, launch, rounded, variant_of, weight_arguments

EXPERTS, COLUMNS, HIDDEN = 5, 32, 64


class Experts:
    """MixtureOfExperts by the kernels, launched as a session does."""

    def __init__(self, inputs: dict[str, Any], block_format: str, used: int, kernel: str) -> None:
        self.inputs, self.format, self.used = inputs, block_format, used
        self.name = f"{kernel}.{BLOCK_FORMATS[block_format].layout.name}"
        self.constants = variant_of(self.name).constants
        self.tokens = len(inputs["x"])
        self.slots = self.tokens * used
        self.experts = np.full(self.slots, -7, np.int32)
        self.shares = np.full(self.slots, np.nan, np.float32)
        self.blocks = ceiling(self.slots, self.constants["ROWS"]) + EXPERTS
        self.sorted = np.full(self.blocks * self.constants["ROWS"], -9, np.int32)
        self.block_experts = np.full(self.blocks, -9, np.int32)

    def route(self, renormalize: int, scale: float) -> None:
        router = self.inputs["router"]
        route(self.experts, self.shares, router, renormalize=renormalize, scale=scale)
        if not self.name.startswith("one_row"):
            launch(
                "place_slots",
                (EXPERTS,),
                *(self.sorted, self.block_experts, self.experts, self.slots, EXPERTS),
                *(self.constants["ROWS"], self.blocks),
            )

    def product(self, matrix: str, x: np.ndarray, rows: int, slots_per_row: int) -> np.ndarray:
        planes, scalars = weight_arguments(self.format, self.inputs[matrix])
        bias = self.inputs[f"{matrix}_bias"]
        y = np.full((self.slots, rows), np.nan, np.float32)
        flags = [int(bias is not None), 1, slots_per_row]
        shape = [rows, x.shape[1] // 32]
        if self.name.startswith("one_row"):
            grid = (ceiling(rows, self.constants["ROWS"]), self.slots)
            launch(self.name, grid, y, x, bias, *planes, self.experts, *scalars, *shape, *flags)
        else:
            grid = (ceiling(rows, self.constants["COLUMNS"]), self.blocks)
            pointers = [self.sorted, self.block_experts]
            shape.append(self.slots)
            x = rounded(x, self.name)
            launch(self.name, grid, y, x, bias, *planes, *pointers, *scalars, *shape, *flags)
        return y

    def answer(self, kind: int) -> np.ndarray:
        gate = self.product("gate", self.inputs["x"], HIDDEN, self.used)
        up = self.product("up", self.inputs["x"], HIDDEN, self.used)
        gated = np.full_like(gate, np.nan)
        block = variant_of("gated_activation").constants["BLOCK"]
        launch("gated_activation", (ceiling(gate.size, block),), gated, gate, up, gate.size, kind)
        answers = self.product("down", gated, COLUMNS, 1)
        y = np.full((self.tokens, COLUMNS), np.nan, np.float32)
        launch("combine_answers", (self.tokens, 1), y, answers, self.shares, COLUMNS, self.used)
        return y


def route(
    experts: np.ndarray,
    shares: np.ndarray,
    router: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    is_sigmoid: int = 0,
    groups: int = 1,
    groups_used: int = 1,
    renormalize: int = 0,
    scale: float = 1.0,
) -> None:
    """Write the experts of each token, and their shares."""
    tokens, count = router.shape
    sizes = [count, experts.size // tokens]
    choice = [int(bias is not None), is_sigmoid, groups, groups_used, renormalize, scale]
    launch("route_tokens", (tokens,), experts, shares, router, bias, *sizes, *choice)


def inputs_of(random: np.random.Generator, tokens: int, block_format: str) -> dict[str, Any]:
    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    shapes = {"gate": (HIDDEN, COLUMNS), "up": (HIDDEN, COLUMNS), "down": (COLUMNS, HIDDEN)}
    inputs: dict[str, Any] = {"x": normal(tokens, COLUMNS), "router": normal(tokens, EXPERTS)}
    for name, (rows, columns) in shapes.items():
        inputs[name] = weights(random, block_format, EXPERTS * rows, columns, 0.3)
        inputs[f"{name}_bias"] = normal(EXPERTS, rows) if block_format == "MXFP4" else None
    return inputs


@pytest.mark.parametrize("kernel", ["one_row", "few_rows"])
@pytest.mark.parametrize(
    ("block_format", "tokens", "used", "renormalize", "kind", "activation"),
    [
        ("Q4_0", 4, 2, 1, 0, "silu"),
        ("MXFP4", 2, EXPERTS, 1, 2, "clamped_silu"),
        ("F16", 3, 3, 0, 1, "gelu"),
        ("Q8_0", 1, 1, 1, 0, "silu"),
    ],
)
def test_experts_answer_as_defined(
    random: np.random.Generator,
    kernel: str,
    block_format: str,
    tokens: int,
    used: int,
    renormalize: int,
    kind: int,
    activation: Any,
) -> None:
    inputs = inputs_of(random, tokens, block_format)
    experts = Experts(inputs, block_format, used, kernel)
    experts.route(renormalize, 2.5)
    expected = mixture_of_experts(
        **inputs,
        columns=COLUMNS,
        hidden=HIDDEN,
        formats=" ".join([block_format] * 3),
        used=used,
        renormalize=renormalize,
        activation=activation,
        scale=2.5,
    )
    error = np.linalg.norm(experts.answer(kind) - expected) / np.linalg.norm(expected)
    assert error < 2e-3


def test_of_equal_logits_the_first_experts_are_chosen(random: np.random.Generator) -> None:
    inputs = inputs_of(random, 3, "F16")
    inputs["router"] = np.zeros((3, EXPERTS), np.float32)
    experts = Experts(inputs, "F16", 4, "few_rows")
    experts.route(0, 1.0)
    np.testing.assert_array_equal(experts.experts.reshape(3, 4), np.tile(np.arange(4), (3, 1)))
    np.testing.assert_allclose(experts.shares, 1 / EXPERTS, rtol=1e-6)


def test_every_slot_is_placed_once_in_a_block_of_its_expert(random: np.random.Generator) -> None:
    inputs = inputs_of(random, 45, "Q4_0")
    experts = Experts(inputs, "Q4_0", 2, "few_rows")
    experts.route(1, 1.0)
    placed = experts.sorted.reshape(experts.blocks, -1)
    used = experts.block_experts >= 0
    slots = placed[used]
    assert sorted(slots[slots >= 0]) == list(range(experts.slots))
    for expert, block in zip(experts.block_experts[used], slots, strict=True):
        assert set(experts.experts[block[block >= 0]]) == {expert}
    assert set(experts.block_experts[~used]) == {-1}


@pytest.mark.parametrize("gating", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("count", "groups", "groups_used", "used"),
    [(8, 1, 1, 2), (8, 4, 2, 3), (160, 8, 3, 6), (6, 6, 2, 2)],
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_experts_are_chosen_as_defined(
    random: np.random.Generator,
    gating: Any,
    count: int,
    groups: int,
    groups_used: int,
    used: int,
    has_bias: bool,
) -> None:
    router = 3 * random.standard_normal((5, count)).astype(np.float32)
    router[3] = np.round(router[3])  # ties
    router[4] -= 70  # sigmoids that are almost nothing
    bias = random.standard_normal(count).astype(np.float32) if has_bias else None
    for renormalize in (0, 1):
        experts = np.full((5, used), -7, np.int32)
        shares = np.full((5, used), np.nan, np.float32)
        choice: dict[str, Any] = {"groups": groups, "groups_used": groups_used}
        choice["renormalize"] = renormalize
        route(experts, shares, router, bias, is_sigmoid=int(gating == "sigmoid"), **choice)
        for token, logits in enumerate(router):
            expected = choose(logits, bias, used=used, gating=gating, **choice)
            np.testing.assert_array_equal(experts[token], expected[0])
            np.testing.assert_allclose(shares[token], expected[1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("kernel", "tokens"), [("one_row", 1), ("few_rows", 19)])
@pytest.mark.parametrize("block_format", ["Q8_0", "F16"])
def test_each_group_of_a_token_is_multiplied_by_its_own_matrix(
    random: np.random.Generator, kernel: str, tokens: int, block_format: str
) -> None:
    groups, columns, rows = 3, 64, 48
    x = random.standard_normal((tokens, groups * columns)).astype(np.float32)
    blocks = weights(random, block_format, groups * rows, columns, 0.3)
    planes, scalars = weight_arguments(block_format, blocks)
    name = f"{kernel}.{BLOCK_FORMATS[block_format].layout.name}"
    constants, slots = variant_of(name).constants, tokens * groups
    tile = constants["ROWS"]
    tiles = 0 if kernel == "one_row" else ceiling(slots, tile) + groups
    chosen = np.full(slots, -7, np.int32)
    placed, experts = np.full(tiles * tile, -9, np.int32), np.full(tiles, -9, np.int32)
    block = variant_of("place_groups").constants["BLOCK"]
    first = ceiling(tiles * tile or slots, block)
    launch("place_groups", (first,), placed, experts, chosen, tokens, groups, tile, tiles)
    y = np.full((tokens, groups * rows), np.nan, np.float32)
    flags, shape = [0, 1, 1], [rows, columns // 32]
    if kernel == "one_row":
        grid = (ceiling(rows, tile), slots)
        launch(name, grid, y, x, None, *planes, chosen, *scalars, *shape, *flags)
    else:
        grid = (ceiling(rows, constants["COLUMNS"]), tiles)
        pointers = [placed, experts]
        read = rounded(x, name)
        launch(name, grid, y, read, None, *planes, *pointers, *scalars, *shape, slots, *flags)
    expected = grouped_quant_matmul(x, blocks, format=block_format, columns=columns, groups=groups)
    error = np.linalg.norm(y - expected) / np.linalg.norm(expected)
    assert error < 2e-3
