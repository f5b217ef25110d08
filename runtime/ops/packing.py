"""Packs weights for the CPU kernels of this machine: a cache, never the model.

Packed weights are uint8 [panels, blocks of a row, block bytes]: a panel holds as many weight rows
as a vector of the instruction set has lanes, with the same bits per weight as the file.
native/kernels/packed_weights.h defines the layout.
"""

import numpy as np
from numpy.typing import NDArray

from runtime.gguf.block_formats import FORMAT_OF_NAME
from runtime.ops.library import instruction_set, native_library

LAYOUT_VERSION = 3
"""Counts up when the layout changes, so that copies of an earlier one are not used."""


def layout_name() -> str:
    """Return the name of the layout that this machine's kernels read."""
    return f"{instruction_set()}-{LAYOUT_VERSION}"


def panel_rows() -> int:
    """Return the rows of a panel."""
    return int(native_library().rocmforge_panel_rows())


def packed_shape(
    format: str, rows: int, columns: int, *, matrices: int = 1
) -> tuple[int, int, int] | None:
    """Return the shape of a packed weight matrix [rows, columns]; None if it is not packed.

    Not packed are some formats, and stacks of `matrices` of which one begins inside a panel.
    """
    block_bytes = int(native_library().rocmforge_packed_block_bytes(format.encode()))
    if block_bytes == 0 or (matrices > 1 and rows // matrices % panel_rows()):
        return None
    panels = -(-rows // panel_rows())
    return panels, columns // FORMAT_OF_NAME[format].weights, block_bytes


def pack(format: str, blocks: NDArray[np.uint8], packed: NDArray[np.uint8]) -> None:
    """Pack blocks uint8 [rows, row_bytes] into `packed`, a contiguous array of `packed_shape`.

    Rows that fill up the last panel become zero.
    """
    if not (blocks.flags.c_contiguous and packed.flags.c_contiguous):
        raise ValueError("weights are packed from and into contiguous memory")
    rows, columns = blocks.shape[0], packed.shape[1] * FORMAT_OF_NAME[format].weights
    if packed.shape != packed_shape(format, rows, columns):
        raise ValueError(f"{rows} rows of {columns} columns do not pack into {packed.shape}")
    native_library().rocmforge_pack(
        format.encode(), blocks.ctypes.data, rows, columns, packed.ctypes.data
    )
