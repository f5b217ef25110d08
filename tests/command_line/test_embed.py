"""`rocmforge embed`: each text becomes one line with its vector."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from rocmforge.__main__ import main
from tests.tiny_encoders import TINY_ENCODERS
from tests.tiny_models import TINY_MODELS, write_tiny_model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROCMFORGE_HOME", str(tmp_path / "home"))
    return tmp_path


def tiny(folder: Path, name: str) -> str:
    models = {**TINY_ENCODERS, **TINY_MODELS}
    return str(write_tiny_model(folder / f"{name}.gguf", models[name]))


def embedded(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert main(["embed", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_text_has_a_vector_of_length_one(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(home, "bert-mean")
    monkeypatch.setattr("sys.stdin", io.StringIO('"two\\nlines"\n\n"hello"\n'))
    lines = embedded(capsys, model, "hello", "--stdin")
    assert [line["index"] for line in lines] == [0, 1, 2]
    vectors = np.array([line["embedding"] for line in lines])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert lines[0]["embedding"] == lines[2]["embedding"]
    (short,) = embedded(capsys, model, "hello", "--dimensions", "8")
    expected = vectors[0, :8] / np.linalg.norm(vectors[0, :8])
    np.testing.assert_allclose(short["embedding"], expected, rtol=1e-5)


def test_a_reranker_gives_scores(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = embedded(capsys, tiny(home, "qwen3-reranker"), "a question and a document")
    assert sum(line["scores"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "bert"], "there is no text to embed"),
        (["embed", "bert", "hello", "--dimensions", "65"], "between 1 and 64"),
        (["embed", "bert", "x" * 300], "maximum context length is 256 tokens"),
        (["embed", "llama", "hello"], "generates text and embeds none"),
        (["generate", "bert", "hello"], "gives vectors of texts and generates none"),
    ],
)
def test_says_why_it_cannot(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    command, name, *rest = arguments
    assert main([command, tiny(home, name), *rest]) == 1
    assert message in capsys.readouterr().err
