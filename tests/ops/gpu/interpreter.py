"""Runs the GPU kernels on the CPU: Triton's interpreter on NumPy arrays.

Every kernel is launched by its variant's name with the arguments in the variant's order, as the
native launcher does it. With TRITON_INTERPRET=0 an NVIDIA GPU runs them (`make gpu-check`).
"""

import importlib
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from runtime.ops.gpu.build import ALIGNMENT
from runtime.ops.gpu.layouts import BLOCK_FORMATS
from runtime.ops.gpu.planes import pack
from runtime.ops.gpu.variants import ALIGNED, Variant, variants

# Triton and the sources are interpreted if this is set when they are imported, as below they are.
IS_INTERPRETED = os.environ.setdefault("TRITON_INTERPRET", "1") != "0"
TILES = os.environ.get("ROCMFORGE_TILES", "gfx942")
"""The architecture whose tile sizes are taken."""

ELEMENTS = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "u8": "uint8",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
}


class HostArray:
    """Memory in the place of the tensor that the interpreter expects; it works on it in place."""

    def __init__(self, address: int, type: str) -> None:
        self.dtype = ELEMENTS[type.removeprefix("*")]
        self._address = address

    def data_ptr(self) -> int:
        return self._address

    # The interpreter copies tensors to the host and back; these are there.
    def untyped_storage(self) -> "HostArray":
        return self

    def cpu(self) -> "HostArray":
        return self

    def new_empty(self, *_: Any, **__: Any) -> "HostArray":
        return self

    def set_(self, *_: Any) -> None:
        pass

    def copy_(self, _: Any) -> None:
        pass

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return ()

    def stride(self) -> tuple[int, ...]:
        return ()


@cache
def variant_of(name: str) -> Variant:
    return {variant.name: variant for variant in variants(TILES)}[name]


def assert_aligned(variant: Variant, arguments: Sequence[Any]) -> None:
    """Hints for the compiler about a kernel's integers; the interpreter ignores them."""
    for value, (name, type) in zip(arguments, variant.arguments, strict=True):
        if type == "i32" and name in ALIGNED:
            assert value % ALIGNMENT == 0, f"{variant.name} is given {name}={value}"


def launch(name: str, grid: Sequence[int], *arguments: Any) -> None:
    """Run a kernel on arrays and numbers. None is a null pointer."""
    assert_aligned(variant_of(name), arguments)
    if not IS_INTERPRETED:
        from tests.ops.gpu import card

        return card.launch(variant_of(name), grid, arguments)
    addresses = [
        argument.ctypes.data if isinstance(argument, np.ndarray) else argument or 0
        for argument in arguments
    ]
    run_program_by_program(name, grid, addresses)


def run_program_by_program(name: str, grid: Sequence[int], arguments: Sequence[Any]) -> None:
    """Run every program of a kernel, one after the other. Pointers are given as addresses."""
    variant = variant_of(name)
    module = importlib.import_module(f"runtime.ops.gpu.kernels.{variant.module}")
    given = [
        HostArray(argument, type)
        if type.startswith("*")
        else (float if type == "fp32" else int)(argument)
        for argument, (_, type) in zip(arguments, variant.arguments, strict=True)
    ]
    kernel = getattr(module, variant.function)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        kernel[tuple(grid)](*given, **variant.constants)


def weight_arguments(block_format: str, blocks: np.ndarray) -> tuple[list[Any], list[Any]]:
    """The four planes of a matrix, and the scalars of its format, as kernels take them."""
    planes, kind = pack(block_format, blocks), BLOCK_FORMATS[block_format]
    arrays = [planes.codes, planes.high, planes.subs, planes.units]
    scalars = [*kind.table_words, kind.unit_factor, kind.zero]
    return [np.ascontiguousarray(array) if array.size else None for array in arrays], scalars


def ceiling(count: int, size: int) -> int:
    return -(-count // size)


def rounded(x: np.ndarray, kernel: str) -> np.ndarray:
    """Activations as a product reads them: those of many rows in float16, but for F32 weights."""
    if kernel.startswith("one_row") or kernel.endswith(".f32"):
        return x
    result = np.full(x.shape, np.nan, np.float16)
    block = variant_of("round_activations").constants["BLOCK"]
    launch("round_activations", (ceiling(x.size, block),), result, x, x.size)
    return result
