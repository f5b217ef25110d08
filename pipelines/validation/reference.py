"""The exact model: a graph evaluated with the NumPy definitions of its operators."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from pipelines.validation.products import Products
from runtime.interface import LOGITS, PAGE_POOL, POOLS, STATE_POOL, is_pool, pool_shape
from runtime.manifest import PageLayout
from runtime.ops.reference import DEFINITIONS
from runtime.ops.schema import DOMAIN, OPERATORS
from runtime.progress import Amount, uncounted
from runtime.step import StepInputs

Values = dict[str, NDArray[Any]]

MULTIPLIES = {
    name
    for name, definition in DEFINITIONS.items()
    if "multiply" in signature(definition).parameters
}
"""Operators that multiply rows with matrices, each row by itself."""


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

    Matrices are dequantized to float32 and multiplied in float32, so this is the exact model. Of a
    matrix some rows at a time are in memory, and values until the last operator that reads them.
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
        threads: int = 1,
        amount: Amount = uncounted,
    ) -> None:
        """Take a graph and the files that its external data lies in; the pools start as zeros.

        Pages of float32 show the arithmetic of the graph without the rounding of the cache. amount:
        is called with the bytes of weights that a step has multiplied.
        """
        self._evaluator = _Evaluator(model, weights, threads)
        self._amount = amount
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
        names; empty without it. A matrix is dequantized for both at the same time. Values that no
        later operator reads are removed from `beside`. The pools are kept for the next step.
        """
        known = feeds(inputs, self._pools)
        readers = Counter(name for node in self._evaluator.rt_nodes_ for name in node.input)
        weights = self._evaluator.rt_inits_
        sizes = [
            sum(weights[name].nbytes for name in node.input if name in weights)
            for node in self._evaluator.rt_nodes_
        ]
        done, total = 0, sum(sizes)
        for node, size in zip(self._evaluator.rt_nodes_, sizes, strict=True):
            others: Values = {}
            if beside is None:
                outputs = _run(node, weights, known)
            else:
                outputs, others = _run_both(node, weights, known, beside)
            yield node.onnx_node, outputs, others
            if size:
                done += size
                self._amount(done, total)
            known |= outputs
            for name in node.input:
                readers[name] -= 1
                if not readers[name]:
                    known.pop(name, None)
                    if beside is not None and not is_pool(name):
                        beside.pop(name, None)
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


def _run_both(
    node: OpRun, weights: Values, values: Values, beside: Values
) -> tuple[Values, Values]:
    """The outputs of one node for each of two sets of values."""
    if node.op_type not in MULTIPLIES:
        return _run(node, weights, values), _run(node, weights, beside)
    stacked = {
        name: np.concatenate([values[name], beside[name]]) for name in node.input if name in values
    }
    rows = len(values[node.input[0]])
    outputs = _run(node, weights, stacked)
    first = {name: value[:rows] for name, value in outputs.items()}
    return first, {name: value[rows:] for name, value in outputs.items()}


class _Evaluator(ReferenceEvaluator):
    """Reads external data from maps of the GGUF's files, where the tensor itself says."""

    def __init__(self, model: ModelProto, weights: Sequence[Path], threads: int) -> None:
        self._weights = {path.name: np.memmap(path, np.uint8, mode="r") for path in weights}
        super().__init__(model, new_ops=_operators(Products(threads)))

    def retrieve_external_data(self, tensor: TensorProto) -> NDArray[Any]:
        """A view on the map: uint8 blocks or a float32 vector."""
        place = {entry.key: entry.value for entry in tensor.external_data}
        start = int(place["offset"])
        stored = self._weights[place["location"]][start : start + int(place["length"])]
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.asarray(stored).view(kind).reshape(tuple(tensor.dims))


def _operators(multiply: Products) -> list[type[OpRun]]:
    """The operators of our domain, all of whose products are computed by `multiply`."""
    return [
        _operator(name, definition, {"multiply": multiply} if name in MULTIPLIES else {})
        for name, definition in DEFINITIONS.items()
    ]


def _operator(name: str, definition: Callable[..., Any], given: Mapping[str, Any]) -> type[OpRun]:
    """An operator of our domain, computed by a function of its inputs, attributes and `given`."""
    is_single = len(OPERATORS[name].outputs) == 1

    def run(self: OpRun, *inputs: Any, **attributes: Any) -> Any:
        outputs = definition(*inputs, **attributes, **given)
        return (outputs,) if is_single else outputs

    return type(name, (OpRun,), {"op_domain": DOMAIN, "_run": run})
