"""The fused operator gives the same bits as the separate operators."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runtime.ops.reference import norm_quant_matmul
from tests.block_formats import weights
from tests.ops.conftest import Library
from tests.ops.test_quant_matmul import activations, multiply

EPSILON = 1e-5


def fused(
    library: Library,
    inputs: dict[str, Any],
    formats: list[str],
    rows: list[int],
    *,
    activation: str = "",
    threads: int = 1,
) -> list[np.ndarray]:
    outputs: list[npt.DTypeLike] = [np.float32] * (1 + (len(rows) if not activation else 1))
    return library.run(
        "NormQuantMatMul",
        inputs,
        outputs,
        threads=threads,
        columns=inputs["x"].shape[1],
        formats=" ".join(formats),
        rows=" ".join(map(str, rows)),
        epsilon=EPSILON,
        **({"activation": activation} if activation else {}),
    )


def inputs_of(
    random: np.random.Generator,
    tokens: int,
    columns: int,
    formats: list[str],
    rows: list[int],
    *,
    residual: bool = True,
    bias: bool = False,
) -> dict[str, Any]:
    inputs = {
        "x": activations(random, tokens, columns),
        "weight": activations(random, 1, columns)[0],
        "residual": activations(random, tokens, columns) if residual else None,
    }
    for i, (block_format, count) in enumerate(zip(formats, rows, strict=True)):
        inputs[f"blocks_{i}"] = weights(random, block_format, count, columns)
        inputs[f"bias_{i}"] = activations(random, 1, count)[0] if bias else None
    return inputs


def apart(library: Library, inputs: dict[str, Any], formats: list[str]) -> list[np.ndarray]:
    """The same by the plain operators: products in order, then the residual sum."""
    first = {name: inputs[name] for name in ("x", "weight", "residual")}
    normed, total = library.run("RMSNorm", first, [np.float32] * 2, epsilon=EPSILON)
    products = [
        multiply(library, normed, inputs[f"blocks_{i}"], inputs[f"bias_{i}"], format=block_format)
        for i, block_format in enumerate(formats)
    ]
    return [products[0], total, *products[1:]]


@pytest.mark.parametrize("tokens", [1, 5, 140])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_norm_and_products_have_the_bits_of_the_operators_apart(
    library: Library, random: np.random.Generator, tokens: int, bias: bool, residual: bool
) -> None:
    formats, rows = ["Q4_1", "Q8_0", "F16"], [67, 16, 8]
    inputs = inputs_of(random, tokens, 96, formats, rows, bias=bias, residual=residual)
    expected = apart(library, inputs, formats)
    for threads in (1, 2):
        for ours, theirs in zip(
            fused(library, inputs, formats, rows, threads=threads), expected, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_a_gated_product_has_the_bits_of_the_operators_apart(
    library: Library, random: np.random.Generator, activation: str, tokens: int
) -> None:
    formats, rows = ["Q4_1", "Q4_0"], [80, 80]
    inputs = inputs_of(random, tokens, 64, formats, rows)
    gate, total, up = apart(library, inputs, formats)
    gated = library.run(
        "GatedActivation", {"gate": gate, "up": up}, [np.float32], activation=activation
    )[0]
    ours, our_total = fused(library, inputs, formats, rows, activation=activation, threads=2)
    np.testing.assert_array_equal(our_total, total)
    # A vector of the kernel may begin elsewhere, but each value is computed alone.
    np.testing.assert_array_equal(ours, gated)


def test_it_is_as_defined(best: Library, random: np.random.Generator) -> None:
    formats, rows = ["F32", "F16"], [33, 33]
    inputs = inputs_of(random, 9, 64, formats, rows, bias=True)
    attributes: dict[str, Any] = {"columns": 64, "formats": "F32 F16", "rows": "33 33"}
    for activation in ("", "silu"):
        expected = norm_quant_matmul(
            *inputs.values(), **attributes, epsilon=EPSILON, activation=activation
        )
        ours = fused(best, inputs, formats, rows, activation=activation)
        for y, definition in zip(ours, expected, strict=True):
            np.testing.assert_allclose(y, definition, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("formats", "rows", "activation", "message"),
    [
        (["Q4_1", "Q9"], [8, 8], "", "'Q9' is unknown"),
        (["Q4_1", "Q4_1"], [8, 8], "tanh", "activation 'tanh' is unknown"),
        (["Q4_1", "Q4_1"], [8, 4], "silu", "two matrices of the same size"),
        (["Q4_1"], [8], "silu", "two matrices of the same size"),
        (["Q4_1", "Q4_1"], [8, 9], "", "rows are more than the weights have"),
        ([], [], "", "one to three matrices"),
    ],
)
def test_attributes_that_do_not_fit_are_errors(
    best: Library,
    random: np.random.Generator,
    formats: list[str],
    rows: list[int],
    activation: str,
    message: str,
) -> None:
    some = inputs_of(random, 2, 32, ["Q4_1", "Q4_1"], [8, 8])
    with pytest.raises(Exception, match=message):
        fused(best, some, formats, rows, activation=activation)
