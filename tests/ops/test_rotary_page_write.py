from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from runtime.ops.reference import rotary_angles, rotary_page_write
from tests.ops.conftest import Library
from tests.ops.paged_steps import PagedStep

OUTPUTS: list[npt.DTypeLike] = [np.dtype(np.float32), np.dtype(np.float16)]


def inputs_of(step: PagedStep, random: np.random.Generator, rotated: int) -> dict[str, Any]:
    frequencies = 10000.0 ** -(np.arange(0, rotated, 2) / max(rotated, 1))
    angles = rotary_angles(step.positions, frequencies.astype(np.float32), magnitude=1.25)
    return {
        "q": step.activations(random, step.heads),
        "k": step.activations(random, step.kv_heads),
        "v": step.activations(random, step.kv_heads),
        "positions": step.positions,
        "row_starts": step.row_starts,
        "page_table": step.page_table(random),
        "angles": angles,
        "pool": step.pool(random),
    }


def attributes_of(step: PagedStep, style: str = "norm") -> dict[str, Any]:
    return {**step.attributes, "style": style}


@pytest.mark.parametrize("style", ["norm", "neox"])
@pytest.mark.parametrize(
    ("step", "rotated"),
    [
        (PagedStep(lengths=(1,), new=(1,)), 16),
        (PagedStep(lengths=(40, 9, 1, 70), new=(1, 9, 1, 33)), 10),
        (PagedStep(lengths=(5, 6), new=(0, 2), head_dim=7, page_size=1), 6),
        (PagedStep(lengths=(12,), new=(3,)), 0),
        (PagedStep(lengths=(131072,), new=(2,), kv_heads=1, head_dim=4, page_size=1024), 4),
    ],
)
def test_rotates_and_writes_as_defined(
    library: Library, random: np.random.Generator, style: str, step: PagedStep, rotated: int
) -> None:
    inputs = inputs_of(step, random, rotated)
    attributes = attributes_of(step, style)
    before = inputs["pool"].copy()
    expected_q, expected_pool = rotary_page_write(**inputs, **attributes)
    q, pool = library.run("RotaryPageWrite", inputs, OUTPUTS, **attributes)
    np.testing.assert_allclose(q, expected_q, rtol=1e-6, atol=1e-6)
    # A value may round to the neighbouring float16.
    np.testing.assert_allclose(
        pool.astype(np.float32), expected_pool.astype(np.float32), rtol=1e-3, atol=1e-6
    )
    untouched = expected_pool == before
    np.testing.assert_array_equal(pool[untouched], before[untouched])


def test_the_pool_is_written_in_place(best: Library, random: np.random.Generator) -> None:
    step = PagedStep(lengths=(40, 9), new=(12, 9))
    inputs = inputs_of(step, random, 16)
    _, expected = rotary_page_write(**inputs, **attributes_of(step))
    session = best.session("RotaryPageWrite", inputs, OUTPUTS, **attributes_of(step))
    pool = onnxruntime.OrtValue.ortvalue_from_numpy(inputs["pool"])
    binding = session.io_binding()
    for name, value in inputs.items():
        if name != "pool":
            binding.bind_cpu_input(name, value)
    binding.bind_ortvalue_input("pool", pool)
    binding.bind_ortvalue_output("y1", pool)
    binding.bind_output("y0")
    session.run_with_iobinding(binding)
    np.testing.assert_allclose(pool.numpy().astype("f4"), expected.astype("f4"), rtol=1e-3)
    assert binding.get_outputs()[0].data_ptr() == pool.data_ptr()


def test_tokens_alone_have_the_bits_they_have_in_company(
    library: Library, random: np.random.Generator
) -> None:
    step = PagedStep(lengths=(40,), new=(40,))
    inputs = inputs_of(step, random, 12)
    q, pool = library.run("RotaryPageWrite", inputs, OUTPUTS, threads=2, **attributes_of(step))
    for token in range(step.tokens):
        some = slice(token, token + 1)
        mine = {name: inputs[name][some] for name in ("q", "k", "v", "positions", "angles")}
        starts = np.array([0, 1], dtype=np.int32)
        alone, inputs["pool"] = library.run(
            "RotaryPageWrite",
            {**inputs, **mine, "row_starts": starts},
            OUTPUTS,
            **attributes_of(step),
        )
        np.testing.assert_array_equal(alone[0], q[token])
    np.testing.assert_array_equal(inputs["pool"], pool)


def test_float16_rounds_as_numpy_does(library: Library) -> None:
    """Values, where nothing is rotated: subnormals, ties, overflow and infinities included."""
    bits = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = bits[np.isfinite(bits)]
    values = np.concatenate([finite, np.nextafter(finite, np.float32(np.inf)), finite * 1.0004883])
    values = np.concatenate([values, [np.inf, -np.inf, 65519.0, 65520.0, 1e30, 1e-30]])
    values = np.resize(values, (-(-len(values) // 64) * 64)).astype(np.float32).reshape(-1, 64)
    tokens = len(values)
    step = PagedStep((tokens,), (tokens,), heads=1, kv_heads=1, head_dim=64, page_size=tokens)
    step_inputs = {
        **inputs_of(step, np.random.default_rng(0), 0),
        "q": values,
        "k": values,
        "v": values,
    }
    q, pool = library.run("RotaryPageWrite", step_inputs, OUTPUTS, **attributes_of(step))
    page = step_inputs["page_table"][0, 0]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(pool[-1, page, 1, 0], values.astype(np.float16))
    np.testing.assert_array_equal(q, values)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("page_table", np.array([[0, 99, 1]], np.int32), "page_table names page 99"),
        ("positions", np.array([7, 24], np.int32), "positions has 24, row 0 has room for 24"),
        ("row_starts", np.array([0, 3], np.int32), "row_starts does not rise"),
        ("angles", np.ones((2, 18), np.float32), "angles has 18 columns"),
        ("k", np.ones((2, 3), np.float32), r"k has shape \[2, 3\], expected \[2, 32\]"),
        ("pool", np.ones((2, 6, 2, 1, 8, 16), np.float16), r"pool has shape"),
    ],
)
def test_inputs_that_do_not_fit_are_errors(
    best: Library, random: np.random.Generator, field: str, value: np.ndarray, message: str
) -> None:
    step = PagedStep(lengths=(9,), new=(2,))
    inputs = {**inputs_of(step, random, 16), field: value}
    with pytest.raises(Exception, match="RotaryPageWrite: " + message):
        best.run("RotaryPageWrite", inputs, OUTPUTS, **attributes_of(step))


def test_an_unknown_style_is_an_error(best: Library, random: np.random.Generator) -> None:
    step = PagedStep(lengths=(9,), new=(2,))
    inputs = inputs_of(step, random, 16)
    with pytest.raises(Exception, match="RotaryPageWrite: style 'spiral' is unknown"):
        best.run("RotaryPageWrite", inputs, OUTPUTS, **attributes_of(step, "spiral"))
