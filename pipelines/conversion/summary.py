"""Summarizes a GGUF and whether this build can run it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipelines.conversion.architectures import describe
from runtime.errors import RocmForgeError
from runtime.gguf import GGUFFile, StringArray, gguf_at
from runtime.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Summary:
    """Facts about a readable GGUF; None if the file does not state them."""

    name: str | None
    version: int
    bytes: int
    architecture: str | None
    parameters: int
    tensors: int
    block_formats: dict[str, float]
    """Share of the weights' bytes by block format, the largest first."""
    layers: int | None
    context_length: int | None
    tokenizer: str | None
    vocabulary_size: int | None
    has_chat_template: bool
    problems: tuple[str, ...]
    """Why this build cannot run the model; empty if it can."""


def summarize(path: Path) -> Summary:
    """Read a GGUF, or that of a folder. Raises GGUFError for one that cannot be read."""
    file = GGUFFile.open(gguf_at(path) or path)
    architecture = _text(file, "general.architecture")
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    model, split = _text(file, "tokenizer.ggml.model"), _text(file, "tokenizer.ggml.pre")
    return Summary(
        name=_text(file, "general.name"),
        version=file.version,
        bytes=file.size,
        architecture=architecture,
        parameters=sum(info.rows * info.columns for info in file.tensors.values()),
        tensors=len(file.tensors),
        block_formats=_shares(file),
        layers=_integer(file, f"{architecture}.block_count"),
        context_length=_integer(file, f"{architecture}.context_length"),
        tokenizer=model if split is None else f"{model} ({split})",
        vocabulary_size=len(tokens) if isinstance(tokens, StringArray) else None,
        has_chat_template=_text(file, "tokenizer.chat_template") is not None,
        problems=_problems(file),
    )


def _problems(file: GGUFFile) -> tuple[str, ...]:
    """Return what preparing would refuse, in the model and the tokenizer."""
    found: list[str] = []
    for read in (describe, Tokenizer.from_gguf):
        try:
            read(file)
        except RocmForgeError as error:
            found.append(str(error).removeprefix(f"{file.path}: "))
    return tuple(found)


def _shares(file: GGUFFile) -> dict[str, float]:
    sizes: Counter[str] = Counter()
    for info in file.tensors.values():
        sizes[info.format] += info.size
    return {format: size / sizes.total() for format, size in sizes.most_common()}


def _text(file: GGUFFile, key: str) -> str | None:
    value = file.metadata.get(key)
    return value if isinstance(value, str) else None


def _integer(file: GGUFFile, key: str) -> int | None:
    value = file.metadata.get(key)
    return value if isinstance(value, int) else None
