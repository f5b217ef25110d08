"""Run llama.cpp's own tokenizer cases: `make tokenizer-cases`.

The vocabularies and cases stand in the source package of llama-cpp-python (73 MB), which pip
downloads once into the cache folder. A case passes where our tokens are the ones listed.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from runtime.gguf import GGUFFile
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer
from tests.llama_cpp_source import fetch

MODELS = "vendor/llama.cpp/models/ggml-vocab-"
SEPARATOR = "\n__ggml_vocab_test__\n"


@dataclass(frozen=True)
class Outcome:
    """What came of the cases of one vocabulary."""

    name: str
    kind: str
    tokens: int
    seconds: float
    """To load it, without a cache."""
    passed: int
    cases: int
    """0 where the package has a vocabulary alone."""


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Run the cases of every vocabulary; failures are printed on stderr."""
    for path in sorted(folder.glob("*.gguf")):
        began = time.perf_counter()
        file = GGUFFile.open(path)
        tokenizer = Tokenizer.from_gguf(file)
        seconds = time.perf_counter() - began
        kind = f"{file.metadata['tokenizer.ggml.model']} {file.metadata.get('tokenizer.ggml.pre')}"
        passed = cases = 0
        for text, expected in _cases(path):
            tokens = tokenizer.encode(text, add_special=False)
            cases += 1
            passed += tokens == expected
            if tokens != expected:
                print(f"{path.name}: {text!r}: {tokens} and not {expected}", file=sys.stderr)
        name = path.stem.removeprefix("ggml-vocab-")
        yield Outcome(name, kind, tokenizer.vocabulary_size, seconds, passed, cases)


def _cases(path: Path) -> Iterator[tuple[str, list[int]]]:
    texts = path.with_suffix(".gguf.inp")
    if texts.exists():
        # As bytes, since a text may hold \r.
        given = texts.read_bytes().decode().split(SEPARATOR)
        lines = path.with_suffix(".gguf.out").read_text().splitlines()
        # A text that ends in the last separator is none; a line is missing where it has no tokens.
        for text, line in zip(given, lines, strict=False):
            yield text, [int(token) for token in line.split()]


def main() -> None:
    """Print the table; the exit status is 1 where a case fails."""
    table = Table("vocabulary", "kind", "tokens", "load", "passed", "cases", show_edge=False)
    total = [0, 0]
    for one in outcomes(
        fetch(Settings.from_environment().cache_folder / "tokenizer-cases", MODELS)
    ):
        counts = (f"{one.passed}", f"{one.cases}") if one.cases else ("-", "-")
        table.add_row(one.name, one.kind, f"{one.tokens:,}", f"{one.seconds:.2f} s", *counts)
        total = [total[0] + one.passed, total[1] + one.cases]
    table.add_section()
    table.add_row("all", "", "", "", *map(str, total))
    Console(width=100).print(table)
    sys.exit(total[0] != total[1])


if __name__ == "__main__":
    main()
