"""Process a file as the program does: every outcome is a model or one clear error."""

import contextlib
import resource
import signal
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np

from pipelines.conversion.architectures import describe
from pipelines.conversion.convert import convert, graph_of
from pipelines.conversion.summary import summarize
from pipelines.validation.structure import check_graph, check_weights
from runtime.errors import RocmForgeError
from runtime.gguf import GGUFFile
from runtime.session import Session
from runtime.settings import Settings
from runtime.source import Source
from runtime.step import StepInputs
from runtime.tokenizer import Tokenizer

SECONDS = 20
"""A tiny file is examined in hundredths of a second, loaded in a tenth."""
MORE_BYTES = 2 << 30
"""Of address space: an allocation of a size that the file merely claims fails beyond it."""


class TooSlow(Exception):
    """An endless loop, or nearly."""


def examine(path: Path, *, load: bool = False) -> str:
    """Inspect the file, describe it, read its tokenizer, build and check its graph.

    With `load` also convert it into a folder, load that and compute a step. Gives "runs" or
    "refused"; raises AssertionError for an error that does not name the file, and whatever else
    goes wrong as it is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refusals = [error for error in _attempts(path) if error is not None]
        for error in refusals:
            if path.name not in str(error):
                raise AssertionError(f"{type(error).__name__} names no file: {error}") from error
        if refusals:
            return "refused"
    if load:
        with contextlib.suppress(RocmForgeError):
            _load(path)
    return "runs"


def _attempts(path: Path) -> Iterator[RocmForgeError | None]:
    for attempt in (summarize, _tokenize, _build):
        try:
            attempt(path)
        except RocmForgeError as error:
            yield error
        else:
            yield None


def _tokenize(path: Path) -> None:
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(path))
    tokenizer.decode(tokenizer.encode("hello the world\n"))


def _build(path: Path) -> None:
    file = GGUFFile.open(path)
    spec = describe(file)
    graph = graph_of(spec, file)
    check_weights(graph, file, spec.folded)
    check_graph(graph)


def _load(path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = folder / "prepared"
        prepared.mkdir()
        convert(Source(path), prepared, "fuzzed")
        settings = Settings(home=folder, cache_tokens=32, page_size=16, threads=1)
        step = StepInputs(
            token_ids=np.array([3, 4], np.int32),
            positions=np.array([0, 1], np.int32),
            row_starts=np.array([0, 2], np.int32),
            page_table=np.zeros((1, 1), np.int32),
            logit_rows=np.array([0, 1], np.int32),
        )
        Session(prepared, settings=settings).run(step)


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Bound time and memory of what is run inside; in a process's main thread only."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"took more than {SECONDS} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
