"""Random steps for the operators on states: rows, and the slots that they read and write."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class StateStep:
    """Rows of `new` tokens; those of `fresh` begin their sequences, the others go on."""

    new: tuple[int, ...]
    fresh: tuple[bool, ...] = ()
    width: int = 40
    """Values of a whole state, of which an operator's begin at `offset`."""
    offset: int = 0
    slots: int = 64

    @property
    def tokens(self) -> int:
        return sum(self.new)

    def inputs(self, random: np.random.Generator) -> dict[str, Any]:
        """row_starts, state_starts, state_slots and states; two of three tokens keep a state."""
        rows = len(self.new)
        free = random.permutation(self.slots).astype(np.int32)
        starts = np.where(np.array([*self.fresh, *[False] * rows][:rows]), -1, free[:rows])
        slots = free[rows : rows + self.tokens].copy()
        slots[::3] = -1
        # The last row goes on in place.
        if rows and self.new[-1]:
            slots[-1] = starts[-1]
        return {
            "row_starts": np.cumsum([0, *self.new]).astype(np.int32),
            "state_starts": starts.astype(np.int32),
            "state_slots": slots.astype(np.int32),
            "states": random.standard_normal((self.slots, self.width)).astype(np.float32),
        }


def cut(inputs: dict[str, Any], token: int, names: tuple[str, ...]) -> dict[str, Any]:
    """The inputs of a step of one token that goes on from slot 0 (or begins) and writes to it."""
    alone = dict(inputs)
    for name in names:
        alone[name] = inputs[name][token : token + 1]
    return {
        **alone,
        "row_starts": np.array([0, 1], np.int32),
        "state_starts": np.array([0 if token else -1], np.int32),
        "state_slots": np.array([0], np.int32),
    }
