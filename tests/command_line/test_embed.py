"""`rocmforge embed`: each text becomes one line with its vector."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from rocmforge.__main__ import main
from tests.tiny_encoders import TINY_ENCODERS
from tests.tiny_models import TINY_MODELS, write_tiny_model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def command(home: Path, name: str, of: str, *rest: str) -> list[str]:
    """Return a command's arguments with a model, which is prepared once for all tests."""
    models, path = {**TINY_ENCODERS, **TINY_MODELS}, home / f"{name}.gguf"
    if not path.exists():
        write_tiny_model(path, models[name])
    return [of, str(path), *rest, "--home", str(home)]


def embedded(home: Path, name: str, capsys: pytest.CaptureFixture[str], *rest: str) -> list[dict]:
    assert main(command(home, name, "embed", *rest)) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_text_has_a_vector_of_length_one(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('"two\\nlines"\n\n"hello"\n'))
    lines = embedded(home, "bert", capsys, "hello", "--stdin")
    assert [line["index"] for line in lines] == [0, 1, 2]
    vectors = np.array([line["embedding"] for line in lines])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert lines[0]["embedding"] == lines[2]["embedding"]
    (short,) = embedded(home, "bert", capsys, "hello", "--dimensions", "8")
    expected = vectors[0, :8] / np.linalg.norm(vectors[0, :8])
    np.testing.assert_allclose(short["embedding"], expected, rtol=1e-5)


def test_a_reranker_gives_scores(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = embedded(home, "qwen3-reranker", capsys, "a question and a document")
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
    of, name, *rest = arguments
    assert main(command(home, name, of, *rest)) == 1
    assert message in capsys.readouterr().err
