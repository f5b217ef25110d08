"""`rocmforge chat` on a tiny model: turn by turn, until its input ends."""

import io
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rocmforge.__main__ import main
from tests.models import byte_level_vocabulary, write_tiny_llama
from tests.waiting import SECONDS, eventually

GREEDY = ("--temperature", "0", "--max-tokens", "8")
SYS_READ = 0
"""The system call's number on x86-64."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def talk(
    model: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Talk":
    return Talk(model, home, monkeypatch, capsys)


class Talk:
    """Types lines and gives what was answered."""

    def __init__(
        self,
        model: Path,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.model, self.home = model, home
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *lines: str, more: tuple[str, ...] = GREEDY, command: str = "chat") -> str:
        self.monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        assert main([command, str(self.model), "--home", str(self.home), *more]) == 0
        return self.capsys.readouterr().out


def test_run_is_chat_with_a_model_that_need_not_be_named(talk: Talk) -> None:
    assert talk("hello", command="run") == talk("hello")


@pytest.mark.slow
def test_run_alone_talks_with_the_sample_model(
    sample_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    shutil.copy(sample_model, cache / sample_model.name)
    monkeypatch.setattr("sys.stdin", io.StringIO("What is the capital of France?\n"))
    assert main(["run", "--home", str(tmp_path), *GREEDY]) == 0
    assert "Paris" in capsys.readouterr().out


def test_each_line_is_answered_with_all_before_it_in_mind(talk: Talk) -> None:
    first = talk("hello")
    both = talk("hello", "hello")
    assert first.strip()
    assert both.startswith(first)
    assert both.removeprefix(first).strip()
    assert both.removeprefix(first) != first


def test_empty_lines_are_passed_over_and_no_line_is_the_end(talk: Talk) -> None:
    assert talk("", "  ", "hello") == talk("hello")
    assert talk() == ""


def test_what_the_model_is_told_first_changes_the_answer(talk: Talk) -> None:
    assert talk("hello") != talk("hello", more=(*GREEDY, "--system", "and the world"))


def test_a_model_without_a_template_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    vocabulary = replace(byte_level_vocabulary(), chat_template=None)
    path = write_tiny_llama(tmp_path / "plain.gguf", vocabulary=vocabulary)
    assert main(["chat", str(path), "--home", str(home)]) == 1
    assert "has no chat template" in capsys.readouterr().err


def test_an_interrupt_at_the_prompt_ends_it_cleanly(model: Path, home: Path) -> None:
    command = [sys.executable, "-m", "rocmforge", "chat", str(model), "--home", str(home), *GREEDY]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("hello\n")
    process.stdin.flush()
    assert process.stdout.readline()
    eventually(lambda: waits_for_input(process.pid), "it never asked for the next line")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, "Traceback" in errors) == (0, False)


def waits_for_input(pid: int) -> bool:
    """Whether a process's main thread is within read(0, ..)."""
    return Path(f"/proc/{pid}/syscall").read_text().startswith(f"{SYS_READ} 0x0 ")


def test_a_template_of_ones_own_makes_the_prompts(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("hello {{ messages[-1].content }}")
    other = talk("hello", more=(*GREEDY, "--chat-template", str(file)))
    assert other.strip()
    assert other != talk("hello")


@pytest.mark.parametrize("source", [None, b"{% if %}", b"\xff"])
def test_a_file_that_is_no_template_is_told(
    model: Path,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: bytes | None,
) -> None:
    file = tmp_path / "template.jinja"
    if source is not None:
        file.write_bytes(source)
    options = ["--home", str(home), "--chat-template", str(file)]
    assert main(["chat", str(model), *options]) == 2
    assert "--chat-template takes a file with a Jinja template" in capsys.readouterr().err
