"""Sound models pass every check; a planted fault fails the check that names its place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from pipelines.conversion.convert import convert
from pipelines.validation import CHECKS, process, products, validate, validate_in_child
from pipelines.validation.outcome import CheckFailed
from pipelines.validation.products import Dequantizer, Products
from pipelines.validation.subject import Subject
from runtime.errors import PreparationError, UnsupportedModel
from runtime.gguf import GGUFFile
from runtime.manifest import GRAPH_NAME, CheckResult, Manifest
from runtime.ops.reference.blocks import Bytes, Float32, product
from runtime.packed_weights import packed_weights
from runtime.settings import Settings
from runtime.source import Source
from tests.block_formats import (
    INTEGER_FORMATS,
    PLAIN_FORMATS,
    raw_weights,
    weights,
    whole_blocks,
)
from tests.models import sentencepiece_vocabulary, write_tiny_llama
from tests.pipelines import faults
from tests.pipelines.faults import double_scale, node, plant
from tests.tiny_encoders import TINY_ENCODERS
from tests.tiny_models import TINY_MODELS, write_tiny_model

HERE = [name for name in CHECKS if name != "served"]
"""The checks that start no server, which takes a second and a half."""


def converted(folder: Path, **variant: object) -> Path:
    path = write_tiny_llama(folder / "tiny.gguf", **variant)  # type: ignore[arg-type]
    prepared = folder / "prepared"
    prepared.mkdir()
    convert(Source(path), prepared, "tiny")
    return prepared


def failure(results: tuple[CheckResult, ...]) -> tuple[str, str]:
    assert [result.passed for result in results[:-1]] == [True] * (len(results) - 1)
    assert not results[-1].passed
    return results[-1].name, results[-1].summary


@pytest.mark.parametrize(
    "variant",
    [
        *(
            {
                "format": name,
                "embedding": whole_blocks(name, 64),
                "feed_forward": whole_blocks(name, 96),
            }
            for name in PLAIN_FORMATS + INTEGER_FORMATS
        ),
        {"biases": True, "rope_freqs": True, "tied": False, "head_dim": 32, "layers": 3},
        {"vocabulary": sentencepiece_vocabulary()},
        {"context": 16},
    ],
    ids=lambda variant: str(variant.get("format", ",".join(variant))),
)
def test_sound_models_pass(tmp_path: Path, settings: Settings, variant: dict) -> None:
    results = validate(converted(tmp_path, **variant), settings, names=HERE)
    assert [(result.name, result.passed) for result in results] == [(name, True) for name in HERE]


@pytest.mark.parametrize("name", ["bert", "modern-bert", "gemma-embedding", "qwen3-reranker"])
def test_sound_models_that_pool_pass(tmp_path: Path, settings: Settings, name: str) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    tiny = replace(TINY_ENCODERS[name], format="Q8_0", formats={"cls": "F32", "output": "F32"})
    convert(Source(write_tiny_model(tmp_path / "tiny.gguf", tiny)), prepared, "tiny")
    results = validate(prepared, settings, names=HERE)
    assert {result.name: result.summary for result in results if not result.passed} == {}
    assert len(results) == len(HERE)


@pytest.mark.parametrize(
    "name",
    [
        "gemma3",
        "phi3",
        "cohere2",
        "hunyuan-dense",
        "gpt-oss",
        "gpt2",
        "gemma4-e2b",
        "bloom",
        "llama4",
    ],
)
def test_sound_models_of_other_architectures_pass(
    tmp_path: Path, settings: Settings, name: str
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", replace(TINY_MODELS[name], format="Q4_1"))
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    convert(Source(path), prepared, "tiny")
    results = validate(prepared, settings, names=HERE)
    assert [(result.name, result.passed) for result in results] == [(name, True) for name in HERE]


def test_exact_formats_are_computed_exactly(tmp_path: Path, settings: Settings) -> None:
    logits = validate(converted(tmp_path, format="F32"), settings, names=HERE)[3]
    assert logits.figures["prefill_divergence"] < 1e-5
    assert logits.figures["cached_divergence"] < 1e-5
    assert logits.figures["operator_error"] < 1e-4


@pytest.mark.parametrize("block_format", ["F32", "BF16", "Q4_1", "Q6_K"])
def test_products_in_blocks_of_rows_are_the_definition(
    monkeypatch: pytest.MonkeyPatch, block_format: str
) -> None:
    """Rows that are no whole number of blocks, of which seven are multiplied at a time."""
    monkeypatch.setattr(products, "WEIGHTS_AT_ONCE", 7 * 256)
    random = np.random.default_rng(0)
    blocks = raw_weights(random, block_format, 45, 256)
    if block_format in PLAIN_FORMATS:
        blocks = weights(random, block_format, 45, 256)
    x = random.standard_normal((5, 256), np.float32)
    expected = product(x, blocks, block_format, 256)
    found = [Products(threads)(x, blocks, block_format, 256) for threads in (1, 3)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-3 * np.abs(expected).max())


def test_no_matrix_of_a_model_is_whole_in_memory(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    dequantize = Dequantizer.rows

    def noted(self: Dequantizer, blocks: Bytes, block_format: str, columns: int) -> Float32:
        counts.append(len(blocks))
        return dequantize(self, blocks, block_format, columns)

    monkeypatch.setattr(products, "WEIGHTS_AT_ONCE", 16 * 64)
    monkeypatch.setattr(Dequantizer, "rows", noted)
    results = validate(converted(tmp_path, layers=3, embedding=64), settings, names=HERE)
    assert all(result.passed for result in results)
    assert len(results[3].series["layer_error"]) == 3
    assert max(counts) == 16


def test_rows_that_are_decoded_wrongly_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator of another format, on blocks of the same size."""
    blocks = raw_weights(np.random.default_rng(0), "Q4_0", 2, 64)
    dequantizer = Dequantizer()
    dequantizer.compare(blocks, "Q4_0", 64)
    rows = Dequantizer.rows
    monkeypatch.setattr(
        Dequantizer, "rows", lambda self, blocks, _, columns: rows(self, blocks, "IQ4_NL", columns)
    )
    with pytest.raises(CheckFailed, match="rows in Q4_0 are decoded to other values"):
        dequantizer.compare(blocks, "Q4_0", 64)


