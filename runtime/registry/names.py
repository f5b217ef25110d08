"""Names of published models, which are folder names and parts of URLs."""

import re
from pathlib import Path

from runtime.errors import InvalidName
from runtime.gguf import model_stem

MAX_NAME_LENGTH = 100
NAME = re.compile(rf"[A-Za-z0-9_](?:[A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 2}}}[A-Za-z0-9_])?")


def is_name(text: str) -> bool:
    """Whether this is a valid model name."""
    return NAME.fullmatch(text) is not None


def expect_name(text: str) -> str:
    """Return the name. Raises InvalidName if it is not valid."""
    if not is_name(text):
        shown = ascii(text if len(text) <= MAX_NAME_LENGTH else f"{text[:MAX_NAME_LENGTH]}...")
        raise InvalidName(
            f"{shown} is no name of a model: it has letters, digits, '.', '_' and '-', begins and "
            f"ends with a letter, a digit or '_', and is at most {MAX_NAME_LENGTH} long"
        )
    return text


def model_name(path: Path) -> str:
    """Return the default name of a GGUF: its stem, with other characters as '-'.

    Of a model in pieces without the number of the piece.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model_stem(path)).strip("-.")
    return name[:MAX_NAME_LENGTH].strip("-.") or "model"
