"""How long the prompts of others may keep those waiting that are generating."""

MEASURED_TOKENS = 16
"""Tokens from which on a step takes time in proportion to them."""


class Pace:
    """Turns the longest pause, in seconds, into tokens of prompts. Owned by the engine thread.

    Time enters here alone. It decides who is computed when, and since rows are batch-invariant it
    changes no token.
    """

    def __init__(self, longest_pause: float) -> None:
        """longest_pause: seconds between one token of a request and its next."""
        self._longest_pause = longest_pause
        self._paused = 0.0
        """Seconds since those that are generating last took part in a step."""
        self._seconds_per_token: float | None = None

    @property
    def patience(self) -> int:
        """Tokens of prompts that can be computed before the pause is over; 0 until one is timed."""
        if not self._seconds_per_token:
            return 0
        return max(0, int((self._longest_pause - self._paused) / self._seconds_per_token))

    def step_done(self, seconds: float, tokens: int, *, pauses: bool) -> None:
        """Learn from a step how long tokens take; `pauses`: it left out those that generate."""
        if tokens >= MEASURED_TOKENS:
            last = seconds / tokens
            before = self._seconds_per_token
            self._seconds_per_token = last if before is None else (before + last) / 2
        self._paused = self._paused + seconds if pauses else 0.0
