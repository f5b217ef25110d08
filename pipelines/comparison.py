"""How far computed numbers are from exact ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Figures = dict[str, float]
"""Numbers of a check by name."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far logits are from the exact ones."""

    divergence: float
    """Mean over positions of KL(exact || computed), nats."""
    max_error: float
    same_top: float
    """Share of positions with the same most likely token."""

    @classmethod
    def of(cls, exact: NDArray[np.float32], computed: NDArray[np.float32]) -> "Comparison":
        """Compare logits [T, V] with logits [T, V]."""
        likelihood = log_softmax(exact)
        divergence = np.exp(likelihood) * (likelihood - log_softmax(computed))
        return cls(
            divergence=float(divergence.sum(axis=-1).mean()),
            max_error=float(np.abs(exact - computed).max()),
            same_top=float((exact.argmax(axis=-1) == computed.argmax(axis=-1)).mean()),
        )

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


def relative_error(exact: NDArray[np.generic], computed: NDArray[np.generic]) -> float:
    """Norm of the difference over the norm of what is exact."""
    expected = exact.astype(np.float64)
    size = float(np.linalg.norm(expected)) or 1.0
    return float(np.linalg.norm(computed.astype(np.float64) - expected)) / size
