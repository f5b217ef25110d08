"""A session whose steps a test holds, releases one by one, and makes fail."""

import math
import threading
from collections.abc import Callable
from typing import TypeAlias

from runtime.engine_core import StepRunner
from runtime.gguf import GGUFFile
from runtime.manifest import Manifest
from runtime.sampling import Logits
from runtime.session import Session
from runtime.step import StepInputs
from tests.waiting import SECONDS

Fault: TypeAlias = Callable[[StepInputs, Callable[[StepInputs], Logits]], Logits]
"""What a step does instead: it gets the inputs and the step itself."""


class HeldSession:
    """A real session behind a gate. The test's thread opens and closes it."""

    def __init__(self, session: StepRunner) -> None:
        self._session = session
        self._changed = threading.Condition()
        self._allowed = math.inf
        self._waiting = 0
        self.steps = 0
        """Steps that were computed."""
        self.broken = False
        """Whether steps fail."""
        self.fault: Fault | None = None
        """Replacement of a step, if a test sets it."""

    @property
    def manifest(self) -> Manifest:
        return self._session.manifest

    @property
    def gguf(self) -> GGUFFile:
        assert isinstance(self._session, Session)
        return self._session.weights.gguf

    @property
    def page_count(self) -> int:
        return self._session.page_count

    @property
    def state_slot_count(self) -> int:
        return self._session.state_slot_count

    def check(self) -> None:
        self._session.check()

    def step(self, inputs: StepInputs) -> Logits:
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._allowed > 0, SECONDS)
            self._waiting -= 1
            self._allowed -= 1
        if self.broken:
            raise RuntimeError("broken by the test")
        self.steps += 1
        if self.fault is not None:
            return self.fault(inputs, self._session.step)
        return self._session.step(inputs)

    def hold(self) -> None:
        """From now on steps wait, but for one that runs already."""
        self.allow(0)

    def allow(self, steps: float) -> None:
        """Let a number of steps through, then hold."""
        with self._changed:
            self._allowed = steps
            self._changed.notify_all()

    def let_go(self) -> None:
        """Let every step through."""
        self.allow(math.inf)

    def wait_for_step(self) -> None:
        """Return once a step stands at the closed gate."""
        with self._changed:
            stands = self._changed.wait_for(
                lambda: self._waiting > 0 and self._allowed <= 0, SECONDS
            )
        assert stands, "no step came"
