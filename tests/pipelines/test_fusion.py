from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from pipelines.conversion.architectures import describe
from pipelines.conversion.convert import graph_of
from pipelines.conversion.fusion import fuse
from pipelines.conversion.graph import build, page_layout
from pipelines.validation.reference import ReferenceModel
from pipelines.validation.steps import one_row
from runtime.gguf import GGUFFile
from tests.models import write_tiny_llama


def kinds(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("biases", [False, True])
def test_a_fused_graph_means_what_the_plain_one_means(tmp_path: Path, biases: bool) -> None:
    file = GGUFFile.open(write_tiny_llama(tmp_path / "tiny.gguf", format="Q4_1", biases=biases))
    spec = describe(file)
    logits = []
    for model in (build(spec, file), graph_of(spec, file)):
        exact = ReferenceModel(model, file.paths, page_layout(spec), pages=16, page_size=4)
        logits.append(exact.run(one_row([1, 2, 3, 4, 5])))
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5, atol=1e-5)


def test_every_norm_goes_into_its_products(tmp_path: Path) -> None:
    file = GGUFFile.open(write_tiny_llama(tmp_path / "tiny.gguf", layers=3))
    plain, fused = build(describe(file), file), graph_of(describe(file), file)
    assert kinds(plain)["RMSNorm"] == 7
    assert kinds(fused)["NormQuantMatMul"] == 7
    assert {"RMSNorm", "GatedActivation"}.isdisjoint(kinds(fused))
    assert kinds(fused)["QuantMatMul"] == 6
    assert [value.name for value in fused.graph.output] == [v.name for v in plain.graph.output]


def test_a_norm_that_something_else_reads_stays(tmp_path: Path) -> None:
    file = GGUFFile.open(write_tiny_llama(tmp_path / "tiny.gguf", layers=1))
    model = build(describe(file), file)
    nodes = {node.name: node for node in model.graph.node}
    nodes["blk.0.attention"].input[0] = "blk.0.attn_norm"
    fuse(model)
    assert kinds(model)["RMSNorm"] == 1


def test_a_gate_that_something_else_reads_is_not_fused_away(tmp_path: Path) -> None:
    file = GGUFFile.open(write_tiny_llama(tmp_path / "tiny.gguf", layers=1))
    model = build(describe(file), file)
    nodes = {node.name: node for node in model.graph.node}
    nodes["blk.0.ffn_down"].input[0] = "blk.0.ffn_gate"
    fuse(model)
    assert kinds(model)["GatedActivation"] == 1
    assert kinds(model)["NormQuantMatMul"] == 3
