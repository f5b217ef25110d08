"""Draws the next tokens of several rows of logits, in the native library.

The samplers themselves are in runtime/ops/native/candidates.cc. A row's token depends only on its
logits and its request, and is the same on every instruction set: sums of weights are exact.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.ops.library import native_library
from runtime.sampling.adjustments import PARTS, Amounts
from runtime.sampling.logits import Logits, RowMemory, StepLogits
from runtime.sampling.parameters import SamplingParameters

CODES = {
    name: code
    for code, name in enumerate(
        ("top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"), start=1
    )
}
"""Those that leave tokens out or change all logits; Sampler in runtime/ops/native/candidates.h."""
MEMORY = struct.Struct(f"={len(RowMemory._fields) + 3 * PARTS}q")
"""Where the logits, their mask and their changes are: the beginning of a SampledRow."""
TEMPLATE = struct.Struct("=4dq8d8s2q")
CHANCES = struct.Struct("=2d")
"""Of the draw and of XTC: its end. The whole is defined in runtime/ops/native/logit_row.h."""
NEEDS_LOGITS, NOT_FINITE = -1, -2
"""What the library returns in place of a token."""


@dataclass(slots=True)
class Row:
    """A row of logits to draw a token from. Owned by the engine thread."""

    template: bytes
    logits: Logits
    place: int
    """The row's index in `logits`."""
    chances: tuple[float, float]
    """Random numbers of the draw and of XTC, 0 to 1 each."""
    parts: tuple[Amounts, ...] = ()
    """Changes to be made to single logits; see Adjustments.parts."""

    def memory(self) -> RowMemory:
        """Return where its logits are; all are fetched if some of them are changed."""
        memory = self.logits.memory(self.place)
        if not self.parts or memory.logits:
            return memory
        self.fetch()
        return self.logits.memory(self.place)

    def fetch(self) -> None:
        """Fetch every logit."""
        self.logits, self.place = StepLogits(self.logits.row(self.place)[np.newaxis]), 0


def template_of(parameters: SamplingParameters, vocabulary_size: int) -> bytes:
    """Return the part of a native row that is the same for all tokens of a request."""
    with np.errstate(divide="ignore"):
        log_min_p = float(np.log(np.float32(parameters.min_p)))
    samplers = bytes(CODES[name] for name in parameters.samplers if name in CODES)
    is_limited = 0 < parameters.top_k < vocabulary_size
    return TEMPLATE.pack(
        parameters.repetition_penalty,
        parameters.presence_penalty,
        parameters.frequency_penalty,
        parameters.top_n_sigma,
        parameters.top_k,
        parameters.typical_p,
        parameters.top_p,
        log_min_p,
        parameters.xtc_probability if parameters.leaves_out_likely else 0.0,
        parameters.xtc_threshold,
        parameters.temperature,
        parameters.dynatemp_range,
        parameters.dynatemp_exponent,
        samplers,
        parameters.greedy,
        parameters.draws_of_all and not is_limited,
    )


def drawn(rows: Sequence[Row]) -> list[int | BaseException]:
    """Return a token for each row, or the exception that it failed with."""
    if not rows:
        return []
    try:
        return [*_together(rows)]
    except BaseException as problem:
        if len(rows) == 1:
            return [problem]
    return [token for row in rows for token in drawn([row])]


def kept(row: Row) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return what the samplers leave of a row, likeliest first, and its weights.

    Every logit must be here. Raises FloatingPointError if they are not finite.
    """
    size = row.logits.vocabulary_size
    tokens, weights = np.empty(size, np.int64), np.empty(size, np.float64)
    changes = _Changes([row])
    packed = _packed(row, row.memory(), changes.places[0])
    count = native_library().rocmforge_keep_tokens(packed, tokens.ctypes.data, weights.ctypes.data)
    if count < 0:
        raise _failure(count)
    return tokens[:count], weights[:count]


def _together(rows: Sequence[Row]) -> list[int]:
    """Return a token for each row. Raises the exception of any of them."""
    found = _sampled(rows)
    for index, token in enumerate(found):
        if token == NEEDS_LOGITS:
            rows[index].fetch()
            (found[index],) = _sampled([rows[index]])
        if found[index] < 0:
            raise _failure(found[index])
    return found


def _sampled(rows: Sequence[Row]) -> list[int]:
    """Return a token for each row, or a negative number that says why there is none."""
    changes = _Changes(rows)
    memories = [row.memory() for row in rows]
    packed = b"".join(map(_packed, rows, memories, changes.places))
    found = np.empty(len(rows), np.int64)
    native_library().rocmforge_sample_rows(packed, len(rows), found.ctypes.data)
    tokens: list[int] = found.tolist()
    return tokens


def _packed(row: Row, memory: RowMemory, places: Sequence[int]) -> bytes:
    return MEMORY.pack(*memory, *places) + row.template + CHANCES.pack(*row.chances)


class _Changes:
    """The changes of several rows, one behind the other. Immutable; valid as long as it lives."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """`places`, of each row: where tokens and values of each part are, and how many."""
        parts = [part for row in rows for part in row.parts]
        self.places: list[list[int]] = [[0] * 3 * PARTS for _ in rows]
        if not parts:
            return
        self._tokens = np.concatenate([tokens for tokens, _ in parts])
        self._values = np.concatenate([values for _, values in parts])
        token, value = self._tokens.ctypes.data, self._values.ctypes.data
        for row, places in zip(rows, self.places, strict=True):
            for part, (tokens, _) in enumerate(row.parts):
                count = len(tokens)
                places[3 * part : 3 * part + 3] = token, value, count
                token += count * self._tokens.itemsize
                value += count * self._values.itemsize


def _failure(code: int) -> BaseException:
    if code == NOT_FINITE:
        return FloatingPointError("the changed logits are not finite")
    return MemoryError("no memory to sample a token")
