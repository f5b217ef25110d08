"""The file of a packed copy: where each matrix lies in it, and how it is written.

Matrices are packed by all processors, some panels at a time, and written in order, so that writing
takes the same memory for a model of any size.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from runtime.checksums import Checksums, ChecksumsOf
from runtime.files import replacing
from runtime.gguf import GGUFFile, TensorInfo
from runtime.ops.packing import pack, packed_shape, panel_rows
from runtime.progress import Amount, uncounted

ALIGNMENT = 4096
WRITTEN_AT_ONCE = 8 << 20
"""Bytes. Whole large pages are written at their place in the file, so that the system caches it in
such pages: reading weights through small ones costs a tenth to a fifth of the memory bandwidth."""
PACKED_AT_ONCE = 2 << 20
"""Bytes that a thread packs, about."""
PANELS_TOGETHER = 32
"""Panels of a part are a multiple of this, so its bytes are one of 32, which checksums need."""


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix and its place in the file. Immutable."""

    tensor: TensorInfo
    offset: int
    shape: tuple[int, int, int]
    """As `packed_shape` returns it."""

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.offset + int(np.prod(self.shape))

    @property
    def aligned_end(self) -> int:
        """Where the next matrix begins."""
        return -(-self.end // ALIGNMENT) * ALIGNMENT


def layout_of(file: GGUFFile) -> list[PackedMatrix]:
    """Return the place of each matrix that can be packed, in the order of the GGUF."""
    layout: list[PackedMatrix] = []
    for tensor in file.tensors.values():
        if len(tensor.shape) not in (2, 3):
            continue
        matrices = tensor.shape[0] if len(tensor.shape) == 3 else 1
        if tensor.name.endswith("ffn_gate_up_exps.weight"):
            matrices *= 2  # each expert's up projection begins in the middle of its rows
        shape = packed_shape(tensor.format, tensor.rows, tensor.columns, matrices=matrices)
        if shape is not None:
            layout.append(PackedMatrix(tensor, layout[-1].aligned_end if layout else 0, shape))
    return layout


def file_size(layout: list[PackedMatrix]) -> int:
    """Return the bytes of a packed copy with its checksums."""
    content = layout[-1].aligned_end
    return content + Checksums.encoded_size(content)


def write_packed(
    path: Path,
    file: GGUFFile,
    layout: list[PackedMatrix],
    *,
    check: Callable[[], None] | None = None,
    amount: Amount = uncounted,
) -> None:
    """Pack all matrices into a file that gets its name when it is complete.

    It is not synced: what a power failure leaves of it is compared with its checksums when it is
    used. check: raises if the GGUF has changed, before the copy is kept. Raises OSError.
    """
    size = file_size(layout)
    with replacing(path, synced=False) as target:
        writing = _Writing(target)
        for content in _contents(file, layout):
            writing.add(content)
            amount(writing.size, size)
        writing.end()
        if check is not None:
            check()
    amount(size, size)


class _Writing:
    """Writes content with its checksums in large aligned pieces. Owned by one thread."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._checksums = ChecksumsOf()
        self._buffer = np.empty(WRITTEN_AT_ONCE, np.uint8)
        self.size = 0
        """Bytes added."""

    def add(self, content: NDArray[np.uint8]) -> None:
        """Append bytes, a multiple of 32 of them."""
        self._checksums.add(content)
        at = 0
        while at < len(content):
            start = self.size % WRITTEN_AT_ONCE
            some = content[at : at + WRITTEN_AT_ONCE - start]
            self._buffer[start : start + len(some)] = some
            at += len(some)
            self.size += len(some)
            if start + len(some) == WRITTEN_AT_ONCE:
                self._target.write(self._buffer.data)

    def end(self) -> None:
        """Write the rest and the checksums."""
        self._target.write(self._buffer[: self.size % WRITTEN_AT_ONCE].data)
        self._target.write(self._checksums.result().encode())


def _contents(file: GGUFFile, layout: list[PackedMatrix]) -> Iterator[NDArray[np.uint8]]:
    """The content of a packed copy in order; threads pack a few parts ahead."""
    threads = len(os.sched_getaffinity(0))
    ahead: deque[Future[NDArray[np.uint8]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for matrix in layout:
            blocks = file.data(matrix.tensor.name)
            for panels in _parts(matrix):
                ahead.append(pool.submit(_packed, matrix, blocks, panels))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _parts(matrix: PackedMatrix) -> Iterator[range]:
    """The panels of a matrix, some at a time."""
    panels, *panel_shape = matrix.shape
    group = PANELS_TOGETHER * int(np.prod(panel_shape))
    some = PANELS_TOGETHER * max(1, PACKED_AT_ONCE // group)
    for first in range(0, panels, some):
        yield range(first, min(panels, first + some))


def _packed(matrix: PackedMatrix, blocks: NDArray[np.uint8], panels: range) -> NDArray[np.uint8]:
    """Some panels of a matrix; behind its last one zeros up to where the next matrix begins."""
    size = len(panels) * int(np.prod(matrix.shape[1:]))
    is_last = panels.stop == matrix.shape[0]
    content = np.zeros(size + (matrix.aligned_end - matrix.end if is_last else 0), np.uint8)
    rows = blocks[panels.start * panel_rows() : panels.stop * panel_rows()]
    pack(matrix.tensor.format, rows, content[:size].reshape(len(panels), *matrix.shape[1:]))
    return content
