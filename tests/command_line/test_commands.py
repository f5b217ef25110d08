"""The commands on a tiny model, from the GGUF to text and logits."""

from pathlib import Path

import numpy as np
import pytest

from rocmforge.__main__ import build_parser, main
from rocmforge.options import sampling_of
from runtime.device import driver
from runtime.sampling import RANGES
from tests.models import write_tiny_llama


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def generate(model: str | Path, home: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    capsys.readouterr()
    arguments = ["--max-tokens", "12", "--home", str(home), *more]
    assert main(["generate", str(model), "hello the world", *arguments]) == 0
    return capsys.readouterr().out


def score(model: Path, home: Path, tokens: list[int], folder: Path, *more: str) -> np.ndarray:
    np.save(folder / "tokens.npy", np.array(tokens))
    arguments = ["--tokens", str(folder / "tokens.npy"), "--out", str(folder / "logits.npy")]
    assert main(["score", str(model), *arguments, "--home", str(home), *more]) == 0
    logits: np.ndarray = np.load(folder / "logits.npy")
    return logits


def test_a_prepared_model_is_listed_and_served_by_its_name(
    gguf: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", str(gguf), "--home", str(home)]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "model.onnx").is_file()
    assert main(["models", "--home", str(home)]) == 0
    listed = capsys.readouterr().out
    assert "tiny" in listed
    assert "llama" in listed
    by_name = generate("tiny", home, capsys, "--temperature", "0")
    assert by_name == generate(gguf, home, capsys, "--temperature", "0")


def test_a_seed_repeats_the_text(
    gguf: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeded = [generate(gguf, home, capsys, "--seed", "7") for _ in range(2)]
    assert seeded[0] == seeded[1]
    assert seeded[0].strip()


def test_logits_do_not_depend_on_how_the_sequence_is_cut(
    gguf: Path, home: Path, tmp_path: Path
) -> None:
    tokens = list(range(3, 40))
    whole = score(gguf, home, tokens, tmp_path)
    assert whole.dtype == np.float32
    assert whole.shape[0] == len(tokens)
    np.testing.assert_array_equal(score(gguf, home, tokens, tmp_path, "--token-budget", "5"), whole)


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [([3] * 1000, "context"), ([3, 10**6], "vocabulary")],
    ids=["longer than the context", "unknown token"],
)
def test_what_cannot_be_scored_leaves_no_file(
    gguf: Path,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tokens: list[int],
    complaint: str,
) -> None:
    np.save(tmp_path / "tokens.npy", np.array(tokens))
    arguments = ["--tokens", str(tmp_path / "tokens.npy"), "--out", str(tmp_path / "logits.npy")]
    assert main(["score", str(gguf), *arguments, "--home", str(home)]) == 1
    assert complaint in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.npy"]


@pytest.mark.parametrize(
    "option",
    [
        ("--temperature", "5"),
        ("--max-tokens", "0"),
        ("--top-p", "2"),
        ("--seed", "-3"),
        ("--dry-base", "0.5"),
        ("--typical-p", "1.5"),
        ("--samplers", "top_k,dice"),
        ("--logit-bias", "5"),
        ("--logit-bias", "5=900"),
        ("--dry-sequence-breaker", "x" * 41),
    ],
)
def test_sampling_out_of_range_is_wrong_usage(
    gguf: Path, home: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    assert main(["generate", str(gguf), "hello", *option, "--home", str(home)]) == 2
    assert option[0] in capsys.readouterr().err


def test_every_sampling_parameter_has_an_option() -> None:
    given = {
        name: str(max(allowed.least, 1 if allowed.whole else 0.5))
        for name, allowed in RANGES.items()
    }
    words = [w for name, value in given.items() for w in (f"--{name.replace('_', '-')}", value)]
    words += ["--samplers", "dry,top_p", "--dry-sequence-breaker", "a", "--logit-bias", "7=-2"]
    words += ["--dry-sequence-breaker", "b", "--stop-token-id", "3"]
    for command in ("generate", "chat"):
        asked = [command, "model", *["text"] * (command == "generate"), *words]
        found = sampling_of(build_parser().parse_args(asked))
        assert found.samplers == ("dry", "top_p")
        assert found.dry_sequence_breakers == ("a", "b")
        assert (found.logit_bias, found.stop_token_ids) == (((7, -2.0),), frozenset({3}))
        acting = [n for n in given if n.startswith("dry") or n in ("top_p", "min_tokens", "seed")]
        assert {n: getattr(found, n) for n in acting} == {n: float(given[n]) for n in acting}


@pytest.mark.parametrize("kept", [0, 100, 0.5], ids=["empty", "a header's start", "half"])
def test_a_damaged_file_is_refused_before_anything_is_written(
    gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: float
) -> None:
    content = gguf.read_bytes()
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    home = tmp_path / "home"
    assert main(["prepare", str(damaged), "--home", str(home)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("rocmforge: ")
    assert "damaged.gguf" in error
    assert not (home / "models").exists()


def test_a_gpu_that_is_not_there_is_told_where_it_was_demanded(
    gguf: Path,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(driver, "KERNEL_DRIVER", tmp_path / "none")
    arguments = ["generate", str(gguf), "hello", "--home", str(home), "--max-tokens", "1"]
    assert main([*arguments, "--device", "rocm"]) == 1
    assert "rocmforge: there is no AMD GPU here" in capsys.readouterr().err
    assert main([*arguments, "--device", "auto"]) == 0
