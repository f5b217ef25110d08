"""Sound models pass every check; a planted fault fails the check that names its place."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

from pipelines import validate as validate_room
from pipelines.convert import convert
from pipelines.validate import CHECKS, validate
from pipelines.validation_process import validate_apart
from runtime.manifest import GRAPH_NAME, CheckResult
from runtime.settings import Settings
from tests.block_formats import INTEGER_FORMATS, PLAIN_FORMATS, whole_blocks
from tests.models import sentencepiece_vocabulary, write_tiny_llama
from tests.pipelines.faults import double_scale, node, plant
from tests.tiny_models import TINY_MODELS, write_tiny_model


def converted(folder: Path, **variant: object) -> Path:
    path = write_tiny_llama(folder / "tiny.gguf", **variant)  # type: ignore[arg-type]
    prepared = folder / "prepared"
    prepared.mkdir()
    convert(path, prepared, "tiny")
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
    results = validate(converted(tmp_path, **variant), settings)
    assert [(result.name, result.passed) for result in results] == [(name, True) for name in CHECKS]


@pytest.mark.parametrize("name", ["gemma3", "phi3", "cohere2", "hunyuan-dense", "gpt-oss"])
def test_sound_models_of_other_architectures_pass(
    tmp_path: Path, settings: Settings, name: str
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", replace(TINY_MODELS[name], format="Q4_1"))
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    convert(path, prepared, "tiny")
    results = validate(prepared, settings)
    assert [(result.name, result.passed) for result in results] == [(name, True) for name in CHECKS]


def test_exact_formats_are_computed_exactly(tmp_path: Path, settings: Settings) -> None:
    logits = validate(converted(tmp_path, format="F32"), settings)[2]
    assert logits.figures["prefill_divergence"] < 1e-5
    assert logits.figures["cached_divergence"] < 1e-5
    assert logits.figures["operator_error"] < 1e-4


def test_a_large_model_is_compared_over_its_first_layers(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = converted(tmp_path, layers=3)
    monkeypatch.setattr(validate_room, "MOST_PARAMETERS", 90_000)
    results = validate(folder, settings)
    assert all(result.passed for result in results)
    assert "first 2 layers" in results[2].summary


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


def test_an_unknown_operator_fails_the_session(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path)

    def rename(model: ModelProto) -> None:
        node(model, "blk.0.ffn_act").op_type = "NoSuchOperator"

    plant(folder, rename)
    name, summary = failure(validate(folder, settings))
    assert (name, "NoSuchOperator" in summary) == ("session", True)


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


def test_in_a_process_of_its_own_it_says_the_same(tmp_path: Path, settings: Settings) -> None:
    folder = converted(tmp_path)
    steps: list[str] = []
    results = validate_apart(folder, settings, steps.append)
    assert [result.name for result in results] == list(CHECKS)
    assert steps == list(CHECKS.values())
    here = validate(folder, settings)
    assert [result.summary for result in results] == [result.summary for result in here]
