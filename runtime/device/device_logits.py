"""Logits that stay in the GPU's memory; only the largest of each row are copied to the host."""

import ctypes
import weakref

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.errors import DeviceError
from runtime.ops.library import native_library
from runtime.sampling import RowMemory


class DeviceLogits:
    """Logits of one step, float32 [R, V], on the GPU, and the candidates of each row.

    Owned by the engine thread; implements a sampler's `Logits`. Every method returns what the whole
    array would give: a row is copied if the candidates do not suffice.
    """

    def __init__(
        self, value: ort.OrtValue, tokens: NDArray[np.int32], values: NDArray[np.float32]
    ) -> None:
        """`tokens` and `values` [R, candidates]: the largest logits of each row, largest first."""
        self._value = value
        self._tokens = tokens.astype(np.int64)
        self._values = np.ascontiguousarray(values)
        self.vocabulary_size: int = value.shape()[1]
        self.likeliest: list[int] = tokens[:, 0].tolist()
        self.finite: list[bool] = np.isfinite(values[:, 0]).tolist()

    def row(self, row: int) -> NDArray[np.float32]:
        """Return every logit of a row [V], copied from the GPU. Raises DeviceError if it fails."""
        values = np.empty(self.vocabulary_size, np.float32)
        place = self._value.data_ptr() + row * values.nbytes
        _raise(native_library().rocmforge_hip_read(values.ctypes.data, place, values.nbytes))
        return values

    def memory(self, row: int) -> RowMemory:
        """Where a row's candidates are, valid as long as this object."""
        count = min(self._tokens.shape[1], self.vocabulary_size)
        return RowMemory(
            0,
            0,
            self.vocabulary_size,
            self._tokens[row].ctypes.data,
            self._values[row].ctypes.data,
            count,
        )


class CandidateSearch:
    """The search for each row's largest logits, on the GPU. Owned by the session's thread.

    Raises DeviceError if the GPU reports an error.
    """

    def __init__(self) -> None:
        self._search, count = ctypes.c_void_p(), ctypes.c_int64()
        library = native_library()
        _raise(
            library.rocmforge_hip_make_candidates(ctypes.byref(self._search), ctypes.byref(count))
        )
        weakref.finalize(self, library.rocmforge_hip_free_candidates, self._search)
        self._count = count.value

    def of(self, logits: ort.OrtValue) -> DeviceLogits:
        """Search logits float32 [R, V] on the GPU, of a step that has ended."""
        rows, columns = logits.shape()
        found = np.empty((2, rows, self._count), np.int32)
        _raise(
            native_library().rocmforge_hip_find_candidates(
                self._search,
                logits.data_ptr() if rows else None,
                rows,
                columns,
                found.ctypes.data,
            )
        )
        values, tokens = found
        return DeviceLogits(logits, tokens, values.view(np.float32))


def _raise(failure: bytes | None) -> None:
    if failure is not None:
        raise DeviceError(f"the GPU fails: {failure.decode()}")
