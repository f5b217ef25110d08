"""A packed copy of a model's matrices in one file that every session maps.

The file is a cache: named by the content of the GGUF and by the layout, written once, shared by
all processes through the page cache, and safe to delete. Its checksums are at its end. If it cannot
be written, the kernels read the GGUF's own rows, slower.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.checksums import Checksums
from runtime.files import locked
from runtime.gguf import GGUFFile
from runtime.mapped_file import FileState, MappedFile
from runtime.ops.packing import layout_name
from runtime.packed_cache import make_room, mark_used
from runtime.packed_file import file_size, layout_of, write_packed
from runtime.progress import Amount, uncounted

log = logging.getLogger("rocmforge.session")

PackedArrays = dict[str, NDArray[np.uint8]]


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
    gguf: GGUFFile,
    sha256: str,
    folder: Path,
    check: Callable[[], None] | None = None,
    amount: Amount = uncounted,
    *,
    limit: int = 0,
) -> PackedWeights | None:
    """Return the packed copy of all matrices that can be packed, made if missing or truncated.

    sha256: of the GGUF's content; folder: of the packed copies; check: raises if the GGUF has
    changed, before a copy of it is kept; limit: bytes of all copies, 0 for none. Two processes that
    need the same copy make it once.
    None if there is nothing to pack, or the copy cannot be written.
    """
    layout = layout_of(gguf)
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
                        make_room(folder, file_size(layout), limit)
                        write_packed(path, gguf, layout, check=check, amount=amount)
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
    mark_used(mapped.file)
    mapped.state = FileState.of(mapped.file)
    mapped.checksums = checksums
    mapped.use_large_pages()
    return mapped
