"""A packed copy of a model's matrices in one file that every session maps.

The file is a cache: named by the content of the GGUF and by the layout, written once, shared by
all processes through the page cache, and free to be deleted. Where it cannot be written, the
kernels read the GGUF's own rows, only slower.
"""

import contextlib
import logging
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from runtime.gguf import GGUFFile, TensorInfo
from runtime.ops.packing import layout_name, pack, packed_shape

ALIGNMENT = 4096
LARGE_PAGE = 2 << 20
"""Bytes of a page that one entry of the processor's translation table reaches, on x86-64."""

log = logging.getLogger("rocmforge.session")

PackedArrays = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class _Place:
    tensor: TensorInfo
    offset: int
    shape: tuple[int, int, int]

    @property
    def end(self) -> int:
        return self.offset + int(np.prod(self.shape))


def packed_weights(weights: Path, sha256: str, folder: Path) -> PackedArrays:
    """Read-only maps of every matrix that can be packed, by tensor name; made where missing.

    weights: the GGUF; sha256: of its content; folder: where packed copies are kept. Empty where
    the copy cannot be written.
    """
    file = GGUFFile.open(weights)
    places = _places(file)
    if not places:
        return {}
    path = folder / f"{sha256[:32]}.{layout_name()}.packed"
    try:
        if not path.is_file() or path.stat().st_size != places[-1].end:
            _write(path, file, places)
        mapped = _map(path)
    except OSError as error:
        log.warning("weights run unpacked, which is slower: %s cannot be written: %s", path, error)
        return {}
    return {
        place.tensor.name: mapped[place.offset : place.end].reshape(place.shape) for place in places
    }


def remove_packed(folder: Path, sha256: str) -> None:
    """Delete the packed copies of a GGUF, in whatever layout; who has one mapped keeps it."""
    for path in folder.glob(f"{sha256[:32]}.*.packed"):
        path.unlink(missing_ok=True)


def _places(file: GGUFFile) -> list[_Place]:
    """Where each matrix stands in the packed file, in the order of the GGUF."""
    places: list[_Place] = []
    offset = 0
    for tensor in file.tensors.values():
        if len(tensor.shape) not in (2, 3):
            continue
        matrices = tensor.shape[0] if len(tensor.shape) == 3 else 1
        shape = packed_shape(tensor.format, tensor.rows, tensor.columns, matrices=matrices)
        if shape is not None:
            places.append(_Place(tensor, offset, shape))
            offset = -(-places[-1].end // ALIGNMENT) * ALIGNMENT
    return places


def _write(path: Path, file: GGUFFile, places: list[_Place]) -> None:
    """Pack into a file beside `path` and rename it: nobody maps a half-written one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as target:
            for place in places:
                packed = np.empty(place.shape, np.uint8)
                pack(place.tensor.format, file.data(place.tensor.name), packed)
                target.seek(place.offset)
                target.write(packed.data)
            _read_back(partial, target)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _map(path: Path) -> NDArray[np.uint8]:
    """A file as an array, in large pages where the system has any for files.

    Weights that are read from end to end in small pages wait for the table of pages: a tenth to a
    fifth of what memory could give.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with contextlib.suppress(OSError):  # a kernel without large pages
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.uint8)


def _read_back(path: Path, written: BinaryIO) -> None:
    """Let the system keep a file in large pages: what was written it holds in small ones.

    Only what is read through such a map as `_map` makes comes in large ones, so the pages of the
    writing are given up first.
    """
    written.flush()
    os.fsync(written.fileno())
    with contextlib.suppress(OSError):  # a file system that takes no advice
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    _map(path)[::LARGE_PAGE].max()
