"""Which models are in memory, which are in use, and which go when another needs room."""

import math
from collections import Counter, OrderedDict


class ModelMemory:
    """The loaded models by name, within a budget of bytes. Knows no threads: its owner locks.

    A model in use is never given up. The budget is exceeded by a single model that is larger,
    which is then the only one.
    """

    def __init__(self, budget: float = math.inf) -> None:
        self.budget = budget
        self._sizes: OrderedDict[str, int] = OrderedDict()
        """Bytes of the loaded models, the least recently used first."""
        self._uses: Counter[str] = Counter()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The loaded models, the least recently used first."""
        return tuple(self._sizes)

    @property
    def used_bytes(self) -> int:
        """Bytes of all loaded models."""
        return sum(self._sizes.values())

    def in_use(self, name: str) -> bool:
        """Whether a request runs on a model."""
        return self._uses[name] > 0

    def victims(self, size: int) -> tuple[str, ...] | None:
        """Return the models to unload so that one of this size fits; None if it cannot yet.

        The least recently used go first, and none more than needed.
        """
        left = self.used_bytes
        gone: list[str] = []
        for name, bytes_of_it in self._sizes.items():
            if left + size <= self.budget:
                break
            if not self.in_use(name):
                gone.append(name)
                left -= bytes_of_it
        fits = left + size <= self.budget or left == 0
        return tuple(gone) if fits else None

    def add(self, name: str, size: int) -> None:
        """Count a model that is loaded from now on; `victims` have been removed."""
        assert name not in self._sizes
        assert self.victims(size) == (), "there is no room for it"
        self._sizes[name] = size

    def remove(self, name: str) -> None:
        """Forget a model that nobody uses."""
        assert not self.in_use(name)
        del self._sizes[name]

    def begin(self, name: str) -> None:
        """Count a request on a loaded model, which is the most recently used now."""
        self._sizes.move_to_end(name)
        self._uses[name] += 1

    def end(self, name: str) -> None:
        """Count the end of a request."""
        assert self.in_use(name)
        self._sizes.move_to_end(name)
        self._uses[name] -= 1
