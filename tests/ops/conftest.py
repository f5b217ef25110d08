"""One-node models of each operator, on every instruction set that can run or be emulated here."""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from runtime.errors import DeviceError
from runtime.ops.library import library_path, set_instruction_set
from runtime.ops.schema import DOMAIN
from tests.native_build import ToolsMissing, build_library

SIMDE = Path("/usr/include/simde/x86/avx512.h")
ELEMENT_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int32): TensorProto.INT32,
}


class Library:
    """One build of the operators, forced to one instruction set."""

    def __init__(self, path: Path, instruction_set: str) -> None:
        self.path = path
        self.instruction_set = instruction_set
        self._library = ctypes.CDLL(str(path))
        self._library.rocmforge_instruction_set.restype = ctypes.c_char_p

    def force(self, name: str | None = None) -> bool:
        """Whether the processor could be told to use `name`, by default this library's own set."""
        wanted = (name or self.instruction_set).encode()
        return bool(self._library.rocmforge_set_instruction_set(wanted) == 0)

    def in_use(self) -> str:
        name: bytes = self._library.rocmforge_instruction_set()
        return name.decode()

    def session(
        self,
        op: str,
        inputs: Mapping[str, np.ndarray | None],
        outputs: Sequence[npt.DTypeLike],
        *,
        threads: int = 1,
        **attributes: Any,
    ) -> onnxruntime.InferenceSession:
        """A session of one node; a None input is left out. Outputs are named y0, y1, ..."""
        node = helper.make_node(
            op,
            [name if value is not None else "" for name, value in inputs.items()],
            [f"y{i}" for i in range(len(outputs))],
            domain=DOMAIN,
            **attributes,
        )
        graph = helper.make_graph(
            [node],
            op,
            [
                helper.make_tensor_value_info(name, ELEMENT_TYPES[value.dtype], [None] * value.ndim)
                for name, value in inputs.items()
                if value is not None
            ],
            [
                helper.make_tensor_value_info(f"y{i}", ELEMENT_TYPES[np.dtype(dtype)], None)
                for i, dtype in enumerate(outputs)
            ],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.register_custom_ops_library(str(self.path))
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # Each tensor in memory of its own, so that a sanitizer sees where it ends.
        options.enable_cpu_mem_arena = False
        return onnxruntime.InferenceSession(
            onnx.ModelProto.SerializeToString(model), options, ["CPUExecutionProvider"]
        )

    def run(
        self,
        op: str,
        inputs: Mapping[str, np.ndarray | None],
        outputs: Sequence[npt.DTypeLike],
        *,
        threads: int = 1,
        **attributes: Any,
    ) -> list[np.ndarray]:
        """The outputs of one run of one node."""
        session = self.session(op, inputs, outputs, threads=threads, **attributes)
        given = {name: value for name, value in inputs.items() if value is not None}
        results: list[np.ndarray] = session.run(None, given)
        return results


@pytest.fixture(scope="session")
def emulated_avx512() -> Path:
    """The library with its AVX-512 kernels compiled for AVX2 through SIMDe."""
    if not SIMDE.exists():
        pytest.skip("neither AVX-512 nor SIMDe (apt install libsimde-dev) is here")
    try:
        return build_library("emulated", "ROCMFORGE_EMULATE_AVX512")
    except ToolsMissing as error:
        pytest.skip(str(error))


@pytest.fixture(params=["scalar", "avx2", "avx512"])
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    """The operators on each instruction set; AVX-512 is emulated where it is missing."""
    library = Library(library_path(), request.param)
    if not library.force():
        if request.param != "avx512":
            pytest.skip(f"this processor has no {request.param}")
        library = Library(request.getfixturevalue("emulated_avx512"), request.param)
        assert library.force()
    yield library
    library.force("best")


@pytest.fixture(params=["scalar", "avx2", "avx512"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this processor, in use by the library of this process."""
    name: str = request.param
    try:
        set_instruction_set(name)
    except DeviceError:
        pytest.skip(f"this processor has no {name}")
    yield name
    set_instruction_set("best")


@pytest.fixture
def best() -> Library:
    """The operators as a server would run them here."""
    library = Library(library_path(), "best")
    library.force()
    return library


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20)