def test_the_texts_are_compared_position_by_position(tmp_path: Path, settings: Settings) -> None:
    results = {each.name: each for each in validate(converted(tmp_path), settings, names=HERE)}
    perplexity = results["perplexity"]
    assert perplexity.figures["tokens"] == 256
    assert len(perplexity.series["passage_divergence"]) == 256
    assert perplexity.figures["exact_perplexity"] > 1
    assert results["determinism"].figures["ways"] == 4


def test_a_server_of_the_model_is_asked(tmp_path: Path, settings: Settings) -> None:
    results = validate(converted(tmp_path), settings)
    assert [(result.name, result.passed) for result in results] == [(name, True) for name in CHECKS]
    assert results[-1].name == "served"


@pytest.mark.parametrize("context", [2, 3, 9])
def test_models_of_a_short_context_are_asked_for_what_fits(
    tmp_path: Path, settings: Settings, context: int
) -> None:
    results = validate(converted(tmp_path, context=context), settings)
    assert [(result.name, result.passed) for result in results] == [(name, True) for name in CHECKS]


def test_a_context_without_a_place_for_an_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="context_length is 1, which has no place"):
        converted(tmp_path, context=1)


@pytest.mark.sample
def test_the_sample_model_passes_every_check(
    sample_model: Path, tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "prepared"
    folder.mkdir()
    convert(Source(sample_model), folder, "sample")
    results = validate_in_child(folder, settings, lambda step: None)
    assert [(result.name, result.passed) for result in results] == [(name, True) for name in CHECKS]
    figures = {result.name: result.figures for result in results}
    assert figures["logits"]["prefill_divergence"] < 0.003
    assert figures["perplexity"]["exact_perplexity"] == pytest.approx(25.25, abs=0.01)
    assert figures["perplexity"]["perplexity"] == pytest.approx(25.25, rel=0.01)


@pytest.mark.parametrize(
    ("tensor", "step"),
    [("blk.1.ffn_down", "blk.1.ffn_down"), ("blk.0.attn_k", "blk.0.attn_q")],
)
def test_one_wrong_scale_in_a_tensor_is_named_with_its_row(
    tmp_path: Path, settings: Settings, tensor: str, step: str
) -> None:
    """The packed copy is what is multiplied: one block in it has another scale than in the GGUF."""
    folder = converted(tmp_path, format="Q4_0", embedding=128, feed_forward=256)
    weights = Manifest.read(folder).weights_path(folder)
    info = GGUFFile.open(weights).tensors[f"{tensor}.weight"]
    damaged = weights.with_name("damaged.gguf")
    content = bytearray(weights.read_bytes())
    at = info.offset + 3 * info.row_bytes  # the first block of row 3 begins with its scale
    scale = np.frombuffer(content, np.float16, 1, at) * np.float16(-4)
    content[at : at + 2] = scale.tobytes()
    damaged.write_bytes(content)
    sha256 = Manifest.read(folder).weights.sha256
    packed_weights(GGUFFile.open(damaged), sha256, settings.packed_folder)
    name, summary = failure(validate(folder, settings))
    assert name == "logits"
    assert f"row 3 of {step} " in summary
    assert f"{tensor}.weight in Q4_0" in summary


def test_an_edited_graph_is_noticed(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path)
    graph = folder / GRAPH_NAME
    model = onnx.load(graph, load_external_data=False)
    model.producer_name = "someone else"
    graph.write_bytes(model.SerializeToString())
    name, summary = failure(validate(folder, settings))
    assert name == "structure"
    assert "not the one that was written" in summary


def test_weights_of_another_layer_fail_structure(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path)

    def swap(model: ModelProto) -> None:
        tensors = {each.name: each for each in model.graph.initializer}
        first, second = tensors["blk.0.attn_q.weight"], tensors["blk.1.attn_q.weight"]
        first.external_data[1].value = second.external_data[1].value

    plant(folder, swap)
    assert failure(validate(folder, settings))[0] == "structure"
    assert "blk.0.attn_q.weight" in failure(validate(folder, settings))[1]


def test_an_unread_tensor_fails_structure(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path, biases=True)

    def forget(model: ModelProto) -> None:
        query = node(model, "blk.1.attn_q")
        bias = query.input[4]
        query.input[4] = ""
        kept = [each for each in model.graph.initializer if each.name != bias]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)

    plant(folder, forget)
    name, summary = failure(validate(folder, settings))
    assert (name, "blk.1.attn_q.bias" in summary) == ("structure", True)


