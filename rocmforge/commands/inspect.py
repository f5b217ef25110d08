"""Show what a GGUF contains and whether it can be run."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL.gguf",
        type=Path,
        help="the file to read, the first of its pieces, or its folder",
    )


def run(options: argparse.Namespace) -> None:
    from pipelines.conversion.summary import summarize

    summary = summarize(options.model)
    formats = (f"{name} {share:.1%}" for name, share in summary.block_formats.items())
    facts = {
        "Name": summary.name,
        "File": f"GGUF version {summary.version}, {summary.bytes / 1e6:,.1f} MB",
        "Architecture": summary.architecture,
        "Parameters": f"{_scaled(summary.parameters)} in {summary.tensors:,} tensors",
        "Block formats": ", ".join(formats) or None,
        "Layers": summary.layers,
        "Context": _tokens(summary.context_length),
        "Tokenizer": summary.tokenizer,
        "Vocabulary": _tokens(summary.vocabulary_size),
        "Chat template": "yes" if summary.has_chat_template else "none",
        "Supported": "no" if summary.problems else "yes",
    }
    width = max(map(len, facts)) + 2
    for name, fact in facts.items():
        print(f"{name + ':':<{width}}{'not said' if fact is None else fact}")
    for problem in summary.problems:
        print(f"  - {problem}")


def _tokens(count: int | None) -> str | None:
    return None if count is None else f"{count:,} tokens"


def _scaled(count: int) -> str:
    """Return a count with three digits and a suffix: 134 M."""
    for unit, suffix in ((1e9, " B"), (1e6, " M"), (1e3, " K")):
        if count >= unit:
            return f"{count / unit:.3g}{suffix}"
    return str(count)
