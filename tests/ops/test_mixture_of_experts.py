"""Experts compute as defined, and a token's result does not depend on its batch."""

from typing import Any

import numpy as np
import pytest

from runtime.ops.packing import pack, packed_shape
from runtime.ops.reference import choose, mixture_of_experts, quantize_activations
from runtime.ops.reference.blocks import Bytes, Float32, product
from tests.block_formats import weights
from tests.ops.conftest import Library
from tests.ops.test_quant_matmul import activations

EXPERTS, COLUMNS, HIDDEN = 6, 64, 96
ROUTING: dict[str, Any] = {"used": 2, "renormalize": True}


def inputs_of(
    random: np.random.Generator, tokens: int, block_format: str, *, bias: bool = False
) -> dict[str, Any]:
    shapes = {"gate": (HIDDEN, COLUMNS), "up": (HIDDEN, COLUMNS), "down": (COLUMNS, HIDDEN)}
    inputs: dict[str, Any] = {
        "x": activations(random, tokens, COLUMNS),
        "router": activations(random, tokens, EXPERTS),
    }
    for name, (rows, columns) in shapes.items():
        inputs[name] = weights(random, block_format, EXPERTS * rows, columns)
    for name, (rows, _) in shapes.items():
        inputs[f"{name}_bias"] = activations(random, EXPERTS, rows) if bias else None
    return inputs


def attributes_of(block_format: str, **changes: Any) -> dict[str, Any]:
    return {
        "columns": COLUMNS,
        "hidden": HIDDEN,
        "formats": f"{block_format} {block_format} {block_format}",
        "used": 2,
        "renormalize": 1,
        "activation": "silu",
        **changes,
    }


