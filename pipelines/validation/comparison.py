"""How far computed numbers are from exact ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.outcome import Figures

ROWS_AT_ONCE = 16
"""Rows of logits of which float64 copies are held at a time."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far logits are from the exact ones. Immutable."""

    divergences: tuple[float, ...]
    """KL(exact || computed) of each position, nats."""
    gaps: tuple[float, ...]
    """Nats by which the exact model prefers its own token to the computed most likely one."""
    max_error: float

    @classmethod
    def of(cls, exact: NDArray[np.float32], computed: NDArray[np.float32]) -> "Comparison":
        """Compare logits [T, V] with logits [T, V]."""
        divergences: list[float] = []
        gaps: list[float] = []
        for start in range(0, len(exact), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            likelihood = log_softmax(exact[some])
            divergence = np.exp(likelihood) * (likelihood - log_softmax(computed[some]))
            divergences += divergence.sum(axis=-1).tolist()
            top = computed[some].argmax(axis=-1)
            gap = likelihood.max(axis=-1) - likelihood[np.arange(len(top)), top]
            gaps += gap.tolist()
        return cls(tuple(divergences), tuple(gaps), float(np.abs(exact - computed).max()))

    @property
    def divergence(self) -> float:
        """Mean over positions."""
        return float(np.mean(self.divergences))

    @property
    def same_top(self) -> float:
        """Share of positions with the same most likely token."""
        return float(np.mean([gap == 0 for gap in self.gaps]))

    def figures(self) -> Figures:
        """By name, for a CheckResult."""
        return {
            "divergence": self.divergence,
            "max_error": self.max_error,
            "same_top": self.same_top,
        }


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithm of the probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    likelihood: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return likelihood


def likelihoods(logits: NDArray[np.float32], tokens: list[int]) -> NDArray[np.float64]:
    """Logarithm of the probability [T] that logits [T, V] give to each of `tokens`."""
    found = [log_softmax(logits[at : at + 1])[0, token] for at, token in enumerate(tokens)]
    return np.array(found)


def relative_error(exact: NDArray[np.generic], computed: NDArray[np.generic]) -> float:
    """Norm of the difference divided by the norm of the exact value."""
    expected = exact.astype(np.float64)
    size = float(np.linalg.norm(expected)) or 1.0
    return float(np.linalg.norm(computed.astype(np.float64) - expected)) / size


def largest_row_error(
    exact: NDArray[np.generic], computed: NDArray[np.generic]
) -> tuple[int, float]:
    """The column of [T, N] that is furthest off, and its relative error.

    A column of small values counts as one of average size, since rounding affects those most.
    """
    if not exact.size:  # angles of layers that do not rotate
        return 0, 0.0
    expected = exact.astype(np.float64).reshape(len(exact), -1)
    sizes = np.linalg.norm(expected, axis=0)
    average = float(np.sqrt(np.mean(np.square(sizes)))) or 1.0
    off = np.linalg.norm(computed.astype(np.float64).reshape(expected.shape) - expected, axis=0)
    errors = off / np.maximum(sizes, average)
    worst = int(errors.argmax())
    return worst, float(errors[worst])
