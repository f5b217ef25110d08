"""The GPU kernels on an NVIDIA GPU: right by their definitions, and how near to the card's limits.

    make gpu-check                    # or: python -m tests.ops.gpu.nvidia [--tiles gfx1100]

Where a card with PyTorch's CUDA is at hand, the tests of the kernels run on it instead of in
Triton's interpreter, and a table says what is reached. Without one they are only compiled. What it
says of AMD GPUs is the arithmetic alone: not their matrix instructions, nor waves of 64 threads,
nor their speed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.ops.gpu.build import compiled
from runtime.ops.gpu.layouts import BLOCK_FORMATS
from runtime.ops.gpu.variants import TARGETS, variants
from tests.block_formats import weights
from tests.ops.paged_steps import PagedStep

HERE = Path(__file__).parent
TESTED = ("attention", "elementwise", "expert", "matmul", "sampling")
# A layer of a 7B-class model.
COLUMNS, ROWS = 4096, 14336
HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
CACHE_BYTES = 256 << 20
"""More than a card's second-level cache: so much is read before the same bytes are read again."""


def compile_all(capability: int, tiles: str) -> None:
    """Compile every variant; raises what the compiler raises."""
    kernels = list(variants(tiles))
    print(f"compiling {len(kernels)} kernels for sm_{capability}, tiles of {tiles}", flush=True)
    for variant in kernels:
        shared = compiled(variant, "cuda", capability, 32).metadata.shared
        if shared > 65536:
            print(f"{variant.name}: {shared} bytes of shared memory")


def run_tests(processes: str) -> None:
    """Raises SystemExit if a kernel is wrong."""
    files = [str(HERE / f"test_{name}_kernels.py") for name in TESTED]
    command = [sys.executable, "-m", "pytest", "-q", "-n", processes, *files]
    if subprocess.run(command, check=False).returncode:
        sys.exit("the kernels are not as defined on this card")


class Call(NamedTuple):
    """Kernels to be timed, and what they have to do at least."""

    name: str
    size: int
    operations: int
    run: Callable[[], object]


class Table:
    """Prints what calls reach beside what a copy and a library's product do on the same card."""

    def __init__(self) -> None:
        import torch

        from tests.ops.gpu.card import seconds

        source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        copy = seconds([partial(target.copy_, source)] * 4)
        a = torch.randn(8192, 8192, dtype=torch.float16, device="cuda")
        product = seconds([partial(torch.matmul, a, a, out=torch.empty_like(a))] * 4)
        self.bytes_per_second = 2 * source.numel() / copy
        self.operations_per_second = 2 * 8192**3 / product
        print(f"\n{torch.cuda.get_device_name()}: a copy moves {self.bytes_per_second / 1e12:.2f} "
              f"TB/s, cuBLAS in float16 does {self.operations_per_second / 1e12:.0f} TFLOP/s\n\n"
              "| | time | bytes | operations |\n|---|---|---|---|")  # fmt: skip

    def add(self, call: Call) -> None:
        from tests.ops.gpu.card import kept_launches, run_all, seconds

        with kept_launches() as launches:
            call.run()
        runs = [launches]
        while len(runs) * call.size < CACHE_BYTES:
            runs.append([each.with_arrays_of_its_own() for each in launches])
        took = seconds([partial(run_all, each) for each in runs])
        moved, done = call.size / took, call.operations / took
        print(f"| {call.name} | {took * 1e6:.1f} us "
              f"| {moved / 1e12:.2f} TB/s, {moved / self.bytes_per_second:.0%} "
              f"| {done / 1e12:.0f} TFLOP/s, {done / self.operations_per_second:.0%} |",
              flush=True)  # fmt: skip


