"""The messages that docs/troubleshooting.md quotes are those of the sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.settings import setting_fields

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
SETTINGS = {f"--{field.name.replace('_', '-')}" for field in setting_fields()}
VARIES = "\0"


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string of a module, with a mark where an f-string or %s inserts something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [
                str(part.value) if isinstance(part, ast.Constant) else VARIES
                for part in node.values
            ]
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub("%[sd]", VARIES, node.value)


def sources() -> str:
    """All strings of the packages, and the Makefile."""
    files = [
        file
        for package in ("api", "pipelines", "rocmforge", "runtime")
        for file in (ROOT / package).rglob("*.py")
    ]
    found = [text for file in files for text in texts(ast.parse(file.read_text()))]
    return "\n".join([*found, (ROOT / "Makefile").read_text()]).replace("`", "")


def quoted() -> list[str]:
    """The first column's messages: what is in backticks and has a space."""
    cells = [line.split(" | ")[0] for line in PAGE.read_text().splitlines() if line[:2] == "| "]
    return [text for cell in cells for text in re.findall("`([^`]+)`", cell) if " " in text]


SOURCES = sources()


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_in_the_sources(message: str) -> None:
    pieces = [re.escape(piece).replace("\\ ", " ") for piece in message.split("...")]
    found = re.search(f"[^\n]*{VARIES}[^\n]*".join(pieces), SOURCES)
    assert found is not None, message


def test_messages_are_quoted() -> None:
    assert len(quoted()) > 40


def test_options_that_it_names_are_settings() -> None:
    named = set(re.findall(r"`(--[a-z-]+)", PAGE.read_text()))
    of_commands = {"--alias", "--name", "--replace"}
    assert named - of_commands <= SETTINGS
