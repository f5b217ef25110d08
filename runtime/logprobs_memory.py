"""Bounds the memory that the logprobs of all requests take, however long clients keep them."""

import threading
import weakref
from collections.abc import Sequence

from runtime.errors import InvalidRequest, QueueFull
from runtime.generation import Generation

BYTES_OF_TOKEN = 400
"""Of an entry and its arrays, before the likeliest tokens."""
BYTES_OF_LIKELY = 16
"""Of a likely token's id and logprob."""


class LogprobsMemory:
    """The most that logprobs of the requests in memory may take. Any thread may use it.

    A request counts with all it may come to, from its submission until nobody refers to it.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of all requests."""
        self._limit = limit
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Bytes of the requests in memory."""
        return self._taken

    def take(self, generations: Sequence[Generation]) -> None:
        """Count requests that one client follows.

        Raises InvalidRequest if they never fit, and QueueFull if they do not fit beside others.
        """
        needed = list(map(most_bytes, generations))
        total = sum(needed)
        if not total:
            return
        if total > self._limit:
            raise InvalidRequest(
                f"logprobs of this request may take {total} bytes, and all together may take "
                f"{self._limit} (--logprobs-bytes); ask for fewer tokens, answers or likely tokens",
                field="logprobs",
            )
        with self._lock:
            if self._taken + total > self._limit:
                raise QueueFull(
                    "the logprobs that others asked for take all memory that --logprobs-bytes "
                    "allows; try again later"
                )
            self._taken += total
        for generation, own in zip(generations, needed, strict=True):
            weakref.finalize(generation, self._give_back, own)

    def _give_back(self, own: int) -> None:
        with self._lock:
            self._taken -= own


def most_bytes(generation: Generation) -> int:
    """Return the memory that the logprobs of a request may come to."""
    parts = (
        (generation.max_tokens, generation.top_logprobs),
        (len(generation.prompt_tokens) - 1, generation.prompt_top_logprobs),
    )
    return sum(
        tokens * (BYTES_OF_TOKEN + likely * BYTES_OF_LIKELY)
        for tokens, likely in parts
        if likely is not None
    )