def splits_of(kernel: str, tiles: int, parts: int) -> int:
    """Into how many the launcher splits a product: runtime/ops/native/hip/matrix.cc."""
    from tests.ops.gpu.interpreter import ceiling, variant_of

    if kernel == "one_row":
        return 1
    programs = 512 if kernel == "few_rows" else 256
    wanted = max(1, min(programs // tiles, parts // 16, 16))
    loop = variant_of(f"{kernel}.q8_0").constants["PARTS"]
    return ceiling(parts, ceiling(parts, wanted * loop) * loop)


def products(random: np.random.Generator) -> Iterator[Call]:
    from tests.ops.gpu.interpreter import ceiling, variant_of
    from tests.ops.gpu.test_matmul_kernels import layout_of, multiply

    kernels = (("one_row", 1), ("few_rows", 8), ("few_rows", 32), ("many_rows", 128))
    shapes = [(ROWS, COLUMNS, each) for each in ("F16", "Q8_0", "Q6_K", "Q4_0", "IQ4_XS", "Q4_K")]
    for rows, columns, block_format in [*shapes, (1024, COLUMNS, "Q4_K"), (COLUMNS, ROWS, "Q4_K")]:
        blocks = weights(random, block_format, rows, columns)
        size = sum(BLOCK_FORMATS[block_format].layout.plane_bytes(rows, columns))
        for kernel, count in (*kernels, ("many_rows", 512)):
            x = random.standard_normal((count, columns)).astype(np.float32)
            tile = variant_of(f"{kernel}.{layout_of(block_format)}").constants
            tiles = ceiling(rows, tile.get("COLUMNS", 1)) * ceiling(count, tile["ROWS"])
            splits = splits_of(kernel, tiles, columns // 32)
            yield Call(
                f"{block_format} {rows} x {columns}: {kernel}, {count}",
                size + 4 * count * (columns + rows),
                2 * count * rows * columns,
                partial(multiply, kernel, x, blocks, block_format, None, splits),
            )


def attention(random: np.random.Generator) -> Iterator[Call]:
    from tests.ops.gpu.test_attention_kernels import attend

    for rows, context, new in ((1, 4096, 1), (16, 4096, 1), (1, 512, 512), (1, 4096, 512)):
        sizes = (HEADS, KV_HEADS, HEAD_DIM, 16, 1)
        step = PagedStep((context,) * rows, (new,) * rows, *sizes)
        inputs: dict[str, Any] = {
            "q": step.activations(random, HEADS),
            "pool": step.pool(random),
            "positions": step.positions,
            "row_starts": step.row_starts,
            "page_table": step.page_table(random),
            "sinks": None,
        }
        yield Call(
            f"attention of {rows} x {new} tokens at {context}",
            rows * context * 2 * KV_HEADS * HEAD_DIM * 2 + 8 * rows * new * HEADS * HEAD_DIM,
            4 * HEADS * HEAD_DIM * int((step.positions + 1).sum()),
            partial(attend, step, inputs),
        )


def searches(random: np.random.Generator) -> Iterator[Call]:
    from tests.ops.gpu.test_sampling_kernels import best_of

    logits = random.standard_normal((32, 151936)).astype(np.float32)
    yield Call("64 best of 32 x 151,936", logits.nbytes, 0, partial(best_of, logits))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument("--capability", type=int, help="compute capability x 10 to compile for")
    parser.add_argument(
        "--tiles", default="gfx942", choices=[*TARGETS], help="whose tile sizes are taken"
    )
    parser.add_argument("--processes", default="auto", help="of the tests")
    parser.add_argument("--no-tests", action="store_true", help="measure alone")
    given = parser.parse_args()
    os.environ |= {"TRITON_INTERPRET": "0", "ROCMFORGE_TILES": given.tiles}
    try:
        import torch
    except ImportError:
        torch = None
    if torch is None or not torch.cuda.is_available():
        compile_all(given.capability or 90, given.tiles)
        sys.exit("compiled; nothing was run, since no NVIDIA GPU with PyTorch's CUDA is here")
    if not given.no_tests:
        run_tests(given.processes)
    table, random = Table(), np.random.default_rng(20)
    for calls in (products, attention, searches):
        for call in calls(random):
            table.add(call)


if __name__ == "__main__":
    main()
