"""Memory of the page pool, on the host or on the GPU, and of states: written in place by steps."""

import contextlib
import ctypes
import math
import mmap
import weakref
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.device.provider import DeviceMemory
from runtime.errors import DeviceError
from runtime.interface import PAGE_POOL, PAGE_POOL_OUT, STATE_POOL, STATE_POOL_OUT, PoolShape
from runtime.manifest import PageLayout
from runtime.ops.library import native_library


class PagePool(Protocol):
    """A float16 page pool, bound as the graph's input and output."""

    def bind(self, binding: ort.IOBinding) -> None:
        """Bind the pool for a step."""


class HostPool:
    """A pool in the host's memory, allocated by the system as pages are first touched.

    Uses small memory pages: a prompt's keys and values are in one place of each layer, so large
    pages would clear 2 MiB in every layer at once, without making reads faster.
    Owned by the session. Raises DeviceError if there is too little memory.
    """

    def __init__(self, shape: PoolShape) -> None:
        too_large = (
            f"the KV cache takes {mebibytes(pool_bytes(shape))} MiB, more than there is; "
            "ask for fewer tokens with --cache-tokens"
        )
        # The value only borrows the array: both must live as long as the session.
        self._memory = _mapped(shape, np.dtype(np.float16), too_large)
        self._value = ort.OrtValue.ortvalue_from_numpy(self._memory)

    @property
    def page_bytes(self) -> int:
        """Bytes of a page."""
        return self._memory[:, :1].nbytes

    def read_page(self, page: int) -> NDArray[np.uint8]:
        """Return a copy of a page's content over all layers, uint8 [page bytes]."""
        content: NDArray[np.uint8] = self._memory[:, page].copy().reshape(-1).view(np.uint8)
        return content

    def write_page(self, page: int, content: NDArray[np.uint8]) -> None:
        """Replace a page's content over all layers. content: uint8 [page bytes]."""
        target = self._memory[:, page]
        target[...] = content.view(np.float16).reshape(target.shape)

    def bind(self, binding: ort.IOBinding) -> None:
        """Bind the pool for a step."""
        binding.bind_ortvalue_input(PAGE_POOL, self._value)
        binding.bind_ortvalue_output(PAGE_POOL_OUT, self._value)


class StatePool:
    """The states of sequences in the host's memory: float32 [slots, values of a state].

    Owned by the session. Raises DeviceError where there is too little memory.
    """

    def __init__(self, slots: int, layout: PageLayout) -> None:
        size = mebibytes(slots * layout.bytes_per_state())
        too_large = (
            f"the states of {slots} sequences take {size} MiB, more than there is; lower "
            "--max-batch-size or --state-snapshot-bytes"
        )
        shape = (slots, layout.state_values)
        self._memory = _mapped(shape, np.dtype(np.float32), too_large)
        self._value = ort.OrtValue.ortvalue_from_numpy(self._memory)

    def bind(self, binding: ort.IOBinding) -> None:
        """Bind the pool for a step."""
        binding.bind_ortvalue_input(STATE_POOL, self._value)
        binding.bind_ortvalue_output(STATE_POOL_OUT, self._value)


class DevicePool:
    """A pool in the GPU's memory. Owned by the session; freed with it.

    Raises DeviceError if there is too little memory.
    """

    def __init__(self, shape: PoolShape, device_memory: DeviceMemory) -> None:
        self._shape = shape
        self._device_memory = device_memory
        self._memory = ctypes.c_void_p()
        failure = native_library().rocmforge_hip_allocate(
            pool_bytes(shape), ctypes.byref(self._memory)
        )
        if failure is not None:
            raise DeviceError(
                f"the KV cache takes {mebibytes(pool_bytes(shape))} MiB of GPU memory, which there "
                f"is not ({failure.decode()}); ask for fewer tokens with --cache-tokens or for a "
                "smaller share with --gpu-memory-utilization"
            )
        weakref.finalize(self, native_library().rocmforge_hip_free, self._memory)

    def bind(self, binding: ort.IOBinding) -> None:
        """Bind the pool for a step."""
        assert self._memory.value is not None
        memory = self._device_memory
        for bind, name in ((memory.bind_input, PAGE_POOL), (memory.bind_output, PAGE_POOL_OUT)):
            bind(binding, name, np.float16, self._shape, self._memory.value)


def _mapped(shape: tuple[int, ...], dtype: np.dtype[Any], too_large: str) -> NDArray[Any]:
    """Zeros that take memory only where they are touched. Raises DeviceError(too_large)."""
    size = math.prod(shape) * dtype.itemsize
    try:
        memory = mmap.mmap(-1, max(size, mmap.PAGESIZE), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):
        raise DeviceError(too_large) from None
    with contextlib.suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype)[: math.prod(shape)].reshape(shape)


def pool_bytes(shape: PoolShape) -> int:
    """Return the bytes of a pool of this shape."""
    return math.prod(shape) * np.dtype(np.float16).itemsize


def mebibytes(size: int) -> int:
    """Convert bytes to mebibytes, rounded up."""
    return -(-size // 2**20)
