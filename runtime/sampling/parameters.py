"""How a request picks its tokens: each field's type and range once, for every route and command."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from runtime.errors import InvalidRequest

LEAST_TEMPERATURE = float(np.finfo(np.float32).tiny)
"""Float32's smallest normal number. Logits are divided in float32, where less may be zero."""
LARGEST = 2**63 - 1
MOST_SHOWN = 40
"""Characters of a wrong value that are shown."""


@dataclass(frozen=True, slots=True)
class Range:
    """Values that a field may have, ends included. Immutable."""

    least: float
    most: float
    whole: bool = False
    help: str = ""
    """What the field does, for the command line."""

    def checked(self, name: str, value: float) -> float:
        """The value; a whole number as an int, so 10.0 is 10. Raises InvalidRequest."""
        if self.whole:
            if (isinstance(value, float) and not math.isfinite(value)) or value != int(value):
                raise InvalidRequest(
                    f"{name} must be a whole number, not {_shown(value)}", field=name
                )
            if value < self.least:
                raise InvalidRequest(
                    f"{name} must be at least {self.least}, not {_shown(value)}", field=name
                )
            if value > self.most:
                raise InvalidRequest(
                    f"{name} must be at most {self.most}, not {_shown(value)}", field=name
                )
            return int(value)
        if not self.least <= value <= self.most:
            raise InvalidRequest(
                f"{name} must be between {self.least} and {self.most}, not {_shown(value)}",
                field=name,
            )
        return float(value)


RANGES: Mapping[str, Range] = {
    "temperature": Range(0.0, 2.0, help="0 is greedy"),
    "top_k": Range(0, LARGEST, whole=True, help="likeliest tokens kept; 0 is off"),
    "top_p": Range(0.0, 1.0, help="probability kept; 1 is off"),
    "seed": Range(0, 2**64 - 1, whole=True, help="makes what is generated repeatable"),
}
"""Each number of SamplingParameters."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How a request picks its tokens. Immutable.

    temperature: 0 to 2, greedy below LEAST_TEMPERATURE. top_k: most likely tokens kept, 0 for all.
    top_p: probability mass kept, 0 for the most likely token alone. seed: fixes the draws; None
    takes a fresh one.

    Raises InvalidRequest naming the field that is out of range.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.9
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in RANGES.items():
            if (value := getattr(self, name)) is not None:
                allowed.checked(name, value)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, with no draw."""
        return self.temperature < LEAST_TEMPERATURE or self.top_k == 1 or self.top_p == 0.0


def _shown(value: float) -> str:
    return str(value)[:MOST_SHOWN]
