"""The machine's limits, measured with the model's number of threads."""

import threading
import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

READ_BYTES = 256 * 2**20
"""More than any last-level cache holds."""
ROUNDS = 40
MATRIX = (256, 1024, 1024)
"""Rows, columns and inner length of the multiplication that is timed."""


def read_bytes_per_second(threads: int) -> float:
    """Memory read by this many threads at once: the best of many short rounds over a large array.

    Each finds the largest byte: NumPy does that with one wide instruction per load.
    """
    parts = np.array_split(np.ones(READ_BYTES, np.uint8), threads)

    def once() -> None:
        readers = [threading.Thread(target=part.max) for part in parts]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()

    return READ_BYTES / _best_seconds(once)


def float_operations_per_second(threads: int) -> float:
    """Float32 multiplications and additions of a matrix product in ONNX Runtime's own kernel."""
    rows, columns, inner = MATRIX
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [rows, inner]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [inner, columns]),
        ],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [rows, columns])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {"a": np.ones((rows, inner), np.float32), "b": np.ones((inner, columns), np.float32)}
    return 2.0 * rows * columns * inner / _best_seconds(lambda: session.run(None, inputs))


def _best_seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)