def test_a_wrong_block_format_fails_structure(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path, format="Q4_0")

    def misread(model: ModelProto) -> None:
        attributes = {each.name: each for each in node(model, "blk.0.ffn_act").attribute}
        attributes["formats"].s = b"Q4_0 Q4_1"

    plant(folder, misread)
    name, summary = failure(validate(folder, settings))
    assert (name, "blk.0.ffn_up" in summary) == ("structure", True)


def test_an_unknown_operator_fails_structure(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path)

    def rename(model: ModelProto) -> None:
        node(model, "blk.0.ffn_act").op_type = "NoSuchOperator"

    plant(folder, rename)
    name, summary = failure(validate(folder, settings))
    assert (name, "NoSuchOperator" in summary) == ("structure", True)


@pytest.mark.parametrize("attribute", ["head_dim", "layer", "scale"])
def test_an_operator_without_an_attribute_fails_structure(
    tmp_path: Path, settings: Settings, attribute: str
) -> None:
    folder = converted(tmp_path)

    def forget(model: ModelProto) -> None:
        attributes = node(model, "blk.1.attention").attribute
        attributes.remove(next(each for each in attributes if each.name == attribute))

    plant(folder, forget)
    assert failure(validate(folder, settings)) == (
        "structure",
        f"blk.1.attention: PagedAttention needs the attribute {attribute}",
    )


def test_an_operator_that_refuses_its_attributes_fails_the_session(
    tmp_path: Path, settings: Settings
) -> None:
    folder = converted(tmp_path)

    def misshape(model: ModelProto) -> None:
        heads = next(x for x in node(model, "blk.0.attention").attribute if x.name == "heads")
        heads.i += 1

    plant(folder, misshape)
    name, summary = failure(validate(folder, settings))
    assert (name, "heads 5 are not a multiple" in summary) == ("session", True)


def test_a_wrong_scale_fails_logits_and_is_named(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path)

    plant(folder, double_scale)
    name, summary = failure(validate(folder, settings))
    assert (name, "blk.1.attention" in summary) == ("logits", True)


def test_mixed_up_inputs_fail_logits_and_are_named(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path)

    def swap(model: ModelProto) -> None:
        gated = node(model, "blk.0.ffn_act")
        gated.input[3], gated.input[5] = gated.input[5], gated.input[3]

    plant(folder, swap)
    name, summary = failure(validate(folder, settings))
    assert (name, "blk.0.ffn_act" in summary) == ("logits", True)


def test_weights_that_are_no_numbers_fail_logits_in_a_sentence(
    tmp_path: Path, settings: Settings
) -> None:
    """The embedding of the prompt's sixth token, which the check of a session does not read."""
    sixth = Subject(converted(tmp_path), settings).prompt[5]
    path = write_tiny_llama(tmp_path / "nan.gguf", format="F32", tied=False)
    info = GGUFFile.open(path).tensors["token_embd.weight"]
    with path.open("r+b") as file:
        file.seek(info.offset + sixth * info.row_bytes)
        file.write(np.float32("nan").tobytes())
    folder = tmp_path / "of-no-numbers"
    folder.mkdir()
    convert(Source(path), folder, "nan")
    name, summary = failure(validate_in_child(folder, settings, lambda step: None))
    assert name == "logits"
    assert "logits after token 6 of the prompt are not finite" in summary


def test_a_result_holds_no_number_that_json_lacks() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a of the logits check is not finite"):
            CheckResult(name="logits", passed=False, summary="", figures={"a": value})
        with pytest.raises(ValueError, match="a of the logits check is not finite"):
            CheckResult(name="logits", passed=False, summary="", series={"a": (1.0, value)})


@pytest.mark.parametrize("passed", [True, False])
def test_a_process_that_dies_after_its_last_check_has_not_validated_anything(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, passed: bool
) -> None:
    folder = converted(tmp_path)
    if not passed:
        plant(folder, double_scale)
    monkeypatch.setattr(process, "FUNCTION", f"{faults.__name__}:crashing_at_its_end")
    if passed:
        with pytest.raises(PreparationError, match=r"passed, but then .* status 139"):
            validate_in_child(folder, settings, lambda step: None)
    else:
        results = validate_in_child(folder, settings, lambda step: None)
        assert failure(results)[0] == "logits"


def test_in_a_process_of_its_own_it_says_the_same(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path)
    steps: list[str] = []
    results = validate_in_child(folder, settings, steps.append)
    assert [result.name for result in results] == list(CHECKS)
    assert steps == [check.step for check in CHECKS.values()]
    here = validate(folder, settings)
    assert [result.summary for result in results] == [result.summary for result in here]
