"""Draws the next tokens of several rows of logits at once.

A row's token depends only on its logits and its request: rows are computed together only where
each gives the same bits as alone. A failure of one row fails that row alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runtime.sampling.adjustments import UNCHANGED, Amounts, Changes, changes
from runtime.sampling.candidates import Candidates, Totals
from runtime.sampling.logits import Best, Logits, StepLogits, sorted_best
from runtime.sampling.parameters import SamplingParameters
from runtime.sampling.whole_rows import deviations, drawn_of_all, expected_gap, mass_of

OPEN_SIZES = (64, 512, 4096)
"""Numbers of candidates tried in turn for a row without a limit; then all tokens."""
MAX_MERGED = 1024
"""Most candidates and changed tokens that are merged; beyond that the whole row is copied."""
MAX_TOGETHER = 4096
"""Most candidates of a row that is computed with others, which bounds the memory of a batch."""
NO_TOTALS = Totals()


@dataclass(slots=True)
class Row:
    """A row of logits to draw a token from. Owned by the engine thread."""

    parameters: SamplingParameters
    logits: Logits
    place: int
    """The row's index in `logits`."""
    chances: tuple[float, float]
    """Random numbers of the draw and of XTC, 0 to 1 each."""
    parts: tuple[Amounts, ...] = ()
    """Changes to be made to single logits; see Adjustments.parts."""
    changes: Changes = field(default=UNCHANGED)
    """The changed logits, once they are computed."""
    totals: Totals | None = None
    """Sums over the whole row that samplers need, once they are computed."""

    @property
    def limit(self) -> int:
        """Number of likeliest tokens that suffice to draw from (top_k); 0: not limited."""
        if self.parameters.greedy:
            return 1
        is_few = 0 < self.parameters.top_k < self.logits.vocabulary_size
        return self.parameters.top_k if is_few and self.parameters.in_default_order else 0

    @property
    def drawn_of_all(self) -> bool:
        """Whether no sampler drops a token."""
        is_few = 0 < self.parameters.top_k < self.logits.vocabulary_size
        return self.parameters.draws_of_all and not is_few and not self.parameters.greedy

    @property
    def has_totals(self) -> bool:
        """Whether sums over the whole row are of use to its samplers."""
        return self.parameters.in_default_order and not self.parameters.greedy

    @property
    def needs_deviation(self) -> bool:
        """Whether its samplers need the standard deviation of all its logits."""
        return self.has_totals and self.parameters.top_n_sigma > 0

    def sizes(self) -> list[int]:
        """Return numbers of candidates to try, until one suffices to draw the token."""
        size = self.logits.vocabulary_size
        if limit := self.limit:
            # A power of two, so that rows of like sizes are computed together.
            return [min(size, _power_of_two(limit))]
        if self.parameters.in_default_order:
            return [*(few for few in OPEN_SIZES if few < size), size]
        return [size]

    def values(self) -> NDArray[np.float32]:
        """Return every logit [V], changes included; must not be written to."""
        return self.changes.applied(self.logits.row(self.place))

    def settle_changes(self) -> None:
        """Copy the row with its changes, unless they are few enough to merge with candidates."""
        changed = self.changes.tokens.size
        if changed and not 0 < self.limit <= MAX_MERGED - changed:
            self.logits, self.place = StepLogits(self.values()[np.newaxis]), 0
            self.changes = UNCHANGED
            if not self.logits.finite[0]:
                raise FloatingPointError("the changed logits are not finite")


@dataclass(slots=True)
class _Waiting:
    """A row whose token is not known yet. Owned by the engine thread."""

    index: int
    row: Row
    sizes: list[int]
    """Numbers of candidates still to try."""


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


def _together(rows: Sequence[Row]) -> list[int]:
    """Return a token for each row. Raises the exception of any of them."""
    _change([row for row in rows if row.parts])
    tokens = [0] * len(rows)
    waiting = []
    for index, row in enumerate(rows):
        row.settle_changes()
        if row.drawn_of_all:
            tokens[index] = drawn_of_all(row.values(), row.parameters.temperature, row.chances[0])
        else:
            waiting.append(_Waiting(index, row, row.sizes()))
    while waiting:
        groups = defaultdict(list)
        for each in waiting:
            size = each.sizes.pop(0)
            alone = each.index if size > MAX_TOGETHER else None
            groups[size, alone, each.row.parameters.samplers].append(each)
        waiting = []
        for (size, _, samplers), group in groups.items():
            candidates = _candidates([each.row for each in group], size)
            candidates.apply(samplers)
            for each, token, is_settled in zip(
                group, candidates.drawn(), candidates.is_settled.tolist(), strict=True
            ):
                tokens[each.index] = token
                if not is_settled:
                    waiting.append(each)
    return tokens


