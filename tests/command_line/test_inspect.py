"""`rocmforge inspect` on whole, foreign and broken files."""

from pathlib import Path

import pytest

from rocmforge.__main__ import main
from tests.models import byte_level_vocabulary, write_tiny_llama
from tests.tiny_models import TINY_MODELS, write_tiny_model


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = dict(line.split(":", 1) for line in lines if not line.startswith("  - "))
    reasons = [line for line in lines if line.startswith("  - ")]
    return {name: fact.strip() for name, fact in facts.items()} | {"reasons": "\n".join(reasons)}


def test_a_model_that_can_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", format="Q4_0", embedding_format="Q8_0")
    facts = inspected(path, capsys)
    assert facts["Name"] == "tiny"
    assert facts["Architecture"] == "llama"
    assert facts["Layers"] == "2"
    assert facts["Context"] == "256 tokens"
    assert facts["Tokenizer"] == "gpt2 (smollm)"
    assert facts["Vocabulary"] == f"{len(byte_level_vocabulary().tokens)} tokens"
    assert facts["Chat template"] == "yes"
    assert (facts["Supported"], facts["reasons"]) == ("yes", "")
    shares = [float(each.split()[1].rstrip("%")) for each in facts["Block formats"].split(",")]
    assert sum(shares) == pytest.approx(100, abs=0.2)


def test_another_architecture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", TINY_MODELS["gemma3"])
    assert inspected(path, capsys)["Supported"] == "yes"


def test_every_reason_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocabulary = byte_level_vocabulary(pre="unheard-of")
    path = write_tiny_llama(tmp_path / "tiny.gguf", architecture="t5", vocabulary=vocabulary)
    facts = inspected(path, capsys)
    assert facts["Supported"] == "no"
    assert "architecture 't5' is not supported" in facts["reasons"]
    assert "unheard-of" in facts["reasons"]


def test_a_broken_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:-100])
    for broken in (path, tmp_path / "missing.gguf"):
        assert main(["inspect", str(broken)]) == 1
        assert str(broken) in capsys.readouterr().err
