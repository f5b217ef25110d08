"""Messages of the command line for wrong usage."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from rocmforge.__main__ import COMMANDS, main
from tests.waiting import SECONDS

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def rocmforge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rocmforge", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from rocmforge.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: print(*sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=SECONDS
    ).stdout
    assert all(command.__name__.rpartition(".")[2] in output for command in COMMANDS)
    imported = output.splitlines()[-1].split()
    assert not {"numpy", "onnxruntime", "falcon", "dagster", "rich"} & set(imported)


@pytest.mark.parametrize("arguments", [(), ("polish",), ("prepare",), ("score", "model")])
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    finished = rocmforge(*arguments)
    assert finished.returncode == 2
    assert "usage:" in finished.stderr


def test_a_setting_that_does_not_fit_is_one_line_and_exits_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve", "model", "--port", "eighty"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rocmforge: ")
    assert error.count("\n") == 1
    assert "port" in error


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--accept", "--accept does nothing without --against"),
        ("--against previous --save x.json", "--save does nothing beside --against"),
        ("--against previous --plot x.png", "--plot does nothing beside --against"),
        ("--against previous --peers", "--peers does nothing beside --against"),
        ("--against 1 --prompt-lookup", "--prompt-lookup does nothing beside --against"),
        ("--growth --quick", "--quick does nothing beside --growth"),
        ("--growth --against previous", "--against does nothing beside --growth"),
        ("--profile --growth", "--growth does nothing beside --profile"),
        ("--profile --plot x.png", "--plot does nothing beside --profile"),
        ("--structured --plot x.png", "--plot does nothing beside --structured"),
        ("--against abc", "previous, baseline or the number of a version, not against 'abc'"),
        ("--against -1", "not against '-1'"),
    ],
)
def test_options_of_bench_that_do_nothing_together_exit_with_2(
    options: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(["bench", "missing", *options.split()])
    except SystemExit as usage:
        status = usage.code
    assert status == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("accepted", "told"),
    [
        ("logits", "--accept-check takes logits=X, the most that it may be"),
        ("served=1", "--accept-check takes served alone"),
        ("structure", "--accept-check takes a JSON object with a number or null for"),
        ("logits=much", "--accept-check takes a JSON object with a number or null for"),
    ],
)
def test_a_check_that_cannot_be_accepted_so_exits_with_2(
    accepted: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "missing.gguf", "--accept-check", accepted]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "missing.gguf"),
        ("rollback", "missing"),
        ("bench", "missing", "--against", "previous"),
        ("generate", "missing", "Hello"),
        ("serve", "missing.gguf", "--port", "0"),
        ("score", "missing", "--tokens", "missing.npy", "--out", "logits.npy"),
    ],
)
def test_what_is_missing_is_named_in_one_line_and_exits_with_1(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    finished = rocmforge(*arguments, "--home", str(tmp_path))
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("rocmforge: ")
    assert finished.stderr.count("\n") == 1
    assert "missing" in finished.stderr


def test_a_home_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--home", "/proc/nowhere"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("rocmforge: ")
    assert error.count("\n") == 1
    assert "/proc/nowhere" in error


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    finished = subprocess.run(
        f"{sys.executable} -m rocmforge models --home {tmp_path} | true",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert finished.stderr == ""


COMMAND = f"{sys.executable} -m rocmforge models --home"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, shell=True, capture_output=True, text=True, check=False, timeout=SECONDS, env=BUFFERED
    )


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_no_failure(closed: str, tmp_path: Path) -> None:
    finished = shell(f"{COMMAND} {tmp_path} {closed}")
    assert finished.returncode == 0
    assert finished.stderr == ""


@pytest.mark.parametrize("command", ["models", "--help", "settings"])
def test_an_output_that_is_full_is_told(command: str) -> None:
    finished = shell(f"{sys.executable} -m rocmforge {command} > /dev/full")
    assert finished.returncode == 1
    assert finished.stderr == (
        "rocmforge: standard output cannot be written: No space left on device\n"
    )


def test_the_version_is_told() -> None:
    finished = rocmforge("--version")
    assert finished.returncode == 0
    assert finished.stdout == f"rocmforge {version('rocmforge')}\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_the_encoding_of_the_output_lacks_is_no_failure(encoding: str) -> None:
    program = (
        "from rocmforge.streams import open_standard_streams\n"
        "open_standard_streams(); print('caf\\u00e9 \\u6f22 m\\udcff.gguf')"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=SECONDS,
    )
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert "m\\udcff.gguf" in finished.stdout.decode(encoding)
