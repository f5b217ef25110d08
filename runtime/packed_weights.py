"""A packed copy of a model's matrices in one file that every session maps.

The file is a cache: named by the content of the GGUF and by the layout, written once, shared by
all processes through the page cache, and safe to delete. Its checksums are at its end. If it cannot
be written, the kernels read the GGUF's own rows, slower.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.checksums import Checksums, ChecksumsOf
from runtime.files import locked, replacing
from runtime.gguf import GGUFFile, TensorInfo
from runtime.mapped_file import MappedFile
from runtime.ops.packing import layout_name, pack, packed_shape

ALIGNMENT = 4096
LARGE_PAGE = 2 << 20
"""Bytes of a large page on x86-64."""

log = logging.getLogger("rocmforge.session")

PackedArrays = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class _PackedMatrix:
    tensor: TensorInfo
    offset: int
    shape: tuple[int, int, int]

    @property
    def end(self) -> int:
        return self.offset + int(np.prod(self.shape))

    @property
    def aligned_end(self) -> int:
        return -(-self.end // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """A mapped packed copy. Immutable."""

    file: MappedFile
    arrays: PackedArrays
    """Read-only maps of the packed matrices, by tensor name."""

    def discard(self) -> bool:
        """Delete a damaged copy, so the next load makes a new one; returns whether it is gone."""
        try:
            named, ours = self.file.path.stat(), os.fstat(self.file.file.fileno())
            if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
                self.file.path.unlink()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def packed_weights(
    gguf: GGUFFile, sha256: str, folder: Path, check: Callable[[], None] | None = None
) -> PackedWeights | None:
    """Return the packed copy of all matrices that can be packed, made if missing or truncated.

    sha256: of the GGUF's content; folder: of the packed copies; check: raises if the GGUF has
    changed, before a copy of it is kept. Two processes that need the same copy make it once.
    None if there is nothing to pack, or the copy cannot be written.
    """
    layout = _layout(gguf)
    if not layout:
        return None
    path = packed_path(folder, sha256)
    try:
        mapped = _open(path, layout[-1].aligned_end)
        if mapped is None:
            lock = path.with_name(f"{path.name}.lock")
            with locked(lock):
                try:
                    mapped = _open(path, layout[-1].aligned_end)  # by another process
                    if mapped is None:
                        _write(path, gguf, layout, check)
                        mapped = _open(path, layout[-1].aligned_end)
                finally:
                    lock.unlink(missing_ok=True)
    except OSError as error:
        log.warning("weights run unpacked, which is slower: %s cannot be written: %s", path, error)
        return None
    if mapped is None:
        log.warning(
            "weights run unpacked, which is slower: %s does not hold what was written", path
        )
        return None
    arrays = {
        matrix.tensor.name: mapped.data[matrix.offset : matrix.end].reshape(matrix.shape)
        for matrix in layout
    }
    return PackedWeights(mapped, arrays)


def packed_path(folder: Path, sha256: str) -> Path:
    """Return the path of the packed copy of a GGUF of this content, in this machine's layout."""
    return folder / f"{sha256[:32]}.{layout_name()}.packed"


def remove_packed(folder: Path, sha256: str) -> None:
    """Delete the packed copies of a GGUF in all layouts; processes that map one keep it."""
    for path in folder.glob(f"{sha256[:32]}.*.packed"):
        path.unlink(missing_ok=True)


def _layout(file: GGUFFile) -> list[_PackedMatrix]:
    """Return the offset of each matrix in the packed file, in the order of the GGUF."""
    layout: list[_PackedMatrix] = []
    for tensor in file.tensors.values():
        if len(tensor.shape) not in (2, 3):
            continue
        matrices = tensor.shape[0] if len(tensor.shape) == 3 else 1
        if tensor.name.endswith("ffn_gate_up_exps.weight"):
            matrices *= 2  # each expert's up projection begins in the middle of its rows
        shape = packed_shape(tensor.format, tensor.rows, tensor.columns, matrices=matrices)
        if shape is not None:
            layout.append(_PackedMatrix(tensor, layout[-1].aligned_end if layout else 0, shape))
    return layout


def _open(path: Path, size: int) -> MappedFile | None:
    """Map a packed copy of this size before its checksums; None if missing or truncated."""
    try:
        mapped = MappedFile.open(path)
    except (FileNotFoundError, ValueError):
        return None
    checksums = None
    if mapped.state.size == size + Checksums.encoded_size(size):
        checksums = Checksums.decode(mapped.data[size:].tobytes())
    if checksums is None or checksums.size != size:
        mapped.close()
        return None
    mapped.checksums = checksums
    mapped.use_large_pages()
    return mapped


def _write(
    path: Path, file: GGUFFile, layout: list[_PackedMatrix], check: Callable[[], None] | None
) -> None:
    """Pack into a file that gets its name when it is complete."""
    checksums = ChecksumsOf()
    with replacing(path) as target:
        for matrix in layout:
            content = np.zeros(matrix.aligned_end - matrix.offset, np.uint8)
            packed = content[: matrix.end - matrix.offset].reshape(matrix.shape)
            pack(matrix.tensor.format, file.data(matrix.tensor.name), packed)
            checksums.add(content)
            target.write(content.data)
        target.write(checksums.result().encode())
        if check is not None:
            check()
    _read_back(path)


def _read_back(path: Path) -> None:
    """Let the system cache a file in large pages: after writing it is in small ones.

    Only reads through a map that asks for large pages fill them, so the pages of the writing are
    dropped first.
    """
    mapped = MappedFile.open(path)
    with contextlib.suppress(OSError):  # a file system without such advice
        os.posix_fadvise(mapped.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    mapped.use_large_pages()
    mapped.data[::LARGE_PAGE].max()
    mapped.close()
