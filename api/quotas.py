"""What each API key uses: requests and tokens by the minute, and requests at the same time."""

import math
import threading
import time
from collections.abc import Callable

from api.errors import RateLimited
from api.keys import Key

MINUTE = 60.0
RUNNING_SECONDS = 1
"""Retry-After where too many requests run: when one of them ends is not known."""


class _Allowance:
    """What is left of a limit by the minute; it grows at the limit's rate, up to the limit."""

    def __init__(self, now: float) -> None:
        self.left = math.inf
        self._counted = now

    def grow(self, limit: int | None, now: float) -> None:
        """Add what has become free since the last time; everything without a limit."""
        grown = math.inf if limit is None else (now - self._counted) * limit / MINUTE
        self.left = min(math.inf if limit is None else limit, self.left + grown)
        self._counted = now


class _Use:
    """What one key uses."""

    def __init__(self, now: float) -> None:
        self.requests = _Allowance(now)
        self.tokens = _Allowance(now)
        self.running = 0


class Quotas:
    """The use of every key with limits. Any thread may call any method: a lock guards the counts.

    Tokens count when a request ends, so a key begins no further one until it has made up for it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: in seconds."""
        self._clock = clock
        self._uses: dict[str, _Use] = {}
        self._lock = threading.Lock()

    def enter(self, key: Key) -> None:
        """Count a request that begins. Raises RateLimited, saying when to try again."""
        with self._lock:
            use = self._use(key)
            if (most := key.concurrent_requests) is not None and use.running >= most:
                raise RateLimited(
                    f"the API key {key.name} has {most} requests running, which is all that its "
                    "concurrent_requests allows; wait for one to end",
                    RUNNING_SECONDS,
                )
            if (most := key.requests_per_minute) is not None and use.requests.left < 1:
                raise _by_the_minute(key, "requests", most, 1 - use.requests.left)
            if (most := key.tokens_per_minute) is not None and use.tokens.left <= 0:
                raise _by_the_minute(key, "tokens", most, -use.tokens.left)
            use.requests.left -= 1
            use.running += 1

    def leave(self, key: Key, tokens: int) -> None:
        """Count a request that ends, with the tokens of its prompt and answer."""
        with self._lock:
            use = self._use(key)
            use.tokens.left -= tokens
            use.running -= 1

    def _use(self, key: Key) -> _Use:
        now = self._clock()
        use = self._uses.setdefault(key.name, _Use(now))
        use.requests.grow(key.requests_per_minute, now)
        use.tokens.grow(key.tokens_per_minute, now)
        return use


def _by_the_minute(key: Key, of: str, most: int, lacking: float) -> RateLimited:
    seconds = max(1, math.ceil(lacking * MINUTE / most))
    return RateLimited(
        f"the API key {key.name} has used the {most} {of} that its {of}_per_minute allows; try "
        f"again in {seconds} seconds",
        seconds,
    )
