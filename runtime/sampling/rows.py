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
from runtime.sampling.adjustments import Adjustments, AmountsMemory
from runtime.sampling.logits import Logits, RowMemory, StepLogits
from runtime.sampling.parameters import SamplingParameters
from runtime.sampling.repetitions import Repetitions, SaidMemory, rules_of

CODES = {
    name: code
    for code, name in enumerate(
        ("top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"), start=1
    )
}
"""Those that leave tokens out or change all logits; Sampler in runtime/ops/native/candidates.h."""
MEMORY = struct.Struct(
    f"={len(RowMemory._fields) + 2 * len(AmountsMemory._fields) + len(SaidMemory._fields)}q"
)
"""Where the logits, their mask and their changes are: the beginning of a SampledRow."""
TEMPLATE = struct.Struct("=4dq8d")
AFTER_RULES = struct.Struct("=8s2q")
CHANCES = struct.Struct("=2d")
"""Of the draw and of XTC: its end. The whole is defined in runtime/ops/native/logit_row.h."""
NEEDS_LOGITS, NOT_FINITE = -1, -2
"""What the library returns in place of a token."""
NO_CHANGES = AmountsMemory(), AmountsMemory()
NOTHING_SAID = SaidMemory()


@dataclass(slots=True)
class Row:
    """A row of logits to draw a token from. Owned by the engine thread."""

    template: bytes
    logits: Logits
    place: int
    """The row's index in `logits`."""
    chances: tuple[float, float]
    """Random numbers of the draw and of XTC, 0 to 1 each."""
    adjustments: Adjustments | None = None
    """Changes of single logits."""
    repetitions: Repetitions | None = None
    """Of what was said, if they are penalized."""

    def memory(self) -> RowMemory:
        """Return where its logits are; all are fetched if some of them are changed."""
        memory = self.logits.memory(self.place)
        if memory.logits or not (self.adjustments or self.repetitions):
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
    before = TEMPLATE.pack(
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
    )
    after = AFTER_RULES.pack(
        samplers, parameters.greedy, parameters.draws_of_all and not is_limited
    )
    return before + rules_of(parameters) + after


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
    count = native_library().rocmforge_keep_tokens(
        _packed(row), tokens.ctypes.data, weights.ctypes.data
    )
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
    packed = b"".join(map(_packed, rows))
    found = np.empty(len(rows), np.int64)
    native_library().rocmforge_sample_rows(packed, len(rows), found.ctypes.data)
    tokens: list[int] = found.tolist()
    return tokens


def _packed(row: Row) -> bytes:
    """Return a native row, valid until its request accepts a token."""
    added, counts = NO_CHANGES if row.adjustments is None else row.adjustments.memory()
    said = NOTHING_SAID if row.repetitions is None else row.repetitions.memory()
    return (
        MEMORY.pack(*row.memory(), *added, *counts, *said)
        + row.template
        + CHANCES.pack(*row.chances)
    )


def _failure(code: int) -> BaseException:
    if code == NOT_FINITE:
        return FloatingPointError("the changed logits are not finite")
    return MemoryError("no memory to sample a token")
