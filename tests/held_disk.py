"""A disk tier whose reads a test holds."""

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.page_tiers import disk_queue
from runtime.page_tiers.disk_tier import DiskTier
from runtime.pages import PageHash
from tests.waiting import SECONDS


class HeldDisk:
    """Real reads from disk behind a gate, closed at first. The test's thread opens it."""

    def __init__(self, patch: pytest.MonkeyPatch, *, patience: float = SECONDS) -> None:
        """patience: seconds that an engine waits for the disk."""
        self._open = threading.Event()
        self._reading = threading.Event()
        read = DiskTier.read

        def held(tier: DiskTier, page_hash: PageHash) -> NDArray[np.uint8] | None:
            self._reading.set()
            self._open.wait(SECONDS)
            return read(tier, page_hash)

        patch.setattr(DiskTier, "read", held)
        patch.setattr(disk_queue, "PATIENCE_SECONDS", patience)

    def hold(self) -> None:
        """From now on reads wait."""
        self._open.clear()
        self._reading.clear()

    def wait_for_read(self) -> None:
        """Return once a read stands at the gate."""
        assert self._reading.wait(SECONDS), "nothing was read"

    def let_go(self) -> None:
        """Let every read through."""
        self._open.set()
