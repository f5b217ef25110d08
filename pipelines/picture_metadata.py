"""A picture as Dagster's metadata shows it."""

import base64

import dagster as dg


def in_markdown(png: bytes, alternative: str) -> dg.MarkdownMetadataValue:
    """A PNG inside Markdown, without a file; `alternative` describes it."""
    encoded = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{alternative}](data:image/png;base64,{encoded})")