def answer(library: Library, inputs: dict[str, Any], threads: int = 1, **kept: Any) -> np.ndarray:
    return library.run("MixtureOfExperts", inputs, [np.float32], threads=threads, **kept)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"renormalize": 0, "scale": 2.5},
        {"activation": "gelu", "used": 1},
        {"activation": "clamped_silu", "used": EXPERTS},
        {"activation": "relu"},
        {"activation": "capped_silu", "limit": 0.5},
        {"activation": "silu_of_capped", "limit": 0.5},
        {"gating": "sigmoid", "scale": 2.5},
        {"gating": "sigmoid", "renormalize": 0},
        {"groups": 3, "groups_used": 2},
        {"groups": 6, "groups_used": 2, "renormalize": 0},
        {"gating": "sigmoid", "groups": 2, "groups_used": 1, "used": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("bias", [False, True])
def test_float_formats_follow_the_definition(
    library: Library, random: np.random.Generator, changes: dict[str, Any], bias: bool
) -> None:
    inputs, kept = inputs_of(random, 9, "F32", bias=bias), attributes_of("F32", **changes)
    expected = mixture_of_experts(**inputs, **kept)
    np.testing.assert_allclose(
        answer(library, inputs, **kept), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("block_format", ["F32", "Q8_0"])
def test_experts_without_gates_square_what_is_positive(
    library: Library, random: np.random.Generator, block_format: str
) -> None:
    inputs = {**inputs_of(random, 9, block_format), "gate": None}
    kept = attributes_of(block_format, activation="relu_squared")
    kept["formats"] = f"{block_format} {block_format}"
    expected = mixture_of_experts(**inputs, **kept)
    got = answer(library, inputs, **kept)
    rounding = 1e-5 if block_format == "F32" else 1e-2
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=rounding * np.abs(expected).max())
    alone = {
        name: inputs[name][3:4] if name in ("x", "router") else each
        for name, each in inputs.items()
    }
    np.testing.assert_array_equal(answer(library, alone, **kept)[0], got[3])


@pytest.mark.parametrize("block_format", ["F32", "Q8_0"])
def test_gate_and_up_in_one_matrix_give_the_same_bits(
    library: Library, random: np.random.Generator, block_format: str
) -> None:
    apart, kept = inputs_of(random, 9, block_format), attributes_of(block_format)
    parts = [apart[name].reshape(EXPERTS, HIDDEN, -1) for name in ("gate", "up")]
    together = np.concatenate(parts, axis=1).reshape(2 * EXPERTS * HIDDEN, -1)
    inputs = {**apart, "gate": None, "up": together}
    fused = {**kept, "formats": f"{block_format} {block_format}"}
    got = answer(library, inputs, **fused)
    np.testing.assert_array_equal(got, answer(library, apart, **kept))
    np.testing.assert_array_equal(
        mixture_of_experts(**inputs, **fused), mixture_of_experts(**apart, **kept)
    )


def test_the_definition_reads_views_of_its_matrices(random: np.random.Generator) -> None:
    """No matrix is copied before it is multiplied, whatever its size."""
    inputs = inputs_of(random, 2, "Q8_0")
    apart = [inputs.pop(name).reshape(EXPERTS, HIDDEN, -1) for name in ("gate", "up")]
    inputs["gate"] = None
    inputs["up"] = np.concatenate(apart, axis=1).reshape(EXPERTS * 2 * HIDDEN, -1)
    held = inputs["up"], inputs["down"]

    def of_views(x: Float32, blocks: Bytes, block_format: str, columns: int) -> Float32:
        assert any(np.shares_memory(blocks, matrix) for matrix in held)
        return product(x, blocks, block_format, columns)

    attributes = attributes_of("Q8_0", formats="Q8_0 Q8_0")
    mixture_of_experts(**inputs, **attributes, multiply=of_views)


def test_scales_are_factors_of_each_experts_matrices(
    library: Library, random: np.random.Generator
) -> None:
    inputs, kept = inputs_of(random, 9, "F32"), attributes_of("F32")
    inputs["selection_bias"] = None
    for name in ("gate", "up", "down"):
        inputs[f"{name}_scale"] = random.uniform(0.5, 2.0, EXPERTS).astype(np.float32)
    expected = mixture_of_experts(**inputs, **kept)
    got = answer(library, inputs, **kept)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("block_format", ["F16", "Q4_1", "Q8_0"])
def test_block_formats_follow_the_definition(
    library: Library, random: np.random.Generator, block_format: str
) -> None:
    inputs, kept = inputs_of(random, 5, block_format), attributes_of(block_format)
    rounded = dict(inputs)
    if block_format != "F16":
        rounded["x"] = quantize_activations(inputs["x"]).values()
    expected = mixture_of_experts(**rounded, **kept)
    error = np.linalg.norm(answer(library, inputs, **kept) - expected)
    assert error < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize("block_format", ["F32", "Q4_1"])
def test_a_token_is_answered_alike_alone_and_in_company(
    library: Library, random: np.random.Generator, block_format: str
) -> None:
    inputs, kept = inputs_of(random, 40, block_format), attributes_of(block_format)
    together = answer(library, inputs, threads=2, **kept)
    for token in (0, 7, 39):
        alone = {name: value for name, value in inputs.items()}
        for name in ("x", "router"):
            alone[name] = inputs[name][token : token + 1]
        np.testing.assert_array_equal(answer(library, alone, **kept)[0], together[token])


@pytest.mark.parametrize(
    "changes",
    [
        {"gating": "sigmoid"},
        {"renormalize": 0},
        {"gating": "sigmoid", "groups": 3, "groups_used": 1},
    ],
    ids=str,
)
def test_a_selection_bias_chooses_and_does_not_weigh(
    library: Library, random: np.random.Generator, changes: dict[str, Any]
) -> None:
    inputs, kept = inputs_of(random, 9, "F32"), attributes_of("F32", **changes)
    inputs["selection_bias"] = np.array([0, 5, 0, 0, 0, 4], np.float32)
    if "groups" not in changes:
        chosen = [choose(each, inputs["selection_bias"], **ROUTING)[0] for each in inputs["router"]]
        assert {tuple(each) for each in chosen} == {(1, 5)}
    expected = mixture_of_experts(**inputs, **kept)
    np.testing.assert_allclose(
        answer(library, inputs, **kept), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )


def test_only_the_best_groups_are_chosen_from() -> None:
    logits = np.log(np.array([0.4, 0.01, 0.2, 0.25, 0.1, 0.04], np.float32))
    chosen, shares = choose(logits, used=2, renormalize=False, groups=3, groups_used=1)
    assert list(chosen) == [3, 2]  # together more than the best of all and its neighbour
    np.testing.assert_allclose(shares, [0.25, 0.2], rtol=1e-5)


@pytest.mark.parametrize("block_format", ["Q4_1", "Q4_K"])
def test_packed_experts_give_the_bits_of_those_in_the_file(
    library: Library, random: np.random.Generator, block_format: str
) -> None:
    hidden = columns = 256
    kept = attributes_of(block_format, columns=columns, hidden=hidden)
    matrix = weights(random, block_format, EXPERTS * hidden, columns)
    inputs = {
        "x": activations(random, 5, columns),
        "router": activations(random, 5, EXPERTS),
        **dict.fromkeys(("gate", "up", "down"), matrix),
    }
    shape = packed_shape(block_format, EXPERTS * hidden, columns, matrices=EXPERTS)
    assert shape is not None
    packed = np.empty(shape, np.uint8)
    pack(block_format, matrix, packed)
    given = inputs | dict.fromkeys(("gate", "up", "down"), packed)
    np.testing.assert_array_equal(answer(library, given, **kept), answer(library, inputs, **kept))


def test_equal_logits_choose_the_first_experts(best: Library, random: np.random.Generator) -> None:
    inputs, kept = inputs_of(random, 3, "F32"), attributes_of("F32")
    inputs["router"] = np.zeros((3, EXPERTS), np.float32)
    expected = mixture_of_experts(**inputs, **kept)
    np.testing.assert_allclose(answer(best, inputs, **kept), expected, rtol=1e-4, atol=1e-4)


def test_no_tokens_give_no_answers(best: Library, random: np.random.Generator) -> None:
    inputs = inputs_of(random, 0, "F32")
    assert answer(best, inputs, **attributes_of("F32")).shape == (0, COLUMNS)


def test_matrices_of_too_few_experts_are_refused(
    best: Library, random: np.random.Generator
) -> None:
    inputs = inputs_of(random, 2, "F32")
    inputs["up"] = inputs["up"][:-1]
    with pytest.raises(Exception, match="MixtureOfExperts: up does not have the rows"):
        answer(best, inputs, **attributes_of("F32"))