def _change(rows: Sequence[Row]) -> None:
    """Compute the changed logits of rows."""
    if not rows:
        return
    found = changes(
        [(row.parameters, row.parts) for row in rows],
        lambda row, tokens: rows[row].logits.at(rows[row].place, tokens),
        max(row.logits.vocabulary_size for row in rows),
    )
    for row, own in zip(rows, found, strict=True):
        row.changes = own


def _candidates(rows: Sequence[Row], size: int) -> Candidates:
    """Return the `size` likeliest tokens of each row as Candidates."""
    tokens, logits = _best(rows, size)
    if not np.isfinite(logits[:, 0]).all():
        raise FloatingPointError("the changed logits are not finite")
    return Candidates(
        tokens,
        logits,
        [row.parameters for row in rows],
        _known_totals(rows),
        [row.chances for row in rows],
        np.array([not row.limit and size < row.logits.vocabulary_size for row in rows]),
    )


def _known_totals(rows: Sequence[Row]) -> list[Totals]:
    """Return the sums over whole rows that samplers need, each computed once."""
    unknown = [row for row in rows if row.totals is None]
    wide = [row for row in unknown if row.needs_deviation]
    known: dict[int, float] = {}
    if wide:
        logits = [row.logits.row(row.place) for row in wide]
        found = deviations(logits, [row.changes for row in wide]).tolist()
        known = dict(zip(map(id, wide), found, strict=True))
    for row in unknown:
        row.totals = _totals(row, known.get(id(row), np.nan))
    return [row.totals or NO_TOTALS for row in rows]


def _totals(row: Row, deviation: float) -> Totals:
    """Return the sums over the whole row that its samplers need."""
    parameters = row.parameters
    if row.limit or min(parameters.top_p, parameters.typical_p) == 1 or not row.has_totals:
        return NO_TOTALS if np.isnan(deviation) else Totals(deviation)
    values = row.values()
    if row.needs_deviation:
        values = values[values >= values.max() - parameters.top_n_sigma * deviation]
    gap = expected_gap(values) if parameters.typical_p < 1 else np.nan
    return Totals(deviation, mass_of(values), gap)


def _best(rows: Sequence[Row], size: int) -> Best:
    """Return the `size` likeliest tokens of each row; missing ones have logit minus infinity."""
    most = max(len(row.changes.tokens) for row in rows)
    # Each changed token may be one of the likeliest.
    wanted = size + most
    of_logits: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        of_logits[id(row.logits)].append(index)
    found = [
        rows[own[0]].logits.best([rows[index].place for index in own], wanted)
        for own in of_logits.values()
    ]
    tokens, logits = found[0]
    if len(found) > 1:
        tokens = np.zeros((len(rows), wanted), np.int64)
        logits = np.full((len(rows), wanted), -np.inf, np.float32)
        for own, (own_tokens, own_logits) in zip(of_logits.values(), found, strict=True):
            tokens[own, : own_tokens.shape[1]] = own_tokens
            logits[own, : own_logits.shape[1]] = own_logits
    if most:
        tokens, logits = _merge(tokens, logits, [row.changes for row in rows], most)
    return tokens[:, :size], logits[:, :size]


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _merge(
    tokens: NDArray[np.int64], logits: NDArray[np.float32], changed: Sequence[Changes], most: int
) -> Best:
    """Return the likeliest tokens after replacing the changed logits."""
    new_tokens = np.full((len(changed), most), -1, np.int64)
    new_logits = np.full((len(changed), most), -np.inf, np.float32)
    for index, own in enumerate(changed):
        new_tokens[index, : len(own.tokens)] = own.tokens
        new_logits[index, : len(own.tokens)] = own.values
    tokens = np.concatenate([new_tokens, tokens], axis=1)
    logits = np.concatenate([new_logits, logits], axis=1)
    # In order of tokens, the changed one first, so that a second one is the model's own.
    width = tokens.shape[1]
    order = np.sort(tokens * width + np.arange(width), axis=1) % width
    tokens = np.take_along_axis(tokens, order, axis=1)
    logits = np.take_along_axis(logits, order, axis=1)
    logits[:, 1:][tokens[:, 1:] == tokens[:, :-1]] = -np.inf
    return sorted_best(np.maximum(tokens, 0), logits)
