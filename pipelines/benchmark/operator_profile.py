"""Where a step's time goes, by operator, and how near each is to the machine's limits."""

import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import NodeProto, helper

from pipelines.benchmark.calibration import float_operations_per_second, read_bytes_per_second
from pipelines.benchmark.results import Machine
from runtime.gguf import GGUFFile, TensorInfo
from runtime.manifest import GRAPH_NAME, Manifest
from runtime.session import Session
from runtime.settings import Settings
from runtime.step import StepInputs

WARM_RUNS = 2
LAYER = re.compile(r"^blk\.\d+\.")
KERNEL = "_kernel_time"
HALF_BYTES = 2


class Shape(msgspec.Struct, frozen=True):
    """A step of `rows` requests, each with `context` tokens before and `new` to compute."""

    title: str
    rows: int
    new: int
    context: int
    runs: int
    """How often it is measured."""

    @property
    def tokens(self) -> int:
        """Tokens that the step computes."""
        return self.rows * self.new

    def inputs(self, page_size: int, vocabulary_size: int) -> StepInputs:
        """Return its arrays, with separate pages for each request."""
        pages = -(-(self.context + self.new) // page_size)
        drawn = np.random.default_rng(0).integers(0, vocabulary_size, self.tokens)
        starts = np.arange(self.rows + 1, dtype=np.int32) * self.new
        own = np.arange(self.context, self.context + self.new, dtype=np.int32)
        return StepInputs(
            token_ids=drawn.astype(np.int32),
            positions=np.tile(own, self.rows),
            row_starts=starts,
            page_table=np.arange(self.rows * pages, dtype=np.int32).reshape(self.rows, pages),
            logit_rows=starts[1:] - 1,
        )


ATTENTION = "Attention"
"""In the names of the operators that read keys and values."""
SHAPES = (
    Shape("decode, 1 stream at 16 tokens", rows=1, new=1, context=16, runs=50),
    Shape("decode, 1 stream at 512 tokens", rows=1, new=1, context=512, runs=50),
    Shape("decode, 32 streams at 192 tokens", rows=32, new=1, context=192, runs=20),
    Shape("prefill of 512 tokens", rows=1, new=512, context=0, runs=6),
)


class OperatorTime(msgspec.Struct, frozen=True):
    """All nodes of one kind in one step: the same operator and, for matrices, the same place."""

    operator: str
    calls: int
    milliseconds: float
    """Sum over the nodes of each one's shortest run."""
    bytes_read: int
    """Weights as stored in the GGUF, keys and values; activations stay in caches."""
    operations: int
    """Multiplications and additions of matrix products and attention."""


class StepProfile(msgspec.Struct, frozen=True):
    """One shape's operators, the slowest first."""

    shape: Shape
    milliseconds: float
    """The shortest of whole steps in a session without a profile."""
    operators: tuple[OperatorTime, ...]
    read_bytes_per_second: float
    """The machine's read bandwidth, measured just before."""
    float_operations_per_second: float

    @property
    def weight_bytes(self) -> int:
        """Weights that a step reads, embeddings included."""
        return sum(each.bytes_read for each in self.operators if ATTENTION not in each.operator)


class ModelProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The profile of a model, and the machine's limits at each shape."""

    model: str
    started_at: str
    """ISO 8601, UTC."""
    threads: int
    machine: Machine
    steps: tuple[StepProfile, ...]


def profile_model(
    folder: Path,
    settings: Settings,
    progress: Callable[[str], None],
    shapes: Sequence[Shape] = SHAPES,
) -> ModelProfile:
    """Run each shape on the CPU with and without ONNX Runtime's profile.

    Raises what a Session raises.
    """
    settings = msgspec.structs.replace(settings, device="cpu")
    manifest = Manifest.read(folder)
    threads = settings.thread_count
    nodes = _Nodes(folder, manifest)
    steps = []
    for shape in shapes:
        progress(f"Profiling {shape.title}")
        bandwidth, rate = read_bytes_per_second(threads), float_operations_per_second(threads)
        inputs = shape.inputs(settings.page_size, manifest.vocabulary_size)
        milliseconds = _plain_run(Session(folder, settings=settings), inputs, shape.runs)
        times = _node_times(folder, settings, inputs, shape.runs)
        operators = nodes.by_operator(times, shape)
        steps.append(StepProfile(shape, milliseconds, operators, bandwidth, rate))
    return ModelProfile(
        model=manifest.name,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        threads=threads,
        machine=Machine.here(),
        steps=tuple(steps),
    )


def markdown(profile: ModelProfile) -> str:
    """A table for each step in Markdown, with each operator's share of the machine's limits."""
    return "\n".join(_step_markdown(step, profile.threads) for step in profile.steps)


def node_milliseconds(events: Iterable[Mapping[str, object]], runs: int) -> dict[str, float]:
    """The shortest of the last `runs` runs of each node, from the events of a profile.

    Other programs can only add to a node's time, so the shortest is the nearest to its own.
    """
    durations: dict[str, list[float]] = defaultdict(list)
    for event in events:
        name = str(event["name"])
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            durations[name.removesuffix(KERNEL)].append(float(str(event["dur"])) / 1e3)
    return {name: min(values[-runs:]) for name, values in durations.items()}


def _plain_run(session: Session, inputs: StepInputs, runs: int) -> float:
    times = []
    for _ in range(WARM_RUNS + runs):
        began = time.perf_counter()
        session.run(inputs)
        times.append(time.perf_counter() - began)
    return 1e3 * min(times[WARM_RUNS:])


def _node_times(
    folder: Path, settings: Settings, inputs: StepInputs, runs: int
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        session = Session(folder, settings=settings, profile_prefix=Path(place) / "profile")
        for _ in range(WARM_RUNS + runs):
            session.run(inputs)
        events = msgspec.json.decode(session.end_profiling().read_bytes())
    return node_milliseconds(events, runs)


class _Nodes:
    """Data read and operations computed by each node of a graph. Immutable."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        graph = onnx.load(str(folder / GRAPH_NAME), load_external_data=False).graph
        self._nodes = {node.name: node for node in graph.node}
        self._tensors = GGUFFile.open(*manifest.weights_paths(folder)).tensors
        self._manifest = manifest

    def by_operator(self, times: Mapping[str, float], shape: Shape) -> tuple[OperatorTime, ...]:
        """Times, bytes and operations, summed over the nodes of each type."""
        groups: dict[str, list[str]] = defaultdict(list)
        for name in times:
            groups[self._group(name)].append(name)
        found = []
        for operator, names in groups.items():
            work = [self._work(self._nodes[name], shape) for name in names if name in self._nodes]
            found.append(
                OperatorTime(
                    operator=operator,
                    calls=len(names),
                    milliseconds=sum(times[name] for name in names),
                    bytes_read=sum(read for read, _ in work),
                    operations=sum(operations for _, operations in work),
                )
            )
        return tuple(sorted(found, key=lambda each: -each.milliseconds))

    def _group(self, name: str) -> str:
        """The operator, and for matrices their place in the layer; nodes of ONNX Runtime's own."""
        node = self._nodes.get(name)
        if node is None:
            return "others"
        place = LAYER.sub("", name)
        is_product = self._matrices(node) and "Lookup" not in node.op_type
        return f"{node.op_type} {place}" if is_product else node.op_type

    def _matrices(self, node: NodeProto) -> list[TensorInfo]:
        """The tensors of the GGUF that a node takes, vectors aside."""
        found = [self._tensors[name] for name in node.input if name in self._tensors]
        return [tensor for tensor in found if len(tensor.shape) > 1]

    def _work(self, node: NodeProto, shape: Shape) -> tuple[int, int]:
        """Bytes read and operations of one node."""
        matrices = self._matrices(node)
        if ATTENTION in node.op_type:
            return self._attention(node, shape)
        if "Lookup" in node.op_type:
            return sum(shape.tokens * matrix.row_bytes for matrix in matrices), 0
        read = operations = 0
        for matrix in matrices:
            # Only the rows whose logits are needed are multiplied with the output matrix.
            is_output = matrix.rows == self._manifest.vocabulary_size
            read += matrix.size
            operations += (
                2 * matrix.rows * matrix.columns * (shape.rows if is_output else shape.tokens)
            )
        return read, operations

    def _attention(self, node: NodeProto, shape: Shape) -> tuple[int, int]:
        given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        layout = self._manifest.page_layout
        last = shape.context + shape.new
        seen = sum(range(shape.context + 1, last + 1))
        read = shape.rows * last * 2 * layout.kv_heads * layout.head_dim * HALF_BYTES
        return read, 4 * int(given["heads"]) * layout.head_dim * shape.rows * seen


def _step_markdown(step: StepProfile, threads: int) -> str:
    inside = sum(each.milliseconds for each in step.operators)
    bandwidth, rate = step.read_bytes_per_second, step.float_operations_per_second
    lines = [
        f"### {step.shape.title}: {step.milliseconds:.2f} ms, "
        f"{step.shape.tokens * 1e3 / step.milliseconds:,.0f} tokens/s",
        "",
        "| operator | calls | ms | share | MB read | GB/s | of read bandwidth | GOP/s | "
        "of float32 rate |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in step.operators:
        seconds = each.milliseconds / 1e3
        read, operations = each.bytes_read / seconds, each.operations / seconds
        cells = (
            each.operator,
            str(each.calls),
            f"{each.milliseconds:.2f}",
            f"{each.milliseconds / inside:.0%}",
            f"{each.bytes_read / 1e6:.1f}" if each.bytes_read else "",
            f"{read / 1e9:.1f}" if each.bytes_read else "",
            f"{read / bandwidth:.0%}" if each.bytes_read else "",
            f"{operations / 1e9:.0f}" if each.operations else "",
            f"{operations / rate:.0%}" if each.operations else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    weights = step.weight_bytes * 1e3 / step.milliseconds
    lines += [
        "",
        f"The whole step reads {step.weight_bytes / 1e6:.1f} MB of weights: "
        f"{weights / 1e9:.1f} GB/s, {weights / bandwidth:.0%} of the {bandwidth / 1e9:.1f} GB/s "
        f"that {threads} threads read just before. Float32 matrices they multiplied at "
        f"{rate / 1e9:.0f} GFLOP/s.",
    ]
    return "\n".join(lines) + "\n"
