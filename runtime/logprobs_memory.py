"""Bounds the memory that the logprobs of all requests take, however long clients keep them.

Their JSON is counted, too, with the longest texts that the likely tokens of a place can have.
"""

import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cache

from runtime.errors import InvalidRequest, QueueFull
from runtime.generation import Generation

BYTES_OF_TOKEN = 400
"""Of an entry and its arrays, before the likeliest tokens."""
BYTES_OF_LIKELY = 16
"""Of a likely token's id and logprob."""
JSON_OF_LIKELY = 80
"""Bytes of a token's JSON, a likely one or the one that was taken, beside its text."""
JSON_OF_BYTE = 6 + 4
"""Of each byte of its text: as a character that is escaped, and as a number."""
JSON_COPIES = 3
"""A memory that grows while it is written, and the answer's body."""
MOST_PIECES = 21
"""Tokens of one place: the likeliest that can be asked for, and the one that was taken."""


def no_pieces() -> Sequence[int]:
    """Return the lengths of tokens whose texts nobody shows."""
    return ()


class LogprobsMemory:
    """The most that logprobs of the requests in memory may take. Any thread may use it.

    A request counts with all it may come to, from its submission until nobody refers to it.
    """

    def __init__(self, limit: int, longest_pieces: Callable[[], Sequence[int]] = no_pieces) -> None:
        """`limit`: bytes of all requests. longest_pieces: see most_bytes; called at most once."""
        self._limit = limit
        self._longest_pieces = cache(longest_pieces)
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
        if not any(map(most_bytes, generations)):
            return
        longest = self._longest_pieces()
        needed = [most_bytes(generation, longest) for generation in generations]
        total = sum(needed)
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


def most_bytes(generation: Generation, longest_pieces: Sequence[int] = ()) -> int:
    """Return the memory that the logprobs of a request, and their JSON, may come to.

    longest_pieces: bytes of the MOST_PIECES longest tokens, the longest first.
    """
    parts = (
        (generation.max_tokens, generation.top_logprobs),
        (len(generation.prompt_tokens) - 1, generation.prompt_top_logprobs),
    )
    return sum(
        tokens
        * (
            BYTES_OF_TOKEN
            + likely * BYTES_OF_LIKELY
            + JSON_COPIES * most_json(longest_pieces[: likely + 1])
        )
        for tokens, likely in parts
        if likely is not None
    )


def most_json(pieces: Sequence[int]) -> int:
    """Return the bytes that the JSON of tokens of one place may have, by those of their texts."""
    return len(pieces) * JSON_OF_LIKELY + JSON_OF_BYTE * sum(pieces)
