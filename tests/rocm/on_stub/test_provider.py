"""Our own execution provider on the stub: what ONNX Runtime makes of its tables of callbacks."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from runtime.device import open_session, select_device
from runtime.device.provider import AMD, OWN_PROVIDER, choose_provider
from runtime.session import Session
from runtime.step import largest_step
from tests.rocm.on_stub.test_models import STEPS, gpu_settings, prepare
from tests.rocm.placement import on_cpu
from tests.rocm.stub_device import ARCHITECTURE, StubDevice

if choose_provider(ARCHITECTURE).provider != OWN_PROVIDER:
    pytest.skip("onnxruntime's own provider serves here", allow_module_level=True)

# Axes of a step's rows, of heads and of their values, and weights for each.
X = np.random.default_rng(3).standard_normal((7, 4, 48)).astype(np.float32)
WEIGHT = np.random.default_rng(4).random((48,), np.float32) + 1
OF_TOKENS = WEIGHT[:7].reshape(7, 1, 1)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def options(profile: Path | None = None) -> ort.SessionOptions:
    made = ort.SessionOptions()
    if profile is not None:
        made.enable_profiling = True
        made.profile_file_prefix = str(profile)
    return made


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, np.ndarray], constants: dict[str, np.ndarray]
) -> bytes:
    """A model of nodes of ONNX; outputs are those of the last node."""
    graph = helper.make_graph(
        nodes,
        "nodes",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim
            )
            for name, array in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in nodes[-1].output
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    encoded: bytes = model.SerializeToString()
    return encoded


# Registers the provider; has no kernel's launch before it runs.
ABS = model_of([helper.make_node("Abs", ["x"], ["y"])], {"x": X}, {})


@pytest.mark.parametrize(
    ("operator", "inputs", "constants", "outputs", "attributes"),
    [
        ("Gather", {"x": X[:, 0], "at": np.array([6, 0, 0], np.int32)}, {}, 1, {"axis": 0}),
        *((name, {"x": X}, {}, 1, {}) for name in ("Sigmoid", "Relu", "Tanh", "Floor", "Exp")),
        *((name, {"x": X}, {}, 1, {}) for name in ("Abs", "Neg")),
        ("ReduceMax", {"x": X}, {"axes": ints(2)}, 1, {"keepdims": 1}),
        ("ReduceMax", {"x": X}, {"axes": ints(-1)}, 1, {"keepdims": 0}),
        ("Log", {"x": abs(X)}, {}, 1, {}),
        ("Clip", {"x": X}, {"low": np.float32(-0.5), "high": np.float32(0.5)}, 1, {}),
        ("Cast", {"x": np.arange(9, dtype=np.int32)}, {}, 1, {"to": onnx.TensorProto.FLOAT}),
        *((name, {"x": X, "y": X[::-1]}, {}, 1, {}) for name in ("Add", "Sub", "Mul", "Min")),
        *((name, {"x": X}, {"w": WEIGHT}, 1, {}) for name in ("Add", "Sub", "Mul", "Div", "Min")),
        ("Mul", {"x": X}, {"w": OF_TOKENS}, 1, {}),
        ("Mul", {"x": X}, {"w": np.float32(3)}, 1, {}),
        ("Add", {"x": X, "y": X[:, :1]}, {}, 1, {}),
        ("Add", {"x": X[:1, :, :1], "y": X[0, :1]}, {}, 1, {}),
        ("Sub", {"x": OF_TOKENS[:, 0], "y": X[0, 0]}, {}, 1, {}),
        ("Expand", {"x": X[:, :1]}, {"shape": ints(7, 4, 48)}, 1, {}),
        ("Reshape", {"x": X}, {"shape": ints(0, -1)}, 1, {}),
        ("Split", {"x": X}, {"sizes": ints(16, 32)}, 2, {"axis": 2}),
        ("Split", {"x": X}, {"sizes": ints(1, 2, 1)}, 3, {"axis": 1}),
        ("Concat", {"x": X, "y": X[:, :1]}, {}, 1, {"axis": 1}),
        ("Concat", {"x": X, "y": X[..., :16], "z": X}, {}, 1, {"axis": 2}),
        ("Pad", {"x": X}, {"pads": ints(0, 0, 0, 0, 0, 16)}, 1, {}),
        ("Pad", {"x": X}, {"pads": ints(0, 1, 0, 0, 0, 0)}, 1, {}),
    ],
)
def test_an_operator_of_onnx_is_computed_as_on_the_cpu(
    tmp_path: Path,
    device: StubDevice,
    operator: str,
    inputs: dict[str, np.ndarray],
    constants: dict[str, np.ndarray],
    outputs: int,
    attributes: dict[str, Any],
) -> None:
    select_device("rocm")
    names = [f"out{i}" for i in range(outputs)]
    constants = {name: np.asarray(value) for name, value in constants.items()}
    inputs = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
    node = helper.make_node(operator, [*inputs, *constants], names, **attributes)
    model = model_of([node], inputs, constants)
    session = open_session(model, options(tmp_path / "profile"), OWN_PROVIDER)
    ours = session.run(None, inputs)
    expected = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)
    for mine, each in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, each, rtol=1e-6, atol=1e-6)
    # Inputs and outputs are the host's, and the one node between them ours.
    assert [each for each in on_cpu(Path(session.end_profiling())) if "Memcpy" not in each] == []


def test_the_device_is_described(device: StubDevice) -> None:
    select_device("rocm")
    open_session(ABS, options(), OWN_PROVIDER)
    (found,) = [each for each in ort.get_ep_devices() if each.ep_name == OWN_PROVIDER]
    assert found.ep_vendor == "ROCmForge"
    assert found.ep_metadata["version"] == "1.0.0"


def test_what_it_lacks_runs_on_the_cpu(tmp_path: Path, device: StubDevice) -> None:
    select_device("rocm")
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Sin", ["e"], ["s"]),
        helper.make_node("Neg", ["s"], ["out0"]),
    ]
    session = open_session(
        model_of(nodes, {"x": X}, {}), options(tmp_path / "profile"), OWN_PROVIDER
    )
    (ours,) = session.run(None, {"x": X})
    np.testing.assert_allclose(ours, -np.sin(np.exp(X)), rtol=1e-5, atol=1e-6)
    placed = on_cpu(Path(session.end_profiling()))
    assert placed == ["MemcpyFromHost", "MemcpyToHost", "Sin"]


def test_memory_of_the_environment_is_copied_both_ways(device: StubDevice) -> None:
    select_device("rocm")
    open_session(ABS, options(), OWN_PROVIDER)
    before = device.count("bytes used")
    # Larger than what is staged at a time.
    array = np.random.default_rng(5).random((3, 1 << 19), np.float32)
    values = [
        ort.OrtValue.ortvalue_from_shape_and_type(array.shape, np.float32, "gpu", 0, AMD)
        for _ in range(2)
    ]
    assert device.count("bytes used") - before == 2 * array.nbytes
    ort.copy_tensors([ort.OrtValue.ortvalue_from_numpy(array)], [values[0]])
    ort.copy_tensors([values[0]], [values[1]])
    back = np.zeros_like(array)
    ort.copy_tensors([values[1]], [ort.OrtValue.ortvalue_from_numpy(back)])
    np.testing.assert_array_equal(back, array)
    del values
    assert device.count("bytes used") == before


def test_a_step_waits_once_at_its_end_and_once_for_the_candidates(
    tmp_path: Path, device: StubDevice
) -> None:
    session = Session(prepare(tmp_path, "llama"), settings=gpu_settings(tmp_path / "home"))
    session.step(STEPS[2])
    before = device.count("synchronizations")
    session.step(STEPS[2])
    assert device.count("synchronizations") - before == 2


def test_a_step_as_large_as_one_before_allocates_nothing(
    tmp_path: Path, device: StubDevice
) -> None:
    session = Session(prepare(tmp_path, "llama"), settings=gpu_settings(tmp_path / "home"))
    before = device.count("allocations")
    for step in STEPS[1:]:
        session.step(step)
    assert device.count("allocations") == before


def test_each_session_has_a_stream_of_its_own(tmp_path: Path, device: StubDevice) -> None:
    folder, settings = prepare(tmp_path, "llama"), gpu_settings(tmp_path / "home")
    sessions = [Session(folder, settings=settings) for _ in range(2)]
    device.begin()
    for session in sessions:
        session.run(largest_step(8, 8, 1))
    assert len(device.streams) == 2
