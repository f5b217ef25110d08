"""Measure how far our logits and llama.cpp's are from the exact ones, and write the table.

Run by hand from the root of the repository, where `pip install llama-cpp-python` was done:

    make exactness                                      # docs/exactness.md, some minutes
    make exactness ARGS='--models a.gguf b.gguf'        # these files too, on a page of English

The exact logits are those of the same weights dequantized to float32, in float32 arithmetic and
with a cache in float32. Both programs run as they serve, with a cache in float16. Also writes
exactness.json: llama.cpp's divergences, which `make test` holds ours against.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np

from pipelines.validation.comparison import Comparison
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.exact_models import (
    POSITIONS,
    exact_model,
    exact_models,
    exact_tokens,
    positions_of,
    seeds_of,
)
from tests.exactness import ZERO, divergences, exact_logits, our_logits
from tests.golden.make_logits import logits as llama_logits
from tests.tiny_models import write_tiny_model

PAGE_TOKENS = 320
HEADER = "| model | format | ours | llama.cpp | same best token, ours | llama.cpp |"
FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Row:
    """How far both programs' logits of one kind of file are from the exact ones."""

    name: str
    format: str
    ours: Comparison
    theirs: Comparison
    golden: dict[str, float]
    """llama.cpp's divergence at the first positions, as `make test` measures ours."""

    @property
    def holds(self) -> bool:
        """Whether our logits are at least as exact as llama.cpp's."""
        return self.ours.divergence <= max(self.theirs.divergence, ZERO)


def measure(name: str, format: str, files: Iterable[tuple[Path, int]], tokens: list[int]) -> Row:
    """Both programs' logits of files, each with its context, against the exact ones."""
    exact, ours, theirs = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for path, context in files:
        exact.append(exact_logits(path, tokens))
        theirs.append(llama_logits(path, context, tokens, llama_cpp.GGML_TYPE_F16))
        with tempfile.TemporaryDirectory() as folder:
            ours.append(our_logits(path, tokens, Path(folder)))
    first = divergences(exact[0][:POSITIONS], theirs[0][:POSITIONS])
    return Row(
        name,
        format,
        Comparison.of(np.concatenate(exact), np.concatenate(ours)),
        Comparison.of(np.concatenate(exact), np.concatenate(theirs)),
        {"mean": float(first.mean()), "median": float(np.median(first))},
    )


def random_rows(only: str) -> Iterator[Row]:
    """Every architecture and every format."""
    for name, format in exact_models():
        if only not in f"{name}/{format}":
            continue
        model = exact_model(name, format)
        with tempfile.TemporaryDirectory() as folder:
            files = [
                (write_tiny_model(Path(folder) / f"{seed}.gguf", model, seed=seed), model.context)
                for seed in seeds_of(model)
            ]
            yield measure(name, format, files, exact_tokens(positions_of(model)))


def trained_rows(paths: list[Path]) -> Iterator[Row]:
    """Real models on a page of English."""
    page = (FOLDER / "page.txt").read_text()
    for path in paths:
        tokens = Tokenizer.from_gguf(GGUFFile.open(path)).encode(page)[:PAGE_TOKENS]
        name, _, format = path.stem.rpartition(".")
        yield measure(name, format, [(path, 1024)], tokens)


def cells(row: Row) -> str:
    """The row in Markdown."""
    figures = (each.divergence for each in (row.ours, row.theirs))
    tops = (each.same_top for each in (row.ours, row.theirs))
    shown = [*(f"{each:.2g}" for each in figures), *(f"{each:.1%}" for each in tops)]
    return f"| {row.name} | {row.format} | {' | '.join(shown)} |"


def update_document(path: Path, row: Row) -> None:
    """Put a row into the table that ends the document, in place of one that it repeats."""
    text, _, table = path.read_text().partition(HEADER)
    lines = {_key(line): line for line in table.splitlines()[2:]}
    lines[_key(cells(row))] = cells(row)
    path.write_text("\n".join([text + HEADER, "|---|---|---|---|---|---|", *lines.values()]) + "\n")


def _key(line: str) -> tuple[str, ...]:
    """Model and format."""
    return tuple(cell.strip() for cell in line.split("|")[1:3])


def update_golden(path: Path, row: Row) -> None:
    """Put llama.cpp's divergences into the file, in place of those that they repeat."""
    golden = json.loads(path.read_text()) if path.exists() else {}
    golden[f"{row.name}/{row.format}"] = row.golden
    lines = (f"{json.dumps(name)}: {json.dumps(each)}" for name, each in golden.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    """Print and write each row as it is measured; fail where we are worse in one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", type=Path, default=[], metavar="GGUF")
    parser.add_argument("--only", default="", metavar="PART", help="of NAME/FORMAT")
    parser.add_argument("--document", type=Path, help="Markdown that ends in the table")
    parser.add_argument("--golden", type=Path, help="JSON of llama.cpp's divergences")
    options = parser.parse_args()
    rows: list[Row] = []
    for row in _rows(options):
        rows.append(row)
        figures = " ".join(f"{each.divergence:9.3g}" for each in (row.ours, row.theirs))
        print(f"{row.name:21} {row.format:8} {figures}{'' if row.holds else ' worse'}", flush=True)
        if options.document:
            update_document(options.document, row)
        if options.golden:
            update_golden(options.golden, row)
    worse = [f"{row.name} {row.format}" for row in rows if not row.holds]
    if worse:
        raise SystemExit(f"further from the exact logits than llama.cpp: {', '.join(worse)}")


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    yield from random_rows(options.only)
    yield from trained_rows(options.models)


if __name__ == "__main__":
    main()
