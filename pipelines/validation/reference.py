"""The exact model: a graph evaluated with the NumPy definitions of its operators."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from runtime.interface import LOGITS, PAGE_POOL, POOLS, STATE_POOL, pool_shape
from runtime.manifest import PageLayout
from runtime.ops.reference import DEFINITIONS, dequantize_rows
from runtime.ops.schema import DOMAIN, OPERATORS
from runtime.step import StepInputs

KEPT_WEIGHTS_BYTES = 2 << 30
"""Dequantized weights that are kept between steps. Beyond these each step dequantizes one matrix
after the other anew, so that a model of any size is evaluated in so much memory and some more."""

Values = dict[str, NDArray[Any]]


def feeds(inputs: StepInputs, pools: Values) -> Values:
    """The inputs of the graph by name."""
    return {**inputs.arrays(states=STATE_POOL in pools), **pools}


def empty_pools(layout: PageLayout, pages: int, page_size: int) -> Values:
    """Pools of zeros by the names of the graph's inputs.

    float16 [layers, pages, 2, kv_heads, page_size, head_dim] and, in a model with states, float32
    [slots, values of a state]: as many slots as pages.
    """
    pools: Values = {PAGE_POOL: np.zeros(pool_shape(layout, pages, page_size), np.float16)}
    if layout.state_values:
        pools[STATE_POOL] = np.zeros((pages, layout.state_values), np.float32)
    return pools


class ReferenceModel:
    """A graph, its weights and its pools in NumPy. Owned by one thread.

    Matrices are dequantized to float32 and multiplied in float32, so this is the exact model. It
    holds up to KEPT_WEIGHTS_BYTES of matrices until it is dropped, and values only until the last
    operator that reads them.
    """

    def __init__(
        self,
        model: ModelProto,
        weights: Sequence[Path],
        layout: PageLayout,
        *,
        pages: int,
        page_size: int,
        pool_type: type[np.floating[Any]] = np.float16,
    ) -> None:
        """Take a graph and the files that its external data lies in; the pools start as zeros.

        Pages of float32 show the arithmetic of the graph without the rounding of the cache.
        """
        self._evaluator = _Evaluator(model, weights)
        self._pools = empty_pools(layout, pages, page_size)
        self._pools[PAGE_POOL] = self._pools[PAGE_POOL].astype(pool_type)

    def run(self, inputs: StepInputs) -> NDArray[np.float32]:
        """Compute one step: logits float32 [R, V]. The pools are kept for the next."""
        logits: NDArray[np.float32] | None = None
        for _, outputs, _ in self.walk(inputs):
            logits = outputs.get(LOGITS, logits)
        assert logits is not None
        return logits

    @property
    def pool_shape(self) -> tuple[int, int]:
        """Pages of the pool, and tokens a page."""
        shape = self._pools[PAGE_POOL].shape
        return shape[1], shape[4]

    def walk(
        self, inputs: StepInputs, *, beside: Values | None = None
    ) -> Iterator[tuple[NodeProto, Values, Values]]:
        """Compute one step and give each node, in order, with its outputs.

        The third are its outputs for the inputs that `beside` has, values of another run by their
        names; empty without it. The pools are kept for the next step.
        """
        known = feeds(inputs, self._pools)
        readers = Counter(name for node in self._evaluator.rt_nodes_ for name in node.input)
        weights = self._evaluator.rt_inits_
        for node in self._evaluator.rt_nodes_:
            outputs = _run(node, weights, known)
            yield node.onnx_node, outputs, {} if beside is None else _run(node, weights, beside)
            known |= outputs
            for name in node.input:
                readers[name] -= 1
                if not readers[name]:
                    known.pop(name, None)
            self._pools |= {
                pool: outputs[written] for pool, written in POOLS.items() if written in outputs
            }


def _run(node: OpRun, weights: Values, values: Values) -> Values:
    """The outputs of one node by name; an input or output without a name is one left out."""
    inputs = (
        (values[name] if name in values else weights[name]) if name else None for name in node.input
    )
    outputs: Any = node.run(*inputs)  # type: ignore[no-untyped-call]
    return {name: y for name, y in zip(node.output, outputs, strict=False) if name}


class _Evaluator(ReferenceEvaluator):
    """Reads external data from maps of the GGUF's files, where the tensor itself says."""

    def __init__(self, model: ModelProto, weights: Sequence[Path]) -> None:
        self._weights = {path.name: np.memmap(path, np.uint8, mode="r") for path in weights}
        super().__init__(model, new_ops=_operators())

    def retrieve_external_data(self, tensor: TensorProto) -> NDArray[Any]:
        """A view on the map: uint8 blocks or a float32 vector."""
        place = {entry.key: entry.value for entry in tensor.external_data}
        start = int(place["offset"])
        stored = self._weights[place["location"]][start : start + int(place["length"])]
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.asarray(stored).view(kind).reshape(tuple(tensor.dims))


class Dequantized(NamedTuple):
    """Weights and their blocks, whose address stays theirs for as long as this is kept."""

    blocks: NDArray[np.uint8]
    values: NDArray[np.float32]


def _operators() -> list[type[OpRun]]:
    """The operators of our domain; the weights they dequantize live as long as these classes."""
    kept: dict[tuple[int, int, str], Dequantized] = {}
    latest: dict[tuple[int, int, str], Dequantized] = {}
    """One matrix that is not kept: `walk` multiplies it twice."""

    def weights(blocks: NDArray[np.uint8], format: str, columns: int) -> NDArray[np.float32]:
        key = (blocks.ctypes.data, len(blocks), format)
        for known in (kept, latest):
            if key in known:
                return known[key].values
        latest.clear()
        values = dequantize_rows(blocks, format, columns)
        size = sum(each.values.nbytes for each in kept.values()) + values.nbytes
        (kept if size <= KEPT_WEIGHTS_BYTES else latest)[key] = Dequantized(blocks, values)
        return values

    def quant_matmul(
        x: Any, blocks: Any, bias: Any = None, *, format: str, columns: int, rows: int = 0
    ) -> Any:
        """The operator's definition in float32, with weights that are kept."""
        y = x @ weights(blocks, format, columns)[: rows or None].T
        return y if bias is None else y + bias

    found = []
    for name, definition in {**DEFINITIONS, "QuantMatMul": quant_matmul}.items():
        takes_weights = "weights" in signature(definition).parameters
        found.append(_operator(name, definition, {"weights": weights} if takes_weights else {}))
    return found


def _operator(name: str, definition: Callable[..., Any], given: Mapping[str, Any]) -> type[OpRun]:
    """An operator of our domain, computed by a function of its inputs, attributes and `given`."""
    is_single = len(OPERATORS[name].outputs) == 1

    def run(self: OpRun, *inputs: Any, **attributes: Any) -> Any:
        outputs = definition(*inputs, **attributes, **given)
        return (outputs,) if is_single else outputs

    return type(name, (OpRun,), {"op_domain": DOMAIN, "_run": run})
