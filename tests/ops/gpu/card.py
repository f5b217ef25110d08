"""An NVIDIA GPU in the place of AMD's: the kernels, compiled as for those, on NumPy arrays.

Needs PyTorch with CUDA, which nothing here installs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from runtime.ops.gpu.build import compiled
from runtime.ops.gpu.variants import Variant

GUARD = 4096
"""Bytes before and behind each array, all ones: NaN to who reads them, and seen if written."""
POISON = 0xFF


class Buffer:
    """An array's bytes on the card between two guards. Owned by one thread."""

    def __init__(self, array: np.ndarray) -> None:
        self.size = array.nbytes
        self._memory = torch.full((self.size + 2 * GUARD,), POISON, dtype=torch.uint8).cuda()
        self._memory[GUARD : GUARD + self.size] = torch.from_numpy(_bytes_of(array).copy()).cuda()
        self.address: int = self._memory.data_ptr() + GUARD

    def read_into(self, array: np.ndarray, name: str) -> None:
        """Raises AssertionError if what stands around the array was written."""
        memory = self._memory.cpu().numpy()
        for guard in (memory[:GUARD], memory[GUARD + self.size :]):
            assert (guard == POISON).all(), f"{name} wrote outside of its arrays"
        if array.flags.writeable:
            _bytes_of(array)[:] = memory[GUARD : GUARD + self.size]


def _bytes_of(array: np.ndarray) -> np.ndarray:
    assert array.flags.c_contiguous, "kernels take arrays without gaps"
    return array.reshape(-1).view(np.uint8)


_compiled: dict[str, Any] = {}


def on_card(variant: Variant) -> Any:
    """A kernel of the current device; of its arguments the compiler knows what it does for AMD."""
    if variant.name not in _compiled:
        major, minor = torch.cuda.get_device_capability()
        _compiled[variant.name] = compiled(variant, "cuda", 10 * major + minor, 32)
    return _compiled[variant.name]


class Launch:
    """One launch whose arrays stay on the card, so that it can be repeated. Owned by one thread."""

    def __init__(self, variant: Variant, grid: Sequence[int], arguments: Sequence[Any]) -> None:
        self.variant = variant
        self._all = (grid, arguments)
        self._grid = (*grid, 1, 1)[:3]
        self._buffers = {
            id(argument): (Buffer(argument), argument)
            for argument in arguments
            if isinstance(argument, np.ndarray)
        }
        given = [
            self._buffers[id(argument)][0].address
            if isinstance(argument, np.ndarray)
            else (float if type == "fp32" else int)(argument or 0)
            for argument, (_, type) in zip(arguments, variant.arguments, strict=True)
        ]
        self._given = [*given, *variant.constants.values()]

    def with_arrays_of_its_own(self) -> "Launch":
        """The same, elsewhere in the card's memory."""
        return Launch(self.variant, *self._all)

    def run(self) -> None:
        on_card(self.variant)[self._grid](*self._given)

    def read_back(self) -> None:
        for buffer, array in self._buffers.values():
            buffer.read_into(array, self.variant.name)


def run_all(launches: Iterable[Launch]) -> None:
    for each in launches:
        each.run()


_kept: list[Launch] | None = None


def launch(variant: Variant, grid: Sequence[int], arguments: Sequence[Any]) -> None:
    """Run a kernel on arrays and numbers, as the interpreter does; None is a null pointer."""
    made = Launch(variant, grid, arguments)
    made.run()
    made.read_back()
    if _kept is not None:
        _kept.append(made)


@contextmanager
def kept_launches() -> Iterator[list[Launch]]:
    """The launches that are made meanwhile, in their order."""
    global _kept
    before, _kept = _kept, []
    try:
        yield _kept
    finally:
        _kept = before


def seconds(runs: Sequence[Callable[[], object]], repetitions: int = 20) -> float:
    """Median time of one of the runs, which are made one after the other from a CUDA graph."""
    for run in runs:
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repetitions)]
    graph.replay()
    for begin, end in events:
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    times = [begin.elapsed_time(end) for begin, end in events]
    return float(np.median(times)) / 1e3 / len(runs)
