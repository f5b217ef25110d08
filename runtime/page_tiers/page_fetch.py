"""Pages on their way back to the pool, for one sequence."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.pages import PageHash

Tier = Literal["ram", "disk"]


@dataclass(frozen=True, slots=True)
class KeptPage:
    """A page that was found beyond the pool. Immutable."""

    page_hash: PageHash
    content: NDArray[np.uint8]
    tier: Tier


class PageFetch:
    """The pages that are looked for, in order, up to the first that is nowhere.

    Owned by the engine thread; while the disk is read for it, guarded by the lock of its queue.
    """

    __slots__ = ("ended", "found", "hashes", "in_ram", "sought")

    def __init__(self, hashes: Sequence[PageHash]) -> None:
        self.hashes = tuple(hashes)
        self.sought = 0
        """Number of them that were found so far."""
        self.in_ram: dict[PageHash, NDArray[np.uint8]] = {}
        """Contents of those that are in RAM."""
        self.found: deque[KeptPage] = deque()
        """Pages that were found and not taken yet."""
        self.ended = False
        """Whether no more pages are found."""
