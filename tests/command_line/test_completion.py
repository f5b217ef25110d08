"""Completion in a shell: commands, their options, published names and files."""

import shutil
import subprocess
from pathlib import Path

import pytest

from rocmforge.__main__ import COMMANDS, build_parser
from rocmforge.completion import script


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a published model and a file beside it."""
    (tmp_path / "models" / "qwen3").mkdir(parents=True)
    (tmp_path / "model.gguf").touch()
    return tmp_path


def completed(home: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    typed = " ".join(f"'{word}'" for word in words)
    asked = (
        f"{script('bash', build_parser())}\n"
        f"COMP_WORDS=(rocmforge {typed}); COMP_CWORD={len(words)}; _rocmforge\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(
        ["bash", "--norc", "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        cwd=home,
        env={"ROCMFORGE_HOME": str(home), "PATH": "/usr/bin:/bin"},
    )
    assert ended.stderr == ""
    return ended.stdout.split()


def test_every_command_is_offered(home: Path) -> None:
    names = [command.__name__.rpartition(".")[2] for command in COMMANDS]
    assert completed(home, "") == names
    assert completed(home, "se") == ["serve", "settings"]


def test_the_options_are_those_of_the_command(home: Path) -> None:
    assert completed(home, "serve", "--po") == ["--port"]
    assert completed(home, "chat", "--po") == []


def test_a_model_is_a_published_name_or_a_file(home: Path) -> None:
    assert completed(home, "serve", "q") == ["qwen3"]
    assert set(completed(home, "serve", "mod")) == {"models", "model.gguf"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_their_script(shell: str) -> None:
    made = script(shell, build_parser())
    assert "serve" in made
    assert "port" in made
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([program, "--no-execute", "/dev/stdin"], input=made, text=True, check=True)
