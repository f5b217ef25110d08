"""How fast the operators run here: `python -m tests.ops.benchmark [threads]`. Not a test."""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from runtime.ops.library import library_path
from runtime.ops.packing import pack, packed_shape
from tests.block_formats import INTEGER_FORMATS, PLAIN_FORMATS, weights, whole_blocks
from tests.ops.conftest import Library
from tests.ops.paged_steps import PagedStep


def best_seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """The shortest of some runs, after one that warms up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(
    library: Library, op: str, inputs: dict[str, Any], threads: int, **attributes: Any
) -> float:
    session = library.session(op, inputs, [np.float32], threads=threads, **attributes)
    return best_seconds(lambda: session.run(None, inputs))


def packed(block_format: str, blocks: np.ndarray, columns: int) -> np.ndarray:
    """The blocks as a session would have them."""
    shape = packed_shape(block_format, len(blocks), columns)
    if shape is None:
        return blocks
    target = np.empty(shape, np.uint8)
    pack(block_format, blocks, target)
    return target


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    random = np.random.default_rng(0)
    library = Library(library_path(), "best")
    library.force()
    print(f"{library.in_use()}, {threads} threads")

    outputs = 1536
    for block_format in INTEGER_FORMATS + PLAIN_FORMATS:
        columns = whole_blocks(block_format, 576)
        blocks = packed(block_format, weights(random, block_format, outputs, columns), columns)
        attributes = {"format": block_format, "columns": columns}
        # More than the last-level cache holds.
        many = np.tile(blocks, (64, *[1] * (blocks.ndim - 1)))
        rates = []
        for rows in (1, 2, 4, 8, 32, 512):
            x = random.standard_normal((rows, columns)).astype(np.float32)
            inputs = {"x": x, "blocks": many if rows <= 8 else blocks}
            seconds = measure(library, "QuantMatMul", inputs, threads, **attributes)
            if rows == 1:
                rates.append(f"1 row {many.nbytes / seconds / 1e9:5.1f} GB/s")
            work = 2 * x.size * outputs * (64 if rows <= 8 else 1)
            rates.append(f"{rows}: {work / seconds / 1e9:.0f}")
        print(f"QuantMatMul {block_format:7}", ", ".join(rates), "GOP/s", flush=True)

    for lengths, new in [((512,), (512,)), ((2048,), (1,)), ((512,) * 16, (1,) * 16)]:
        step = PagedStep(lengths, new, heads=9, kv_heads=3, head_dim=64, page_size=16)
        inputs = {
            "q": step.activations(random, 9),
            "pool": step.pool(random),
            "positions": step.positions,
            "row_starts": step.row_starts,
            "page_table": step.page_table(random),
        }
        seconds = measure(
            library, "PagedAttention", inputs, threads, scale=0.125, **step.attributes
        )
        operations = 4 * 9 * 64 * float(np.sum(step.positions.astype(np.int64) + 1))
        read = sum(lengths) * 2 * 3 * 64 * 2
        print(f"PagedAttention {len(lengths)} rows of {lengths[0]}, {new[0]} new:", end=" ")
        print(f"{seconds * 1e6:.0f} us, {operations / seconds / 1e9:.0f} GFLOP/s,", end=" ")
        print(f"{read / seconds / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
