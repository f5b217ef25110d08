"""The commands that README and docs show work as they are shown."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rocmforge.__main__ import build_parser
from tests.command_line.test_serve import serving, wait_until_ready
from tests.models import write_tiny_llama
from tests.waiting import SECONDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = (".venv/bin/", "make ", "curl ", "rocmforge ", "export ", "pip ", "cd ", "mkdir ")
DAGSTER = ("dagster-", "dagster ")
COMMENT = re.compile(r"\s+# .*$")
SERVER = re.compile(r"http://(localhost|127\.0\.0\.1):8080")

ELSEWHERE = {
    "export DAGSTER_HOME=/var/lib/rocmforge/dagster": "tests/pipelines/test_deploy.py",
    "export DAGSTER_POSTGRES_URL=": "tests/pipelines/test_deploy.py",
    "mkdir -p $DAGSTER_HOME && cp deploy/dagster-postgres.yaml": "tests/pipelines/test_deploy.py",
    "dagster-webserver --workspace workspace.yaml": "tests/pipelines/test_deploy.py",
    "dagster-daemon run --workspace workspace.yaml": "tests/pipelines/test_deploy.py",
    "export DAGSTER_HOME=~/.local/share/rocmforge/dagster": "tests/pipelines/test_dagster.py",
    "DAGSTER_HOME=~/.local/share/rocmforge/dagster .venv/bin/dagster job": "tests/pipelines",
    ".venv/bin/dagster job execute -m pipelines.definitions": "tests/pipelines/test_dagster.py",
    "cd deploy/prometheus && prometheus": "tests/api/test_dashboards.py",
}
"""Commands that need a machine of their own: their beginning, and the test that covers them."""


@dataclass(frozen=True)
class Shown:
    """A command of a page."""

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.text.split())[:60]}"


def shown_commands() -> Iterator[Shown]:
    """Every command of every page, continued lines joined and comments cut."""
    for page in PAGES:
        fence: str | None = None
        command = ""
        for line in page.read_text().splitlines():
            if line.startswith("```"):
                fence = line.removeprefix("```") if fence is None else None
                continue
            in_shell = fence in ("bash", "sh")
            if command or in_shell or (fence is None and begins_a_command(line)):
                command += COMMENT.sub("", line).strip() + "\n"
                whole = command.rstrip().removesuffix("\\")
                if command.rstrip().endswith("\\") or whole.count("'") % 2:
                    continue
                if command.strip():
                    yield Shown(page.name, command.strip())
                command = ""
        assert not command, f"{page.name} ends within {command}"


def begins_a_command(line: str) -> bool:
    return line.startswith("    ") and line.strip().startswith(
        (*PROGRAMS, *DAGSTER, "DAGSTER_HOME=")
    )


COMMANDS = list(shown_commands())
OURS = [
    one for one in COMMANDS if "bin/rocmforge " in one.text or one.text.startswith("rocmforge ")
]
MAKE = [one for one in COMMANDS if one.text.startswith("make ")]
CURL = [one for one in COMMANDS if one.text.startswith("curl ")]


def arguments_of(shown: Shown) -> list[str]:
    return shlex.split(shown.text.partition("rocmforge ")[2])


def test_every_command_is_tested_here_or_elsewhere() -> None:
    rest = [one for one in COMMANDS if one not in (*OURS, *MAKE, *CURL)]
    assert [str(one) for one in rest if not one.text.startswith(tuple(ELSEWHERE))] == []
    assert min(map(len, (OURS, MAKE, CURL))) > 5


@pytest.mark.parametrize("shown", OURS, ids=str)
def test_our_own_commands_have_these_options(shown: Shown) -> None:
    assert callable(build_parser().parse_args(arguments_of(shown)).run)


@pytest.mark.parametrize("shown", MAKE, ids=str)
def test_make_has_these_targets(shown: Shown) -> None:
    finished = subprocess.run(
        ["make", "--dry-run", "--question", *shlex.split(shown.text)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    # 1 says that there is something to do, 2 that there is no such target.
    assert finished.returncode in (0, 1), finished.stderr


RUN = ("inspect", "prepare", "generate", "chat", "score", "models", "rollback", "settings")


@pytest.mark.long
def test_commands_on_a_model_run_as_they_are_shown(tmp_path: Path) -> None:
    """All but servers and benchmarks, which have tests of their own; `remove` comes last."""
    home = tmp_path / "home"

    def run(arguments: list[str]) -> None:
        finished = subprocess.run(
            [sys.executable, "-m", "rocmforge", *arguments, "--home", str(home)][
                : None if arguments[0] != "inspect" else -2
            ],
            cwd=tmp_path,
            input="hello\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert finished.returncode == 0, f"{arguments}: {finished.stderr}"

    np.save(tmp_path / "t.npy", np.arange(3, 9))
    for seed in range(3):  # so that there are versions to go back to
        (tmp_path / "model.gguf").unlink(missing_ok=True)  # a version may be a link to it
        write_tiny_llama(tmp_path / "model.gguf", seed=seed)
        run(["prepare", "model.gguf"])
    commands = [arguments_of(one) for one in OURS]
    wanted = [each for each in commands if each[0] in RUN]
    assert {each[0] for each in wanted} >= set(RUN) - {"settings"}
    for each in wanted:
        run([*each, *(["--max-tokens", "4"] if each[0] in ("generate", "chat") else [])])
    removals = [each for each in commands if each[0] == "remove"]
    assert removals
    run(removals[0])


@pytest.fixture(scope="module")
def served_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with serving(write_tiny_llama(folder / "tiny.gguf"), folder / "home") as (_, url):
        wait_until_ready(url)
        yield url


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("shown", CURL, ids=str)
def test_requests_are_answered(shown: Shown, served_url: str) -> None:
    finished = subprocess.run(
        ["sh", "-c", SERVER.sub(served_url, shown.text) + " --silent --fail-with-body"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    named = re.search(r"/(status|cancel)/123$|/streams/0123456789abcdef", shown.text)
    assert finished.returncode == (22 if named else 0), finished.stderr
    assert finished.stdout
