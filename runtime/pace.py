"""Limits how long prompts may delay the requests that are generating."""

MEASURED_TOKENS = 16
"""Number of tokens from which the time of a step is proportional to them."""


class Pace:
    """Converts the longest pause, in seconds, to prompt tokens. Owned by the engine thread.

    This is the only place where time affects scheduling. Since rows are batch-invariant, it
    changes no token.
    """

    def __init__(self, longest_pause: float) -> None:
        """longest_pause: maximum seconds between two tokens of a request."""
        self._longest_pause = longest_pause
        self._paused = 0.0
        """Seconds since the generating requests last took part in a step."""
        self._seconds_per_token: float | None = None

    @property
    def patience(self) -> int:
        """Prompt tokens that fit before the pause is over; 0 before the first timing."""
        if not self._seconds_per_token:
            return 0
        return max(0, int((self._longest_pause - self._paused) / self._seconds_per_token))

    def step_done(self, seconds: float, tokens: int, *, pauses: bool) -> None:
        """Update the time per token. pauses: whether the step left out the generating requests."""
        if tokens >= MEASURED_TOKENS:
            last = seconds / tokens
            before = self._seconds_per_token
            self._seconds_per_token = last if before is None else (before + last) / 2
        self._paused = self._paused + seconds if pauses else 0.0
