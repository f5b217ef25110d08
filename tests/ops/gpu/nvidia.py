"""The GPU kernels on an NVIDIA GPU: right by their definitions, and how near to the card's limits.

    make gpu-check                    # or: python -m tests.ops.gpu.nvidia [--capability 90]

Compiles every kernel for the card, which needs no card, then checks and times them through PyTorch,
which needs one with CUDA. What it says of AMD GPUs is the arithmetic alone: not their matrix
instructions, nor waves of 64 threads, nor their speed.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runtime.ops.gpu.build import compiled
from runtime.ops.gpu.layouts import BLOCK_FORMATS
from runtime.ops.gpu.planes import pack
from runtime.ops.gpu.variants import Variant, variants
from runtime.ops.reference import paged_attention, quant_matmul
from tests.block_formats import weights
from tests.ops.paged_steps import PagedStep

# A layer of a 7B-class model.
COLUMNS, ROWS = 4096, 14336
HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
CHECKED_ERROR = 2e-3


def compile_all(capability: int) -> None:
    """Compile every variant; raises what the compiler raises."""
    names = [variant.name for variant in variants("cuda")]
    print(f"compiling {len(names)} kernels for sm_{capability}", flush=True)
    for variant in variants("cuda"):
        shared = compiled(variant, "cuda", capability, 32).metadata.shared
        if shared > 65536:
            print(f"{variant.name}: {shared} bytes of shared memory")


class Card:
    """The kernels on PyTorch's current CUDA device. Used by one thread."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.variants = {variant.name: variant for variant in variants("cuda")}

    def put(self, array: np.ndarray, type: str) -> Any:
        """A tensor of an array's bytes on the card, of one of Triton's pointer types."""
        torch = self.torch
        kinds = {
            "fp32": torch.float32,
            "fp16": torch.float16,
            "bf16": torch.bfloat16,
            "u8": torch.uint8,
            "i8": torch.int8,
            "i16": torch.int16,
            "i32": torch.int32,
            "i64": torch.int64,
        }
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        if raw.size == 0:
            raw = np.zeros(16, np.uint8)
        return torch.from_numpy(raw.copy()).cuda().view(kinds[type.removeprefix("*")])

    def arguments(self, variant: Variant, values: Sequence[Any]) -> list[Any]:
        """Values with the arrays among them, and None, put on the card."""
        given = []
        for value, (_, type) in zip(values, variant.arguments, strict=True):
            if value is None:
                value = np.zeros(16, np.uint8)
            given.append(self.put(value, type) if isinstance(value, np.ndarray) else value)
        return given

    def launch(self, variant: Variant, grid: Sequence[int], given: Sequence[Any]) -> None:
        module = importlib.import_module(f"runtime.ops.gpu.kernels.{variant.module}")
        kernel = getattr(module, variant.function)
        options = {"num_warps": variant.warps, "num_stages": variant.stages}
        kernel[tuple(grid)](*given, **variant.constants, **options)

    def seconds(self, run: Callable[[], None], repetitions: int = 50) -> float:
        """Median time of a run."""
        events = [
            [self.torch.cuda.Event(enable_timing=True) for _ in range(2)]
            for _ in range(repetitions)
        ]
        for _ in range(5):
            run()
        for begin, end in events:
            begin.record()
            run()
            end.record()
        self.torch.cuda.synchronize()
        return float(np.median([begin.elapsed_time(end) for begin, end in events])) / 1e3


