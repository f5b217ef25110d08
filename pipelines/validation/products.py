"""Products of the exact model: rows of a matrix are dequantized in blocks, on several threads.

So no matrix is ever whole in float32, which takes 2.2 GB for the output of a model of 7 B.
"""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from pipelines.conversion.graph import IR_VERSION, OPSET
from pipelines.conversion.nodes import operator_node
from pipelines.validation.outcome import CheckFailed
from runtime.ops.library import block_formats, library_path
from runtime.ops.reference import dequantize_rows
from runtime.ops.reference.blocks import Bytes, Float32
from runtime.ops.schema import DOMAIN, DOMAIN_VERSION

WEIGHTS_AT_ONCE = 1 << 19
"""Dequantized and multiplied at once by a thread, 2 MiB: below that a product is slower."""
COMPARED_ROWS = 4
"""Rows of each matrix that are compared with the definition of their format."""


class Products:
    """Multiplies with the rows of matrices in blocks. Its threads end with it; any may call it.

    A result does not depend on the number of threads.
    """

    def __init__(self, threads: int) -> None:
        self._dequantizer = Dequantizer()
        self._pool = ThreadPoolExecutor(threads)
        weakref.finalize(self, self._pool.shutdown, wait=False)

    def __call__(self, x: Float32, blocks: Bytes, block_format: str, columns: int) -> Float32:
        """float32 [M, columns], uint8 [N, row_bytes] -> float32 [M, N], as `product` defines it.

        Raises CheckFailed where rows are not decoded as the format is defined.
        """
        self._dequantizer.compare(blocks[:COMPARED_ROWS], block_format, columns)
        y = np.empty((len(x), len(blocks)), np.float32)
        some = max(1, WEIGHTS_AT_ONCE // columns)
        parts = [slice(at, at + some) for at in range(0, len(blocks), some)]

        def multiply(rows: slice) -> None:
            weights = self._dequantizer.rows(blocks[rows], block_format, columns)
            np.matmul(x, weights.T, out=y[:, rows])

        for _ in self._pool.map(multiply, parts):
            pass
        return y


class Dequantizer:
    """Dequantizes rows by the RowLookup operator, up to ten times as fast as NumPy.

    Tests compare the operator with the definition bit for bit, in every format. Any thread may use
    it.
    """

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._sessions: dict[tuple[str, int], ort.InferenceSession] = {}

    def rows(self, blocks: Bytes, block_format: str, columns: int) -> Float32:
        """Return float32 [N, columns] of uint8 [N, row_bytes]."""
        if block_format == "F32" or block_format not in block_formats():
            return dequantize_rows(blocks, block_format, columns)
        with self._making:
            key = (block_format, columns)
            if key not in self._sessions:
                self._sessions[key] = _lookup(*key)
            session = self._sessions[key]
        ids = np.arange(len(blocks), dtype=np.int32)
        found: Float32 = session.run(None, {"blocks": blocks, "ids": ids})[0]
        return found

    def compare(self, blocks: Bytes, block_format: str, columns: int) -> None:
        """Raise CheckFailed unless rows have the values that their format defines."""
        found = self.rows(blocks, block_format, columns)
        defined = dequantize_rows(blocks, block_format, columns)
        if not np.array_equal(found, defined, equal_nan=True):
            raise CheckFailed(f"rows in {block_format} are decoded to other values than defined")


def _lookup(block_format: str, columns: int) -> ort.InferenceSession:
    """Return a session of one RowLookup on one thread."""
    node = operator_node(
        "RowLookup",
        {"blocks": "blocks", "ids": "ids"},
        {"rows": "rows"},
        format=block_format,
        columns=columns,
    )
    graph = helper.make_graph(
        [node],
        "lookup",
        [
            helper.make_tensor_value_info("blocks", TensorProto.UINT8, ["N", "bytes"]),
            helper.make_tensor_value_info("ids", TensorProto.INT32, ["T"]),
        ],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["T", columns])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(library_path()))
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
