"""Conversion meets broken and odd files with one clear error, never with anything else."""

import warnings
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.conversion.architectures import describe
from pipelines.conversion.convert import graph_of
from pipelines.validation.structure import check_graph, check_weights
from runtime.errors import RocmForgeError
from runtime.gguf import GGUFFile
from tests.tiny_models import TINY_MODELS, write_tiny_model

HEADER_BYTES = 40_000
"""Of a file the part that is mutated: the metadata and the tensor directory."""
MODELS = ("llama-yarn", "gemma3", "phi3-long", "cohere2", "hunyuan-dense")
COUNTS = st.integers(0, 2**64 - 1).map(lambda value: value.to_bytes(8, "little"))
PATCHES = st.one_of(
    st.binary(min_size=1, max_size=8),
    COUNTS,
    st.sampled_from([bytes(8), b"\xff" * 4, b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f"]),
)


KEYS = {name: f"{TINY_MODELS[name].architecture}.".encode() for name in MODELS}
"""How the keys of each model begin."""


def convert_or_refuse(path: Path) -> None:
    """What can be described must give a graph that passes the checks; all else is refused."""
    try:
        file = GGUFFile.open(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            spec = describe(file)
    except RocmForgeError:
        return
    model: onnx.ModelProto = graph_of(spec, file)
    check_weights(model, file, spec.folded)
    check_graph(model)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return {
        name: write_tiny_model(folder / name, TINY_MODELS[name]).read_bytes() for name in MODELS
    }


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files(tmp_path: Path, whole: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(MODELS))
    content = bytearray(whole[name])
    keys = [at for at in range(HEADER_BYTES) if content.startswith(KEYS[name], at)]
    for _ in range(data.draw(st.integers(1, 3))):
        # Most of the header is vocabulary: aim half of the patches behind a key of the model.
        anywhere = st.integers(0, min(HEADER_BYTES, len(content)) - 8)
        at = data.draw(st.one_of(anywhere, st.sampled_from(keys).flatmap(_behind)))
        patch = data.draw(PATCHES)
        content[at : at + len(patch)] = patch
    path = tmp_path / "mutated.gguf"
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) - 100]))])
    convert_or_refuse(path)


def _behind(at: int) -> st.SearchStrategy[int]:
    return st.integers(at, at + 60)


@pytest.mark.parametrize(
    "key",
    [
        "rope.scaling.factor",
        "rope.scaling.attn_factor",
        "rope.scaling.original_context_length",
        "rope.freq_base",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "final_logit_softcapping",
        "attention.layer_norm_rms_epsilon",
        "block_count",
        "embedding_length",
        "attention.head_count",
    ],
)
@pytest.mark.parametrize(
    "value", [0, 2**32 - 1, -1.0, 1e38, 1e-38, float("nan"), float("inf"), "text", True], ids=str
)
def test_values_that_make_no_sense(tmp_path: Path, key: str, value: str | float | bool) -> None:
    tiny = TINY_MODELS["gemma3"]
    odd = replace(tiny, metadata={**tiny.metadata, key: value})
    convert_or_refuse(write_tiny_model(tmp_path / "odd.gguf", odd))
