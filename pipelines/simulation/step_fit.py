"""Fits the model of a step's time to measured steps: least squares of relative errors."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.simulation.measured import MeasuredStep
from pipelines.simulation.step_times import NS_PER_MS, Line, StepTimes

TOKEN_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
"""Where the line over a step's tokens may bend."""
LOGIT_COUNTS = (1, 8, 32, 128)
"""The same over its rows of logits."""
SWEEPS = 20_000


def fit(steps: Sequence[MeasuredStep], engine: Sequence[tuple[int, float]]) -> StepTimes:
    """Return the times whose sums come nearest to each step's least time.

    The least of the rounds is taken, since other programs only ever make a step longer.

    engine: milliseconds of the engine around a step of a number of rows. No part falls where its
    count grows, for more work never takes less time and noise must not say so.
    """
    measured = np.array([min(step.ms) for step in steps])
    works = [step.work for step in steps]
    tokens = _bends(TOKEN_COUNTS, max(work.tokens for work in works))
    logits = _bends(LOGIT_COUNTS, max(work.logits for work in works))
    columns = [
        np.ones(len(steps)),
        *_ramps(tokens, np.array([work.tokens for work in works])),
        *_ramps(logits, np.array([work.logits for work in works])),
        np.array([float(work.pairs) for work in works]),
        np.array([float(work.positions) for work in works]),
    ]
    parts = _not_negative(np.stack(columns, 1) / measured[:, None], np.ones(len(steps)))
    first, rest = parts[0], parts[1:]
    token_slopes, rest = rest[: len(tokens) - 1], rest[len(tokens) - 1 :]
    logit_slopes, (per_pair, per_position) = rest[: len(logits) - 1], rest[len(logits) - 1 :]
    engine_ms, per_row = _not_negative(
        np.array([[1.0, rows] for rows, _ in engine]), np.array([ms for _, ms in engine])
    )
    return StepTimes(
        tokens=_line(tokens, first, token_slopes),
        logits=_line(logits, 0.0, logit_slopes),
        ns_per_pair=_rounded(NS_PER_MS * per_pair),
        ns_per_position=_rounded(NS_PER_MS * per_position),
        engine_ms=_rounded(engine_ms),
        engine_ms_per_row=_rounded(per_row),
    )


def errors(times: StepTimes, steps: Sequence[MeasuredStep]) -> list[float]:
    """Return |fitted / measured - 1| of each step."""
    return [abs(times.model_ns(step.work) / (NS_PER_MS * min(step.ms)) - 1) for step in steps]


def _bends(counts: Sequence[int], most: int) -> tuple[int, ...]:
    """Return the counts below the most that was measured, and that one."""
    return (*(count for count in counts if count < most), max(most, 2))


def _ramps(bends: Sequence[int], counts: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return, for each piece between two bends, how much of it lies below each count."""
    pieces = list(pairwise(bends))
    return [
        np.clip(counts - low, 0, high - low if (low, high) != pieces[-1] else None).astype(float)
        for low, high in pieces
    ]


def _line(bends: Sequence[int], first: float, slopes: NDArray[np.float64]) -> Line:
    rises = [
        slope * (high - low) for slope, (low, high) in zip(slopes, pairwise(bends), strict=True)
    ]
    return Line(tuple(bends), tuple(map(_rounded, np.cumsum([first, *rises]))))


def _not_negative(matrix: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the x >= 0 with the least |matrix @ x - wanted|, one coordinate at a time."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    normal = (matrix / scale).T @ (matrix / scale)
    aim = (matrix / scale).T @ wanted
    found = np.zeros(len(aim))
    for _ in range(SWEEPS):
        before = found.copy()
        for place in range(len(aim)):
            if normal[place, place] > 0:
                step = (aim[place] - normal[place] @ found) / normal[place, place]
                found[place] = max(found[place] + step, 0.0)
        if np.abs(found - before).max() <= 1e-9 * max(np.abs(found).max(), 1.0):
            break
    unscaled: NDArray[np.float64] = found / scale
    return unscaled


def _rounded(value: float) -> float:
    """Six significant digits: more would be noise in a file."""
    return float(f"{value:.6g}")