def product(
    card: Card, kernel: str, block_format: str, x: np.ndarray, blocks: np.ndarray
) -> tuple[Callable[[], None], Any]:
    """A product to be run, and the tensor it writes."""
    kind = BLOCK_FORMATS[block_format]
    variant = card.variants[f"{kernel}.{kind.layout.name}"]
    planes = pack(block_format, blocks)
    count, rows, constants = len(x), len(blocks), variant.constants
    y = card.torch.full((count, rows), float("nan"), device="cuda")
    stored = [planes.codes, planes.high, planes.subs, planes.units]
    scalars = [*kind.table_words, kind.unit_factor, kind.zero, rows, x.shape[1] // 32]
    if kernel == "one_row":
        values = [y, x, None, *stored, None, *scalars, 0, 0, 1]
        grid = [-(-rows // constants["ROWS"]), count]
    else:
        values = [y, x, None, *stored, None, None, *scalars, count, 0, 0, 1]
        grid = [-(-rows // constants["COLUMNS"]), -(-count // constants["ROWS"])]
    given = card.arguments(variant, values)
    return lambda: card.launch(variant, grid, given), y


def decode(card: Card, step: PagedStep, random: np.random.Generator) -> Any:
    """Decode attention and its merge to be run, the tensor it writes and what it should hold."""
    names = [f"{kind}_attention.{step.head_dim}" for kind in ("decode", "merge")]
    attend, merge = (card.variants[name] for name in names)
    q, pool, table = (
        step.activations(random, step.heads),
        step.pool(random),
        step.page_table(random),
    )
    rows, splits = (
        len(step.lengths),
        -(-table.shape[1] * step.page_size // attend.constants["SPLIT"]),
    )
    y = card.torch.full(q.shape, float("nan"), device="cuda")
    partial = card.torch.empty((rows, step.kv_heads, splits, 16, step.head_dim), device="cuda")
    stats = card.torch.empty((rows, step.kv_heads, splits, 16, 2), device="cuda")
    starts, places = card.put(step.row_starts, "i32"), card.put(step.positions, "i32")
    heads = [step.heads, step.kv_heads, step.head_dim]
    reads = [q, pool[step.layers - 1], places, starts, np.maximum(table, 0), None]
    paged = [*heads, table.shape[1], step.page_size, 0, 0, 0.1, 0.0]
    of_attend = card.arguments(attend, [y, partial, stats, *reads, *paged])
    of_merge = card.arguments(
        merge, [y, partial, stats, places, starts, None, *heads, splits, 0, 0]
    )

    def run() -> None:
        card.launch(attend, (rows, step.kv_heads, splits), of_attend)
        if splits > 1:
            card.launch(merge, (rows, step.kv_heads), of_merge)

    def expected() -> np.ndarray:
        return paged_attention(
            q, pool, step.positions, step.row_starts, table, **step.attributes, scale=0.1
        )

    return run, y, expected


def check(name: str, got: Any, expected: np.ndarray) -> None:
    error = np.linalg.norm(got.cpu().numpy() - expected) / np.linalg.norm(expected)
    if not error < CHECKED_ERROR:
        sys.exit(f"{name} is wrong: relative error {error:.2e}")
    print(f"{name}: relative error {error:.1e}")


def check_all(card: Card, random: np.random.Generator) -> None:
    """Every format by every product kernel, and attention, against the definitions."""
    for block_format in BLOCK_FORMATS:
        blocks = weights(random, block_format, 320, 1024)
        for kernel, count in (("one_row", 1), ("few_rows", 16), ("many_rows", 100)):
            x = random.standard_normal((count, 1024)).astype(np.float32)
            run, y = product(card, kernel, block_format, x, blocks)
            run()
            expected = quant_matmul(x, blocks, format=block_format, columns=1024)
            check(f"{kernel} {block_format}", y, expected)
    step = PagedStep((1500, 40), (1, 1), HEADS, KV_HEADS, HEAD_DIM, page_size=16, layers=1)
    run, y, expected_attention = decode(card, step, random)
    run()
    check("decode_attention", y, expected_attention())


def time_all(card: Card, random: np.random.Generator) -> None:
    """A table of what is reached beside what a copy and cuBLAS reach on the same card."""
    torch = card.torch
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    limit = 2 * source.numel() / card.seconds(lambda: target.copy_(source))
    a = torch.randn(8192, 8192, dtype=torch.float16, device="cuda")
    peak = 2 * 8192**3 / card.seconds(lambda: torch.matmul(a, a))
    print(f"\n{torch.cuda.get_device_name()}: a copy moves {limit / 1e12:.2f} TB/s, "
          f"cuBLAS in float16 does {peak / 1e12:.0f} TFLOP/s")  # fmt: skip
    for block_format in ("F16", "Q8_0", "Q6_K", "Q4_K", "Q4_0", "IQ4_XS"):
        blocks = weights(random, block_format, ROWS, COLUMNS)
        run, _ = product(card, "one_row", block_format, np.ones((1, COLUMNS), np.float32), blocks)
        size = sum(BLOCK_FORMATS[block_format].layout.plane_bytes(ROWS, COLUMNS))
        rate = size / card.seconds(run)
        print(f"one_row {block_format}: {rate / 1e12:.2f} TB/s, {rate / limit:.0%} of a copy")
        x = random.standard_normal((512, COLUMNS)).astype(np.float32)
        run, _ = product(card, "many_rows", block_format, x, blocks)
        flops = 2 * len(x) * ROWS * COLUMNS / card.seconds(run)
        print(f"many_rows {block_format} x 512: {flops / 1e12:.0f} TFLOP/s, {flops / peak:.0%}")
    step = PagedStep((4096,) * 16, (1,) * 16, HEADS, KV_HEADS, HEAD_DIM, page_size=16, layers=1)
    run, _, _ = decode(card, step, random)
    size = sum(step.lengths) * 2 * KV_HEADS * HEAD_DIM * 2
    rate = size / card.seconds(run)
    print(f"decode_attention 16 x 4096: {rate / 1e12:.2f} TB/s, {rate / limit:.0%} of a copy")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument("--capability", type=int, help="compute capability x 10 to compile for")
    given = parser.parse_args()
    try:
        import torch
    except ImportError:
        torch = None
    has_card = torch is not None and torch.cuda.is_available()
    capability = given.capability or 90
    if has_card and given.capability is None:
        major, minor = torch.cuda.get_device_capability()
        capability = 10 * major + minor
    compile_all(capability)
    if not has_card:
        sys.exit("compiled; nothing was run, since no NVIDIA GPU with PyTorch's CUDA is here")
    card, random = Card(torch), np.random.default_rng(20)
    check_all(card, random)
    time_all(card, random)


if __name__ == "__main__":
    main()
