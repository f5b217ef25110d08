"""Faults to plant in a prepared model, as if it had been built so."""

import hashlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import onnx
from onnx import ModelProto, NodeProto

from pipelines import preparation
from pipelines.conversion.convert import convert
from pipelines.validation import CHECKS
from pipelines.validation.outcome import Outcome
from pipelines.validation.process import Order, Progress, carry_out
from pipelines.validation.subject import Subject
from runtime.manifest import GRAPH_NAME, Manifest
from runtime.settings import WeightsCopy
from runtime.source import Source


def plant(folder: Path, fault: Callable[[ModelProto], None]) -> None:
    """Change the graph of a prepared model, as if it had been built so."""
    model = onnx.load(folder / GRAPH_NAME, load_external_data=False)
    fault(model)
    graph = model.SerializeToString(deterministic=True)
    (folder / GRAPH_NAME).write_bytes(graph)
    manifest = Manifest.read(folder)
    sha256 = hashlib.sha256(graph).hexdigest()
    msgspec.structs.replace(manifest, graph_sha256=sha256).write(folder)


def node(model: ModelProto, name: str) -> NodeProto:
    nodes: dict[str, NodeProto] = {each.name: each for each in model.graph.node}
    return nodes[name]


def double_scale(model: ModelProto) -> None:
    """A scale that is wrong in one layer."""
    attributes = {each.name: each for each in node(model, "blk.1.attention").attribute}
    attributes["scale"].f *= 2.0


def convert_wrongly(
    source: Source, folder: Path, name: str, *, weights_copy: WeightsCopy = "auto"
) -> Manifest:
    """`convert` as it would be with a wrong scale in one layer."""
    convert(source, folder, name, weights_copy=weights_copy)
    plant(folder, double_scale)
    return Manifest.read(folder)


def killed_in_logits(order: Order, report: Callable[[Progress], None]) -> None:
    """The checks' child process, which is killed in one of them before it has a result."""

    def killed(subject: Subject) -> Outcome:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL cannot be survived")

    CHECKS["logits"] = replace(CHECKS["logits"], run=killed)
    carry_out(order, report)


def crashing_at_its_end(order: Order, report: Callable[[Progress], None]) -> None:
    """As by a segmentation fault while ONNX Runtime is torn down."""
    carry_out(order, report)
    os._exit(139)


def killed_while_preparing(order: preparation.Order, report: object) -> preparation.Prepared:
    """The child process of a preparation, which is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL cannot be survived")
