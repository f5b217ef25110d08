"""The graph of a llama computes the llama: against a forward pass written apart from it."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.conversion.architectures import describe
from pipelines.conversion.graph import OPSET, build, page_layout
from pipelines.validation.reference import ReferenceModel
from runtime.gguf import GGUFFile
from runtime.interface import OUTPUTS
from runtime.ops.schema import DOMAIN
from runtime.step import StepInputs
from tests.models import write_tiny_llama
from tests.pipelines.llama import llama_logits

TOKENS = [1, 200, 17, 17, 90, 3, 255, 42, 8, 120, 77]
PAGE_SIZE = 4
PAGES = 5


def one_row(tokens: list[int], start: int = 0) -> StepInputs:
    """A step over tokens at `start` of one sequence, whose pages lie in the pool backwards."""
    return StepInputs(
        token_ids=np.array(tokens, np.int32),
        positions=np.arange(start, start + len(tokens), dtype=np.int32),
        row_starts=np.array([0, len(tokens)], np.int32),
        page_table=np.arange(PAGES, dtype=np.int32)[None, ::-1],
        logit_rows=np.arange(len(tokens), dtype=np.int32),
    )


def reference_model(path: Path) -> ReferenceModel:
    file = GGUFFile.open(path)
    spec = describe(file)
    return ReferenceModel(
        build(spec, file), [path], page_layout(spec), pages=PAGES, page_size=PAGE_SIZE
    )


VARIANTS = [
    *({"format": name} for name in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0")),
    {"embedding_format": "Q8_0"},
    {"tied": False},
    {"biases": True},
    {"rope_freqs": True},
    {"rope_scaling": 4.0},
    {"heads": 4, "kv_heads": 4},
    {"heads": 4, "kv_heads": 1},
    {"head_dim": 32},
    {"metadata": {"llama.rope.dimension_count": 8}},
    {"layers": 1},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_graph_computes_the_llama(tmp_path: Path, variant: dict) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", **variant)
    logits = reference_model(path).run(one_row(TOKENS))
    expected = llama_logits(GGUFFile.open(path), TOKENS)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * expected.std())


def test_cached_steps_continue_a_prefill(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    whole = reference_model(path).run(one_row(TOKENS))
    model = reference_model(path)
    parts = [model.run(one_row(TOKENS[:6])), model.run(one_row(TOKENS[6:7], 6))]
    parts.append(model.run(one_row(TOKENS[7:], 7)))
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-4)


def test_graph_is_small_and_points_into_the_gguf(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", format="Q8_0")
    file = GGUFFile.open(path)
    model = build(describe(file), file)
    assert len(model.SerializeToString()) < 20_000
    external = {tensor.name: tensor for tensor in model.graph.initializer if tensor.external_data}
    assert external.keys() == file.tensors.keys()
    for name, tensor in external.items():
        place = {entry.key: entry.value for entry in tensor.external_data}
        info = file.tensors[name]
        assert place == {
            "location": "tiny.gguf",
            "offset": str(info.offset),
            "length": str(info.size),
        }


def test_graph_declares_its_operators_domain(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    file = GGUFFile.open(path)
    model = build(describe(file), file)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET, DOMAIN: 1}
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantMatMul") == 2 * 7 + 1
    assert [value.name for value in model.graph.output] == list(OUTPUTS)
