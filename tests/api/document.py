"""The published API document, whose examples are tests."""

from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
FENCE = "```"


def code_blocks(language: str) -> list[str]:
    """The document's code blocks in a language ("" if none is named), in order."""
    parts = DOCUMENT.read_text().split(FENCE)
    inside = parts[1::2]
    return [body for name, _, body in (part.partition("\n") for part in inside) if name == language]
