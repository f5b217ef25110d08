"""Examine thousands of broken files: `make fuzz`, or `make fuzz ARGS='--files 50000 --first 7'`.

Each worker is a process: whatever ends it, and whatever is raised but our own errors, is reported
with the seed that makes the file again.
"""

import argparse
import multiprocessing
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.examine import examine, limits
from tests.fuzz.mutations import mutated
from tests.models import sentencepiece_vocabulary, write_tiny_llama
from tests.tiny_models import TINY_MODELS, write_tiny_model

FAMILIES = (
    "llama-yarn",
    "gemma3",
    "phi3-long",
    "qwen2moe",
    "gpt-oss",
    "deepseek2",
    "deepseek2-whole",
    "cohere2",
    "mistral3",
    "hunyuan-dense",
)
LOADED_EACH = 3
"""One of this many files that can be described is also loaded."""
SHOWN = 10
"""Failures that are told in full."""

Outcome = tuple[int, str, str]
"""Seed, what came of its file, and for a failure its traceback."""


def whole_files(folder: Path) -> list[Path]:
    """A file of each family, and one with the other kind of vocabulary."""
    files = [write_tiny_model(folder / f"{name}.gguf", TINY_MODELS[name]) for name in FAMILIES]
    pieces = folder / "pieces.gguf"
    files.append(write_tiny_llama(pieces, vocabulary=sentencepiece_vocabulary(), biases=True))
    return files


def outcome_of(seed: int, whole: list[bytes], path: Path) -> Outcome:
    """Write the file of a seed and examine it."""
    path.write_bytes(mutated(whole[seed % len(whole)], seed))
    try:
        with limits():
            return seed, examine(path, load=seed % LOADED_EACH == 0), ""
    except BaseException as error:
        return seed, type(error).__name__, traceback.format_exc()


def _work(seeds: range, whole: list[bytes], folder: Path, to: Connection) -> None:
    path = folder / f"fuzzed-{seeds.start}.gguf"
    for seed in seeds:
        to.send((seed, "began", ""))
        to.send(outcome_of(seed, whole, path))


def examine_all(seeds: range, whole: list[bytes], folder: Path) -> list[Outcome]:
    """The outcome of every seed, in a process of its own that is started again when it ends."""
    outcomes: list[Outcome] = []
    while seeds:
        here, there = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=_work, args=(seeds, whole, folder, there))
        process.start()
        there.close()
        began = seeds.start
        try:
            while True:
                outcome: Outcome = here.recv()
                if outcome[1] == "began":
                    began = outcome[0]
                else:
                    outcomes.append(outcome)
        except EOFError:
            process.join()
        if process.exitcode == 0:
            break
        outcomes.append((began, f"process ended with {process.exitcode}", ""))
        seeds = range(began + 1, seeds.stop)
    return outcomes


def main() -> None:
    """Examine the files of consecutive seeds; fail where any is neither run nor refused."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=12_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first file")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = [path.read_bytes() for path in whole_files(folder)]
        outcomes = examine_all(range(options.first, options.first + options.files), whole, folder)
    counts = Counter(what for _, what, _ in outcomes)
    failures = [each for each in outcomes if each[1] not in ("runs", "refused")]
    for seed, what, how in failures[:SHOWN]:
        print(f"seed {seed}: {what}\n{how}")
    print(", ".join(f"{count} {what}" for what, count in counts.most_common()), end="; ")
    print(f"{len(outcomes)} files in {time.monotonic() - began:.0f} s")
    if failures:
        raise SystemExit(f"seeds that failed: {[seed for seed, *_ in failures[:1000]]}")


if __name__ == "__main__":
    main()
